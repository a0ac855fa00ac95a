//! The timers of a connection.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::GOODBYE;
use super::half_open::HalfOpen;
use crate::chance;
use crate::config::plan;

/// The timers of a connection, each there only while it is needed.
pub(super) struct Timers {
    /// Until the client's SETTINGS are here.
    handshake: Option<Pin<Box<Sleep>>>,
    age: Option<Box<Age>>,
    idle: Option<Box<Idle>>,
    left_over: Option<Pin<Box<Sleep>>>,
    pub(super) half_open: HalfOpen,
}

/// `max_connection_age`, and its grace.
struct Age {
    /// Until what is next.
    timer: Pin<Box<Sleep>>,
    next: Aged,
    grace: Option<Duration>,
}

/// What comes with a connection's age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aged {
    /// Its client should go.
    Old,
    /// Its calls end.
    Expired,
    /// It ends, whatever its client has taken of its calls' ends.
    Over,
}

/// `idle_timeout` of a connection.
struct Idle {
    after: Duration,
    timer: Pin<Box<Sleep>>,
    /// When its last stream ended; `None` while it has one.
    since: Option<Instant>,
}

impl Timers {
    pub(super) fn new(plan: &plan::Listener, handshake: Pin<Box<Sleep>>) -> Timers {
        Timers {
            handshake: Some(handshake),
            age: plan.max_connection_age.map(|age| Box::new(Age::new(age, plan.max_connection_age_grace))),
            idle: plan.idle_timeout.map(Idle::new).map(Box::new),
            left_over: None,
            half_open: HalfOpen::new(plan.http2.header_timeout),
        }
    }

    /// True when the client's SETTINGS have not come in time.
    pub(super) fn is_silent(&mut self, has_settings: bool, cx: &mut Context<'_>) -> bool {
        if has_settings {
            self.handshake = None;
        }
        self.handshake.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }

    /// What the connection has come to now. It is to be asked in every turn.
    pub(super) fn age(&mut self, cx: &mut Context<'_>) -> Option<Aged> {
        let age = self.age.as_mut()?;
        if age.timer.as_mut().poll(cx).is_pending() {
            return None;
        }
        let came = age.next;
        if !age.go_on() {
            self.age = None;
        }
        Some(came)
    }

    /// True, once, when the connection has had no stream for its time. It is to be asked in every turn.
    pub(super) fn is_idle(&mut self, busy: bool, cx: &mut Context<'_>) -> bool {
        let idle = self.idle.as_mut().is_some_and(|idle| idle.poll(busy, cx).is_ready());
        if idle {
            self.idle = None;
        }
        idle
    }

    /// True when a connection that was told to end has had no stream for [`GOODBYE`]: its client does not answer the PING
    /// that would end it.
    pub(super) fn is_left_over(&mut self, has_streams: bool, cx: &mut Context<'_>) -> bool {
        if has_streams {
            self.left_over = None;
            return false;
        }
        self.left_over.get_or_insert_with(|| Box::pin(sleep(GOODBYE))).as_mut().poll(cx).is_ready()
    }
}

impl Age {
    fn new(age: Duration, grace: Option<Duration>) -> Age {
        Age { timer: Box::pin(sleep(chance::about(age))), next: Aged::Old, grace }
    }

    /// Waits for what is next. False where nothing is.
    fn go_on(&mut self) -> bool {
        let (next, wait) = match (self.next, self.grace) {
            (Aged::Old, Some(grace)) => (Aged::Expired, grace),
            (Aged::Expired, _) => (Aged::Over, GOODBYE),
            (Aged::Old, None) | (Aged::Over, _) => return false,
        };
        self.next = next;
        self.timer.as_mut().reset(Instant::now() + wait);
        true
    }
}

impl Idle {
    fn new(after: Duration) -> Idle {
        Idle { after, timer: Box::pin(sleep(after)), since: Some(Instant::now()) }
    }

    /// The clock is read when the last stream has ended, and when the timer has.
    fn poll(&mut self, busy: bool, cx: &mut Context<'_>) -> Poll<()> {
        if busy {
            self.since = None;
        } else {
            self.since.get_or_insert_with(Instant::now);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = self.since.unwrap_or(now) + self.after;
            if due <= now {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}
