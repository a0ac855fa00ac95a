//! What a drain still waits for.

use crate::config::plan::DrainPolicy;
use crate::metrics::WorkerMetrics;
use crate::worker::Handle;

/// What is left, in calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// All of them.
    pub(crate) calls: u64,
    /// Streams that end between two messages.
    pub(crate) to_end: u64,
    /// Streams that are cut at their time.
    pub(crate) to_cut: u64,
    /// Connections, with calls and without.
    pub(crate) connections: usize,
}

impl Left {
    /// What these workers have left.
    pub(crate) fn of(workers: &[Handle]) -> Left {
        let mut left = Left::default();
        for worker in workers {
            let (calls, connections) = worker.load();
            left.calls += calls;
            left.connections += connections;
            left.to_end += to_end(&worker.metrics);
            left.to_cut += to_cut(&worker.metrics);
        }
        left
    }

    /// Calls that nothing ends but themselves.
    pub(crate) fn own_end(&self) -> u64 {
        self.calls.saturating_sub(self.to_end + self.to_cut)
    }

    /// True when no call is in flight and every connection has had its last byte.
    pub(crate) fn is_nothing(&self) -> bool {
        self.calls == 0 && self.connections == 0
    }

    /// Says it in the log.
    pub(crate) fn report(&self) {
        let Left { calls, to_end, to_cut, connections } = *self;
        tracing::info!(
            calls,
            connections,
            own_end = self.own_end(),
            message_boundary = to_end,
            cut = to_cut,
            "draining"
        );
    }
}

fn to_end(metrics: &WorkerMetrics) -> u64 {
    metrics.draining(DrainPolicy::EndAtMessageBoundary(std::time::Duration::ZERO)).get()
}

fn to_cut(metrics: &WorkerMetrics) -> u64 {
    metrics.draining(DrainPolicy::Cut(std::time::Duration::ZERO)).get()
}
