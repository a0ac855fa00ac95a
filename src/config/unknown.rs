//! Keys that the file may not have: misspelt, or of a feature that is not there yet.

use super::diagnostic::Diagnostic;
use super::place::Place;
use super::suggest::{closest, did_you_mean};
use super::trail::Trail;

/// Keys of Pixiu and of Weir's own plan that later releases read: the keys that lead there, and the key.
///
/// They are refused and not ignored: a configuration that asks for TLS must not run without.
const NOT_BUILT: &[(&str, &[&str])] = &[
    ("", &["dynamic_resources", "tracing", "trace", "wasm", "config-center"]),
    ("static_resources", &["adapters", "pprofConf"]),
    ("static_resources.listeners.config", &["max_header_bytes"]),
    ("static_resources.listeners.address.socket_address", &["domains", "certs_dir", "resolver_name"]),
    ("static_resources.clusters", &["eds_cluster_config", "registries", "hosts"]),
    ("static_resources.clusters.endpoints", &["llm_meta"]),
    ("static_resources.clusters.endpoints.socket_address", &["certs_dir", "resolver_name"]),
    ("static_resources.clusters.health_checks", &["check_config", "common_callbacks", "tls_options"]),
    ("static_resources.listeners.filter_chains.filters.config", &["http_filters", "dubbo_filters", "timeout"]),
    ("static_resources.listeners.filter_chains.filters.config.route_config", &["dynamic", "virtual_hosts"]),
    ("static_resources.listeners.filter_chains.filters.config.route_config.routes.match", &["regex"]),
    (
        "static_resources.listeners.filter_chains.filters.config.route_config.routes.route",
        &["weighted_clusters", "prefix_rewrite", "host_rewrite"],
    ),
];

/// Keys that are known at another level: the keys that lead to where one was written, the key, and where it belongs.
const ELSEWHERE: &[(&str, &[&str], &str)] = &[
    ("", &["listeners", "clusters"], "static_resources"),
    ("static_resources.listeners", &["socket_address", "port"], "address"),
    (
        "static_resources.listeners",
        &[
            "max_receive_message_size",
            "max_send_message_size",
            "idle_timeout",
            "max_connection_age",
            "max_connection_age_grace",
            "http2",
            "enable_tls",
            "tls",
            "read_timeout",
            "write_timeout",
        ],
        "config",
    ),
    (
        "static_resources.listeners.config",
        &[
            "cert_file",
            "key_file",
            "certificates",
            "min_version",
            "cipher_suites",
            "handshake_timeout",
            "client_auth",
            "ca_file",
            "crl_files",
        ],
        "tls",
    ),
    ("static_resources.listeners", &["filters", "route_config", "grpc_filters", "routes"], "filter_chains"),
    ("static_resources.listeners.filter_chains", &["route_config", "grpc_filters", "routes"], "filters"),
    ("static_resources.listeners.filter_chains.filters", &["route_config", "grpc_filters", "routes"], "config"),
    ("static_resources.listeners.filter_chains.filters.config", &["routes"], "route_config"),
    (
        "static_resources.listeners.filter_chains.filters.config.route_config.routes",
        &["prefix", "path", "methods", "headers"],
        "match",
    ),
    ("static_resources.listeners.filter_chains.filters.config.route_config.routes", &["cluster"], "route"),
    ("static_resources.listeners.address", &["address", "port"], "socket_address"),
    ("admin", &["socket_address", "port"], "address"),
    ("admin.address", &["address", "port"], "socket_address"),
    ("static_resources.clusters", &["metadata"], "hash_on"),
    ("static_resources.clusters", &["ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"], "tls"),
    ("static_resources.clusters", &["replica_num", "maglev_table_size"], "consistent"),
    (
        "static_resources.clusters",
        &["stream_window", "max_streams_per_connection", "keepalive_interval", "keepalive_timeout"],
        "http2",
    ),
    (
        "static_resources.clusters",
        &[
            "service_name",
            "interval",
            "timeout",
            "healthy_threshold",
            "unhealthy_threshold",
            "unhealthy_interval",
            "initial_delay",
            "expected_statuses",
        ],
        "health_checks",
    ),
    (
        "static_resources.clusters",
        &[
            "consecutive_gateway_failure",
            "consecutive_grpc_failure",
            "failure_statuses",
            "base_ejection_time",
            "max_ejection_time",
            "max_ejection_percent",
        ],
        "outlier_detection",
    ),
    ("static_resources.clusters", &["socket_address"], "endpoints"),
    ("static_resources.clusters.endpoints", &["address", "port", "domains"], "socket_address"),
    ("static_resources.clusters.endpoints", &["weight"], "meta"),
];

/// Keys of the file itself that people put under `static_resources`.
const AT_THE_TOP: &[&str] = &["workers", "admin", "access_log", "metric", "log", "node"];

/// The required keys that one that is not built stands for: that they are missing is no second mistake.
const IN_PLACE_OF: &[(&str, &str)] = &[("regex", "prefix"), ("weighted_clusters", "cluster")];

/// The key that is not missing where `key` stands, since `key` is meant as it or belongs under it.
pub(crate) fn stands_for(key: &str, trail: &Trail, known: &[&'static str]) -> Option<&'static str> {
    let meant = || IN_PLACE_OF.iter().find(|(other, meant)| *other == key && known.contains(meant));
    belongs_under(key, &trail.keys())
        .or_else(|| meant().map(|(_, meant)| *meant))
        .or_else(|| closest(key, known.iter().copied()).and_then(|near| known.iter().copied().find(|one| *one == near)))
}

fn belongs_under(key: &str, keys: &str) -> Option<&'static str> {
    let here = |(path, misplaced, _): &&(&str, &[&str], &str)| *path == keys && misplaced.contains(&key);
    ELSEWHERE.iter().find(here).map(|(.., owner)| *owner)
}

fn elsewhere(key: &str, keys: &str) -> Option<String> {
    if let Some(owner) = belongs_under(key, keys) {
        return Some(format!("it belongs under `{owner}`"));
    }
    let above = keys == "static_resources" && AT_THE_TOP.contains(&key);
    above.then(|| "it belongs at the top of the file, beside `static_resources`".to_owned())
}

/// The error for `key` where only `known` keys may stand.
pub(crate) fn diagnose(key: &str, place: Place, trail: &Trail, known: &[&str]) -> Diagnostic {
    let keys = trail.keys();
    let not_built = NOT_BUILT.iter().any(|(path, planned)| *path == keys && planned.contains(&key));
    let scope = trail.describe();
    if not_built {
        return Diagnostic::new(place, format!("`{key}` of {scope} is not built yet"))
            .label("refused, because it cannot be honoured so far");
    }
    let label =
        elsewhere(key, &keys).or_else(|| did_you_mean(key, known.iter().copied())).unwrap_or_else(|| keys_known(known));
    Diagnostic::new(place, format!("unknown key `{key}` in {scope}")).label(label)
}

fn keys_known(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    if quoted.is_empty() { "there are no keys here".to_owned() } else { format!("known here: {}", quoted.join(", ")) }
}
