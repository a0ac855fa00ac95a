//! Backends that die or stand still under load, behind a hedging policy: no client sees it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_integration::binary::built;
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::config::Config;
use weir_integration::load::runner::Load;
use weir_integration::process::Process;

fn start_backend(journal: &Path) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(built("echo-backend")?);
    let process = Process::start("the echo backend", command.arg("0").arg(journal))?;
    let address = process.wait_line("its address", |line| line.strip_prefix("listening on ").map(str::to_owned))?;
    Ok((process, address.parse().with_context(|| address.clone())?))
}

/// What has no answer yet is lost with the backend, and made again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_fails_when_one_of_two_backends_is_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut doomed, doomed_address) = start_backend(&folder.path().join("calls"))?;
    let other = Backend::start(Options::default())?;
    let keys = "hedging_policy: {max_attempts: 4, hedging_delay: 10m, non_fatal_status_codes: [UNAVAILABLE]}";
    let gateway = Config::new(&[doomed_address, other.address]).cluster(keys).start(2)?;
    let load = Load { connections: 8, in_flight: 8, delay: Duration::from_millis(5) };
    let load = load.start(gateway.listener("grpc")?).await?;
    load.more(500).await?;
    doomed.signal("KILL")?;
    doomed.wait()?;
    load.more(1000).await?;
    load.stop().await?.none_failed()?;
    ensure!(gateway.metric("weir_hedges_won_total{cluster=\"backend\"}")? > 0.0, "it had calls when it died");
    Ok(())
}

/// No answer, and no error either: the next attempt goes elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_waits_when_one_of_two_backends_stands_still() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (frozen, frozen_address) = start_backend(&folder.path().join("calls"))?;
    let other = Backend::start(Options::default())?;
    let keys = "hedging_policy: {max_attempts: 2, hedging_delay: 100ms}";
    let gateway = Config::new(&[frozen_address, other.address]).cluster(keys).start(2)?;
    let load = Load { connections: 4, in_flight: 4, delay: Duration::from_millis(5) };
    let load = load.start(gateway.listener("grpc")?).await?;
    load.more(200).await?;
    frozen.signal("STOP")?;
    load.more(100).await?;
    frozen.signal("CONT")?;
    load.stop().await?.none_failed()?;
    ensure!(gateway.metric("weir_hedges_won_total{cluster=\"backend\"}")? > 0.0, "calls met the one that stood still");
    Ok(())
}
