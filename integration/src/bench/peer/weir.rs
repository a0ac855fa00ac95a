//! Weir as its users run it: the release binary with its defaults, routes, filters and metrics.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;

use crate::bench::bed::Bed;
use crate::tools;

/// What a configuration of Weir has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weir {
    /// Routes, of which one takes the benchmark's calls.
    pub routes: usize,
    /// Filters that look at headers only.
    pub filters: usize,
    /// Worker threads; two run on both cores.
    pub workers: usize,
    /// Whether each call is logged, to a file.
    pub access_log: bool,
    /// Whether clients speak TLS.
    pub tls: bool,
}

impl Weir {
    /// What a deployment of some size has.
    pub const USUAL: Weir = Weir { routes: 100, filters: 2, workers: 1, access_log: false, tls: false };

    pub(super) fn command(&self, bed: &Bed, address: SocketAddr) -> Result<Command> {
        let config = bed.file(&format!("weir-{}.yaml", address.port()), &self.config(bed, address))?;
        let cores = if self.workers == 1 {
            bed.proxy_core.to_string()
        } else {
            format!("{},{}", bed.proxy_core, bed.load_core)
        };
        let mut command = Bed::pinned(&cores, &bed.weir);
        command.arg("run").arg("-c").arg(config).args(["--workers", &self.workers.to_string()]);
        Ok(command)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self, bed: &Bed, address: SocketAddr) -> String {
        let log = bed.folder().join(format!("access-{}.log", address.port()));
        let yaml = self.yaml(address, bed.backend, self.access_log.then(|| log.display().to_string()).as_deref());
        if !self.tls {
            return yaml;
        }
        let (cert, key) = (bed.certificate.cert.display(), bed.certificate.key.display());
        let tls = format!(
            "      config: {{enable_tls: true, tls: {{cert_file: {cert}, key_file: {key}}}}}\n      filter_chains:\n"
        );
        yaml.replace("      filter_chains:\n", &tls)
    }

    /// The configuration file, of calls from `address` to `backend`.
    #[must_use]
    pub fn yaml(&self, address: SocketAddr, backend: SocketAddr, access_log: Option<&str>) -> String {
        let log = access_log.map(|path| format!("access_log: {{path: {path}}}\n")).unwrap_or_default();
        let (mut routes, mut filters) = (String::new(), String::new());
        for index in 1..self.routes {
            let route =
                format!("{{match: {{prefix: /company.project{index}.Service{index}}}, route: {{cluster: echo}}}}");
            let _ = writeln!(routes, "                  - {route}");
        }
        for index in 0..self.filters {
            // The first two change something; what further ones cost is the look.
            let changes = match index {
                0 => "request: {set: {x-gateway: weir}}".to_owned(),
                1 => "response: {remove: [x-internal]}".to_owned(),
                _ => format!("request: {{remove: [x-internal-{index}]}}"),
            };
            let _ = writeln!(filters, "                - {{name: weir.filter.grpc.headers, config: {{{changes}}}}}");
        }
        let socket = |address: SocketAddr| {
            format!("{{socket_address: {{address: {}, port: {}}}}}", address.ip(), address.port())
        };
        let (address, backend) = (socket(address), socket(backend));
        format!(
            "{log}admin: {{address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}}}
static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {address}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config:
                routes:
{routes}                  - {{match: {{prefix: /bench.Echo}}, route: {{cluster: echo}}}}
              grpc_filters:
{filters}                - {{name: dgp.filter.grpc.proxy}}
  clusters:
    - {{name: echo, lb_policy: RoundRobin, endpoints: [{backend}]}}
"
        )
    }
}

pub(super) fn version(bed: &Bed) -> Result<String> {
    let text = tools::output(Command::new(&bed.weir).arg("--version"))?;
    Ok(format!("Weir {}", text.trim().trim_start_matches("weir ")))
}
