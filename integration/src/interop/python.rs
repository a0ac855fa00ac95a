//! The Python interop programs of gRPC's source, on grpcio from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::source;
use crate::tools::{ensure, python, run};

/// The client imports these for its cases with Google's credentials, which it never runs here.
const UNUSED_IMPORTS: &[&str] = &[
    "google/auth/__init__.py",
    "google/auth/environment_vars.py",
    "google/auth/jwt.py",
    "google/auth/transport/__init__.py",
    "google/auth/transport/grpc.py",
    "google/auth/transport/requests.py",
];

/// The client, without arguments.
///
/// # Errors
///
/// When it cannot be installed.
pub fn client() -> Result<Command> {
    module("tests.interop.client")
}

/// The server, without arguments.
///
/// # Errors
///
/// When it cannot be installed.
pub fn server() -> Result<Command> {
    module("tests.interop.server")
}

fn module(name: &str) -> Result<Command> {
    let modules = modules()?;
    let paths = [source::folder()?.join("src/python/grpcio_tests"), modules];
    let mut command = Command::new(python()?);
    command.env("PYTHONPATH", std::env::join_paths(paths)?).args(["-m", name]);
    Ok(command)
}

fn modules() -> Result<PathBuf> {
    let source = source::folder()?;
    let python = python()?;
    // Generated code and grpcio must be of one version.
    let recipe = [include_str!("python.rs"), include_str!("../../scripts/requirements.txt")].concat();
    ensure("interop-python", &recipe, |folder| {
        generate(&python, &source, folder)?;
        for module in UNUSED_IMPORTS {
            fs::create_dir_all(folder.join(module).with_file_name(""))?;
            fs::write(folder.join(module), "")?;
        }
        Ok(())
    })
}

fn generate(python: &Path, source: &Path, folder: &Path) -> Result<()> {
    let mut protoc = Command::new(python);
    protoc
        .args(["-m", "grpc_tools.protoc", "-I"])
        .arg(source)
        .arg(format!("--python_out={}", folder.display()))
        .arg(format!("--grpc_python_out={}", folder.display()))
        .args(["empty", "messages", "test"].map(|name| format!("src/proto/grpc/testing/{name}.proto")));
    run(&mut protoc)
}
