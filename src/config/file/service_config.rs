//! A gRPC service config as it is written (gRPC's `doc/service_config.md` and `grpc/service_config/service_config.proto`).

use serde::Deserialize;

use crate::config::located::{At, Ignored};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ServiceConfig {
    pub(crate) method_config: Option<At<Vec<At<MethodConfig>>>>,
    pub(crate) retry_throttling: Option<At<Throttling>>,
    pub(crate) load_balancing_policy: Option<At<Ignored>>,
    pub(crate) load_balancing_config: Option<At<Ignored>>,
    pub(crate) health_check_config: Option<At<Ignored>>,
}

/// What holds for some methods.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct MethodConfig {
    pub(crate) name: Option<At<Vec<At<Name>>>>,
    pub(crate) retry_policy: Option<At<RetryPolicy>>,
    pub(crate) hedging_policy: Option<At<HedgingPolicy>>,
    pub(crate) timeout: Option<At<String>>,
    pub(crate) wait_for_ready: Option<At<Ignored>>,
    pub(crate) max_request_message_bytes: Option<At<Ignored>>,
    pub(crate) max_response_message_bytes: Option<At<Ignored>>,
}

/// A method, all methods of a service, or everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Name {
    pub(crate) service: Option<At<String>>,
    pub(crate) method: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RetryPolicy {
    pub(crate) max_attempts: Option<At<u64>>,
    pub(crate) initial_backoff: Option<At<String>>,
    pub(crate) max_backoff: Option<At<String>>,
    pub(crate) backoff_multiplier: Option<At<f64>>,
    pub(crate) retryable_status_codes: Option<At<Vec<At<String>>>>,
    /// gRFC A36's name for it, in xDS only; C-core reads it here too.
    pub(crate) per_attempt_recv_timeout: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct HedgingPolicy {
    pub(crate) max_attempts: Option<At<u64>>,
    pub(crate) hedging_delay: Option<At<String>>,
    pub(crate) non_fatal_status_codes: Option<At<Vec<At<String>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Throttling {
    pub(crate) max_tokens: Option<At<u64>>,
    pub(crate) token_ratio: Option<At<f64>>,
}
