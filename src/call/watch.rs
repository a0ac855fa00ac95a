//! What ends a call from outside, whatever it is waiting for.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::RecvStream;
use tokio::time::{Instant, Sleep, sleep_until};
use weir_filter::{Call, Code, Ending, Status};

use super::client::{Client, Left};
use super::moving::Moving;
use super::timers::{Limit, Progress, Timers};
use crate::drain::Listening;
use crate::local::{Local, RouteTarget, Served};
use crate::status;
use crate::upstream::{Move, Pool};

/// Why a call ends before its backend ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The client has left.
    Left(Left),
    /// The client's deadline has passed.
    Deadline,
    /// A limit of the route has passed.
    Limit(Limit),
    /// The drain's time is over.
    Cut,
    /// The client's connection is older than it may be, its grace included.
    ConnectionAge,
    /// The stream is to be opened anew, elsewhere.
    Moved(Move),
}

/// Whose drain ends a call.
#[derive(Clone, Copy)]
pub(crate) struct WatchedDrain<'a> {
    pub(crate) local: &'a Local,
    pub(crate) listener: &'a Served,
}

/// Watches one call.
pub(crate) struct Watch {
    deadline: Option<Instant>,
    /// The deadline is the route's, which is sooner than the client's.
    by_route: bool,
    timer: Option<Pin<Box<Sleep>>>,
    timers: Option<Box<Timers>>,
    cut: Listening,
    expired: Option<Listening>,
}

impl Watch {
    /// Watches a call of this route that began at `started`, whose client gave it this deadline.
    pub(crate) fn new(
        started: Instant,
        deadline: Option<Instant>,
        route: &RouteTarget,
        call: &Call,
        drain: WatchedDrain<'_>,
        expired: Option<Listening>,
    ) -> Watch {
        let limits = &route.timeouts;
        let of_route = limits.call.and_then(|timeout| started.checked_add(timeout));
        let by_route = of_route.is_some_and(|end| deadline.is_none_or(|deadline| end < deadline));
        let deadline = if by_route { of_route } else { deadline };
        let timer = deadline.map(|at| Box::pin(sleep_until(at)));
        let timers = Timers::new(limits, started, Moving::new(route, call, started, &drain));
        Watch { deadline, by_route, timer, timers, cut: drain.listener.cut.listen(), expired }
    }

    /// When the backend should have answered.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The call has come so far.
    pub(crate) fn moved(&mut self, progress: impl FnOnce() -> Progress) {
        if let Some(timers) = &mut self.timers {
            timers.moved(progress());
        }
    }

    /// How long a client whose call is interrupted is told to wait before it makes it again.
    pub(crate) fn pushback(&self, interrupt: Interrupt) -> Option<Duration> {
        match interrupt {
            Interrupt::Moved(why) => self.timers.as_ref()?.moving.as_ref()?.pushback(why),
            _ => None,
        }
    }

    /// Ready when the call must end.
    pub(crate) fn poll(&mut self, client: &mut Client, cx: &mut Context<'_>) -> Poll<Interrupt> {
        if let Poll::Ready(left) = client.poll_left(cx) {
            return Poll::Ready(Interrupt::Left(left));
        }
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(if self.by_route { Interrupt::Limit(Limit::Call) } else { Interrupt::Deadline });
        }
        if let Some(timers) = &mut self.timers
            && let Poll::Ready(limit) = timers.poll(cx)
        {
            return Poll::Ready(Interrupt::Limit(limit));
        }
        if let Some(expired) = &self.expired
            && expired.poll(cx).is_ready()
        {
            return Poll::Ready(Interrupt::ConnectionAge);
        }
        self.cut.poll(cx).map(|()| Interrupt::Cut)
    }

    /// The call has a stream of this pool now.
    pub(crate) fn is_at(&mut self, pool: &Rc<Pool>) {
        if let Some(moving) = self.timers.as_mut().and_then(|timers| timers.moving.as_mut()) {
            moving.is_at(pool);
        }
    }

    /// The same as [`Watch::poll`] for a call that has a stream to a backend, which may have to move too.
    pub(crate) fn poll_in_attempt(&mut self, client: &mut Client, cx: &mut Context<'_>) -> Poll<Interrupt> {
        if let Poll::Ready(interrupt) = self.poll(client, cx) {
            return Poll::Ready(interrupt);
        }
        match self.timers.as_mut().and_then(|timers| timers.moving.as_mut()) {
            Some(moving) => moving.poll(cx).map(Interrupt::Moved),
            None => Poll::Pending,
        }
    }

    /// Waits for `future`, unless the call is interrupted first.
    pub(crate) async fn or<T>(&mut self, client: &mut Client, future: impl Future<Output = T>) -> Result<T, Interrupt> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => self.poll(client, cx).map(Err),
        })
        .await
    }
}

impl Interrupt {
    /// True where the gateway ends a call whose client still waits: the client gets a status that it can use, if need be
    /// after the rest of a message.
    pub(crate) fn is_the_gateways(self) -> bool {
        matches!(self, Interrupt::Cut | Interrupt::ConnectionAge | Interrupt::Limit(_) | Interrupt::Moved(_))
    }

    /// True where the rest of a message that is under way is waited for however long it takes.
    pub(crate) fn has_time(self) -> bool {
        matches!(self, Interrupt::Moved(Move::Age | Move::Rebalance | Move::Drain))
    }

    /// The interrupt, with what the request's stream tells about a client that has left.
    pub(crate) fn told_by(self, request: &mut RecvStream) -> Interrupt {
        match self {
            Interrupt::Left(left) => Interrupt::Left(left.told_by(request)),
            _ => self,
        }
    }

    pub(crate) fn ending(self) -> Ending {
        match self {
            Interrupt::Left(Left::Cancelled) => Ending::ClientCancel,
            Interrupt::Left(Left::Gone) => Ending::ClientGone,
            Interrupt::Left(Left::Broke(_)) => Ending::Gateway,
            Interrupt::Deadline | Interrupt::Limit(_) => Ending::Deadline,
            Interrupt::Cut | Interrupt::Moved(Move::Drain | Move::DrainCut) => Ending::Drain,
            Interrupt::ConnectionAge => Ending::ConnectionAge,
            Interrupt::Moved(Move::Removed) => Ending::EndpointRemoved,
            Interrupt::Moved(Move::Age) => Ending::StreamAge,
            Interrupt::Moved(Move::Rebalance) => Ending::Rebalance,
        }
    }

    /// What the client is told, if it is still there.
    pub(crate) fn status(self) -> Status {
        match self {
            Interrupt::Left(Left::Broke(reason)) => {
                let text = format!("the request broke HTTP/2, and was reset: {reason}");
                Status::new(status::of_reset(reason), text)
            }
            Interrupt::Left(Left::Cancelled | Left::Gone) => Status::new(Code::Cancelled, ""),
            Interrupt::Deadline => Status::new(Code::DeadlineExceeded, "deadline exceeded at the gateway"),
            Interrupt::Limit(limit) => Status::new(Code::DeadlineExceeded, limit.words()),
            Interrupt::Cut => Status::new(Code::Unavailable, "the gateway is shutting down"),
            Interrupt::ConnectionAge => {
                Status::new(Code::Unavailable, "the connection is older than max_connection_age and its grace")
            }
            Interrupt::Moved(why) => Status::new(Code::Unavailable, why.words()),
        }
    }
}
