//! The gRPC connection manager as it is written: routes and filters.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::on_drain::OnDrain;
use super::retry::{HedgingPolicy, RetryPolicy};
use super::value::Duration;
use crate::config::located::{At, Ignored, Raw};

/// What `dgp.filter.network.grpcconnectionmanager` is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manager {
    /// Which call goes where.
    #[schemars(required)]
    pub(crate) route_config: Option<At<RouteConfig>>,
    /// What calls pass through, in this order. `dgp.filter.grpc.proxy` stands last, and once.
    #[schemars(required)]
    pub(crate) grpc_filters: Option<At<Vec<At<GrpcFilter>>>>,
    /// No effect: Weir adds no name of its own to a response.
    pub(crate) server_name: Option<At<Ignored>>,
    /// No effect: a call has the time limit that its client and its route give it. `connect_timeout` of a cluster limits connecting.
    pub(crate) timeout_config: Option<At<Ignored>>,
}

/// The routes of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteConfig {
    /// The most specific route takes the call, whatever the order.
    #[schemars(required)]
    pub(crate) routes: Option<At<Vec<At<Route>>>>,
}

/// One route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// Its name in the access log. Default: its path or prefix.
    pub(crate) id: Option<At<String>>,
    /// Which calls it takes.
    #[schemars(required)]
    #[serde(rename = "match")]
    pub(crate) matches: Option<At<RouteMatch>>,
    /// Where they go.
    #[schemars(required)]
    pub(crate) route: Option<At<RouteAction>>,
}

/// Which calls a route takes: those of a `prefix` or of a `path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteMatch {
    /// The segments that the path begins with, whole ones, unlike Envoy's prefix: `/pkg.Service` takes
    /// `/pkg.Service/Get`, not `/pkg.Service2/Get`. `/` takes every call.
    pub(crate) prefix: Option<At<String>>,
    /// The whole path. `:name` or `*` is any one segment, a trailing `**` the rest.
    pub(crate) path: Option<At<String>>,
    /// HTTP methods. A gRPC call is always POST, so a list without it is an error.
    #[schemars(extend("default" = ["POST"]))]
    pub(crate) methods: Option<At<Vec<At<String>>>>,
    /// Metadata that a call must carry; every entry must match.
    pub(crate) headers: Option<At<Vec<At<HeaderMatch>>>>,
}

/// One condition on a call's metadata.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderMatch {
    /// The metadata key.
    #[schemars(required)]
    pub(crate) name: Option<At<String>>,
    /// The values of which the call must have one.
    #[schemars(required)]
    pub(crate) values: Option<At<Vec<At<String>>>>,
    /// Whether the values are regular expressions. Only `false` is possible so far.
    #[schemars(extend("default" = false))]
    pub(crate) regex: Option<At<bool>>,
}

/// Where a route's calls go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteAction {
    /// The name of a cluster.
    #[schemars(required)]
    pub(crate) cluster: Option<At<String>>,
    /// The labels that an endpoint of the cluster must have for these calls, such as `{version: v2}`.
    pub(crate) metadata_match: Option<At<BTreeMap<String, Option<At<String>>>>>,
    /// The longest that a call may take, from its first header to its end. The backend is told, as by a client with this
    /// deadline; the client's own holds where it is shorter. `0s` is no limit.
    #[schemars(extend("default" = "0s"))]
    pub(crate) timeout: Option<At<Duration>>,
    /// The longest that a call may take without the backend being told: for streams that should be opened anew from
    /// time to time. `0s` is no limit.
    #[schemars(extend("default" = "0s"))]
    pub(crate) max_stream_duration: Option<At<Duration>>,
    /// Streams that are older than this, give or take a tenth, end with UNAVAILABLE when they stand between two messages of
    /// the response, for their clients to open them anew. Unary calls are not touched. `0s` is no limit.
    #[schemars(extend("default" = "0s"))]
    pub(crate) max_stream_age: Option<At<Duration>>,
    /// Ends a call in which no part of a message has come from either side for this long. `0s` is never.
    #[schemars(extend("default" = "0s"))]
    pub(crate) idle_timeout: Option<At<Duration>>,
    /// What a drain does to its streams. Without it, they are waited for.
    pub(crate) on_drain: Option<At<OnDrain>>,
    /// When a call that failed is made again. It goes before that of the cluster, whole.
    pub(crate) retry_policy: Option<At<RetryPolicy>>,
    /// When a call is made more than once at a time. It too goes before what the cluster says.
    pub(crate) hedging_policy: Option<At<HedgingPolicy>>,
    /// No effect: a route to a cluster that does not exist is an error at start-up.
    pub(crate) cluster_not_found_response_code: Option<At<Ignored>>,
}

/// A filter that calls pass through.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrpcFilter {
    /// Which filter.
    #[schemars(required)]
    pub(crate) name: Option<At<String>>,
    /// What the filter is told; each has keys of its own.
    pub(crate) config: Option<At<Raw>>,
}

/// What `dgp.filter.grpc.proxy` is told. It applies to every cluster that a route of this listener names.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proxy {
    /// How long a connection to a backend may take, where its cluster does not say.
    #[schemars(extend("default" = "1s"))]
    pub(crate) connect_timeout: Option<At<Duration>>,
    /// Sends a ping after this long without a sign of life from the backend, where the cluster does not say. Default:
    /// never.
    pub(crate) keepalive_time: Option<At<Duration>>,
    /// How long the answer to a ping may take, where the cluster does not say.
    #[schemars(extend("default" = "20s"))]
    pub(crate) keepalive_timeout: Option<At<Duration>>,
    /// How many calls share a connection to a backend, where the cluster does not say.
    #[schemars(range(min = 1, max = 2_147_483_647), extend("default" = 100))]
    pub(crate) max_concurrent_streams: Option<At<u64>>,
    /// TLS towards backends, where the cluster has no `tls`, with the CA certificates of the system.
    #[schemars(extend("default" = false))]
    pub(crate) enable_tls: Option<At<bool>>,
    /// Weir's own certificate for `enable_tls`, for backends that ask for one; `cert_file` of a cluster's `tls`. An empty
    /// one is none.
    pub(crate) tls_cert_file: Option<At<String>>,
    /// The private key of `tls_cert_file`; `key_file` of a cluster's `tls`. An empty one is none.
    pub(crate) tls_key_file: Option<At<String>>,
    /// No effect: Weir needs no descriptors, and reflection passes through to the backend.
    pub(crate) reflection_mode: Option<At<Ignored>>,
    /// No effect: Weir needs no descriptors.
    pub(crate) descriptor_cache_ttl: Option<At<Ignored>>,
    /// No effect: Weir needs no descriptors.
    pub(crate) reflection_timeout: Option<At<Ignored>>,
    /// No effect: all metadata passes.
    pub(crate) extract_triple_metadata: Option<At<Ignored>>,
    /// No effect: gRPC is what a `GRPC` listener speaks.
    pub(crate) enable_protocol_detection: Option<At<Ignored>>,
    /// No effect: messages pass as they are.
    pub(crate) force_codec: Option<At<Ignored>>,
}
