//! `idle_timeout` and `max_connection_age` of a listener: connections end, calls do not.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::channel::{Channel, Outcome};
use weir_integration::load::client::{Client, Windows};
use weir_integration::load::config::Config;
use weir_integration::process::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_told_and_closed() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).listener("idle_timeout: 300ms").start(1)?;
    let address = gateway.listener("grpc")?;
    let busy = Client::connect(address).await?;
    let mut stream = busy.start("Echo", &[]).await?;
    let idle = Client::connect(address).await?;
    let began = Instant::now();
    idle.unary("Echo", &[], b"once").await?;
    ensure!(idle.goaway().await?.code == 0);
    ensure!(began.elapsed() >= Duration::from_millis(300), "idle for {:?} only", began.elapsed());
    idle.closed().await?;
    gateway.wait_metric("weir_downstream_connections{listener=\"grpc\"}", |open| open == 1.0).await?;
    // A stream is never idle, however silent it is.
    sleep(Duration::from_millis(600)).await;
    ensure!(busy.goaways().is_empty());
    stream.send(b"still here").await?;
    ensure!(stream.message().await?.as_deref() == Some(&b"still here"[..]));
    ensure!(stream.finish().await? == 0);
    ensure!(busy.goaway().await?.code == 0, "idle after its last stream");
    busy.closed().await
}

/// Calls come just when their connection grows idle: what was sent before GOAWAY arrived is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_meets_an_idle_close() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).listener("idle_timeout: 30ms").start(1)?;
    let mut channel = Channel::new(gateway.listener("grpc")?);
    for number in 0..60_u64 {
        ensure!(channel.call().await? == Outcome::Succeeded, "call {number}");
        sleep(Duration::from_micros(26_000 + number * 100)).await;
    }
    ensure!(channel.reconnects() > 0, "no connection grew idle");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_old_connection_ends_without_a_failed_call_with_one_worker() -> Result<()> {
    an_old_connection_ends_without_a_failed_call(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_old_connection_ends_without_a_failed_call_with_two_workers() -> Result<()> {
    an_old_connection_ends_without_a_failed_call(2).await
}

/// Twenty clients call without pause, and reconnect when they are told to, five times.
async fn an_old_connection_ends_without_a_failed_call(workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).listener("max_connection_age: 200ms").start(workers)?;
    let address = gateway.listener("grpc")?;
    let long = Client::connect(address).await?;
    let mut stream = long.start("Echo", &[]).await?;
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        clients.spawn(async move {
            let mut channel = Channel::new(address);
            while channel.reconnects() < 5 {
                ensure!(channel.call().await? == Outcome::Succeeded);
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    ensure!(long.goaway().await?.code == 0);
    stream.send(b"still here").await?;
    ensure!(stream.message().await?.as_deref() == Some(&b"still here"[..]));
    ensure!(stream.finish().await? == 0);
    long.closed().await
}

/// What is open when the grace is over ends with a status, and the connection ends even where nobody takes that.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_grace_of_an_old_connection_ends_with_its_calls() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let config = "max_connection_age: 300ms, max_connection_age_grace: 300ms";
    let gateway = Config::new(&[backend.address]).listener(config).start(1)?;
    let address = gateway.listener("grpc")?;
    let began = Instant::now();
    let client = Client::connect(address).await?;
    let mut stream = client.start("Echo", &[]).await?;
    let deaf = Client::connect_with(address, Windows { stream: 1024, connection: 1 << 20 }).await?;
    let mut unread = deaf.start("Echo", &[]).await?;
    unread.send(&[7; 30 * 1024]).await?;
    unread.head().await?;
    ensure!(client.goaway().await?.code == 0);
    stream.send(b"still here").await?;
    ensure!(stream.message().await?.as_deref() == Some(&b"still here"[..]));
    let Err(failure) = stream.message().await else { bail!("the stream goes on") };
    ensure!(began.elapsed() >= Duration::from_millis(570), "after {:?}", began.elapsed());
    let failure = failure.to_string();
    ensure!(failure.starts_with("status 14:") && failure.contains("max_connection_age and its grace"), "{failure}");
    client.closed().await?;
    deaf.closed().await?;
    let ended = "weir_connection_age_calls_ended_total{listener=\"grpc\"}";
    gateway.wait_metric(ended, |calls| calls == 2.0).await?;
    Ok(())
}

/// What the client has not taken of an answer is a stream, though its call is over for the backend.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_waits_for_its_client_is_not_idle() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).listener("idle_timeout: 200ms").start(1)?;
    let windows = Windows { stream: 1024, connection: 1 << 20 };
    let client = Client::connect_with(gateway.listener("grpc")?, windows).await?;
    let mut call = client.start("Echo", &[]).await?;
    call.send(&[7; 30 * 1024]).await?;
    call.end_sending()?;
    call.head().await?;
    backend.wait("the end of its answer", |counts| counts.answered == 1).await?;
    gateway.wait_metric("weir_calls_in_flight{cluster=\"backend\"}", |calls| calls == 0.0).await?;
    sleep(Duration::from_millis(700)).await;
    ensure!(client.goaways().is_empty(), "idle with a stream: {:?}", client.goaways());
    ensure!(call.message().await?.is_some_and(|message| message.len() == 30 * 1024));
    let taken = Instant::now();
    ensure!(call.rest().await? == 0);
    ensure!(client.goaway().await?.code == 0);
    ensure!(taken.elapsed() >= Duration::from_millis(150), "idle after {:?}", taken.elapsed());
    client.closed().await
}

/// What a connection sends before it falls silent, as a scanner does that holds its connections.
const BEGINNINGS: [&[u8]; 3] = [b"", b"PRI * HTTP", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_handshake_that_never_ends_is_ended() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    let address = gateway.listener("grpc")?;
    let honest = Client::connect(address).await?;
    let mut closing = JoinSet::new();
    for beginning in BEGINNINGS {
        closing.spawn(async move {
            let began = Instant::now();
            let mut socket = TcpStream::connect(address).await?;
            socket.write_all(beginning).await?;
            timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await??;
            ensure!(began.elapsed() >= Duration::from_secs(9), "{beginning:?}: after {:?}", began.elapsed());
            anyhow::Ok(())
        });
    }
    while let Some(closed) = closing.join_next().await {
        closed??;
    }
    gateway.wait_metric("weir_downstream_connections{listener=\"grpc\"}", |open| open == 1.0).await?;
    honest.unary("Echo", &[], b"still here").await?;
    Ok(())
}
