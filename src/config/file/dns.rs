//! How names are looked up, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::Duration;
use crate::config::located::At;

/// When a name whose look-up failed is looked up again. The wait doubles from failure to failure; each is drawn between
/// half of it and all of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailureRefreshRate {
    /// The longest wait after the first failure, and after every one while the name has no endpoints.
    #[schemars(required)]
    pub(crate) base_interval: Option<At<Duration>>,
    /// The longest wait. Default: ten times `base_interval`.
    pub(crate) max_interval: Option<At<Duration>>,
}

/// A name server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameServer {
    /// Where it is asked, by UDP and TCP.
    #[schemars(required)]
    pub(crate) socket_address: Option<At<NameServerAddress>>,
}

/// IP address and port of a name server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameServerAddress {
    /// The IP address, version 4 or 6.
    #[schemars(required)]
    pub(crate) address: Option<At<String>>,
    /// The port.
    #[schemars(range(min = 1, max = 65535), extend("default" = 53))]
    pub(crate) port: Option<At<u64>>,
}
