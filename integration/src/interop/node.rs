//! Interop programs for Node: ours, on grpc-js and the published `.proto` files. The npm registry has none ready.

use std::process::Command;

use anyhow::Result;

use super::source;
use crate::tools::{node, scripts};

/// The client, without arguments.
///
/// # Errors
///
/// When it cannot be installed.
pub fn client() -> Result<Command> {
    program("interop/client.js")
}

/// The server, without arguments.
///
/// # Errors
///
/// When it cannot be installed.
pub fn server() -> Result<Command> {
    program("interop/server.js")
}

fn program(script: &str) -> Result<Command> {
    let mut node = node()?;
    node.arg(scripts().join(script)).arg(format!("--proto_root={}", source::folder()?.display()));
    Ok(node)
}
