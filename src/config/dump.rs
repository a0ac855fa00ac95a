//! A plan as YAML, in the words of the file, for the admin listener.
//!
//! Every default is written out, so that what stands there is what holds; reading it back gives the same plan. What
//! looks like a secret is hidden.

mod balance;
mod dns;
mod health;
mod on_drain;
mod tls;

use serde_yaml::{Mapping, Value};

use super::plan::{
    Binding, Budget, CallPolicy, CircuitBreakers, Cluster, Discovery, DownstreamHttp2, HedgingPolicy, Listener,
    NamedFilter, Node, Plan, Rebalance, Rest, RetryBudget, RetryBuffer, RetryPolicy, RetryThrottling, Route, Segment,
    Source, UpstreamHttp2,
};
use super::tree::{self, Style};
use super::{duration, size};
use crate::registry::PROXY;
use crate::socket::Address;

const HIDDEN: &str = "<hidden>";

/// Keys with one of these in them hold a secret.
const SECRETS: [&str; 7] = ["password", "passwd", "token", "secret", "authorization", "credential", "cookie"];

impl Plan {
    /// The plan as a configuration file with every default written out.
    ///
    /// # Errors
    ///
    /// When the YAML cannot be written, which nothing in a plan should bring about.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(&root(self))
    }
}

/// A filter's configuration as it was given, with what looks like a secret hidden.
pub(super) fn hidden(node: &tree::Node) -> String {
    // A tree of scalars, lists and mappings with text keys has nothing that YAML could not hold.
    serde_yaml::to_string(&value(node)).unwrap_or_default()
}

fn value(node: &tree::Node) -> Value {
    match &node.value {
        tree::Value::Broken => Value::Null,
        tree::Value::Scalar { text, style: Style::Plain } => serde_yaml::from_str(text)
            .ok()
            .filter(|value| !is_collection(value))
            .unwrap_or_else(|| text.as_ref().into()),
        tree::Value::Scalar { text, .. } => Value::String(text.to_string()),
        tree::Value::Sequence(items) => Value::Sequence(items.iter().map(value).collect()),
        tree::Value::Mapping(entries) => {
            let pair = |entry: &tree::Entry| {
                let value = if is_secret(&entry.key) { HIDDEN.into() } else { value(&entry.node) };
                (Value::String(entry.key.to_string()), value)
            };
            Value::Mapping(entries.iter().map(pair).collect())
        }
    }
}

fn is_collection(value: &Value) -> bool {
    matches!(value, Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_))
}

/// `key` alone would hide `keepalive` and every metadata key, so it counts as a whole word.
fn is_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    SECRETS.iter().any(|word| lower.contains(word))
        || lower.split(['-', '_', '.']).any(|word| matches!(word, "key" | "apikey"))
}

/// A mapping without the keys that have no value.
fn map<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Value {
    let present = pairs.into_iter().filter_map(|(key, value)| Some((Value::from(key), value?)));
    Value::Mapping(present.collect::<Mapping>())
}

fn list<T>(items: &[T], item: impl Fn(&T) -> Value) -> Option<Value> {
    Some(Value::Sequence(items.iter().map(item).collect()))
}

fn some(value: impl Into<Value>) -> Option<Value> {
    Some(value.into())
}

fn time(value: std::time::Duration) -> Option<Value> {
    some(duration::show(value))
}

fn bytes(value: impl Into<u64>) -> Option<Value> {
    some(size::show(value.into()))
}

fn socket(binding: &Binding) -> Option<Value> {
    let inner = match &binding.address {
        Address::Ip(address) => map([("address", some(address.ip().to_string())), ("port", some(address.port()))]),
        Address::Unix(_) => {
            let mode = binding.mode.and_then(|mode| some(format!("{mode:04o}")));
            map([("address", some(binding.address.to_string())), ("mode", mode)])
        }
    };
    Some(map([("socket_address", Some(inner))]))
}

/// What is neither a listener nor a cluster.
pub(super) fn root_keys(plan: &Plan) -> Value {
    let mut root = root(plan);
    if let Value::Mapping(root) = &mut root
        && let Some(Value::Mapping(mut resources)) = root.remove("static_resources")
        && let Some(shutdown) = resources.remove("shutdown_config")
    {
        root.insert("shutdown_config".into(), shutdown);
    }
    root
}

/// A listener without its routes.
pub(super) fn own_keys(one: &Listener) -> Value {
    let mut value = listener(one, &[]);
    if let Value::Mapping(keys) = &mut value {
        keys.remove("filter_chains");
        keys.insert("grpc_filters".into(), Value::Sequence(one.filters.iter().map(filter).collect()));
    }
    value
}

