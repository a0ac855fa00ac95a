//! The request of a hedged call: every attempt gets all of it.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::attempt::{Attempt, Open};
use super::{Decision, Race};
use crate::call::body::Body;
use crate::call::client::Left;
use crate::call::exchange::End;
use crate::call::pump::{Far, Pumped};
use crate::call::replay::Replay;
use crate::call::watch::Interrupt;
use crate::cluster::breaker::Kind;

/// All attempts that backends have, as one side to send to. Each gets what is sent from now on; what was sent before it began it
/// got then.
struct All<'s, 'r> {
    attempts: &'s mut [Attempt<'r>],
    replay: &'s mut Replay,
    /// The only one that gets the rest, once that is no longer kept.
    chosen: Option<usize>,
}

impl Race<'_, '_, '_> {
    /// Reads on for the attempts that there are. Ready when the call can have no other.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Decision> {
        let Some(furthest) = furthest(&self.attempts).filter(|_| !self.parties.body.ended) else {
            return Poll::Pending;
        };
        let Body { stream, pump, replay, .. } = &mut *self.parties.body;
        let mut all = All { attempts: &mut self.attempts, replay, chosen: None };
        let pumped = pump.poll_into(cx, stream, &mut all);
        let chosen = all.chosen;
        self.note_kind();
        if let Poll::Ready(pumped) = pumped
            && let Some(decision) = self.request_ended(pumped, chosen.unwrap_or(furthest))
        {
            return Poll::Ready(decision);
        }
        match chosen {
            Some(chosen) => Poll::Ready(self.choose(chosen)),
            None => Poll::Pending,
        }
    }

    fn request_ended(&mut self, pumped: Pumped, chosen: usize) -> Option<Decision> {
        let body = &mut *self.parties.body;
        match pumped {
            Pumped::Ended => {
                body.ended = true;
                return None;
            }
            // The chosen one's response says why; and a request is never asked to end.
            Pumped::SinkClosed | Pumped::Boundary => return None,
            Pumped::SourceFailed(error) => {
                return Some(Decision::Ended(End::Interrupted(Interrupt::Left(Left::from(&error)))));
            }
            // Metadata after the messages is no part of gRPC's requests; a request that has it is not sent twice.
            Pumped::Trailers(trailers) => {
                body.ended = true;
                if let Some(open) = self.attempts[chosen].open() {
                    let _ = open.sent.up.send_trailers(trailers);
                }
            }
            Pumped::TooLarge(too_large) => body.refusal = Some(too_large.status("max_receive_message_size")),
            Pumped::Rejected(status) => body.refusal = Some(status),
        }
        Some(self.choose(chosen))
    }

    /// The attempt that goes on alone, whatever comes of it.
    fn choose(&mut self, at: usize) -> Decision {
        match self.attempts[at].open() {
            Some(open) => Decision::Won(at, open.so_far(), false),
            None => Decision::Ended(End::Unprocessed),
        }
    }

    /// A circuit breaker wants to know calls from streams.
    fn note_kind(&mut self) {
        if self.parties.body.pump.follow.messages() > 1 {
            let places = self.attempts.iter_mut().filter_map(Attempt::open).filter_map(|open| open.sent.lease.place());
            for place in places.filter(|place| place.kind() == Kind::Unary) {
                place.is_stream(self.parties.call.method());
            }
        }
    }
}

/// The attempt whose backend has taken most of what was sent; the earliest of several.
fn furthest(attempts: &[Attempt<'_>]) -> Option<usize> {
    let open = attempts.iter().enumerate().filter_map(|(at, attempt)| Some((at, attempt.as_open()?)));
    open.min_by_key(|(_, open)| open.sent.up_queue.bytes()).map(|(at, _)| at)
}

impl All<'_, '_> {
    fn open(&self) -> impl Iterator<Item = &Open> {
        let chosen = |at: usize| self.chosen.is_none_or(|chosen| chosen == at);
        self.attempts.iter().enumerate().filter(move |(at, _)| chosen(*at)).filter_map(|(_, attempt)| attempt.as_open())
    }
}

impl Far for All<'_, '_> {
    /// The fastest sets the pace: for the others what is kept waits.
    fn has_room(&self) -> bool {
        self.open().any(|open| open.sent.up_queue.has_room())
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Each of them is asked, and wakes the call when it has room.
        let ready = self.open().filter(|open| open.sent.up_queue.poll_room(cx).is_ready()).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    fn send(&mut self, bytes: Bytes, end: bool) -> bool {
        self.replay.keep(&bytes);
        if !self.replay.is_whole() && self.chosen.is_none() {
            self.chosen = furthest(self.attempts);
        }
        if let Some(chosen) = self.chosen {
            return self.attempts[chosen].open().is_some_and(|open| open.sent.push(bytes, end));
        }
        // A stream that is closed says so when its response is awaited.
        for open in self.attempts.iter_mut().filter_map(Attempt::open) {
            open.sent.push(bytes.clone(), end);
        }
        true
    }
}
