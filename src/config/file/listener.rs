//! A listener as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::tls::{Asked, ListenerTls};
use super::value::{Duration, FileMode, ForwardingHeaders, ProtocolType, Size};
use crate::config::located::{At, Ignored, OneOrMany, Raw};

/// A port that Weir serves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// Its name in metrics and logs.
    #[schemars(required)]
    pub(crate) name: Option<At<String>>,
    /// What it speaks: `GRPC`, in any case. `HTTP2` means the same.
    #[schemars(required)]
    pub(crate) protocol_type: Option<At<ProtocolType>>,
    /// Where it listens.
    #[schemars(required)]
    pub(crate) address: Option<At<Address>>,
    /// What happens to its calls. One chain; as an object or as a list of one.
    #[schemars(required)]
    pub(crate) filter_chains: Option<At<OneOrMany<FilterChain>>>,
    /// Limits and timeouts of its connections.
    pub(crate) config: Option<At<ListenerConfig>>,
    /// Strangers come here: other defaults hold for some keys of `config` (docs/security.md). Each may still be set.
    #[schemars(extend("default" = false))]
    pub(crate) edge: Option<At<bool>>,
}

/// Where a listener binds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Address {
    /// IP address and port, or the path of a Unix socket.
    #[schemars(required)]
    pub(crate) socket_address: Option<At<SocketAddress>>,
    /// No effect: a listener has a name of its own.
    pub(crate) name: Option<At<Ignored>>,
}

/// IP address and port of a listener, or the path of a Unix socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SocketAddress {
    /// The IP address, version 4 or 6; or `unix:` and the path of a Unix socket, such as `unix:/run/weir/grpc.sock`.
    #[schemars(extend("default" = "0.0.0.0"))]
    pub(crate) address: Option<At<String>>,
    /// The port; 0 lets the kernel choose one. Needed by all but Unix sockets.
    #[schemars(range(max = 65535))]
    pub(crate) port: Option<At<u64>>,
    /// What the file of a Unix socket permits: to connect, a client must be allowed to write. Default: the umask decides.
    pub(crate) mode: Option<At<FileMode>>,
    /// No effect: `protocol_type` of the listener counts.
    pub(crate) protocol_type: Option<At<Ignored>>,
}

/// The network filters of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterChain {
    /// One filter: `dgp.filter.network.grpcconnectionmanager`.
    #[schemars(required)]
    pub(crate) filters: Option<At<Vec<At<NetworkFilter>>>>,
}

/// A network filter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkFilter {
    /// `dgp.filter.network.grpcconnectionmanager`, or the older `dgp.filter.grpcconnectionmanager`.
    #[schemars(required)]
    pub(crate) name: Option<At<String>>,
    /// Routes and filters.
    #[schemars(required)]
    pub(crate) config: Option<At<Raw>>,
}