fn root(plan: &Plan) -> Value {
    let shutdown = map([("timeout", time(plan.shutdown.timeout)), ("delay", time(plan.shutdown.delay))]);
    let resources = map([
        ("shutdown_config", Some(shutdown)),
        ("listeners", list(&plan.listeners, |one| listener(one, &plan.clusters))),
        ("clusters", list(&plan.clusters, cluster)),
    ]);
    map([
        ("node", node(&plan.node)),
        ("memory_limit", plan.memory_limit.and_then(bytes)),
        ("workers", plan.workers.and_then(|workers| some(workers.get()))),
        ("log", Some(map([("level", some(plan.log_level.as_deref().unwrap_or("info")))]))),
        ("admin", plan.admin.as_ref().map(|binding| map([("address", socket(binding))]))),
        ("metric", plan.metrics.map(|at| map([("enable", some(true)), ("prometheus_port", some(at.port()))]))),
        ("access_log", plan.access_log.as_ref().map(|path| map([("path", some(path.display().to_string()))]))),
        ("static_resources", Some(resources)),
    ])
}

fn node(node: &Node) -> Option<Value> {
    let names = map([
        ("id", node.id.as_deref().and_then(some)),
        ("cluster", node.cluster.as_deref().and_then(some)),
        ("locality", node.locality.as_ref().map(balance::locality)),
    ]);
    Some(names).filter(|_| *node != Node::default())
}

fn listener(listener: &Listener, clusters: &[Cluster]) -> Value {
    // At an edge what is not written has a default.
    let never_too = |limit: Option<std::time::Duration>| match limit {
        None if !listener.edge => None,
        limit => time(limit.unwrap_or_default()),
    };
    let count = |limit: Option<usize>| some(limit.unwrap_or(0));
    let config = map([
        ("max_receive_message_size", listener.max_receive_message_size.and_then(|size| bytes(size as u64))),
        ("max_send_message_size", listener.max_send_message_size.and_then(|size| bytes(size as u64))),
        ("max_connections", count(listener.admission.max_connections)),
        ("max_connections_per_source", count(listener.admission.max_connections_per_source)),
        // Each route says its own.
        ("stream_idle_timeout", time(std::time::Duration::ZERO)),
        ("forwarding_headers", some(listener.forwarding_headers.name())),
        ("idle_timeout", never_too(listener.idle_timeout)),
        ("max_connection_age", never_too(listener.max_connection_age)),
        ("max_connection_age_grace", listener.max_connection_age_grace.and_then(time)),
        ("enable_tls", listener.tls.as_ref().and_then(|_| some(true))),
        ("tls", listener.tls.as_ref().map(tls::listener)),
        ("proxy_protocol", proxy_protocol(&listener.proxy_protocol)),
        ("http2", Some(downstream(&listener.http2))),
    ]);
    let mut filters: Vec<Value> = listener.filters.iter().map(filter).collect();
    filters.push(map([("name", some(PROXY))]));
    let routes = map([("routes", list(&listener.routes, |one| route(one, clusters)))]);
    let manager = map([("route_config", Some(routes)), ("grpc_filters", Some(Value::Sequence(filters)))]);
    let manager = map([("name", some("dgp.filter.network.grpcconnectionmanager")), ("config", Some(manager))]);
    map([
        ("name", some(&*listener.name)),
        ("protocol_type", some("GRPC")),
        ("address", socket(&listener.binding)),
        ("filter_chains", Some(map([("filters", Some(Value::Sequence(vec![manager])))]))),
        ("config", Some(config)),
        ("edge", some(listener.edge)),
    ])
}

fn proxy_protocol(from: &[Source]) -> Option<Value> {
    let networks = list(from, |source| Value::from(source.to_string()));
    Some(map([("from", networks)])).filter(|_| !from.is_empty())
}

fn downstream(http2: &DownstreamHttp2) -> Value {
    map([
        ("max_concurrent_streams", some(http2.max_concurrent_streams)),
        ("stream_window", bytes(http2.stream_window)),
        ("connection_window", bytes(http2.connection_window)),
        ("max_header_list_size", bytes(http2.max_header_list_size)),
        ("max_header_count", some(http2.max_header_count)),
        ("header_timeout", time(http2.header_timeout)),
        ("keepalive_min_time", time(http2.keepalive_min_time)),
        ("keepalive_permit_without_calls", some(http2.keepalive_permit_without_calls)),
    ])
}

