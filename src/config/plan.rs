//! What runs: a configuration after every check, in the form that the data plane reads.
//!
//! A plan is immutable and never half right. Names are resolved (a route holds the index of its cluster), defaults are
//! filled in, and filters are built.

mod admission;
mod balance;
mod binding;
mod breaker;
mod dns;
mod health;
mod network;
mod on_drain;
mod rebalance;
mod retry;
mod tls;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_filter::Filter;

pub use admission::{Admission, ForwardingHeaders};
pub use balance::{Balance, Consistent, Endpoint, HashOn, Labels, Location, SlowStart, SubsetFallback};
pub use binding::Binding;
pub use breaker::{Budget, CircuitBreakers};
pub use dns::{Discovery, Dns, DnsResolver, LookupFamily};
pub use health::{Codes, FailurePercentage, HealthCheck, OutlierDetection, Probe, SuccessRate};
pub use network::{Network, NoNetwork, Source};
pub use on_drain::{DrainPolicy, OnDrain};
pub use rebalance::Rebalance;
pub use retry::{
    CallPolicy, HedgingPolicy, MethodConfig, RetryBudget, RetryBuffer, RetryPolicy, RetryThrottling, ServiceConfig,
    StatusCodes, Thousandths,
};
pub use tls::{ClientAuth, ClientCertField, ForwardClientCert, ListenerTls, Tls};

/// A whole configuration.
#[derive(Debug)]
pub struct Plan {
    /// Worker threads; `None` means one for each CPU that the process may use.
    pub workers: Option<NonZeroUsize>,
    /// What the process may hold in memory before it takes on nothing new, in bytes; `None` is no limit.
    pub memory_limit: Option<u64>,
    /// The log filter that the file asks for.
    pub log_level: Option<String>,
    /// Where the admin listener binds; `None` means there is none.
    pub admin: Option<Binding>,
    /// Where `/metrics` alone is served (Pixiu's `metric.prometheus_port`).
    pub metrics: Option<SocketAddr>,
    /// Where the access log goes; `None` means there is none.
    pub access_log: Option<PathBuf>,
    /// How a drain goes.
    pub shutdown: Shutdown,
    /// What the process is called, for whoever watches many of them.
    pub node: Node,
    /// The listeners, in the order of the file.
    pub listeners: Vec<Listener>,
    /// The clusters, in the order of the file; [`Route::cluster`] is an index into this.
    pub clusters: Vec<Cluster>,
    /// Keys that were accepted and have no effect, or an effect that differs from Pixiu's.
    pub notices: Vec<Notice>,
}

/// Something that the operator should know and that does not stop the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `file:line:column`.
    pub place: String,
    /// One sentence.
    pub text: String,
}

/// What a process is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its own name.
    pub id: Option<String>,
    /// The group that it belongs to.
    pub cluster: Option<String>,
    /// Where it stands.
    pub locality: Option<Locality>,
}

/// Where an endpoint or a process stands, from the large to the small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// Such as `eu-west`.
    pub region: String,
    /// Such as `eu-west-1a`.
    pub zone: Option<String>,
    /// Such as a rack.
    pub sub_zone: Option<String>,
}

impl Locality {
    /// What two have in common: nothing, the region, the zone too, all.
    #[must_use]
    pub fn shared_with(&self, other: &Locality) -> u32 {
        let steps = [self.region == other.region, self.zone == other.zone, self.sub_zone == other.sub_zone];
        steps.into_iter().take_while(|same| *same).count() as u32
    }
}

/// How a drain goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long calls in flight may take to finish.
    pub timeout: Duration,
    /// How long listeners go on accepting after the drain has begun.
    pub delay: Duration,
}

