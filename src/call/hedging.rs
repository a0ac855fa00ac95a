//! A call of which several attempts are under way, until one of them answers it (gRFC A6, "Hedging Policy").
//!
//! The first good answer wins, and so does the first failure that is not to be outlived; the other attempts are given up.
//! From then on the winner is an attempt like any other.

mod attempt;
mod request;
mod schedule;

use std::future::{poll_fn, ready};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use weir_filter::{Code, Status};

use super::exchange::{self, Answer, Attempted, End, Parties, Sent};
use super::judge;
use super::retry::{Failure, Pushback};
use super::timers::Progress;
use crate::cluster::balance::Question;
use crate::cluster::breaker::Full;
use crate::local::{Local, RouteTarget};
use crate::metrics::Denied;
use crate::upstream::{Begun, Lease, Unavailable};
use attempt::{Attempt, Came, Leasing, Open, State};
use schedule::Place;
pub(crate) use schedule::Schedule;

/// The attempts of a call, side by side.
struct Race<'r, 'a, 'm> {
    local: &'r Local,
    route: &'a RouteTarget,
    parties: &'r mut Parties<'a, 'm>,
    schedule: Schedule,
    attempts: Vec<Attempt<'a>>,
    /// Endpoints that the call has had, or waits for.
    tried: Vec<usize>,
}

/// How the race ends.
enum Decision {
    /// The attempt at this place answers the call. True when its failure has cost a token.
    Won(usize, Box<Answer>, bool),
    /// Nothing of any attempt reaches the client.
    Ended(End),
}

/// What an attempt leaves for the client if it is the last.
enum Last {
    Answer(Box<Answer>),
    End(End),
}

/// Makes the attempts of a hedged call, and serves it to its end.
pub(super) async fn race<'a>(
    local: &Local,
    route: &'a RouteTarget,
    schedule: Schedule,
    parties: &mut Parties<'a, '_>,
) -> Attempted {
    parties.notes.is_judged = route.upstream.cluster.outliers.is_some();
    let mut race = Race { local, route, parties, schedule, attempts: Vec::new(), tried: Vec::new() };
    race.begin(None);
    let decision = poll_fn(|cx| race.poll(cx)).await;
    let (sent, answer) = match race.settle(decision) {
        Ok(won) => won,
        Err(end) => return Attempted { end, at_boundary: true },
    };
    let pool = sent.lease.pool.clone();
    let attempted = exchange::go_on(parties, sent, answer).await;
    if parties.notes.is_judged {
        judge::tell(&pool, &attempted.end, parties);
    }
    if let (Some(retry), Some(code)) = (&mut parties.retry, attempted.end.told_by_backend()) {
        retry.settle(code);
    }
    attempted
}

impl<'a> Race<'_, 'a, '_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Decision> {
        // Each attempt that comes to something may let another begin.
        loop {
            while let Poll::Ready(place) = self.schedule.poll(self.parties.watch.deadline(), cx) {
                self.begin(Some(place));
            }
            match self.poll_attempts(cx) {
                Poll::Ready(Some(decision)) => return Poll::Ready(decision),
                Poll::Ready(None) => {}
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(decision) = self.poll_request(cx) {
            return Poll::Ready(decision);
        }
        let Parties { watch, client, body, .. } = &mut *self.parties;
        watch.moved(|| Progress { bytes: body.pump.bytes, messages: body.pump.follow.messages(), has_begun: false });
        let interrupt = ready!(watch.poll(client, cx));
        Poll::Ready(Decision::Ended(End::Interrupted(interrupt)))
    }

    /// Begins an attempt.
    fn begin(&mut self, place: Option<Place>) {
        let state = State::Waiting(self.lease());
        let previous = self.schedule.begin();
        self.attempts.push(Attempt { previous, unprocessed: 0, is_counted: false, state, place });
    }

    /// The search for a stream: to an endpoint that the call has not had, where there is one.
    fn lease(&mut self) -> Leasing<'a> {
        let upstream = &*self.route.upstream;
        let call = self.parties.call;
        let question = Question { path: call.method(), metadata: &call.metadata, subset: self.route.subset };
        let begun = match upstream.try_lease(&question, &self.tried) {
            Err(Unavailable::NoConnection(_)) if !self.tried.is_empty() => upstream.try_lease(&question, &[]),
            begun => begun,
        };
        let waits = match begun {
            Ok(Begun::Leased(lease)) => {
                self.tried.push(lease.pool.endpoint.id);
                return Box::pin(ready(Ok(lease)));
            }
            Ok(Begun::Waits(waits)) => waits,
            Err(unavailable) => return Box::pin(ready(Err(unavailable))),
        };
        let mut tried = self.tried.clone();
        self.tried.push(waits.endpoint());
        Box::pin(async move {
            let is_choosy = !tried.is_empty();
            let leased = upstream.lease(waits, &question, &mut tried).await;
            let Err(Unavailable::NoConnection(_)) = leased else { return leased };
            if !is_choosy {
                return leased;
            }
            match upstream.try_lease(&question, &[])? {
                Begun::Leased(lease) => Ok(lease),
                Begun::Waits(waits) => upstream.lease(waits, &question, &mut Vec::new()).await,
            }
        })
    }

