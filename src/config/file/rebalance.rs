//! Rebalancing as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::Duration;
use crate::config::located::At;

/// How streams move to an endpoint that joins.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rebalance {
    /// The time over which the streams that have to move end, one by one.
    #[schemars(extend("default" = "30s"))]
    pub(crate) window: Option<At<Duration>>,
    /// Streams that are younger stay where they are.
    #[schemars(extend("default" = "10s"))]
    pub(crate) min_stream_age: Option<At<Duration>>,
    /// How long a client is told to wait before it opens its stream anew (`grpc-retry-pushback-ms`); `0s` is not at all.
    #[schemars(extend("default" = "0s"))]
    pub(crate) pushback: Option<At<Duration>>,
}