/// A listening socket and what is behind it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in the file, in metrics and in logs.
    pub name: Arc<str>,
    /// Where it binds; port 0 lets the kernel choose.
    pub binding: Binding,
    /// The largest single message from a client, in bytes; `None` is unlimited.
    pub max_receive_message_size: Option<usize>,
    /// The largest single message to a client, in bytes; `None` is unlimited.
    pub max_send_message_size: Option<usize>,
    /// Strangers come here. What follows from it stands in the other fields.
    pub edge: bool,
    /// Which connections it takes.
    pub admission: Admission,
    /// What is believed of a request's way.
    pub forwarding_headers: ForwardingHeaders,
    /// Closes a connection that has had no stream for this long; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// Sends GOAWAY to a connection of this age, with up to 10 % of jitter; `None` is never.
    pub max_connection_age: Option<Duration>,
    /// How long its calls may take after that before they end; `None` is as long as they take.
    pub max_connection_age_grace: Option<Duration>,
    /// TLS towards clients; `None` is plaintext.
    pub tls: Option<ListenerTls>,
    /// Sources whose connections begin with the PROXY protocol.
    pub proxy_protocol: Vec<Source>,
    /// HTTP/2 towards clients.
    pub http2: DownstreamHttp2,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
    /// The filters of every route of this listener, in the order of the file. The terminal proxy is not among them.
    pub filters: Vec<NamedFilter>,
}

/// A filter that was built, and the name that built it.
#[derive(Clone, Debug)]
pub struct NamedFilter {
    /// The name in `grpc_filters[].name`.
    pub name: Arc<str>,
    /// The filter.
    pub filter: Arc<dyn Filter>,
    /// What it was told, as YAML, with what looks like a secret hidden.
    pub config: Arc<str>,
}

/// HTTP/2 settings towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamHttp2 {
    /// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 6.5.2).
    pub max_concurrent_streams: u32,
    /// Flow-control window of a stream, in bytes.
    pub stream_window: u32,
    /// Flow-control window of a connection, in bytes.
    pub connection_window: u32,
    /// The largest request header list, in bytes as RFC 9113 6.5.2 counts them.
    pub max_header_list_size: u32,
    /// How many fields a request's header list may have.
    pub max_header_count: u32,
    /// How long a client may take to its preface with SETTINGS, and over one header block or frame that is not DATA.
    pub header_timeout: Duration,
    /// A client may not send keepalive pings more often than this (gRFC A8).
    pub keepalive_min_time: Duration,
    /// A client may send keepalive pings while it has no call (gRFC A8).
    pub keepalive_permit_without_calls: bool,
}

/// One route of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its id in the file, or its pattern.
    pub id: Arc<str>,
    /// Which paths it takes.
    pub pattern: Pattern,
    /// Which metadata a call must carry; all of them must match.
    pub headers: Vec<HeaderMatch>,
    /// Index into [`Plan::clusters`].
    pub cluster: usize,
    /// Index into its cluster's [`Cluster::subsets`]; `None` is every endpoint, or the default subset where there is one.
    pub subset: Option<usize>,
    /// When its calls are made again; `None` leaves it to the cluster.
    pub call_policy: Option<CallPolicy>,
    /// How long its calls may take.
    pub timeouts: Timeouts,
    /// What a drain does to its streams.
    pub on_drain: OnDrain,
}

/// How long the calls of a route may take; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first header to the end; the backend is told.
    pub call: Option<Duration>,
    /// The same, without the backend being told.
    pub stream: Option<Duration>,
    /// After this, give or take a tenth, a stream ends at the next boundary of its messages.
    pub age: Option<Duration>,
    /// Without any part of a message from either side.
    pub idle: Option<Duration>,
}

/// The segments of a route's path, after the leading `/`.
///
/// A prefix `/a/b` is the literals `a`, `b` with `rest` set, and also takes `/a/b` itself. A path ending in `**` has
/// `rest` set as well; whether the rest may be empty is [`Pattern::rest`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The segments that are compared one by one.
    pub segments: Vec<Segment>,
    /// What may follow them.
    pub rest: Rest,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// `:name` or `*`: any one segment.
    Any,
}

/// What may follow the segments of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    /// Nothing: the path ends there.
    Nothing,
    /// Nothing, or any number of further segments: a `prefix`.
    Any,
    /// At least one further segment: a trailing `**`.
    Some,
}

/// One condition on a call's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderMatch {
    /// The metadata key.
    pub name: http::HeaderName,
    /// The values of which one must be there.
    pub values: Vec<String>,
}