    /// Looks at each attempt. Ready when one has come to something, with a decision if that is one.
    fn poll_attempts(&mut self, cx: &mut Context<'_>) -> Poll<Option<Decision>> {
        let hold = self.hold();
        for at in 0..self.attempts.len() {
            match &mut self.attempts[at].state {
                State::Waiting(lease) => {
                    if let Poll::Ready(leased) = lease.as_mut().poll(cx) {
                        return Poll::Ready(self.leased(at, leased));
                    }
                }
                State::Open(open) => match open.poll(hold, cx) {
                    Poll::Pending => {}
                    Poll::Ready(Came::Unprocessed) => return Poll::Ready(self.unprocessed(at)),
                    Poll::Ready(Came::Answer(answer, failure)) => {
                        return Poll::Ready(self.came(at, failure, Last::Answer(answer)));
                    }
                },
            }
        }
        Poll::Pending
    }

    /// How long a head is held. A client that still sends may wait for it first.
    fn hold(&self) -> Option<Duration> {
        let hold = self.schedule.policy.hold_headers;
        (self.parties.body.ended && !hold.is_zero()).then_some(hold)
    }

    fn leased(&mut self, at: usize, leased: Result<Lease, Unavailable>) -> Option<Decision> {
        match leased {
            Ok(lease) => self.open(at, lease),
            Err(Unavailable::Full(full)) => self.full(at, full),
            Err(unavailable) => {
                let cluster = &self.schedule.cluster.plan.name;
                let status = Status::new(Code::Unavailable, format!("cluster {cluster}: {unavailable}"));
                self.came(at, Some(Failure::of(Code::Unavailable)), Last::End(End::Local(status)))
            }
        }
    }

    fn open(&mut self, at: usize, lease: Lease) -> Option<Decision> {
        let endpoint = &lease.pool.endpoint;
        self.parties.notes.attempt(&endpoint.label);
        self.tried.push(endpoint.id);
        let attempt = &mut self.attempts[at];
        match Sent::send(self.parties, lease, attempt.previous) {
            Ok(sent) => {
                if attempt.previous > 0 && !std::mem::replace(&mut attempt.is_counted, true) {
                    self.schedule.sent();
                }
                attempt.state = State::Open(Box::new(Open::new(sent)));
                None
            }
            Err(End::Unprocessed) => self.unprocessed(at),
            Err(end) => Some(Decision::Ended(end)),
        }
    }

    /// An attempt meets a circuit breaker: it is not made, and the others go on.
    fn full(&mut self, at: usize, full: Full) -> Option<Decision> {
        if self.attempts.len() == 1 {
            let shed = self.route.upstream.shed(full);
            return Some(Decision::Ended(End::Shed(Box::new(shed))));
        }
        self.attempts.remove(at);
        self.schedule.stop(Denied::CircuitBreaker);
        None
    }

