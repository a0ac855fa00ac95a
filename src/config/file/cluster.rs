//! A cluster as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::balance::{Consistent, HashOn, LbSubsetConfig, Locality, PeakEwma, SlowStartConfig};
use super::breaker::CircuitBreakers;
use super::dns::{FailureRefreshRate, NameServer};
use super::rebalance::Rebalance;
use super::retry::{HedgingPolicy, RetryBudget, RetryBuffer, RetryPolicy, RetryThrottling};
use super::tls::{Asked, ClusterTls};
use super::value::{
    DiscoveryType, DnsResolver, Duration, FailureStatus, HealthProtocol, HttpStatus, LbPolicy, LookupFamily, Size,
};
use crate::config::located::{At, Ignored};

/// A named set of endpoints that serve the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// The name that routes use.
    #[schemars(required)]
    pub(crate) name: Option<At<String>>,
    /// How its endpoints are found: `Static` (the addresses stand here), `StrictDNS` (every address of the names),
    /// `LogicalDns` (one address of each name).
    #[serde(rename = "type")]
    #[schemars(extend("default" = "Static"))]
    pub(crate) discovery: Option<At<DiscoveryType>>,
    /// How an endpoint is chosen for a call: `RoundRobin`, `WeightedRoundRobin`, `Rand`, `WeightRandom`, `LeastRequest`,
    /// `PeakEwma`, `RingHashing` or `MaglevHashing`.
    #[schemars(extend("default" = "Rand"))]
    pub(crate) lb_policy: Option<At<LbPolicy>>,
    /// What a hashing policy hashes. Needed by those, and useless to the others.
    pub(crate) hash_on: Option<At<HashOn>>,
    /// The size of a hashing policy's table, and the most that a key brings an endpoint.
    pub(crate) consistent: Option<At<Consistent>>,
    /// What `PeakEwma` goes by.
    pub(crate) peak_ewma: Option<At<PeakEwma>>,
    /// Gives an endpoint that joins or comes back its share little by little. Off without it.
    pub(crate) slow_start_config: Option<At<SlowStartConfig>>,
    /// The endpoints of a priority can take all calls while their usable share, multiplied by this percentage, is 100 or
    /// more: with 140, while five of seven are usable. What they cannot take goes to the next priority.
    #[schemars(range(min = 100, max = 1000), extend("default" = 140))]
    pub(crate) overprovisioning_factor: Option<At<u64>>,
    /// Who takes the calls of a route whose `metadata_match` no endpoint has.
    pub(crate) lb_subset_config: Option<At<LbSubsetConfig>>,
    /// The backends.
    #[schemars(required)]
    pub(crate) endpoints: Option<At<Vec<At<Endpoint>>>>,
    /// Active health checks. An endpoint gets calls while all of them say that it is up.
    pub(crate) health_checks: Option<At<Vec<At<HealthCheck>>>>,
    /// Takes an endpoint out for a while when its calls fail. Off without it; `{}` turns it on with its defaults.
    pub(crate) outlier_detection: Option<At<OutlierDetection>>,
    /// With less than this percentage of the endpoints neither down nor ejected, all of them get calls; 0 is never.
    #[schemars(range(min = 0, max = 100), extend("default" = 0))]
    pub(crate) healthy_panic_threshold: Option<At<u64>>,
    /// How much of it may be in use at once. Without it there is no limit.
    pub(crate) circuit_breakers: Option<At<CircuitBreakers>>,
    /// How long a connection may take, from the first packet to the backend's HTTP/2 settings.
    #[schemars(extend("default" = "1s"))]
    pub(crate) connect_timeout: Option<At<Duration>>,
    /// Closes a connection to a backend that has had no stream for this long; `0s` is never.
    #[schemars(extend("default" = "10m"))]
    pub(crate) idle_timeout: Option<At<Duration>>,
    /// How long streams may stay open on an endpoint that DNS no longer finds; then they end with UNAVAILABLE. Default: no
    /// limit.
    pub(crate) endpoint_drain_timeout: Option<At<Duration>>,
    /// Moves long-lived streams to an endpoint that joins or recovers. Off without it; `{}` turns it on with its defaults.
    pub(crate) rebalance: Option<At<Rebalance>>,
    /// How often names are looked up where no TTL says when: those of the hosts file, and all with
    /// `respect_dns_ttl: false`. Default: `5s`.
    pub(crate) dns_refresh_rate: Option<At<Duration>>,
    /// Names are looked up again when the shortest TTL of the answer is over. Default: `true`, and `false` where
    /// `dns_refresh_rate` stands.
    pub(crate) respect_dns_ttl: Option<At<bool>>,
    /// A shorter TTL counts as this long.
    #[schemars(extend("default" = "1s"))]
    pub(crate) dns_min_refresh_rate: Option<At<Duration>>,
    /// A longer TTL counts as this long.
    #[schemars(extend("default" = "5m"))]
    pub(crate) dns_max_refresh_rate: Option<At<Duration>>,
    /// When a name whose look-up failed is looked up again. Default: from `1s`, or `dns_refresh_rate` where that is
    /// shorter, up to ten times that.
    pub(crate) dns_failure_refresh_rate: Option<At<FailureRefreshRate>>,
    /// Which addresses of a name are endpoints: `ALL`, those of IPv4 (`V4_ONLY`), of IPv6 (`V6_ONLY`), or those of the other
    /// family where there are none of the first (`V4_PREFERRED`, `V6_PREFERRED`).
    #[schemars(extend("default" = "ALL"))]
    pub(crate) dns_lookup_family: Option<At<LookupFamily>>,
    /// Who looks names up: `DNS` (Weir itself, by the system's hosts file and its name servers) or `GETADDRINFO` (the C
    /// library, with what `nsswitch.conf` adds to it; it knows no TTL).
    #[schemars(extend("default" = "DNS"))]
    pub(crate) dns_resolver: Option<At<DnsResolver>>,
    /// The name servers that are asked, in this order. Default: those of `/etc/resolv.conf`.
    pub(crate) dns_resolvers: Option<At<Vec<At<NameServer>>>>,
    /// TLS towards the backends; `{}` is TLS with every default. Default: what the proxies of the listeners say, and
    /// plaintext otherwise.
    #[serde(default)]
    #[schemars(with = "Option<ClusterTls>")]
    pub(crate) tls: Asked<ClusterTls>,
    /// HTTP/2 settings towards the backends.
    pub(crate) http2: Option<At<ClusterHttp2>>,
    /// When a call that failed is made again. That of a route goes before.
    pub(crate) retry_policy: Option<At<RetryPolicy>>,
    /// When a call is made more than once at a time. What a route says goes before.
    pub(crate) hedging_policy: Option<At<HedgingPolicy>>,
    /// Stops retries where most attempts fail.
    pub(crate) retry_throttling: Option<At<RetryThrottling>>,
    /// How many retries may be under way. Without this key as many as there are.
    pub(crate) retry_budget: Option<At<RetryBudget>>,
    /// How much of requests is kept for another attempt.
    pub(crate) retry_buffer: Option<At<RetryBuffer>>,
    /// A gRPC service config in JSON, which says the same by method, as gRPC's clients read it.
    pub(crate) service_config_file: Option<At<String>>,
}