/// Limits and timeouts of a listener's connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerConfig {
    /// The largest single message that a client may send. A larger one ends its call with RESOURCE_EXHAUSTED. Default:
    /// no limit.
    pub(crate) max_receive_message_size: Option<At<Size>>,
    /// The largest single message that is sent to a client. A larger one ends its call with RESOURCE_EXHAUSTED.
    /// Default: no limit.
    pub(crate) max_send_message_size: Option<At<Size>>,
    /// How many connections the listener may have; one more is closed as soon as it comes. `0` is no limit.
    #[schemars(extend("default" = 0))]
    pub(crate) max_connections: Option<At<u64>>,
    /// How many of them may come from one IPv4 address, or from one IPv6 network of 64 bits. `0` is no limit. At an edge
    /// 100 by default.
    #[schemars(extend("default" = 0))]
    pub(crate) max_connections_per_source: Option<At<u64>>,
    /// `idle_timeout` of the routes that do not say it. `0s` is never. At an edge `5m` by default.
    #[schemars(extend("default" = "0s"))]
    pub(crate) stream_idle_timeout: Option<At<Duration>>,
    /// What happens to `forwarded`, `x-forwarded-*` and `x-real-ip` of a request: `PASS` as all metadata, `REMOVE`, or
    /// `REPLACE` by an `x-forwarded-for` with the address that the connection came from. At an edge `REPLACE` by default.
    #[schemars(extend("default" = "PASS"))]
    pub(crate) forwarding_headers: Option<At<ForwardingHeaders>>,
    /// Closes a connection that has had no stream for this long. Default: never. At an edge `5m`.
    pub(crate) idle_timeout: Option<At<Duration>>,
    /// Tells a client to reconnect when its connection reaches this age, give or take a tenth. Calls that run go on.
    /// Default: never. At an edge `1h`.
    pub(crate) max_connection_age: Option<At<Duration>>,
    /// How long after that its calls may take; what is open then ends with UNAVAILABLE, and the connection with it. Default: as
    /// long as they take.
    pub(crate) max_connection_age_grace: Option<At<Duration>>,
    /// HTTP/2 settings towards clients.
    pub(crate) http2: Option<At<ListenerHttp2>>,
    /// TLS towards clients, with what stands in `tls`.
    #[schemars(extend("default" = false))]
    pub(crate) enable_tls: Option<At<bool>>,
    /// Certificates, and how TLS is spoken with them. Required with `enable_tls`.
    #[serde(default)]
    pub(crate) tls: Asked<ListenerTls>,
    /// Takes the client's address from the PROXY protocol, version 1 or 2, as load balancers send it.
    pub(crate) proxy_protocol: Option<At<ProxyProtocol>>,
    /// No effect on gRPC: a stream has no time limit of its own.
    pub(crate) read_timeout: Option<At<Ignored>>,
    /// No effect on gRPC: a stream has no time limit of its own.
    pub(crate) write_timeout: Option<At<Ignored>>,
    /// No effect: compressed messages pass as they are.
    pub(crate) enable_compression: Option<At<Ignored>>,
}

/// The PROXY protocol.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyProtocol {
    /// The networks whose connections begin with it, such as `[10.0.0.0/8, 2001:db8::1]`; `unix` for those that come by a Unix
    /// socket. One of these that does not is closed; any other that does is not believed.
    #[schemars(required)]
    pub(crate) from: Option<At<Vec<At<String>>>>,
}

/// HTTP/2 settings towards clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerHttp2 {
    /// How many calls a client may have open on one connection.
    #[schemars(range(min = 1, max = 2_147_483_647), extend("default" = 1000))]
    pub(crate) max_concurrent_streams: Option<At<u64>>,
    /// How much of one call's requests may be under way without being read. 65535 bytes at least, 2GiB less
    /// one byte at most.
    #[schemars(extend("default" = "256KiB"))]
    pub(crate) stream_window: Option<At<Size>>,
    /// The same for all calls of a connection together. As large as `stream_window` at least.
    #[schemars(extend("default" = "32MiB"))]
    pub(crate) connection_window: Option<At<Size>>,
    /// The largest request metadata. A larger one ends its call. At an edge `64KiB` by default.
    #[schemars(extend("default" = "1MiB"))]
    pub(crate) max_header_list_size: Option<At<Size>>,
    /// How many fields request metadata may have. More end their call.
    #[schemars(range(min = 16, max = 24_000), extend("default" = 2000))]
    pub(crate) max_header_count: Option<At<u64>>,
    /// How long a client may take to its preface with SETTINGS, and over one header block or any other frame that is not
    /// DATA. Whoever takes longer is disconnected.
    #[schemars(extend("default" = "10s"))]
    pub(crate) header_timeout: Option<At<Duration>>,
    /// A client that sends keepalive pings more often than this is told `too_many_pings` and disconnected.
    #[schemars(extend("default" = "5m"))]
    pub(crate) keepalive_min_time: Option<At<Duration>>,
    /// Whether a client may send keepalive pings while it has no call.
    #[schemars(extend("default" = false))]
    pub(crate) keepalive_permit_without_calls: Option<At<bool>>,
}