    /// An attempt that no backend has processed is made again, and is still the same.
    fn unprocessed(&mut self, at: usize) -> Option<Decision> {
        let attempt = &mut self.attempts[at];
        attempt.unprocessed += 1;
        if attempt.unprocessed >= super::MOST_ATTEMPTS {
            return self.came(at, Some(Failure::of(Code::Unavailable)), Last::End(End::Unprocessed));
        }
        self.local.metrics.transparent_retries[self.route.cluster].add(1);
        let lease = self.lease();
        self.attempts[at].state = State::Waiting(lease);
        None
    }

    /// What it means for the call that an attempt has come to this.
    fn came(&mut self, at: usize, failure: Option<Failure>, last: Last) -> Option<Decision> {
        let Some(failure) = failure.filter(|failure| failure.code != Code::Ok) else {
            return Some(last.decide(at, false));
        };
        let is_non_fatal = self.schedule.policy.non_fatal.contains(failure.code);
        let costs = is_non_fatal || failure.pushback == Some(Pushback::Never);
        if costs {
            self.schedule.cluster.retries.failed();
        }
        if is_non_fatal {
            self.schedule.failed(failure.pushback, self.parties.watch.deadline());
        }
        let is_last = self.attempts.len() == 1 && (self.schedule.has_ended() || !is_non_fatal);
        // What no backend has said ends no call that another backend may answer.
        let is_fatal = !is_non_fatal && matches!(last, Last::Answer(_));
        if is_last || is_fatal {
            return Some(last.decide(at, costs));
        }
        let attempt = self.attempts.remove(at);
        if let State::Open(open) = attempt.state {
            if let Last::Answer(answer) = &last {
                self.tell(&open, answer.is_lost(), failure.code);
            }
            open.cancel();
        }
        None
    }

    /// Tells outlier detection of an attempt that failed while the call goes on.
    fn tell(&mut self, open: &Open, is_lost: bool, code: Code) {
        if self.parties.notes.is_judged {
            self.parties.notes.upstream_status = (!is_lost).then_some(code);
            judge::tell(&open.sent.lease.pool, &End::Again(Duration::ZERO), self.parties);
            // It is not how the call ends.
            self.parties.notes.upstream_status = None;
        }
    }

    /// Ends the race: all attempts but the winner are reset.
    fn settle(self, decision: Decision) -> Result<(Sent, Box<Answer>), End> {
        let Race { parties, schedule, mut attempts, .. } = self;
        let (winner, answer, is_counted) = match decision {
            Decision::Won(at, answer, is_counted) => (attempts.remove(at), answer, is_counted),
            Decision::Ended(end) => {
                let mut open = attempts.into_iter().filter_map(Attempt::into_open).peekable();
                // The one that has had the most time says something about its endpoint.
                if let Some(first) = open.peek().filter(|_| parties.notes.is_judged) {
                    judge::tell(&first.sent.lease.pool, &end, parties);
                }
                open.for_each(Open::cancel);
                return Err(end);
            }
        };
        attempts.into_iter().filter_map(Attempt::into_open).for_each(Open::cancel);
        // Also where nothing has been heard yet: what is sent from now on is not kept.
        parties.body.replay.end();
        if winner.previous > 0 {
            schedule.won();
        }
        parties.retry = Some(Box::new(schedule.committed(winner.previous, is_counted)));
        match winner.into_open() {
            Some(open) => {
                parties.notes.answered_by(&open.sent.lease.pool.endpoint.label);
                Ok((open.sent, answer))
            }
            // Only an attempt that is open can win.
            None => Err(End::Local(Status::new(Code::Internal, "an attempt is missing"))),
        }
    }
}

impl Last {
    fn decide(self, at: usize, is_counted: bool) -> Decision {
        match self {
            Last::Answer(answer) => Decision::Won(at, answer, is_counted),
            Last::End(end) => Decision::Ended(end),
        }
    }
}