/// One backend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    /// Where it listens.
    #[schemars(required)]
    pub(crate) socket_address: Option<At<EndpointAddress>>,
    /// 0 is asked first; the next when too few endpoints of those before are usable.
    #[schemars(range(min = 0, max = 128), extend("default" = 0))]
    pub(crate) priority: Option<At<u64>>,
    /// Where it stands. Of a priority those nearest to the `locality` of `node` are asked first.
    pub(crate) locality: Option<At<Locality>>,
    /// Its weight, and labels that routes may ask for with `metadata_match`.
    #[schemars(with = "Option<Meta>")]
    pub(crate) meta: Option<At<BTreeMap<String, Option<At<String>>>>>,
    /// Its name on the admin page `/clusters`, where it has no `name`. Metrics and logs have its address.
    pub(crate) id: Option<At<String>>,
    /// The same as `id`, as Pixiu spells it.
    #[serde(rename = "ID")]
    pub(crate) upper_id: Option<At<String>>,
    /// Its name on the admin page `/clusters`. Metrics and logs have its address.
    pub(crate) name: Option<At<String>>,
}

/// Host and port of a backend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointAddress {
    /// An IP address or a host name; or `unix:` and the path of a Unix socket.
    pub(crate) address: Option<At<String>>,
    /// The port. Needed by all but `srv` and Unix sockets.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) port: Option<At<u64>>,
    /// Host names, in place of `address`: each is an endpoint on this port.
    pub(crate) domains: Option<At<Vec<At<String>>>>,
    /// A service, in place of `address` and `port`, such as `_grpc._tcp.orders.internal`: its SRV records in DNS name the
    /// hosts, their ports and their weights.
    pub(crate) srv: Option<At<String>>,
    /// No effect: backends are spoken to in gRPC.
    pub(crate) protocol_type: Option<At<Ignored>>,
}

/// The weight of an endpoint, and its labels: any key but `weight`, with a text each.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "the shape of `meta` for the schema; it is read as a map, which takes any label")]
pub(crate) struct Meta {
    /// Its share of the calls where the policy weighs.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 1))]
    weight: Option<u64>,
}

