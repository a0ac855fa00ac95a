//! Every client of gRPC's interop programs against every server, through the gateway.
//!
//! One test a server. A pair that fails is run once more without the gateway, so that the report says whose fault it is;
//! a server's own client comes first, so that a broken install is not taken for a broken gateway.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use weir_integration::config::pass_all;
use weir_integration::gateway::Gateway;
use weir_integration::interop::{CPP, GO, LANGUAGES, Language, NODE, PYTHON, RUBY};

#[test]
fn cpp_server() -> Result<()> {
    all_clients(&CPP, "1")
}

#[test]
fn go_server() -> Result<()> {
    all_clients(&GO, "1")
}

#[test]
fn node_server() -> Result<()> {
    all_clients(&NODE, "1")
}

#[test]
fn python_server() -> Result<()> {
    all_clients(&PYTHON, "1")
}

#[test]
fn ruby_server() -> Result<()> {
    all_clients(&RUBY, "1")
}

#[test]
fn cpp_server_two_workers() -> Result<()> {
    all_clients(&CPP, "2")
}

#[test]
fn go_server_two_workers() -> Result<()> {
    all_clients(&GO, "2")
}

fn all_clients(language: &Language, workers: &str) -> Result<()> {
    let server = language.start_server()?;
    let own = failures(language, language, server.address);
    ensure!(own.is_empty(), "{} with itself, no gateway between:\n{}", language.name, own.join("\n"));

    let gateway = Gateway::start_with(&pass_all(server.address), &["--workers", workers])?;
    let through = gateway.listener("grpc")?;
    let failed: Vec<_> =
        LANGUAGES.iter().flat_map(|client| failures_explained(client, language, through, server.address)).collect();
    let log = gateway.process.lines().join("\n");
    ensure!(failed.is_empty(), "{} cases failed:\n{}\nthe gateway said:\n{log}", failed.len(), failed.join("\n"));
    Ok(())
}

fn failures(client: &Language, server: &Language, address: SocketAddr) -> Vec<String> {
    let run = |case| client.run_client(case, address).err().map(|error| format!("{case}: {error:#}"));
    client.cases_against(server).filter_map(run).collect()
}

fn failures_explained(client: &Language, server: &Language, through: SocketAddr, direct: SocketAddr) -> Vec<String> {
    let explain = |case| {
        let error = client.run_client(case, through).err()?;
        let alone = match client.run_client(case, direct) {
            Ok(()) => "passes without the gateway",
            Err(_) => "fails without the gateway, too",
        };
        Some(format!("{} client, {} server, {case} ({alone}): {error:#}", client.name, server.name))
    };
    client.cases_against(server).filter_map(explain).collect()
}
