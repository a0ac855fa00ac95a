//! The Ruby interop programs, which Debian's package of the grpc gem brings along, ready to run.

use std::process::Command;

use anyhow::{Context, Result};

use crate::tools::{debian, output};

const PACKAGE: &str = "ruby-grpc";

/// The client, without arguments.
///
/// # Errors
///
/// When it cannot be installed.
pub fn client() -> Result<Command> {
    program("/pb/test/client.rb")
}

/// The server, without arguments.
///
/// # Errors
///
/// When it cannot be installed.
pub fn server() -> Result<Command> {
    program("/pb/test/server.rb")
}

fn program(end: &str) -> Result<Command> {
    debian::install(&[PACKAGE])?;
    let files = output(Command::new("dpkg-query").args(["--listfiles", PACKAGE]))?;
    let script = files.lines().find(|file| file.ends_with(end)).with_context(|| format!("{PACKAGE} has no {end}"))?;
    // -W0: Ruby 3.1 has warnings to give about the gem.
    let mut ruby = Command::new("ruby");
    ruby.args(["-W0", script]);
    Ok(ruby)
}
