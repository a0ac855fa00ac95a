//! The grpcio client of the load tests, `integration/scripts/load/client.py`: a client that nobody here wrote.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::Process;
use crate::tools;

/// Runs one of its commands to the end.
///
/// # Errors
///
/// When Python cannot be had, or the client fails; the error holds its output.
pub fn run(command: &str, address: SocketAddr, arguments: &[&str]) -> Result<()> {
    tools::run(&mut client(command, address, arguments)?)
}

/// The same, with what it has printed.
///
/// # Errors
///
/// When Python cannot be had, or the client fails; the error holds its output.
pub fn output(command: &str, address: SocketAddr, arguments: &[&str]) -> Result<String> {
    let output = client(command, address, arguments)?.output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the grpcio client ended with {}:\n{error}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Starts one of its commands that stay, and waits until its streams are open.
///
/// # Errors
///
/// When Python cannot be had, or the client fails; the error holds its output.
pub fn start(command: &str, address: SocketAddr, arguments: &[&str]) -> Result<Process> {
    let process = Process::start("the grpcio client", &mut client(command, address, arguments)?)?;
    process.wait_line("`open`", |line| (line == "open").then_some(()))?;
    Ok(process)
}

fn client(command: &str, address: SocketAddr, arguments: &[&str]) -> Result<Command> {
    let mut python = Command::new(tools::python()?);
    python.arg(tools::scripts().join("load/client.py")).arg(command).arg(address.to_string()).args(arguments);
    Ok(python)
}
