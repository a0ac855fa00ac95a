//! A client process that is killed: its calls end at the backend, and leave nothing in the gateway.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::config::Config;
use weir_integration::load::grpcio;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_open_streams_and_one_worker() -> Result<()> {
    with_open_streams("hold", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_open_streams_and_two_workers() -> Result<()> {
    with_open_streams("hold", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_streams_that_it_has_not_read() -> Result<()> {
    with_open_streams("stall", 1).await
}

async fn with_open_streams(command: &str, workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(workers)?;
    let mut client = grpcio::start(command, gateway.listener("grpc")?, &["30"])?;
    ensure!(backend.counts().open_calls == 30);
    ensure!(gateway.metric("weir_calls_in_flight{cluster=\"backend\"}")? == 30.0);

    client.signal("KILL")?;
    client.wait()?;
    let gone = Instant::now();
    let counts = backend.wait("RST CANCEL of every stream", |counts| counts.open_calls == 0).await?;
    ensure!(counts.cancelled == 30, "{counts:?}");
    ensure!(gone.elapsed() < Duration::from_secs(10), "that is not promptly: {:?}", gone.elapsed());
    gateway.wait_metric("weir_calls_in_flight{cluster=\"backend\"}", |calls| calls == 0.0).await?;
    gateway.wait_metric("weir_downstream_connections{listener=\"grpc\"}", |open| open == 0.0).await?;
    Ok(())
}
