//! What ends a call so that its client opens it anew, elsewhere.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use weir_filter::Call;

use super::draining::Draining;
use super::watch::WatchedDrain;
use crate::chance;
use crate::config::plan;
use crate::local::RouteTarget;
use crate::upstream::{Enrolled, Move, Pool, Stream};

/// A call whose stream may have to move.
pub(super) struct Moving {
    stream: Rc<Stream>,
    /// The stream's place in the pool of its attempt.
    enrolled: Option<Enrolled>,
    age: Option<Age>,
    rebalance: Option<plan::Rebalance>,
    draining: Option<Draining>,
}

/// `max_stream_age` of the call's route.
struct Age {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    is_over: bool,
}

impl Moving {
    /// For a call of this route that began at `started`. `None` where nothing makes its streams move.
    pub(super) fn new(route: &RouteTarget, call: &Call, started: Instant, drain: &WatchedDrain<'_>) -> Option<Moving> {
        let (age, cluster) = (route.timeouts.age, &route.upstream.cluster.plan);
        let draining = Draining::new(route.on_drain, drain);
        if age.is_none() && draining.is_none() && !cluster.ends_streams() {
            return None;
        }
        let stream = Rc::new(Stream::new(started, call, route.upstream.methods.clone()));
        let age = age.and_then(|limit| Age::new(limit, started));
        Some(Moving { stream, enrolled: None, age, rebalance: cluster.rebalance, draining })
    }

    /// The call has a stream of this pool now.
    pub(super) fn is_at(&mut self, pool: &Rc<Pool>) {
        self.stream.forget();
        self.enrolled = pool.enroll(&self.stream);
    }

    /// Takes note of how far the call has come, as [`Stream::moved`] does.
    pub(super) fn moved(&mut self, has_begun: bool, messages: u64) {
        self.stream.moved(has_begun, messages);
    }

    /// Ready when the stream has to move.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Move> {
        let drained = self.draining.as_mut().map_or(Poll::Pending, |draining| draining.poll(&self.stream, cx));
        // What cuts is not to wait behind what has time.
        if drained == Poll::Ready(Move::DrainCut) {
            return drained;
        }
        if let Poll::Ready(why) = self.stream.poll_told(cx) {
            return Poll::Ready(why);
        }
        if drained.is_ready() {
            return drained;
        }
        let is_old = self.age.as_mut().is_some_and(|age| age.is_over(cx));
        if is_old && self.stream.may_move() { Poll::Ready(Move::Age) } else { Poll::Pending }
    }

    /// How long a client is told to wait before it opens such a stream anew.
    pub(super) fn pushback(&self, why: Move) -> Option<Duration> {
        match why {
            Move::Removed => None,
            // Streams grow old one by one: there is nothing to wait for.
            Move::Age => Some(Duration::ZERO),
            Move::Rebalance => self.rebalance.map(|rebalance| rebalance.pushback),
            Move::Drain | Move::DrainCut => self.draining.as_ref().map(Draining::pushback),
        }
    }
}

impl Age {
    fn new(limit: Duration, started: Instant) -> Option<Age> {
        let end = started.checked_add(chance::about(limit))?;
        Some(Age { limit, timer: Box::pin(sleep_until(end)), is_over: false })
    }

    /// True once it is over. The timer goes on: what is taken for a unary call now may have been found out by then.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        while self.timer.as_mut().poll(cx).is_ready() {
            self.is_over = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        self.is_over
    }
}
