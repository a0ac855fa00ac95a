//! Rebalancing as it runs.

use std::time::Duration;

/// How streams move to an endpoint that joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// The time over which those that have to move end.
    pub window: Duration,
    /// Those that are younger stay.
    pub min_stream_age: Duration,
    /// What a client is told by `grpc-retry-pushback-ms` (gRFC A6).
    pub pushback: Duration,
}
