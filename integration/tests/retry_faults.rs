//! Backends that die or stand still under load, behind a retry policy: no client sees it.

use std::time::Duration;

use anyhow::{Result, ensure};
use weir_integration::load::backend::{Backend, Options, echo_process};
use weir_integration::load::config::Config;
use weir_integration::load::runner::Load;

const POLICY: &str = "retry_policy: {max_attempts: 4, initial_backoff: 5ms, max_backoff: 20ms, \
                      retryable_status_codes: [UNAVAILABLE]";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_fails_when_one_of_two_backends_is_killed_with_one_worker() -> Result<()> {
    kill(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_fails_when_one_of_two_backends_is_killed_with_two_workers() -> Result<()> {
    kill(2).await
}

async fn kill(workers: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut doomed, doomed_address) = echo_process(0, &folder.path().join("calls"))?;
    let other = Backend::start(Options::default())?;
    let keys = format!("{POLICY}}}");
    let gateway = Config::new(&[doomed_address, other.address]).cluster(&keys).start(workers)?;
    let load = Load { connections: 8, in_flight: 8, delay: Duration::from_millis(5) };
    let load = load.start(gateway.listener("grpc")?).await?;
    load.more(500).await?;
    doomed.signal("KILL")?;
    doomed.wait()?;
    load.more(1000).await?;
    load.stop().await?.none_failed()?;
    let retries = gateway.metric("weir_retries_total{cluster=\"backend\"}")?;
    ensure!(retries > 0.0, "the backend had calls when it died");
    Ok(())
}

/// No answer, and no error either: an attempt's own time sends the call elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_fails_when_one_of_two_backends_stands_still() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (frozen, frozen_address) = echo_process(0, &folder.path().join("calls"))?;
    let other = Backend::start(Options::default())?;
    let keys = format!("{POLICY}, per_attempt_timeout: 500ms}}");
    let gateway = Config::new(&[frozen_address, other.address]).cluster(&keys).start(2)?;
    let load = Load { connections: 4, in_flight: 4, delay: Duration::from_millis(5) };
    let load = load.start(gateway.listener("grpc")?).await?;
    load.more(200).await?;
    frozen.signal("STOP")?;
    load.more(100).await?;
    frozen.signal("CONT")?;
    load.stop().await?.none_failed()?;
    let retries = gateway.metric("weir_retries_total{cluster=\"backend\"}")?;
    ensure!(retries > 0.0, "calls met the backend that stood still");
    Ok(())
}
