//! Retries as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::{Duration, Size};
use crate::config::located::At;

/// When a call that failed is made again (gRFC A6).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryPolicy {
    /// How often a call is made at most, the first time included.
    #[schemars(required, range(min = 2, max = 5))]
    pub(crate) max_attempts: Option<At<u64>>,
    /// The longest wait before the second attempt. Each wait is drawn between nothing and its longest.
    #[schemars(extend("default" = "100ms"))]
    pub(crate) initial_backoff: Option<At<Duration>>,
    /// The longest wait before any attempt.
    #[schemars(extend("default" = "1s"))]
    pub(crate) max_backoff: Option<At<Duration>>,
    /// What the longest wait grows by from attempt to attempt.
    #[schemars(range(min = 0.001, max = 1000), extend("default" = 2))]
    pub(crate) backoff_multiplier: Option<At<f64>>,
    /// The statuses that are tried again, by name: `[UNAVAILABLE]`.
    #[schemars(required)]
    pub(crate) retryable_status_codes: Option<At<Vec<At<String>>>>,
    /// An attempt whose response has not begun after this long is given up and tried again, or ends with UNAVAILABLE.
    /// Default: no limit but the call's own.
    pub(crate) per_attempt_timeout: Option<At<Duration>>,
    /// How long response headers are held back for the first message or the end, once the client has ended its request: a
    /// failure that follows them can be tried again. `0s` commits with the headers, as gRFC A6 says.
    #[schemars(extend("default" = "1s"))]
    pub(crate) hold_headers: Option<At<Duration>>,
}

/// When a call is made more than once at a time (gRFC A6). The first good answer goes to the client.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HedgingPolicy {
    /// How often a call is made at most, the first time included.
    #[schemars(required, range(min = 2, max = 5))]
    pub(crate) max_attempts: Option<At<u64>>,
    /// The time from an attempt to the next. `0s` makes all of them at once.
    #[schemars(required)]
    pub(crate) hedging_delay: Option<At<Duration>>,
    /// The statuses that do not end the call, by name: the next attempt is made at once. Default: none, and any failure ends it.
    pub(crate) non_fatal_status_codes: Option<At<Vec<At<String>>>>,
    /// How long response headers are held back for the first message or the end, once the client has ended its request: a
    /// failure that follows them can be outlived. `0s` commits with the headers, as gRFC A6 says.
    #[schemars(extend("default" = "1s"))]
    pub(crate) hold_headers: Option<At<Duration>>,
}

/// The tokens that stop retries where most attempts fail (gRFC A6). A failure costs one; with half of them or fewer nothing
/// is tried again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryThrottling {
    /// Tokens at the start, and at most.
    #[schemars(required, range(min = 1, max = 1000))]
    pub(crate) max_tokens: Option<At<u64>>,
    /// What a success gives back; three decimals count.
    #[schemars(required, range(min = 0.001, max = 1000))]
    pub(crate) token_ratio: Option<At<f64>>,
}

/// How many retries the cluster may have under way.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryBudget {
    /// The share of the cluster's calls in flight, in per cent.
    #[schemars(range(max = 100), extend("default" = 20))]
    pub(crate) percent: Option<At<u64>>,
    /// So many are always allowed.
    #[schemars(range(max = 1_000_000), extend("default" = 3))]
    pub(crate) min_concurrency: Option<At<u64>>,
}

/// How much of requests is kept for another attempt. A call that sends more goes on, and is not tried again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryBuffer {
    /// Of one call.
    #[schemars(extend("default" = "64KiB"))]
    pub(crate) per_call: Option<At<Size>>,
    /// Of all calls together.
    #[schemars(extend("default" = "16MiB"))]
    pub(crate) per_cluster: Option<At<Size>>,
}
