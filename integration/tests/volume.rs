//! Much of everything: calls, connections, bytes, messages, cancels.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::client::{Call, Client};
use weir_integration::load::config::Config;
use weir_integration::load::grpcio;
use weir_integration::load::runner::Load;
use weir_integration::process::raise_file_limit;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_calls_on_one_connection() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    let load = Load { connections: 1, in_flight: 20, ..Load::default() }.start(gateway.listener("grpc")?).await?;
    load.more(2_000).await?;
    let warm = gateway.resident_memory()?;
    load.more(8_000).await?;
    let report = load.stop().await?;
    report.none_failed()?;
    let grown = gateway.resident_memory()?.saturating_sub(warm);
    ensure!(grown < 4 << 20, "8,000 calls left {grown} bytes behind");
    ensure!(backend.counts().calls as u64 == report.succeeded, "{:?}, {:?}", backend.counts(), report);
    let ended = gateway.metric("weir_calls_total{listener=\"grpc\",cluster=\"backend\",status=\"OK\"}")?;
    ensure!(ended == report.succeeded as f64, "{ended} calls were counted, {} were made", report.succeeded);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_connections_with_a_stream_each_with_one_worker() -> Result<()> {
    a_thousand_connections_with_a_stream_each(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_connections_with_a_stream_each_with_two_workers() -> Result<()> {
    a_thousand_connections_with_a_stream_each(2).await
}

async fn a_thousand_connections_with_a_stream_each(workers: usize) -> Result<()> {
    // Both ends of them are in programs that inherit this.
    raise_file_limit(4096)?;
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(workers)?;
    let mut streams = Vec::new();
    for number in 0..1000_u32 {
        let client = Client::connect(gateway.listener("grpc")?).await?;
        let mut stream = client.start("Echo", &[]).await?;
        stream.send(&number.to_be_bytes()).await?;
        streams.push(stream);
    }
    backend.wait("all of them at once", |counts| counts.open_calls == 1000).await?;
    ensure!(gateway.metric("weir_downstream_connections{listener=\"grpc\"}")? == 1000.0);
    for (number, mut stream) in (0_u32..).zip(streams) {
        ensure!(stream.message().await?.as_deref() == Some(&number.to_be_bytes()[..]));
        ensure!(stream.finish().await? == 0);
    }
    gateway.wait_metric("weir_downstream_connections{listener=\"grpc\"}", |open| open == 0.0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_of_many_mebibytes_each_way() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    grpcio::run("large", gateway.listener("grpc")?, &[&(6 << 20).to_string(), &(64 << 20).to_string()])
}

/// An empty message is five bytes. h2 ends a connection that carries a hundred empty DATA frames: none may come of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn three_hundred_empty_messages() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    grpcio::run("empty", gateway.listener("grpc")?, &["300"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn five_thousand_tiny_messages_in_a_burst() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for _ in 0..3 {
        let mut call = client.start("Echo", &[]).await?;
        for number in 0..5000_u32 {
            call.send(&number.to_be_bytes()).await?;
        }
        call.end_sending()?;
        for number in 0..5000_u32 {
            ensure!(call.message().await?.as_deref() == Some(&number.to_be_bytes()[..]), "message {number}");
        }
        ensure!(call.message().await?.is_none());
    }
    ensure!(client.goaways().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_cancels_in_a_burst_with_one_worker() -> Result<()> {
    a_thousand_cancels_in_a_burst(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_cancels_in_a_burst_with_two_workers() -> Result<()> {
    a_thousand_cancels_in_a_burst(2).await
}

/// First of calls that the backend is busy with, then of calls that have only just been sent. Another client's call to
/// the same backend goes on through all of it.
async fn a_thousand_cancels_in_a_burst(workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(workers)?;
    let address = gateway.listener("grpc")?;
    let bystander = Client::connect(address).await?;
    let mut stream = bystander.start("Echo", &[]).await?;

    let client = Client::connect(address).await?;
    let mut calls = Vec::new();
    for _ in 0..1000 {
        calls.push(client.start("Gated", &[]).await?);
    }
    backend.wait("a thousand calls", |counts| counts.open_calls == 1001).await?;
    calls.into_iter().for_each(Call::cancel);
    backend.wait("a thousand cancels", |counts| counts.cancelled == 1000).await?;
    for _ in 0..1000 {
        client.start("Gated", &[]).await?.cancel();
    }
    backend.wait("the end of the second thousand", |counts| counts.open_calls == 1).await?;
    let streams = format!("weir_endpoint_open_streams{{cluster=\"backend\",endpoint=\"{}\"}}", backend.address);
    gateway.wait_metric(&streams, |open| open == 1.0).await?;

    for _ in 0..100 {
        ensure!(client.unary("Echo", &[], b"still served").await? == b"still served"[..]);
    }
    ensure!(client.goaways().is_empty());
    stream.send(b"undisturbed").await?;
    ensure!(stream.message().await?.as_deref() == Some(&b"undisturbed"[..]));
    ensure!(stream.finish().await? == 0);
    Ok(())
}

/// A client that gives up on calls whose answers are on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn cancels_that_meet_answers() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(2)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut calls = JoinSet::new();
    for number in 0..500_u64 {
        let client = client.clone();
        calls.spawn(async move {
            let metadata = [("x-delay-ms", (number % 5).to_string())];
            let mut call = client.start("Slow", &metadata).await?;
            call.send(b"never mind").await?;
            sleep(Duration::from_millis(number % 7)).await;
            call.cancel();
            anyhow::Ok(())
        });
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    gateway.wait_metric("weir_calls_in_flight{cluster=\"backend\"}", |calls| calls == 0.0).await?;
    ensure!(client.unary("Echo", &[], b"still served").await? == b"still served"[..]);
    Ok(())
}
