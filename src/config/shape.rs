//! What to write in place of a value of the wrong shape.

use super::trail::Trail;
use super::tree::{Node, Value};

/// How the mapping under the end of `trail` is written that `node`, a scalar, is meant as.
pub(crate) fn mapping(trail: &Trail, node: &Node) -> Option<String> {
    let Value::Scalar { text, .. } = &node.value else { return None };
    let keys = trail.keys();
    // A filter's configuration may have the same words in it, and mean something else.
    let key = keys.strip_prefix("static_resources.listeners.filter_chains").unwrap_or(&keys);
    let is_item = trail.last_key().is_none();
    let meant = match key {
        "static_resources.clusters.endpoints" if is_item => format!("- socket_address: {}", address(text)?),
        ".filters" | ".filters.config.grpc_filters" if is_item => format!("- name: {text}"),
        _ if is_item => return None,
        "admin.address" | "static_resources.listeners.address" => format!("{{socket_address: {}}}", address(text)?),
        "admin.address.socket_address"
        | "static_resources.listeners.address.socket_address"
        | "static_resources.clusters.endpoints.socket_address" => address(text)?,
        "access_log" => format!("{{path: {text}}}"),
        "log" => format!("{{level: {text}}}"),
        ".filters.config.route_config.routes.match" => format!("{{prefix: {text}}}"),
        ".filters.config.route_config.routes.route" => format!("{{cluster: {text}}}"),
        _ => return None,
    };
    Some(format!("write `{meant}`"))
}

/// How the list under the end of `trail` is written that `node` is meant as.
pub(crate) fn list(trail: &Trail, node: &Node) -> Option<String> {
    let Value::Scalar { text, .. } = &node.value else {
        return Some("each item of a list begins with `- `".to_owned());
    };
    let meant = match trail.last_key()? {
        "endpoints" => format!("[{{socket_address: {}}}]", address(text)?),
        "health_checks" => format!("[{{protocol: {text}}}]"),
        "filters" | "grpc_filters" => format!("[{{name: {text}}}]"),
        "methods" | "values" | "domains" | "remove" => format!("[{text}]"),
        _ => return None,
    };
    Some(format!("write `{meant}`"))
}

/// `host:port` as a mapping.
fn address(text: &str) -> Option<String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (host, port) = bare.trim_end_matches('/').rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host {
        "" => Some(format!("{{port: {port}}}")),
        host if host.contains(':') => Some(format!("{{address: \"{host}\", port: {port}}}")),
        host => Some(format!("{{address: {host}, port: {port}}}")),
    }
}
