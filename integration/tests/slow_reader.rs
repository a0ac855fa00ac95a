//! A client that does not read holds up nobody else, and what the gateway keeps for it is bounded.

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use weir_integration::gateway::Gateway;
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::client::{Call, Client, DEADLINE_EXCEEDED, Windows, expect_failure};
use weir_integration::load::config::Config;
use weir_integration::load::grpcio;
use weir_integration::process::PATIENCE;

/// Endless streams that the slow reader opens.
const STREAMS: usize = 12;

/// What the gateway may keep of one stream: the window towards the backend (256 KiB) and the send buffer towards the
/// client (64 KiB), each with as much again for the buffers in which they arrive and grow.
const A_STREAM: u64 = 2 * (256 + 64) * 1024;

/// What other clients' calls, the allocator and the metrics page may add.
const SLACK: u64 = 6 << 20;

/// Calls that another client makes meanwhile.
const CALLS: u32 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_closed_windows_and_one_worker() -> Result<()> {
    with_closed_windows(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_closed_windows_and_two_workers() -> Result<()> {
    with_closed_windows(2).await
}

/// The reader takes frames from its socket, but opens no window.
async fn with_closed_windows(workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(workers)?;
    let address = gateway.listener("grpc")?;
    let (reader, other) = on_one_worker(&gateway, workers).await?;
    other.unary("Echo", &[], b"before").await?;
    let before = gateway.resident_memory()?;
    let mut streams: Vec<Call> = Vec::new();
    for _ in 0..STREAMS {
        streams.push(reader.start("Endless", &[]).await?);
    }
    for stream in &mut streams {
        stream.message().await?;
    }
    others_go_on(&gateway, &other, before).await?;
    ensure!(backend.counts().open_calls == STREAMS, "the streams of the slow reader ended");
    gateway.expect_at_rest().await?;

    // It was slow, not gone.
    for stream in &mut streams {
        for _ in 0..50 {
            ensure!(stream.message().await?.is_some_and(|message| message.len() == 16 * 1024));
        }
    }
    drop(Client::connect(address).await?);
    Ok(())
}

/// The reader's whole process stands still: its socket fills up, and what h2 and the cork hold cannot leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_a_full_socket() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    let address = gateway.listener("grpc")?;
    let other = Client::connect(address).await?;
    other.unary("Echo", &[], b"before").await?;
    let before = gateway.resident_memory()?;
    let reader = grpcio::start("drink", address, &[&STREAMS.to_string()])?;
    reader.signal("STOP")?;
    others_go_on(&gateway, &other, before).await?;
    ensure!(backend.counts().open_calls == STREAMS, "the streams of the slow reader ended");
    gateway.expect_at_rest().await
}

/// The other way round: a backend that reads nothing of what a client uploads.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_a_deaf_backend() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    let address = gateway.listener("grpc")?;
    let other = Client::connect(address).await?;
    other.unary("Echo", &[], b"before").await?;
    let before = gateway.resident_memory()?;
    let sender = Client::connect(address).await?;
    let mut uploads = JoinSet::new();
    for _ in 0..STREAMS {
        let mut stream = sender.start("Deaf", &[]).await?;
        uploads.spawn(async move { while stream.send(&[7; 16 * 1024]).await.is_ok() {} });
    }
    backend.wait("the uploads", |counts| counts.open_calls == STREAMS).await?;
    others_go_on(&gateway, &other, before).await?;
    gateway.expect_at_rest().await?;
    uploads.shutdown().await;
    drop(sender);
    backend.wait("the end of the uploads", |counts| counts.open_calls == 0).await?;
    Ok(())
}

/// The deadline passes while the gateway holds messages that the client has not asked for: they come first.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deadline_cuts_no_message() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    let windows = Windows { stream: 64 * 1024, connection: 16 << 20 };
    let client = Client::connect_with(gateway.listener("grpc")?, windows).await?;
    let mut call = client.start("Echo", &[("grpc-timeout", "1500m".into())]).await?;
    for _ in 0..20 {
        call.send(&[7; 16 * 1000]).await?;
    }
    backend.wait("RST CANCEL", |counts| counts.cancelled == 1).await?;
    for number in 0..20 {
        ensure!(call.message().await?.is_some_and(|message| message == [7; 16 * 1000][..]), "message {number}");
    }
    expect_failure(call.message().await, DEADLINE_EXCEEDED)?;
    Ok(())
}

/// Other calls over the same connection to the backend complete, with this much memory at the most.
async fn others_go_on(gateway: &Gateway, other: &Client, before: u64) -> Result<()> {
    for number in 0..CALLS {
        let call = async { other.unary("Echo", &[], &number.to_be_bytes()).await };
        let reply = tokio::time::timeout(PATIENCE, call).await;
        ensure!(matches!(reply, Ok(Ok(_))), "call {number} beside a slow reader: {reply:?}");
    }
    let upstream = gateway.metric("weir_upstream_connections{cluster=\"backend\"}")?;
    ensure!(upstream == 1.0, "{upstream} connections: the calls did not share one");
    let grown = gateway.resident_memory()?.saturating_sub(before);
    let bound = STREAMS as u64 * A_STREAM + SLACK;
    println!("{} KiB more for {STREAMS} streams, {} KiB are allowed", grown / 1024, bound / 1024);
    ensure!(grown < bound, "{grown} bytes more for {STREAMS} streams that nobody reads, {bound} are allowed");
    Ok(())
}

/// A client for the slow reader and one for the other, whom the same worker serves.
async fn on_one_worker(gateway: &Gateway, workers: usize) -> Result<(Client, Client)> {
    let address = gateway.listener("grpc")?;
    // At equal streams the worker with the fewest connections gets the next one: in turn, that is.
    let mut clients = Vec::new();
    for number in 0..=workers {
        let windows = Windows { stream: 64 * 1024, connection: 16 << 20 };
        clients.push(Client::connect_with(address, windows).await?);
        let open = number as f64 + 1.0;
        gateway.wait_metric("weir_downstream_connections{listener=\"grpc\"}", |count| count == open).await?;
    }
    let other = clients.pop().context("two clients")?;
    Ok((clients.swap_remove(0), other))
}
