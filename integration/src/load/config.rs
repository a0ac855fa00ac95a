//! Configurations of load and fault tests: one listener, one cluster, the admin listener, and what a test adds.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::Result;

use crate::gateway::Gateway;

/// A gateway's configuration. What tests add is in YAML's flow style, without the braces: `idle_timeout: 1s, ...`.
#[derive(Clone, Debug, Default)]
pub struct Config {
    endpoints: Vec<SocketAddr>,
    listener: String,
    cluster: String,
    shutdown: String,
}

impl Config {
    /// Everything goes to these endpoints, in turn.
    #[must_use]
    pub fn new(endpoints: &[SocketAddr]) -> Config {
        Config { endpoints: endpoints.to_vec(), ..Config::default() }
    }

    /// Keys of the listener's `config`.
    #[must_use]
    pub fn listener(mut self, keys: &str) -> Config {
        keys.clone_into(&mut self.listener);
        self
    }

    /// Keys of the cluster, such as `connect_timeout`.
    #[must_use]
    pub fn cluster(mut self, keys: &str) -> Config {
        self.cluster = format!("{keys}, ");
        self
    }

    /// Keys of `shutdown_config`.
    #[must_use]
    pub fn shutdown(mut self, keys: &str) -> Config {
        keys.clone_into(&mut self.shutdown);
        self
    }

    /// Starts a gateway with this and so many workers. Its listener is called `grpc`, its cluster `backend`.
    ///
    /// # Errors
    ///
    /// When the gateway does not come up.
    pub fn start(&self, workers: usize) -> Result<Gateway> {
        Gateway::start_with(&self.yaml(), &["--workers", &workers.to_string()])
    }

    /// What the file says.
    #[must_use]
    pub fn yaml(&self) -> String {
        let Config { listener, cluster, shutdown, .. } = self;
        let mut endpoints = String::new();
        for endpoint in &self.endpoints {
            let (host, port) = (endpoint.ip(), endpoint.port());
            let _ = write!(endpoints, "{{socket_address: {{address: {host}, port: {port}}}}}, ");
        }
        format!(
            r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}}}
static_resources:
  shutdown_config: {{{shutdown}}}
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}
      config: {{{listener}}}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config: {{routes: [{{match: {{prefix: "/"}}, route: {{cluster: backend}}}}]}}
              grpc_filters: [{{name: dgp.filter.grpc.proxy}}]
  clusters:
    - {{name: backend, {cluster}lb_policy: RoundRobin, endpoints: [{endpoints}]}}
"#
        )
    }
}
