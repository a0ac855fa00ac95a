//! Clusters for unit tests.

use std::net::SocketAddr;

use super::{Cluster, Found};
use crate::config::load_text;
use crate::metrics::Slot;
use crate::registry::Registry;
use crate::socket::Address;

impl Found {
    /// An address of which the file says nothing else.
    pub(crate) fn at(address: impl Into<Address>) -> Found {
        Found {
            address: address.into(),
            weight: 1,
            priority: 0,
            labels: Default::default(),
            name: None,
            server_name: None,
        }
    }

    /// The local address with this port.
    pub(crate) fn on(port: u16) -> Found {
        Found::at(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

/// A cluster with these keys besides its name, without endpoints, for two workers. Each of `routes` is what a route to it
/// says further.
pub(crate) fn cluster(keys: &str, routes: &[&str]) -> Cluster {
    let route = |(at, keys): (usize, &&str)| format!("{{match: {{prefix: /r{at}}}, route: {{cluster: a, {keys}}}}}");
    let routes: Vec<String> = routes.iter().enumerate().map(route).collect();
    let yaml = format!(
        "static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}
      filter_chains: {{filters: [{{name: dgp.filter.network.grpcconnectionmanager, config: {{
        route_config: {{routes: [{{match: {{prefix: /}}, route: {{cluster: a}}}}, {routes}]}},
        grpc_filters: [{{name: dgp.filter.grpc.proxy}}]}}}}]}}
  clusters:
    - {{name: a, endpoints: [], {keys}}}
",
        routes = routes.join(", ")
    );
    let plan = load_text(&yaml, "test.yaml", &Registry::builtin(), &|_| None).expect("a good configuration");
    Cluster::new(Slot::only("a"), plan.clusters[0].clone(), 2)
}
