//! The same calls direct and through the gateway, compared field by field.
//!
//! The Python programs of `integration/scripts/parity/` make the calls, with grpcio or frame by frame, against a raw
//! HTTP/2 backend that does whatever a call asks for. Each suite of them prints one JSON object a case ([`table`]).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::gateway::Gateway;
use crate::process::Process;
use crate::tools;

pub mod table;

use table::Table;

/// A raw backend, and a gateway in front of it.
#[derive(Debug)]
pub struct Lab {
    _backend: Process,
    gateway: Gateway,
    workers: usize,
    control: String,
    services: Value,
}

impl Lab {
    /// Starts both; the gateway with this many workers.
    ///
    /// # Errors
    ///
    /// When one of them does not come up.
    pub fn start(workers: usize) -> Result<Lab> {
        let backend = Process::start("the raw backend", &mut python("raw_backend.py")?)?;
        let ports: Value = backend.wait_line("a JSON object", |line| serde_json::from_str(line).ok())?;
        let services = ports["services"].clone();
        let control = ports["control"].as_str().context("the raw backend has a control port")?.to_owned();
        let gateway = Gateway::start_with(&config(&services)?, &["--workers", &workers.to_string()])?;
        Ok(Lab { _backend: backend, gateway, workers, control, services })
    }

    /// Runs one suite of one program, such as `resets` of `parity`.
    ///
    /// # Errors
    ///
    /// When the program fails, or prints no case.
    pub fn run(&self, program: &str, suite: &str) -> Result<Table> {
        let output = python(&format!("{program}.py"))?
            .arg(suite)
            .args(["--control", &self.control])
            .args(["--services", &self.services.to_string()])
            .args(["--gateway", &self.gateway.listener("grpc")?.to_string()])
            .args(["--limited", &self.gateway.listener("limited")?.to_string()])
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{program} {suite}: {}\n{printed}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Table::parse(&format!("{program} {suite}, workers: {}", self.workers), &printed)
    }

    /// Runs one suite and holds its results against each other and against what is expected.
    ///
    /// # Errors
    ///
    /// When anything differs; the error is a table of the differences, and what the gateway printed.
    pub fn check(&self, program: &str, suite: &str) -> Result<()> {
        self.run(program, suite)?
            .check()
            .with_context(|| format!("the gateway printed:\n{}", self.gateway.process.lines().join("\n")))
    }
}

/// Runs one suite of one program against a gateway with one worker, and then against one with two.
///
/// # Errors
///
/// When anything differs from what is expected, or direct and through from each other.
pub fn check(program: &str, suite: &str) -> Result<()> {
    for workers in [1, 2] {
        Lab::start(workers)?.check(program, suite)?;
    }
    Ok(())
}

fn python(script: &str) -> Result<Command> {
    let mut command = Command::new(tools::python()?);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/parity").join(script))
        .env("PYTHONPYCACHEPREFIX", tools::folder().join("pycache"));
    Ok(command)
}

/// A listener that limits nothing, one that limits messages to 1,000 bytes, and a cluster for each service of the raw
/// backend.
fn config(services: &Value) -> Result<String> {
    let services = services.as_object().context("the raw backend has services")?;
    let routes: String = services
        .keys()
        .map(|name| format!("                  - {{match: {{prefix: /{name}}}, route: {{cluster: {name}}}}}\n"))
        .collect();
    let clusters: Vec<String> = services
        .iter()
        .map(|(name, address)| cluster(name, address.as_str().unwrap_or_default()))
        .collect::<Result<_>>()?;
    let listeners =
        [("grpc", ""), ("limited", "      config: {max_receive_message_size: 1000, max_send_message_size: 1000}\n")]
            .map(|(name, settings)| listener(name, &routes, settings));
    Ok(format!("static_resources:\n  listeners:\n{}  clusters:\n{}", listeners.concat(), clusters.concat()))
}

fn listener(name: &str, routes: &str, settings: &str) -> String {
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
{settings}"
    )
}

fn cluster(name: &str, address: &str) -> Result<String> {
    let (host, port) = address.rsplit_once(':').with_context(|| format!("`{address}` has a port"))?;
    // A name instead of an address: the raw backend has one that nothing resolves.
    let kind = if host.parse::<std::net::IpAddr>().is_ok() { "Static" } else { "StrictDNS" };
    Ok(format!(
        "    - name: {name}
      type: {kind}
      lb_policy: RoundRobin
      connect_timeout: 500ms
      endpoints:
        - socket_address: {{address: {host}, port: {port}}}
"
    ))
}
