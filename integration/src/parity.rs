//! The same calls direct and through the gateway, compared field by field.
//!
//! The Python programs of `integration/scripts/parity/` make the calls, with grpcio or frame by frame, against a raw
//! HTTP/2 backend that does whatever a call asks for. Each suite of them prints one JSON object a case ([`table`]).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::process::Process;
use crate::tools;

mod config;
pub mod table;

use table::Table;

/// How many workers the gateways have, one gateway each: what time can change, a second worker can change too.
const WORKERS: [usize; 2] = [1, 2];

/// Runs one suite of one program, such as `resets` of `parity`, against a backend and gateways of its own.
///
/// # Errors
///
/// When anything differs from what is expected, or a gateway from direct; the error is a table of the differences.
pub fn check(program: &str, suite: &str) -> Result<()> {
    check_with(program, suite, "")
}

/// The same with a further key of every cluster.
///
/// # Errors
///
/// When anything differs from what is expected, or a gateway from direct; the error is a table of the differences.
pub fn check_with(program: &str, suite: &str, key: &str) -> Result<()> {
    let lab = Lab::start("timeout: 60s", key)?;
    lab.run(program, suite)?.check().with_context(|| lab.printed())
}

/// Runs one suite that makes the gateways drain, with these settings of `shutdown_config`, and waits for their ends.
///
/// # Errors
///
/// When anything differs from what is expected, or a gateway does not end with this exit code.
pub fn check_drain(suite: &str, shutdown: &str, exit_code: i32) -> Result<()> {
    let mut lab = Lab::start(shutdown, "")?;
    lab.run("drain", suite)?.check().with_context(|| lab.printed())?;
    for (name, gateway) in &mut lab.gateways {
        let status = gateway.process.wait()?;
        if status.code() != Some(exit_code) {
            bail!("{name} ended with {status}; it printed:\n{}", gateway.process.lines().join("\n"));
        }
    }
    Ok(())
}

/// A raw backend, and gateways in front of it.
#[derive(Debug)]
struct Lab {
    _backend: Process,
    gateways: Vec<(String, Gateway)>,
    control: String,
    services: Value,
}

impl Lab {
    fn start(shutdown: &str, key: &str) -> Result<Lab> {
        let backend = Process::start("the raw backend", &mut python("raw_backend.py")?)?;
        let ports: Value = backend.wait_line("a JSON object", |line| serde_json::from_str(line).ok())?;
        let services = ports["services"].clone();
        let control = ports["control"].as_str().context("the raw backend has a control port")?.to_owned();
        let yaml = config::yaml(&services, shutdown, key)?;
        let start = |workers: usize| -> Result<(String, Gateway)> {
            let gateway = Gateway::start_with(&yaml, &["--workers", &workers.to_string()])?;
            Ok((format!("workers: {workers}"), gateway))
        };
        let gateways = WORKERS.into_iter().map(start).collect::<Result<_>>()?;
        Ok(Lab { _backend: backend, gateways, control, services })
    }

    fn run(&self, program: &str, suite: &str) -> Result<Table> {
        let output = python(&format!("{program}.py"))?
            .arg(suite)
            .args(["--control", &self.control])
            .args(["--services", &self.services.to_string()])
            .args(["--gateways", &self.listeners()?.to_string()])
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{program} {suite}: {}\n{printed}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Table::parse(&format!("{program} {suite}"), &printed)
    }

    fn listeners(&self) -> Result<Value> {
        let listeners = |(name, gateway): &(String, Gateway)| -> Result<Value> {
            Ok(json!({
                "name": name,
                "pid": gateway.process.pid(),
                "grpc": gateway.listener("grpc")?.to_string(),
                "limited": gateway.listener("limited")?.to_string(),
                "admin": gateway.admin()?.to_string(),
            }))
        };
        self.gateways.iter().map(listeners).collect()
    }

    fn printed(&self) -> String {
        let lines = self.gateways.iter().flat_map(|(_, gateway)| gateway.process.lines());
        format!("the gateways printed:\n{}", lines.collect::<Vec<_>>().join("\n"))
    }
}

fn python(script: &str) -> Result<Command> {
    let mut command = Command::new(tools::python()?);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/parity").join(script))
        .env("PYTHONPYCACHEPREFIX", tools::folder().join("pycache"));
    Ok(command)
}
