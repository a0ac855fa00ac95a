//! What a drain does to a stream, as its route's `on_drain` says.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::watch::WatchedDrain;
use crate::chance;
use crate::config::plan::{DrainPolicy, OnDrain};
use crate::drain::Listening;
use crate::metrics::{Cell, WorkerMetrics};
use crate::upstream::{Move, Stream};

/// How often a call is looked at anew that is not known to be a stream when its time has come: other calls of its method may tell.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A call whose stream ends with a drain. Until there is one, it costs a place among those who wait for it.
pub(super) struct Draining {
    on_drain: OnDrain,
    begun: Listening,
    timer: Option<Pin<Box<Sleep>>>,
    is_due: bool,
    metrics: Arc<WorkerMetrics>,
    is_counted: bool,
}

impl Draining {
    /// `None` where streams are waited for.
    pub(super) fn new(on_drain: OnDrain, drain: &WatchedDrain<'_>) -> Option<Draining> {
        if on_drain.policy == DrainPolicy::Wait {
            return None;
        }
        let (begun, metrics) = (drain.listener.streams_end.listen(), drain.local.metrics.clone());
        Some(Draining { on_drain, begun, timer: None, is_due: false, metrics, is_counted: false })
    }

    /// Ready when the stream has to end.
    pub(super) fn poll(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<Move> {
        if self.begun.poll(cx).is_pending() {
            // Or it has been taken back.
            (self.timer, self.is_due) = (None, false);
            self.count(false);
            return Poll::Pending;
        }
        let policy = self.on_drain.policy;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(wait(policy))));
        while timer.as_mut().poll(cx).is_ready() {
            self.is_due = true;
            timer.as_mut().reset(Instant::now() + LOOK_AGAIN);
        }
        self.count(stream.is_known());
        match self.on_drain.policy {
            DrainPolicy::EndAtMessageBoundary(_) if self.is_due && stream.may_move() => Poll::Ready(Move::Drain),
            DrainPolicy::Cut(_) if self.is_due && stream.is_known() => Poll::Ready(Move::DrainCut),
            _ => Poll::Pending,
        }
    }

    /// How long a client is told to wait before it opens such a stream anew.
    pub(super) fn pushback(&self) -> Duration {
        self.on_drain.pushback
    }

    /// Shows in the drain's progress what the call waits for.
    fn count(&mut self, is_stream: bool) {
        if self.is_counted != is_stream {
            self.is_counted = is_stream;
            let add = if is_stream { Cell::add } else { Cell::sub };
            add(self.metrics.draining(self.on_drain.policy), 1);
        }
    }
}

/// How long after the drain's beginning a stream's time comes.
fn wait(policy: DrainPolicy) -> Duration {
    match policy {
        DrainPolicy::Wait => Duration::ZERO,
        DrainPolicy::EndAtMessageBoundary(window) => window.mul_f64(chance::fraction()),
        DrainPolicy::Cut(after) => after,
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        self.count(false);
    }
}
