//! A gateway that may open no more files: who is connected is served, who is not waits, and both end.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout;
use weir_integration::bench::usage::cpu_seconds;
use weir_integration::gateway::weir_binary;
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::client::Client;
use weir_integration::load::config::Config;
use weir_integration::process::{PATIENCE, Process, cap_files};

/// Clients that come; more than there are descriptors left.
const CLIENTS: usize = 40;

/// Descriptors that are left when they come.
const LEFT: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clients_wait_for_a_descriptor() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(2)?;
    let address = gateway.listener("grpc")?;
    let first = Client::connect(address).await?;
    ensure!(first.unary("Echo", &[], b"before").await? == b"before"[..]);
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.process.pid()))?.count() as u64;
    cap_files(gateway.process.pid(), open + LEFT)?;

    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(address).await?;
        clients.spawn(async move {
            let served = timeout(PATIENCE, client.unary("Echo", &[], b"in turn")).await?;
            ensure!(served? == b"in turn"[..]);
            Ok(client)
        });
    }
    // The clients that are in keep their connections until the others have met the limit.
    let mut served = Vec::new();
    while served.len() < LEFT as usize / 2 {
        let Some(client) = clients.join_next().await else { break };
        served.push(client??);
    }
    gateway.process.wait_line("a word on the limit", |line| line.contains("accepting is paused").then_some(()))?;
    ensure!(first.unary("Echo", &[], b"served").await? == b"served"[..]);
    // Nobody leaves for a second, and nobody runs in circles meanwhile.
    let before = cpu_seconds(gateway.process.pid())?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let used = cpu_seconds(gateway.process.pid())? - before;
    ensure!(used < 0.3, "{used} s of CPU in a second of waiting");
    served.clear();
    while let Some(client) = clients.join_next().await {
        drop(client??);
    }
    ensure!(first.unary("Echo", &[], b"after").await? == b"after"[..]);
    Ok(())
}

/// The usual soft limit of a login is a fraction of what the process may have.
#[test]
fn the_soft_limit_is_raised_to_the_hard_one() -> Result<()> {
    let config = tempfile::NamedTempFile::with_suffix(".yaml")?;
    std::fs::write(config.path(), weir_integration::config::pass_all("127.0.0.1:1".parse()?))?;
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -S -n 256 && exec "$0" run -c "$1""#]).arg(weir_binary()?).arg(config.path());
    let gateway = Process::start("weir", &mut shell)?;
    gateway.wait_line("ready", |line| line.starts_with("ready").then_some(()))?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid()))?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no such limit")?;
    let mut words = files.split_whitespace();
    let (soft, hard) = (words.next(), words.next());
    ensure!(soft == hard && soft != Some("256"), "soft {soft:?}, hard {hard:?}");
    Ok(())
}
