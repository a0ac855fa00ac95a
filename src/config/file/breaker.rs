//! Circuit breakers as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::Duration;
use crate::config::located::At;

/// How much of a cluster may be in use at once, by all workers together. What has no limit here has none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CircuitBreakers {
    /// Unary calls in flight.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max_calls: Option<At<u64>>,
    /// Calls of streaming methods in flight.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max_streams: Option<At<u64>>,
    /// Connections to its endpoints. Each worker may have one to every endpoint all the same.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max_connections: Option<At<u64>>,
    /// Calls that wait for a stream: for a connect, or for another call to end.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max_pending_calls: Option<At<u64>>,
    /// How long a call may wait for a stream.
    pub(crate) pending_timeout: Option<At<Duration>>,
    /// How long a client whose call was rejected is told to wait before it tries again (`grpc-retry-pushback-ms`); `0s`
    /// tells it nothing.
    #[schemars(extend("default" = "1s"))]
    pub(crate) pushback: Option<At<Duration>>,
    /// The same for each of its endpoints. One that is full is passed over while others are not.
    pub(crate) per_endpoint: Option<At<EndpointBudget>>,
}

/// How much of an endpoint may be in use at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointBudget {
    /// Unary calls in flight.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max_calls: Option<At<u64>>,
    /// Calls of streaming methods in flight.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max_streams: Option<At<u64>>,
    /// Connections. Each worker may have one all the same.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max_connections: Option<At<u64>>,
}