fn filter(filter: &NamedFilter) -> Value {
    let config = serde_yaml::from_str(&filter.config).unwrap_or_else(|_| Value::from(&*filter.config));
    map([("name", some(&*filter.name)), ("config", Some(config))])
}

pub(super) fn route(route: &Route, clusters: &[Cluster]) -> Value {
    let segment = |segment: &Segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        Segment::Any => "/*".to_owned(),
    };
    let path: String = route.pattern.segments.iter().map(segment).collect();
    let (key, path) = match route.pattern.rest {
        Rest::Nothing => ("path", path),
        Rest::Any if path.is_empty() => ("prefix", "/".to_owned()),
        Rest::Any => ("prefix", path),
        Rest::Some => ("path", format!("{path}/**")),
    };
    let headers = Some(&route.headers).filter(|headers| !headers.is_empty()).and_then(|headers| {
        list(headers, |header| {
            let values = list(&header.values, |value| Value::from(value.clone()));
            map([("name", some(header.name.as_str())), ("values", values)])
        })
    });
    let cluster = clusters.get(route.cluster);
    map([
        ("id", some(&*route.id)),
        ("match", Some(map([(key, some(path)), ("headers", headers)]))),
        ("route", Some(action(cluster, route))),
    ])
}

fn circuit_breakers(breakers: &CircuitBreakers) -> Value {
    let most = |most: Option<usize>| most.map(|most| Value::from(most as u64));
    let Budget { calls, streams, connections } = breakers.endpoint;
    let endpoint =
        map([("max_calls", most(calls)), ("max_streams", most(streams)), ("max_connections", most(connections))]);
    map([
        ("max_calls", most(breakers.cluster.calls)),
        ("max_streams", most(breakers.cluster.streams)),
        ("max_connections", most(breakers.cluster.connections)),
        ("max_pending_calls", most(breakers.pending)),
        ("pending_timeout", breakers.pending_timeout.and_then(time)),
        ("pushback", time(breakers.pushback.unwrap_or_default())),
        ("per_endpoint", Some(endpoint).filter(|_| breakers.endpoint != Budget::default())),
    ])
}

fn action(cluster: Option<&Cluster>, route: &Route) -> Value {
    let timeouts = route.timeouts;
    let subset = || Some(balance::labels(cluster?.subsets.get(route.subset?)?));
    map([
        ("cluster", some(cluster.map_or("", |cluster| &cluster.name))),
        ("metadata_match", subset()),
        ("timeout", time(timeouts.call.unwrap_or_default())),
        ("max_stream_duration", time(timeouts.stream.unwrap_or_default())),
        ("max_stream_age", time(timeouts.age.unwrap_or_default())),
        ("idle_timeout", time(timeouts.idle.unwrap_or_default())),
        ("on_drain", on_drain::value(route.on_drain)),
        ("retry_policy", route.call_policy.as_ref().and_then(CallPolicy::retry).map(retry_policy)),
        ("hedging_policy", route.call_policy.as_ref().and_then(CallPolicy::hedging).map(hedging_policy)),
    ])
}

