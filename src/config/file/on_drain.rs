//! What a drain does to the streams of a route, as it is written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::value::Duration;
use crate::config::located::At;
use crate::config::plan::DrainPolicy;

/// What a drain does to the streams of a route. Calls that may be unary are waited for in any case.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnDrain {
    /// `wait` for the streams to end, `end_at_message_boundary` over a time, or `cut` them at a time.
    #[schemars(required)]
    pub(crate) policy: Option<At<DrainPolicyName>>,
    /// With `end_at_message_boundary`: the time over which the streams end, each at a moment of its own.
    #[schemars(extend("default" = "10s"))]
    pub(crate) window: Option<At<Duration>>,
    /// With `cut`: how long the streams may go on. A message that is under way then has half a second more.
    #[schemars(extend("default" = "10s"))]
    pub(crate) after: Option<At<Duration>>,
    /// How long a client is told to wait before it opens its stream anew (`grpc-retry-pushback-ms`); `0s` is not at all.
    #[schemars(extend("default" = "0s"))]
    pub(crate) pushback: Option<At<Duration>>,
}

/// The name of a policy as it is written.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DrainPolicyName(pub(crate) String);

impl JsonSchema for DrainPolicyName {
    fn schema_name() -> Cow<'static, str> {
        "DrainPolicy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What a drain does to streams.",
            "type": "string",
            "enum": DrainPolicy::NAMES,
        })
    }
}
