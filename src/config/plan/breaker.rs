//! Circuit breakers as they run.

use std::time::Duration;

/// How much of a cluster may be in use at once, by all workers together; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// Of the cluster as a whole.
    pub cluster: Budget,
    /// Of each endpoint.
    pub endpoint: Budget,
    /// Calls that wait for a stream.
    pub pending: Option<usize>,
    /// How long a call may wait for a stream.
    pub pending_timeout: Option<Duration>,
    /// What a rejected client is told by `grpc-retry-pushback-ms` (gRFC A6).
    pub pushback: Option<Duration>,
}

/// How much of one thing may be in use at once; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Unary calls in flight.
    pub calls: Option<usize>,
    /// Calls of streaming methods in flight.
    pub streams: Option<usize>,
    /// Connections, beyond one of each worker to an endpoint.
    pub connections: Option<usize>,
}

impl CircuitBreakers {
    /// True when a call could meet a limit.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        let none = Budget::default();
        self.cluster != none || self.endpoint != none || self.pending.is_some() || self.pending_timeout.is_some()
    }
}