pub(super) fn cluster(cluster: &Cluster) -> Value {
    let (kind, dns) = match &cluster.discovery {
        Discovery::Static => ("Static", None),
        Discovery::StrictDns(dns) => ("StrictDNS", Some(dns)),
        Discovery::LogicalDns(dns) => ("LogicalDns", Some(dns)),
    };
    map([
        ("name", some(&*cluster.name)),
        ("type", some(kind)),
        ("dns_refresh_rate", dns.and_then(|dns| time(dns.refresh_rate))),
        ("respect_dns_ttl", dns.and_then(|dns| some(dns.respect_ttl))),
        ("dns_min_refresh_rate", dns.filter(|dns| dns.respect_ttl).and_then(|dns| time(dns.min_refresh_rate))),
        ("dns_max_refresh_rate", dns.filter(|dns| dns.respect_ttl).and_then(|dns| time(dns.max_refresh_rate))),
        ("dns_failure_refresh_rate", dns.map(dns::failure_refresh_rate)),
        ("dns_lookup_family", dns.and_then(|dns| some(dns.lookup_family.name()))),
        ("dns_resolver", dns.and_then(|dns| some(dns::resolver(dns)))),
        ("dns_resolvers", dns.and_then(dns::resolvers)),
        ("lb_policy", some(balance::policy(&cluster.balance))),
        ("hash_on", balance::hash_on(&cluster.balance)),
        ("consistent", balance::consistent(cluster)),
        ("peak_ewma", balance::peak_ewma(&cluster.balance)),
        ("slow_start_config", cluster.slow_start.as_ref().map(balance::slow_start)),
        ("overprovisioning_factor", balance::overprovisioning_factor(cluster)),
        ("lb_subset_config", balance::lb_subset_config(cluster)),
        ("circuit_breakers", cluster.circuit_breakers.as_ref().map(circuit_breakers)),
        ("connect_timeout", time(cluster.connect_timeout)),
        ("idle_timeout", time(cluster.idle_timeout.unwrap_or_default())),
        ("endpoint_drain_timeout", cluster.endpoint_drain_timeout.and_then(time)),
        ("rebalance", cluster.rebalance.map(rebalance)),
        ("tls", cluster.tls.as_ref().map(tls::cluster)),
        ("http2", Some(upstream(&cluster.http2))),
        ("retry_policy", cluster.call_policy.as_ref().and_then(CallPolicy::retry).map(retry_policy)),
        ("hedging_policy", cluster.call_policy.as_ref().and_then(CallPolicy::hedging).map(hedging_policy)),
        ("retry_throttling", cluster.retry_throttling.map(retry_throttling)),
        ("retry_budget", cluster.retry_budget.map(retry_budget)),
        ("retry_buffer", retry_buffer(cluster)),
        ("service_config_file", service_config_file(cluster)),
        ("endpoints", list(&cluster.endpoints, balance::endpoint)),
        ("health_checks", health::checks(&cluster.health_checks)),
        ("outlier_detection", cluster.outlier_detection.as_ref().map(health::outlier_detection)),
        ("healthy_panic_threshold", some(cluster.healthy_panic_threshold)),
    ])
}

fn rebalance(rebalance: Rebalance) -> Value {
    map([
        ("window", time(rebalance.window)),
        ("min_stream_age", time(rebalance.min_stream_age)),
        ("pushback", time(rebalance.pushback)),
    ])
}

fn retry_policy(policy: &RetryPolicy) -> Value {
    let codes: Vec<&str> = policy.retryable.iter().map(weir_filter::Code::name).collect();
    map([
        ("max_attempts", some(policy.max_attempts)),
        ("initial_backoff", time(policy.initial_backoff)),
        ("max_backoff", time(policy.max_backoff)),
        ("backoff_multiplier", some(policy.backoff_multiplier.as_f64())),
        ("retryable_status_codes", list(&codes, |code| Value::from(*code))),
        ("per_attempt_timeout", policy.per_attempt_timeout.and_then(time)),
        ("hold_headers", time(policy.hold_headers)),
    ])
}

fn hedging_policy(policy: &HedgingPolicy) -> Value {
    let codes: Vec<&str> = policy.non_fatal.iter().map(weir_filter::Code::name).collect();
    map([
        ("max_attempts", some(policy.max_attempts)),
        ("hedging_delay", time(policy.hedging_delay)),
        ("non_fatal_status_codes", list(&codes, |code| Value::from(*code))),
        ("hold_headers", time(policy.hold_headers)),
    ])
}

fn retry_throttling(throttling: RetryThrottling) -> Value {
    map([("max_tokens", some(throttling.max_tokens)), ("token_ratio", some(throttling.token_ratio.as_f64()))])
}

fn retry_budget(budget: RetryBudget) -> Value {
    map([("percent", some(budget.percent)), ("min_concurrency", some(budget.min_concurrency))])
}

/// Where nothing is retried it would only be a key without an effect.
fn retry_buffer(cluster: &Cluster) -> Option<Value> {
    let retries = cluster.call_policy.is_some() || cluster.service_config.is_some();
    if !retries && cluster.retry_buffer == RetryBuffer::default() {
        return None;
    }
    let RetryBuffer { per_call, per_cluster } = cluster.retry_buffer;
    Some(map([("per_call", bytes(per_call as u64)), ("per_cluster", bytes(per_cluster as u64))]))
}

fn service_config_file(cluster: &Cluster) -> Option<Value> {
    some(cluster.service_config.as_ref()?.file.display().to_string())
}

fn upstream(http2: &UpstreamHttp2) -> Value {
    map([
        ("stream_window", bytes(http2.stream_window)),
        ("max_streams_per_connection", some(http2.max_streams_per_connection)),
        ("keepalive_interval", http2.keepalive_interval.and_then(time)),
        ("keepalive_timeout", time(http2.keepalive_timeout)),
    ])
}
