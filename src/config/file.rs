//! The YAML as it is written: serde structs that mirror it, and nothing else.
//!
//! Every key is optional here, because [`check`](super::check) is what says that one is missing. The doc comments are
//! the descriptions in the JSON Schema.

use schemars::JsonSchema;
use serde::Deserialize;

use super::located::{At, Ignored};

pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod cluster;
pub(crate) mod dns;
pub(crate) mod listener;
pub(crate) mod manager;
pub(crate) mod on_drain;
pub(crate) mod rebalance;
pub(crate) mod retry;
pub(crate) mod service_config;
pub(crate) mod tls;
pub(crate) mod value;

use balance::Locality;
use cluster::Cluster;
use listener::Listener;
use value::{Duration, FileMode, Size};

/// A configuration of Weir. The keys are those of Pixiu, and some of Weir's own in the same style.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Weir configuration")]
pub(crate) struct File {
    /// What Weir listens on, and where it sends calls.
    #[schemars(required)]
    pub(crate) static_resources: Option<At<StaticResources>>,
    /// How many worker threads serve calls. Default: one for each CPU that the process may use.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) workers: Option<At<u64>>,
    /// What the process may hold in memory before it refuses calls and connections with RESOURCE_EXHAUSTED. Set it some way
    /// below what the kernel ends it for. Default: no limit.
    pub(crate) memory_limit: Option<At<Size>>,
    /// The admin listener: metrics, readiness, and the state of clusters. Without this key there is none.
    pub(crate) admin: Option<At<Admin>>,
    /// One JSON object for each call that ended. Without this key none are written.
    pub(crate) access_log: Option<At<AccessLog>>,
    /// Metrics on a port of their own, as in Pixiu.
    pub(crate) metric: Option<At<Metric>>,
    /// What Weir logs about itself, on stderr.
    pub(crate) log: Option<At<Log>>,
    /// What this process is called: in the metric `weir_node_info` and on the admin page `/config`.
    pub(crate) node: Option<At<Identity>>,
    /// How a drain goes. It may stand here or under `static_resources`.
    pub(crate) shutdown_config: Option<At<Shutdown>>,
}

/// Listeners and clusters that the file itself names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StaticResources {
    /// The ports that Weir serves.
    #[schemars(required)]
    pub(crate) listeners: Option<At<Vec<At<Listener>>>>,
    /// The backends that routes name.
    #[schemars(required)]
    pub(crate) clusters: Option<At<Vec<At<Cluster>>>>,
    /// How a drain goes. It may stand here or at the top of the file.
    pub(crate) shutdown_config: Option<At<Shutdown>>,
}

/// The admin listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// Where it listens. It has no authentication: keep it on a loopback address or a private network.
    #[schemars(required)]
    pub(crate) address: Option<At<AdminAddress>>,
}

/// Where the admin listener binds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminAddress {
    /// IP address and port, or the path of a Unix socket.
    #[schemars(required)]
    pub(crate) socket_address: Option<At<AdminSocketAddress>>,
}

/// IP address and port of the admin listener, or the path of a Unix socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminSocketAddress {
    /// The IP address; or `unix:` and the path of a Unix socket.
    #[schemars(extend("default" = "127.0.0.1"))]
    pub(crate) address: Option<At<String>>,
    /// The port; 0 lets the kernel choose one. Needed by all but Unix sockets.
    #[schemars(range(max = 65535))]
    pub(crate) port: Option<At<u64>>,
    /// What the file of a Unix socket permits. Default: the umask decides.
    pub(crate) mode: Option<At<FileMode>>,
}

/// Where the access log goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessLog {
    /// A file that is appended to, such as `/var/log/weir/access.log`, or `/dev/stdout`.
    #[schemars(required)]
    pub(crate) path: Option<At<String>>,
}

/// Metrics on a port of their own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metric {
    /// Whether `/metrics` is served.
    #[schemars(extend("default" = false))]
    pub(crate) enable: Option<At<bool>>,
    /// The port, on every address of the machine.
    #[schemars(range(max = 65535), extend("default" = 2222))]
    pub(crate) prometheus_port: Option<At<u64>>,
}

/// What Weir logs about itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// `trace`, `debug`, `info`, `warn`, `error` or `off`; or a list by module, such as `info,weir::cluster=debug`. Of libraries errors alone, unless they are named: `info,h2=warn`.
    #[schemars(extend("default" = "info"))]
    pub(crate) level: Option<At<String>>,
}

/// The name of this process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The name of this process.
    pub(crate) id: Option<At<String>>,
    /// The group that this process belongs to.
    pub(crate) cluster: Option<At<String>>,
    /// Where this process stands: endpoints with a `locality` of their own are asked the sooner the nearer they are.
    pub(crate) locality: Option<At<Locality>>,
}

/// How a drain goes: what happens from SIGTERM to the end of the process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shutdown {
    /// How long calls in flight may take to finish. What is open then is ended with UNAVAILABLE.
    #[schemars(extend("default" = "60s"))]
    pub(crate) timeout: Option<At<Duration>>,
    /// How long listeners go on accepting connections after the drain has begun, for load balancers that are slow to
    /// notice.
    #[schemars(extend("default" = "0s"))]
    pub(crate) delay: Option<At<Duration>>,
    /// No effect: the steps of a drain need no time limit of their own.
    pub(crate) step_timeout: Option<At<Ignored>>,
    /// No effect: calls that arrive during a drain are still served.
    pub(crate) reject_policy: Option<At<Ignored>>,
}
