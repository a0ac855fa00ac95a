//! Configurations for tests, put together from the lines that a test is about.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::gateway::Gateway;

/// A configuration with one listener, `grpc`.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    root: Vec<String>,
    at: Option<String>,
    listener: String,
    routes: Vec<String>,
    filters: Vec<String>,
    clusters: Vec<String>,
    proxy: String,
}

impl Setup {
    /// A listener without routes.
    #[must_use]
    pub fn new() -> Setup {
        Setup::default()
    }

    /// Every call goes to the cluster `echo`, which is these backends in turn.
    #[must_use]
    pub fn to(backends: impl IntoIterator<Item = SocketAddr>) -> Setup {
        Setup::new().route("prefix: /", "echo").cluster("echo", "lb_policy: RoundRobin", backends)
    }

    /// Adds a line at the top of the file, such as `workers: 2`.
    #[must_use]
    pub fn root(mut self, line: &str) -> Setup {
        self.root.push(line.to_owned());
        self
    }

    /// Adds an admin listener.
    #[must_use]
    pub fn admin(self) -> Setup {
        self.root("admin: {address: {socket_address: {address: 127.0.0.1, port: 0}}}")
    }

    /// Has the listener bind a Unix socket at this path.
    #[must_use]
    pub fn at(self, path: &Path) -> Setup {
        self.at_address(&format!("address: \"unix:{}\"", path.display()))
    }

    /// Sets the listener's `socket_address`, without its braces.
    #[must_use]
    pub fn at_address(mut self, keys: &str) -> Setup {
        self.at = Some(keys.to_owned());
        self
    }

    /// Sets the listener's `config`, without its braces.
    #[must_use]
    pub fn listener(mut self, config: &str) -> Setup {
        config.clone_into(&mut self.listener);
        self
    }

    /// Sets the proxy's `config`, without its braces.
    #[must_use]
    pub fn proxy(mut self, config: &str) -> Setup {
        config.clone_into(&mut self.proxy);
        self
    }

    /// Adds a route: its `match`, without the braces, and its cluster.
    #[must_use]
    pub fn route(mut self, matches: &str, cluster: &str) -> Setup {
        self.routes.push(format!("{{match: {{{matches}}}, route: {{cluster: {cluster}}}}}"));
        self
    }

    /// Adds a filter before the proxy: its name and its `config`, without the braces.
    #[must_use]
    pub fn filter(mut self, name: &str, config: &str) -> Setup {
        self.filters.push(format!("{{name: {name}, config: {{{config}}}}}"));
        self
    }

    /// Adds a cluster: its name, further keys without their braces, and its backends.
    #[must_use]
    pub fn cluster(self, name: &str, keys: &str, backends: impl IntoIterator<Item = SocketAddr>) -> Setup {
        let address = |address: SocketAddr| {
            format!("{{socket_address: {{address: {}, port: {}}}}}", address.ip(), address.port())
        };
        self.cluster_of(name, keys, backends.into_iter().map(address))
    }

    /// Adds a cluster whose endpoints are written out.
    #[must_use]
    pub fn cluster_of(mut self, name: &str, keys: &str, endpoints: impl IntoIterator<Item = String>) -> Setup {
        let endpoints: Vec<String> = endpoints.into_iter().collect();
        let keys: String =
            keys.split_terminator(',').filter(|key| !key.trim().is_empty()).map(|key| format!("{key}, ")).collect();
        self.clusters.push(format!("{{name: {name}, {keys}endpoints: [{}]}}", endpoints.join(", ")));
        self
    }

    /// The file.
    #[must_use]
    pub fn yaml(&self) -> String {
        let mut yaml = String::new();
        for line in &self.root {
            let _ = writeln!(yaml, "{line}");
        }
        let list = |items: &[String], indent: &str| -> String {
            items.iter().map(|item| format!("{indent}- {item}\n")).collect()
        };
        let _ = write!(
            yaml,
            "static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {{socket_address: {{{}}}}}
      config: {{{}}}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config:
                routes:
{}              grpc_filters:
{}                - {{name: dgp.filter.grpc.proxy, config: {{{}}}}}
  clusters:
{}",
            self.at.as_deref().unwrap_or("address: 127.0.0.1, port: 0"),
            self.listener,
            list(&self.routes, "                  "),
            list(&self.filters, "                "),
            self.proxy,
            list(&self.clusters, "    "),
        );
        yaml
    }

    /// Starts a gateway with this configuration and this many workers.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(&self, workers: usize) -> Result<Gateway> {
        Gateway::start_with(&self.yaml(), &["--workers", &workers.to_string()])
    }
}
