//! `kill -9` of one of two backends: only calls that it had may fail, and those with UNAVAILABLE.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use weir_integration::load::backend::{Backend, Options, echo_process};
use weir_integration::load::client::{Client, UNAVAILABLE};
use weir_integration::load::config::Config;
use weir_integration::load::runner::Load;
use weir_integration::process::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn exactly_the_calls_that_it_had_fail_with_one_worker() -> Result<()> {
    exactly_the_calls_that_it_had_fail(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn exactly_the_calls_that_it_had_fail_with_two_workers() -> Result<()> {
    exactly_the_calls_that_it_had_fail(2).await
}

/// Neither backend answers until one is dead: who had which call is then certain.
async fn exactly_the_calls_that_it_had_fail(workers: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = folder.path().join("calls");
    let (mut doomed, doomed_address) = echo_process(0, &journal)?;
    let other = Backend::start(Options::default())?;
    let gateway = Config::new(&[doomed_address, other.address]).start(workers)?;
    let mut calls = JoinSet::new();
    for connection in 0..4 {
        let client = Client::connect(gateway.listener("grpc")?).await?;
        for call in 0..20 {
            let (client, call) = (client.clone(), connection * 20 + call);
            calls.spawn(async move {
                let metadata = [("x-call", call.to_string())];
                (call, client.unary("Gated", &metadata, b"held").await)
            });
        }
    }
    let had = read_journal(&journal, |had| had.len() + other.counts().calls == 80).await?;
    ensure!(had.len() >= 20, "round robin gave the doomed backend only {} of 80 calls", had.len());

    doomed.signal("KILL")?;
    doomed.wait()?;
    other.open_gate();
    let mut failed = HashSet::new();
    while let Some(ended) = calls.join_next().await {
        let (call, outcome) = ended?;
        match outcome {
            Ok(reply) => ensure!(reply == b"held"[..]),
            Err(failure) => {
                ensure!(failure.code == UNAVAILABLE, "{failure}");
                failed.insert(call);
            }
        }
    }
    ensure!(failed == had, "failed: {failed:?}; the backend had {had:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn under_load_with_one_worker() -> Result<()> {
    under_load(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn under_load_with_two_workers() -> Result<()> {
    under_load(2).await
}

/// Calls fly the whole time: the backend dies, stays away, and comes back on the same port.
async fn under_load(workers: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = folder.path().join("calls");
    let (mut doomed, doomed_address) = echo_process(0, &journal)?;
    let other = Backend::start(Options::default())?;
    let gateway = Config::new(&[doomed_address, other.address]).start(workers)?;
    let load = Load { connections: 8, in_flight: 8, delay: Duration::from_millis(5) };
    let load = load.start(gateway.listener("grpc")?).await?;
    load.more(500).await?;

    doomed.signal("KILL")?;
    doomed.wait()?;
    let dead = Instant::now();
    load.more(1000).await?;

    let second_journal = folder.path().join("calls of the second life");
    let _reborn = echo_process(doomed_address.port(), &second_journal)?;
    read_journal(&second_journal, |had| had.len() >= 100).await?;
    let report = load.stop().await?;

    let had = read_journal(&journal, |_| true).await?;
    ensure!(report.failed.len() <= 64, "{} calls failed; 64 were in flight", report.failed.len());
    for failed in &report.failed {
        ensure!(failed.failure.code == UNAVAILABLE, "{failed:?}");
        ensure!(had.contains(&failed.call) || failed.began <= dead, "the backend never had {failed:?}");
    }
    ensure!(had.len() > 100, "both backends had a share");
    Ok(())
}

/// A backend that stands still: no answer, and no TCP error either. Only keepalive tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_frozen_backend_is_found_out_by_keepalive() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = folder.path().join("calls");
    let (frozen, frozen_address) = echo_process(0, &journal)?;
    let other = Backend::start(Options::default())?;
    let keys = "connect_timeout: 300ms, http2: {keepalive_interval: 200ms, keepalive_timeout: 300ms}";
    let gateway = Config::new(&[frozen_address, other.address]).cluster(keys).start(2)?;
    let load = Load { connections: 8, in_flight: 8, delay: Duration::from_millis(5) };
    let load = load.start(gateway.listener("grpc")?).await?;
    load.more(500).await?;

    frozen.signal("STOP")?;
    // Half of the slots stand still within a moment; without keepalive all would.
    load.more(2000).await?;
    frozen.signal("CONT")?;
    let noted = read_journal(&journal, |_| true).await?.len();
    read_journal(&journal, |had| had.len() >= noted + 100).await?;
    let report = load.stop().await?;
    ensure!(!report.failed.is_empty() && report.failed.len() <= 64, "{} calls failed", report.failed.len());
    for failed in &report.failed {
        ensure!(failed.failure.code == UNAVAILABLE, "{failed:?}");
    }
    Ok(())
}

async fn read_journal(journal: &Path, enough: impl Fn(&HashSet<u64>) -> bool) -> Result<HashSet<u64>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(journal)?;
        let calls = text.lines().map(str::parse).collect::<Result<_, _>>()?;
        if enough(&calls) {
            return Ok(calls);
        }
        ensure!(Instant::now() < end, "the journal has only {} calls", calls.len());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
