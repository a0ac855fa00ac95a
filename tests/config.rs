//! What a configuration file comes to: a plan, or every error with its place.
#![allow(clippy::unwrap_used)]

#[path = "config/conf.rs"]
mod conf;
#[path = "config/dns.rs"]
mod dns;
#[path = "config/errors.rs"]
mod errors;
#[path = "config/keys.rs"]
mod keys;
#[path = "config/mutations.rs"]
mod mutations;
#[path = "config/schema.rs"]
mod schema;
#[path = "config/strangers.rs"]
mod strangers;
#[path = "config/tls.rs"]
mod tls;
#[path = "config/tls_listener.rs"]
mod tls_listener;
#[path = "config/yaml.rs"]
mod yaml;

use weir::config::{Diagnostics, Plan, load_text};
use weir::registry::Registry;

/// Loads a text with the filters that come with Weir, and an environment that the tests know.
fn load(text: &str, name: &str) -> Result<Plan, Diagnostics> {
    load_text(text, name, &Registry::builtin(), &environment)
}

/// `WEIR_TEST_TEXT`, `WEIR_TEST_EMPTY` and where `conf/tls.yaml` finds certificates are set, and nothing else.
fn environment(name: &str) -> Option<String> {
    match name {
        "WEIR_TEST_TEXT" => Some("abc".to_owned()),
        "WEIR_TEST_EMPTY" => Some(String::new()),
        "WEIR_TLS" => Some("tests/tls".to_owned()),
        _ => None,
    }
}

/// A configuration of one listener and one cluster, with these lines in the listener and in the cluster.
fn with(listener: &str, cluster: &str) -> String {
    let lines = |text: &str| text.lines().map(|line| format!("      {line}\n")).collect::<String>();
    format!(
        "static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}
      filter_chains: {{filters: [{{name: dgp.filter.network.grpcconnectionmanager, config: {{
        route_config: {{routes: [{{match: {{prefix: /}}, route: {{cluster: orders}}}}]}},
        grpc_filters: [{{name: dgp.filter.grpc.proxy}}]}}}}]}}
{}  clusters:
    - name: orders
      endpoints: [{{socket_address: {{address: 127.0.0.1, port: 50051}}}}]
{}",
        lines(listener),
        lines(cluster),
    )
}
