//! The gateways' configuration.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::Value;

const LIMITS: &str = "      config: {max_receive_message_size: 1000, max_send_message_size: 1000}\n";

/// An admin listener, a listener that limits nothing, one that limits messages to 1,000 bytes, and a route and a cluster
/// for each of `services` (an object of service and address) with a further key.
pub(super) fn yaml(services: &Value, shutdown: &str, key: &str) -> Result<String> {
    let services = services.as_object().context("the raw backend has services")?;
    let routes: String = services
        .keys()
        .map(|name| format!("                  - {{match: {{prefix: /{name}}}, route: {{cluster: {name}}}}}\n"))
        .collect();
    let clusters: String = services
        .iter()
        .map(|(name, address)| cluster(name, address.as_str().unwrap_or_default(), key))
        .collect::<Result<_>>()?;
    let listeners = [("grpc", ""), ("limited", LIMITS)].map(|(name, config)| listener(name, &routes, config)).concat();
    Ok(format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}}}
static_resources:
  shutdown_config: {{{shutdown}}}
  listeners:
{listeners}  clusters:
{clusters}"
    ))
}

fn listener(name: &str, routes: &str, config: &str) -> String {
    format!(
        "    - name: {name}
      protocol_type: GRPC
      address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config:
                routes:
{routes}              grpc_filters:
                - name: dgp.filter.grpc.proxy
{config}"
    )
}

fn cluster(name: &str, address: &str, key: &str) -> Result<String> {
    let (host, port) = address.rsplit_once(':').with_context(|| format!("`{address}` has a port"))?;
    // One service of the raw backend has a host name, which nothing resolves.
    let kind = if host.parse::<IpAddr>().is_ok() { "Static" } else { "StrictDNS" };
    Ok(format!(
        "    - name: {name}
      type: {kind}
      lb_policy: RoundRobin
      connect_timeout: 500ms
      {key}
      endpoints:
        - socket_address: {{address: {host}, port: {port}}}
"
    ))
}
