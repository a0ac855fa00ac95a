//! Every client of gRPC's interop programs against every server, through the gateway.
//!
//! One test a server. A pair that fails is run once more without the gateway, so that the report says whose fault it is;
//! a server's own client comes first, so that a broken install is not taken for a broken gateway.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use weir_integration::config::pass_all;
use weir_integration::gateway::Gateway;
use weir_integration::interop::{CPP, GO, JAVA, LANGUAGES, Language, NODE, PYTHON, RUBY};

#[test]
fn cpp_server() -> Result<()> {
    clients_against(&CPP, &LANGUAGES, "1")
}

#[test]
fn go_server() -> Result<()> {
    clients_against(&GO, &LANGUAGES, "1")
}

#[test]
fn java_server() -> Result<()> {
    clients_against(&JAVA, &LANGUAGES, "1")
}

#[test]
fn node_server() -> Result<()> {
    clients_against(&NODE, &LANGUAGES, "1")
}

#[test]
fn python_server() -> Result<()> {
    clients_against(&PYTHON, &LANGUAGES, "1")
}

#[test]
fn ruby_server() -> Result<()> {
    clients_against(&RUBY, &LANGUAGES, "1")
}

// With two workers, by the two clients that take no time to start.

#[test]
fn cpp_server_two_workers() -> Result<()> {
    clients_against(&CPP, &[&CPP, &GO], "2")
}

#[test]
fn go_server_two_workers() -> Result<()> {
    clients_against(&GO, &[&CPP, &GO], "2")
}

#[test]
fn java_server_two_workers() -> Result<()> {
    clients_against(&JAVA, &[&CPP, &GO], "2")
}

fn clients_against(server: &Language, clients: &[&Language], workers: &str) -> Result<()> {
    let running = server.start_server()?;
    let own = failures(server, server, running.address);
    ensure!(own.is_empty(), "{} with itself, no gateway between:\n{}", server.name, own.join("\n"));

    let gateway = Gateway::start_with(&pass_all(running.address), &["--workers", workers])?;
    let through = gateway.listener("grpc")?;
    let failed: Vec<_> =
        clients.iter().flat_map(|client| failures_explained(client, server, through, running.address)).collect();
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
