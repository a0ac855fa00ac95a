//! The timers of a connection to a backend: idle close and keepalive, each there only where it was asked for.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use super::connection::Connection;
use super::dial::DialError;
use crate::config::plan;

/// What ends a connection by the clock.
pub(super) struct Timers<'a> {
    connection: &'a Rc<Connection>,
    idle_timeout: Option<Duration>,
    idle: Option<Pin<Box<Sleep>>>,
    keepalive: Option<Keepalive>,
}

struct Keepalive {
    interval: Duration,
    timeout: Duration,
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl<'a> Timers<'a> {
    pub(super) fn new(plan: &plan::Cluster, connection: &'a Rc<Connection>, pings: Option<PingPong>) -> Timers<'a> {
        let keepalive = plan.http2.keepalive_interval.zip(pings).map(|(interval, pings)| Keepalive {
            interval,
            timeout: plan.http2.keepalive_timeout,
            pings,
            timer: Box::pin(sleep(interval)),
            asked: false,
        });
        let idle = plan.idle_timeout.map(|idle| Box::pin(sleep(idle)));
        Timers { connection, idle_timeout: plan.idle_timeout, idle, keepalive }
    }

    /// Ready when the connection should end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        if let (Some(timer), Some(after)) = (&mut self.idle, self.idle_timeout) {
            while timer.as_mut().poll(cx).is_ready() {
                let due = self.connection.idle_since() + after;
                if self.connection.open() > 0 {
                    timer.as_mut().reset(Instant::now() + after);
                } else if due <= Instant::now() {
                    return Poll::Ready(Ok(()));
                } else {
                    timer.as_mut().reset(due);
                }
            }
        }
        match &mut self.keepalive {
            Some(keepalive) => keepalive.poll(self.connection, cx),
            None => Poll::Pending,
        }
    }
}

impl Keepalive {
    /// Pings a backend that has been silent for an interval while streams are open.
    fn poll(&mut self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        if self.asked && self.pings.poll_pong(cx).is_ready() {
            self.asked = false;
            self.timer.as_mut().reset(Instant::now() + self.interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.asked {
                return Poll::Ready(Err(DialError::Keepalive(self.timeout)));
            }
            let heard = connection.meter().take_heard();
            if !heard && connection.open() > 0 && self.pings.send_ping(Ping::opaque()).is_ok() {
                self.asked = true;
                self.timer.as_mut().reset(Instant::now() + self.timeout);
                let _ = self.pings.poll_pong(cx);
            } else {
                self.timer.as_mut().reset(Instant::now() + self.interval);
            }
        }
        Poll::Pending
    }
}
