//! The workspace's own programs, built before they are used.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// The program `name` of this workspace, in the profile of the running test.
///
/// Cargo builds a package's programs for that package's own integration tests only, so that for tests in a package
/// beside it a program may be missing, or worse: be the one of last week. The first call in a test program therefore
/// has cargo build them all, which is over in half a second when there is nothing to do.
///
/// # Errors
///
/// When the build fails, or no package of the workspace has such a program.
pub fn built(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<HashMap<String, PathBuf>, String>> = OnceLock::new();
    let programs = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).as_ref();
    let programs = programs.map_err(|error| anyhow!("building the workspace's programs: {error}"))?;
    programs.get(name).cloned().with_context(|| format!("no package of the workspace has a program `{name}`"))
}

/// The `weir` that is released, whatever the profile of the program that asks.
///
/// # Errors
///
/// When the build fails.
pub fn released() -> Result<PathBuf> {
    let programs = cargo(&["build", "--release", "--package", "weir", "--bin", "weir"])?;
    programs.get("weir").cloned().context("the package `weir` has no program `weir`")
}

fn build() -> Result<HashMap<String, PathBuf>> {
    // With --workspace, dependencies get the features that `cargo test --workspace` gave them: nothing is built twice.
    let mut arguments = vec!["build", "--workspace", "--bins"];
    if !cfg!(debug_assertions) {
        arguments.push("--release");
    }
    cargo(&arguments)
}

/// Has cargo build something, and returns the programs that it names.
fn cargo(arguments: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).arg("--message-format=json-render-diagnostics");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(program).collect())
}

/// The program that a line of cargo's report names.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), PathBuf::from(path)))
}
