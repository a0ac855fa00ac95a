//! The C++ interop programs, built against Debian's libgrpc++.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::source;
use crate::tools::{debian, ensure, output, run};

/// The programs use internals of the library, so the library must be of the source's own version.
const PACKAGES: &[&str] =
    &["g++", "libgrpc++-dev", "libprotobuf-dev", "make", "pkg-config", "protobuf-compiler", "protobuf-compiler-grpc"];

/// Stands in for the parts of gRPC's test library that the programs link but, without TLS, never use.
const SHIM: &str = include_str!("../../scripts/interop/shim.cc");

const COMMON: &[&str] = &[
    "shim.cc",
    "src/proto/grpc/testing/empty.pb.cc",
    "src/proto/grpc/testing/messages.pb.cc",
    "src/proto/grpc/testing/test.pb.cc",
    "src/proto/grpc/testing/test.grpc.pb.cc",
    "test/cpp/util/test_config_cc.cc",
    "test/cpp/util/test_credentials_provider.cc",
];
const SERVER: &[&str] = &[
    "test/cpp/interop/interop_server.cc",
    "test/cpp/interop/interop_server_bootstrap.cc",
    "test/cpp/interop/server_helper.cc",
];
const CLIENT: &[&str] = &[
    "test/core/util/histogram.cc",
    "test/cpp/interop/client.cc",
    "test/cpp/interop/client_helper.cc",
    "test/cpp/interop/interop_client.cc",
    "test/cpp/util/create_test_channel.cc",
];
const LIBRARIES: &[&str] =
    &["grpc++", "protobuf", "absl_flags", "absl_flags_parse", "absl_str_format", "absl_synchronization"];

/// The client, without arguments.
///
/// # Errors
///
/// When it cannot be built.
pub fn client() -> Result<Command> {
    Ok(Command::new(programs()?.join("client")))
}

/// The server, without arguments.
///
/// # Errors
///
/// When it cannot be built.
pub fn server() -> Result<Command> {
    Ok(Command::new(programs()?.join("server")))
}

fn programs() -> Result<std::path::PathBuf> {
    let source = source::folder()?;
    let recipe = [include_str!("cpp.rs"), SHIM].concat();
    ensure("interop-cpp", &recipe, |folder| {
        debian::install(PACKAGES)?;
        std::fs::write(folder.join("shim.cc"), SHIM)?;
        generate(&source, folder)?;
        compile(&source, folder)?;
        link(folder, "server", SERVER)?;
        link(folder, "client", CLIENT)
    })
}

fn generate(source: &Path, folder: &Path) -> Result<()> {
    let plugin = output(Command::new("sh").args(["-c", "command -v grpc_cpp_plugin"]))?;
    let mut protoc = Command::new("protoc");
    protoc
        .arg("-I")
        .arg(source)
        .arg(format!("--cpp_out={}", folder.display()))
        .arg(format!("--grpc_out={}", folder.display()))
        .arg(format!("--plugin=protoc-gen-grpc={}", plugin.trim()))
        .args(["empty", "messages", "test"].map(|name| format!("src/proto/grpc/testing/{name}.proto")));
    run(&mut protoc)
}

/// Through make, which knows how to use two processors.
fn compile(source: &Path, folder: &Path) -> Result<()> {
    let sources = [COMMON, SERVER, CLIENT].concat();
    let objects: Vec<_> = sources.iter().map(|source| object(source)).collect();
    let mut makefile = format!("all: {}\n", objects.join(" "));
    for (object, name) in objects.iter().zip(&sources) {
        let found = if folder.join(name).is_file() { folder.join(name) } else { source.join(name) };
        makefile +=
            &format!("{object}:\n\tg++ -std=c++17 -O0 -w -I. -I{} -c {} -o $@\n", source.display(), found.display());
    }
    std::fs::write(folder.join("Makefile"), makefile)?;
    run(Command::new("make").args(["-s", "-j2"]).current_dir(folder)).context("compiling the C++ interop programs")
}

fn link(folder: &Path, program: &str, sources: &[&str]) -> Result<()> {
    let libraries = output(Command::new("pkg-config").arg("--libs").args(LIBRARIES))?;
    let objects = [COMMON, sources].concat();
    run(Command::new("g++")
        .current_dir(folder)
        .args(["-o", program])
        .args(objects.iter().map(|source| object(source)))
        .args(libraries.split_whitespace()))
}

fn object(source: &str) -> String {
    source.replace('/', "_").replace(".cc", ".o")
}
