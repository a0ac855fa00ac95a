//! When a hedged call makes its next attempt, and what denies it (gRFC A6, "Hedging Policy").

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::call::retry::{Pushback, Retry};
use crate::cluster::Cluster;
use crate::config::plan::HedgingPolicy;
use crate::metrics::{Denied, WorkerMetrics};

/// What a call has left of its policy.
pub(crate) struct Schedule {
    pub(super) policy: Arc<HedgingPolicy>,
    pub(super) cluster: Arc<Cluster>,
    metrics: Arc<WorkerMetrics>,
    /// Attempts that were begun.
    begun: u32,
    /// Something has denied an attempt, and with it all that would follow.
    is_over: bool,
    next: Option<Next>,
}

/// The next attempt.
struct Next {
    /// `None` is at once.
    timer: Option<Pin<Box<Sleep>>>,
    /// A backend has chosen the time.
    is_pushed_back: bool,
    /// Granted already, to one that a failure has called for.
    place: Option<Place>,
}

/// An attempt's place in its cluster's budget, until the response is committed.
pub(super) struct Place(Arc<Cluster>);

// === impl Schedule ===

impl Schedule {
    pub(crate) fn new(policy: Arc<HedgingPolicy>, cluster: Arc<Cluster>, metrics: Arc<WorkerMetrics>) -> Schedule {
        Schedule { policy, cluster, metrics, begun: 0, is_over: false, next: None }
    }

    /// An attempt begins. Returns how many came before it.
    pub(super) fn begin(&mut self) -> u32 {
        let previous = self.begun;
        self.begun += 1;
        if self.may_go_on() {
            self.next = Some(Next::after(self.policy.hedging_delay));
        }
        previous
    }

    /// An attempt other than the first has a stream.
    pub(super) fn sent(&self) {
        self.metrics.hedges[self.cluster.index].add(1);
    }

    /// A hedge answers the call, and not its first attempt.
    pub(super) fn won(&self) {
        self.metrics.hedges_won[self.cluster.index].add(1);
    }

    /// Ready when an attempt is to be made, with its place.
    pub(super) fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<Place> {
        let Some(next) = &mut self.next else { return Poll::Pending };
        if let Some(timer) = &mut next.timer {
            ready!(timer.as_mut().poll(cx));
        }
        // The call ends now.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.next = None;
            return Poll::Pending;
        }
        let granted = self.next.take().and_then(|next| next.place).map_or_else(|| self.grant(), Ok);
        match granted {
            Ok(place) => Poll::Ready(place),
            Err(denied) => {
                self.stop(denied);
                Poll::Pending
            }
        }
    }

    /// An attempt has failed, and the call goes on: the next is made at once, or when the backend says.
    pub(super) fn failed(&mut self, pushback: Option<Pushback>, deadline: Option<Instant>) {
        if !self.may_go_on() {
            return;
        }
        let wait = match pushback {
            Some(Pushback::Never) => return self.stop(Denied::Pushback),
            Some(Pushback::After(wait)) => wait,
            None => Duration::ZERO,
        };
        let at = Instant::now() + wait;
        // A backend that asks for time gets it, whoever fails meanwhile.
        if self.next.as_ref().is_some_and(|next| next.is_pushed_back_to(at)) {
            return;
        }
        if deadline.is_some_and(|deadline| at >= deadline) {
            return self.stop(Denied::Deadline);
        }
        match self.next.take().and_then(|next| next.place).map_or_else(|| self.grant(), Ok) {
            Ok(place) => {
                let is_pushed_back = pushback.is_some();
                self.next = Some(Next { is_pushed_back, place: Some(place), ..Next::after(wait) });
            }
            Err(denied) => self.stop(denied),
        }
    }

    /// An attempt is not made for this reason, nor is any after it.
    pub(super) fn stop(&mut self, denied: Denied) {
        if !self.is_over {
            self.metrics.denied_hedges(self.cluster.index, denied).add(1);
        }
        self.is_over = true;
        self.next = None;
    }

    /// True when no further attempt will be made.
    pub(super) fn has_ended(&self) -> bool {
        self.next.is_none()
    }

    /// How the attempt goes on that answers the call. `is_counted` says that its failure has cost its token.
    pub(super) fn committed(&self, previous: u32, is_counted: bool) -> Retry {
        Retry::committed(&self.policy, self.cluster.clone(), self.metrics.clone(), previous, is_counted)
    }

    fn may_go_on(&self) -> bool {
        !self.is_over && self.begun < self.policy.max_attempts
    }

    fn grant(&self) -> Result<Place, Denied> {
        let retries = &self.cluster.retries;
        if retries.is_throttled() {
            Err(Denied::Throttled)
        } else if retries.begin(self.cluster.index) {
            Ok(Place(self.cluster.clone()))
        } else {
            Err(Denied::Budget)
        }
    }
}

// === impl Next ===

impl Next {
    fn after(wait: Duration) -> Next {
        let timer = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
        Next { timer, is_pushed_back: false, place: None }
    }

    /// True when a backend has put it off until then or longer.
    fn is_pushed_back_to(&self, at: Instant) -> bool {
        self.is_pushed_back && self.timer.as_ref().is_some_and(|timer| timer.deadline() >= at)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.retries.end();
    }
}

#[cfg(test)]
mod tests;
