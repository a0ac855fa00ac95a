//! Keys that the file may not have: misspelt, or of a feature that is not there yet.

use super::diagnostic::Diagnostic;
use super::place::Place;
use super::suggest::did_you_mean;
use super::trail::Trail;

/// Keys of Pixiu and of Weir's own plan that later releases read: the keys that lead there, and the key.
///
/// They are refused and not ignored: a configuration that asks for TLS must not run without.
const NOT_BUILT: &[(&str, &[&str])] = &[
    ("", &["dynamic_resources", "tracing", "trace", "wasm", "config-center"]),
    ("static_resources", &["adapters", "pprofConf"]),
    ("static_resources.listeners.config", &["tls", "max_header_bytes"]),
    ("static_resources.listeners.address.socket_address", &["domains", "certs_dir", "resolver_name"]),
    (
        "static_resources.clusters",
        &["tls", "eds_cluster_config", "registries", "hosts", "circuit_breakers", "outlier_detection"],
    ),
    ("static_resources.clusters.endpoints", &["llm_meta"]),
    ("static_resources.clusters.endpoints.socket_address", &["certs_dir", "resolver_name"]),
    (
        "static_resources.clusters.health_checks",
        &["initial_delay_seconds", "interval_jitter", "check_config", "common_callbacks", "path", "host"],
    ),
    ("static_resources.listeners.filter_chains.filters.config", &["http_filters", "dubbo_filters", "timeout"]),
    ("static_resources.listeners.filter_chains.filters.config.route_config", &["dynamic", "virtual_hosts"]),
    ("static_resources.listeners.filter_chains.filters.config.route_config.routes.match", &["regex"]),
    (
        "static_resources.listeners.filter_chains.filters.config.route_config.routes.route",
        &["timeout", "retry_policy", "weighted_clusters", "prefix_rewrite", "host_rewrite"],
    ),
];

/// The error for `key` where only `known` keys may stand.
pub(crate) fn diagnose(key: &str, place: Place, trail: &Trail, known: &[&str]) -> Diagnostic {
    let keys = trail.keys();
    let not_built = NOT_BUILT.iter().any(|(path, planned)| *path == keys && planned.contains(&key));
    let scope = trail.describe();
    if not_built {
        return Diagnostic::new(place, format!("`{key}` of {scope} is not built yet"))
            .label("refused, because it cannot be honoured so far");
    }
    let label = did_you_mean(key, known.iter().copied()).unwrap_or_else(|| keys_known(known));
    Diagnostic::new(place, format!("unknown key `{key}` in {scope}")).label(label)
}

fn keys_known(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    if quoted.is_empty() { "there are no keys here".to_owned() } else { format!("known here: {}", quoted.join(", ")) }
}