/// An active health check.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthCheck {
    /// `tcp` (the port accepts a connection), `grpc` (`grpc.health.v1.Health` says SERVING) or `http` (a request is
    /// answered with an expected status).
    #[schemars(required)]
    pub(crate) protocol: Option<At<HealthProtocol>>,
    /// The service that `grpc` asks for; empty asks for the server as a whole.
    #[schemars(extend("default" = ""))]
    pub(crate) service_name: Option<At<String>>,
    /// What `http` gets from the endpoint's own port, such as `/healthz`. Needed by it.
    pub(crate) path: Option<At<String>>,
    /// The authority of that request. Default: the endpoint's address.
    pub(crate) host: Option<At<String>>,
    /// That request goes in HTTP/2, as calls do; with `false` in HTTP/1.1.
    #[schemars(extend("default" = true))]
    pub(crate) use_http2: Option<At<bool>>,
    /// The statuses that are a good answer to `http`: each one, or a range such as `200-299`.
    #[schemars(extend("default" = ["200"]))]
    pub(crate) expected_statuses: Option<At<Vec<At<HttpStatus>>>>,
    /// The time between the end of a check and the start of the next.
    #[schemars(extend("default" = "3s"))]
    pub(crate) interval: Option<At<Duration>>,
    /// The same while the check says that the endpoint is down. Default: `interval`.
    pub(crate) unhealthy_interval: Option<At<Duration>>,
    /// Every wait is longer by a part of this, drawn by chance, so that checks do not fall into step. Default: a tenth
    /// of the wait.
    pub(crate) interval_jitter: Option<At<Duration>>,
    /// The wait before the first check of an endpoint, which is up meanwhile.
    #[schemars(extend("default" = "0s"))]
    pub(crate) initial_delay: Option<At<Duration>>,
    /// How long an answer may take.
    #[schemars(extend("default" = "1s"))]
    pub(crate) timeout: Option<At<Duration>>,
    /// This many good answers in a row bring an endpoint back.
    #[schemars(range(min = 1, max = 1000), extend("default" = 2))]
    pub(crate) healthy_threshold: Option<At<u64>>,
    /// This many bad answers in a row take an endpoint out.
    #[schemars(range(min = 1, max = 1000), extend("default" = 3))]
    pub(crate) unhealthy_threshold: Option<At<u64>>,
}

/// When the calls of an endpoint say that it is broken, and what follows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutlierDetection {
    /// Ejects after this many gateway failures in a row: a connect that failed, a connection lost, a reset, a deadline
    /// before anything was answered. 0 is never.
    #[schemars(range(min = 0, max = 1_000_000), extend("default" = 5))]
    pub(crate) consecutive_gateway_failure: Option<At<u64>>,
    /// Ejects after this many answers in a row with one of `failure_statuses`. 0 is never.
    #[schemars(range(min = 0, max = 1_000_000), extend("default" = 5))]
    pub(crate) consecutive_grpc_failure: Option<At<u64>>,
    /// The gRPC statuses from a backend that are failures of the backend.
    #[schemars(extend("default" = ["UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]))]
    pub(crate) failure_statuses: Option<At<Vec<At<FailureStatus>>>>,
    /// The window over which rates are looked at.
    #[schemars(extend("default" = "10s"))]
    pub(crate) interval: Option<At<Duration>>,
    /// How long the first ejection lasts; the second in a row lasts twice as long, and so on.
    #[schemars(extend("default" = "30s"))]
    pub(crate) base_ejection_time: Option<At<Duration>>,
    /// No ejection lasts longer. Default: `300s`, or `base_ejection_time` where that is longer.
    pub(crate) max_ejection_time: Option<At<Duration>>,
    /// At most this percentage of the endpoints is ejected at a time; of several endpoints one always may be.
    #[schemars(range(min = 1, max = 100), extend("default" = 10))]
    pub(crate) max_ejection_percent: Option<At<u64>>,
    /// Ejects an endpoint whose success rate is below the mean of all by this many thousandths of the standard
    /// deviation; 1900 is usual. Default: never.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) success_rate_stdev_factor: Option<At<u64>>,
    /// Only when this many endpoints have the volume.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 5))]
    pub(crate) success_rate_minimum_hosts: Option<At<u64>>,
    /// The calls that an endpoint must have had in the window.
    #[schemars(range(min = 1, max = 1_000_000_000), extend("default" = 100))]
    pub(crate) success_rate_request_volume: Option<At<u64>>,
    /// Ejects an endpoint of whose calls this percentage or more failed. Default: never.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) failure_percentage_threshold: Option<At<u64>>,
    /// Only when this many endpoints have the volume.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 5))]
    pub(crate) failure_percentage_minimum_hosts: Option<At<u64>>,
    /// The calls that an endpoint must have had in the window.
    #[schemars(range(min = 1, max = 1_000_000_000), extend("default" = 50))]
    pub(crate) failure_percentage_request_volume: Option<At<u64>>,
}

/// HTTP/2 settings towards backends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterHttp2 {
    /// How much of one call's responses may be under way without being read. 65535 bytes at least, 2GiB less
    /// one byte at most.
    #[schemars(extend("default" = "256KiB"))]
    pub(crate) stream_window: Option<At<Size>>,
    /// How many calls share a connection. The backend's own limit counts too. All their windows together are 2GiB less
    /// one byte at most.
    #[schemars(range(min = 1, max = 2_147_483_647), extend("default" = 100))]
    pub(crate) max_streams_per_connection: Option<At<u64>>,
    /// Sends a ping after this long without a sign of life from the backend while calls are open. Default: never.
    pub(crate) keepalive_interval: Option<At<Duration>>,
    /// Closes the connection when a ping is not answered in this time.
    #[schemars(extend("default" = "20s"))]
    pub(crate) keepalive_timeout: Option<At<Duration>>,
}