/// A named set of endpoints that serve the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name in the file, in metrics and in logs.
    pub name: Arc<str>,
    /// How its endpoints are found.
    pub discovery: Discovery,
    /// How an endpoint is chosen for a call.
    pub balance: Balance,
    /// How large the table of a hashing policy is.
    pub consistent: Consistent,
    /// How an endpoint that joins or comes back gets its share; `None` is at once.
    pub slow_start: Option<SlowStart>,
    /// What a priority's share of usable endpoints is multiplied by, in per cent, to tell what it can take.
    pub overprovisioning_factor: u32,
    /// The labels that routes ask for, each once; [`Route::subset`] is an index into this.
    pub subsets: Vec<Labels>,
    /// Who takes the calls of a subset without endpoints.
    pub subset_fallback: SubsetFallback,
    /// The endpoints that the file names.
    pub endpoints: Vec<Endpoint>,
    /// The active health checks; an endpoint is up when all of them say so.
    pub health_checks: Vec<HealthCheck>,
    /// When calls that fail eject an endpoint; `None` is never.
    pub outlier_detection: Option<OutlierDetection>,
    /// With less than this percentage of the endpoints usable, all of them are used; 0 is never.
    pub healthy_panic_threshold: u32,
    /// How much of it may be in use at once; `None` is no limit.
    pub circuit_breakers: Option<CircuitBreakers>,
    /// How long a connection may take from the first SYN to the backend's SETTINGS.
    pub connect_timeout: Duration,
    /// Closes a connection to a backend that has had no stream for this long; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// How long the streams of an endpoint that has left may stay open; `None` is no limit.
    pub endpoint_drain_timeout: Option<Duration>,
    /// How streams move to an endpoint that joins; `None` where they stay.
    pub rebalance: Option<Rebalance>,
    /// TLS towards backends; `None` is plaintext.
    pub tls: Option<Tls>,
    /// HTTP/2 towards backends.
    pub http2: UpstreamHttp2,
    /// When calls are made again whose route does not say.
    pub call_policy: Option<CallPolicy>,
    /// The tokens that the file gives it; see [`Cluster::throttling`].
    pub retry_throttling: Option<RetryThrottling>,
    /// How many retries may be under way; `None` is any number.
    pub retry_budget: Option<RetryBudget>,
    /// How much is kept of calls that may be made again.
    pub retry_buffer: RetryBuffer,
    /// What a gRPC service config says of its methods.
    pub service_config: Option<Arc<ServiceConfig>>,
}

impl Cluster {
    /// True when something in it may end a stream that is open.
    #[must_use]
    pub fn ends_streams(&self) -> bool {
        self.endpoint_drain_timeout.is_some() || self.rebalance.is_some()
    }

    /// True when connections that were made, and endpoints that are watched, for another configuration of the cluster serve
    /// this one as they are.
    #[must_use]
    pub fn keeps_connections_of(&self, before: &Cluster) -> bool {
        let watched = |cluster: &Cluster| (cluster.outlier_detection.is_some(), cluster.balance.decay_time());
        self.tls == before.tls
            && self.http2 == before.http2
            && self.idle_timeout == before.idle_timeout
            && self.ends_streams() == before.ends_streams()
            && watched(self) == watched(before)
    }

    /// The tokens that stop retries, whoever gave them.
    #[must_use]
    pub fn throttling(&self) -> Option<RetryThrottling> {
        self.retry_throttling.or_else(|| self.service_config.as_ref()?.throttling)
    }

    /// The subset of a route that asks for none.
    #[must_use]
    pub fn default_subset(&self) -> Option<usize> {
        match self.subset_fallback {
            SubsetFallback::DefaultSubset(index) => Some(index),
            SubsetFallback::NoFallback | SubsetFallback::AnyEndpoint => None,
        }
    }
}

/// HTTP/2 settings towards backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHttp2 {
    /// Flow-control window of a stream, in bytes.
    pub stream_window: u32,
    /// No more streams than this share a connection, whatever the backend allows.
    pub max_streams_per_connection: u32,
    /// Sends a ping after this long without a frame from the backend while streams are open; `None` is never.
    pub keepalive_interval: Option<Duration>,
    /// Closes the connection when a ping is not answered in this time.
    pub keepalive_timeout: Duration,
}
