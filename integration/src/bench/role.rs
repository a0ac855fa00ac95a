//! The benchmark's own processes: the same program, started with `role` and what it is to be.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tokio::task::LocalSet;

use super::{backend, load, siege, splice};
use crate::bench::bed::Bed;
use crate::process::Process;

/// What the first argument is when the program is to be one of its own helpers.
const ROLE: &str = "role";

/// Plays the role that the command line names, if it names one.
///
/// # Errors
///
/// When the role is unknown or fails.
pub fn play() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some((&ROLE, role)) = arguments.split_first() else { return Ok(false) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tell = |address| println!("listening on {address}");
    match *role {
        ["backend"] => LocalSet::new().block_on(&runtime, backend::serve(tell))?,
        ["splice", address, backend] => runtime.block_on(splice::serve(address.parse()?, backend.parse()?))?,
        ["load", job] => LocalSet::new().block_on(&runtime, load::run(serde_json::from_str(job)?))?,
        ["sink", address] => LocalSet::new().block_on(&runtime, siege::sink(address.parse()?))?,
        ["attack", name, target, per_second] => {
            LocalSet::new().block_on(&runtime, siege::attack(name, target.parse()?, per_second.parse()?))?;
        }
        _ => bail!("no such role: {role:?}"),
    }
    Ok(true)
}

/// The command that plays a role, on that core if one is given.
///
/// # Errors
///
/// When the program does not know where it is.
pub fn command(core: Option<usize>, role: &[&str]) -> Result<Command> {
    let program = std::env::current_exe().context("the path of this program")?;
    let mut command = match core {
        Some(core) => Bed::pinned(&core.to_string(), program),
        None => Command::new(program),
    };
    command.arg(ROLE).args(role);
    Ok(command)
}

/// Where a process in a listening role listens.
///
/// # Errors
///
/// When it does not say.
pub fn address(process: &Process) -> Result<SocketAddr> {
    let prefix = "listening on ";
    let address = process.wait_line(prefix, |line| line.strip_prefix(prefix).map(str::to_owned))?;
    Ok(address.parse()?)
}
