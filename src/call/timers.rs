//! The time limits that a route sets on its calls.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::moving::Moving;
use crate::config::plan::Timeouts;

/// Which limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `timeout`.
    Call,
    /// `max_stream_duration`.
    Stream,
    /// `idle_timeout`.
    Idle,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Bytes of messages that have come, from both sides.
    pub(crate) bytes: u64,
    /// Whole messages of that direction which has more of them.
    pub(crate) messages: u64,
    /// The client has the response's head.
    pub(crate) has_begun: bool,
}

/// The timers of one call whose route has limits, or whose stream may have to move.
pub(super) struct Timers {
    stream: Option<Pin<Box<Sleep>>>,
    idle: Option<Idle>,
    pub(super) moving: Option<Moving>,
}

#[derive(Debug)]
struct Idle {
    after: Duration,
    timer: Pin<Box<Sleep>>,
    /// Bytes of messages that have come from both sides, and when the last of them did.
    moved: u64,
    since: Instant,
}

impl Limit {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Limit; 3] = [Limit::Call, Limit::Stream, Limit::Idle];

    /// The key that sets it.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Limit::Call => "timeout",
            Limit::Stream => "max_stream_duration",
            Limit::Idle => "idle_timeout",
        }
    }

    /// What a client is told.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Limit::Call => "the route's timeout has passed",
            Limit::Stream => "the route's max_stream_duration has passed",
            Limit::Idle => "no message came from either side for the route's idle_timeout",
        }
    }
}

impl Timers {
    /// For a call that began at `started`. `None` where nothing is to be timed: `timeout` is a deadline like a client's.
    pub(super) fn new(limits: &Timeouts, started: Instant, moving: Option<Moving>) -> Option<Box<Timers>> {
        let at = |after: Duration| started.checked_add(after).map(|at| Box::pin(sleep_until(at)));
        let stream = limits.stream.and_then(at);
        let idle = limits.idle.and_then(|after| Some(Idle { after, timer: at(after)?, moved: 0, since: started }));
        (stream.is_some() || idle.is_some() || moving.is_some()).then(|| Box::new(Timers { stream, idle, moving }))
    }

    /// The call has come so far.
    pub(super) fn moved(&mut self, progress: Progress) {
        if let Some(idle) = &mut self.idle {
            idle.moved(progress.bytes);
        }
        if let Some(moving) = &mut self.moving {
            moving.moved(progress.has_begun, progress.messages);
        }
    }

    /// Ready when a limit has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Limit> {
        if self.stream.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Limit::Stream);
        }
        match &mut self.idle {
            Some(idle) => idle.poll(cx).map(|()| Limit::Idle),
            None => Poll::Pending,
        }
    }
}

impl Idle {
    fn moved(&mut self, bytes: u64) {
        if self.moved != bytes {
            self.moved = bytes;
            self.since = Instant::now();
        }
    }

    /// What has moved meanwhile is looked at when the timer has ended: a message costs no timer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let due = self.since + self.after;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn bytes(bytes: u64) -> Progress {
        Progress { bytes, messages: 0, has_begun: false }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_counts_from_what_moved_last() {
        let started = Instant::now();
        let limits = Timeouts { idle: Some(Duration::from_secs(10)), ..Timeouts::default() };
        let mut timers = Timers::new(&limits, started, None).expect("a limit");
        tokio::time::sleep(Duration::from_secs(7)).await;
        timers.moved(bytes(5));
        timers.moved(bytes(5));
        assert_eq!(poll_fn(|cx| timers.poll(cx)).await, Limit::Idle);
        assert_eq!(started.elapsed().as_secs(), 17);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_does_not_prolong_a_stream() {
        let started = Instant::now();
        let (stream, idle) = (Some(Duration::from_secs(5)), Some(Duration::from_secs(60)));
        let mut timers = Timers::new(&Timeouts { stream, idle, ..Timeouts::default() }, started, None).expect("limits");
        timers.moved(bytes(1));
        assert_eq!(poll_fn(|cx| timers.poll(cx)).await, Limit::Stream);
        assert_eq!(started.elapsed().as_secs(), 5);
        assert!(Timers::new(&Timeouts::default(), started, None).is_none());
    }
}
