//! `idle_timeout` and `max_connection_age` of a listener: connections end, calls do not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::client::{Client, Failure, UNKNOWN};
use weir_integration::load::config::Config;

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
    let address = gateway.listener("grpc")?;
    let mut client = Client::connect(address).await?;
    let mut reconnects = 0;
    for number in 0..60_u64 {
        sleep(Duration::from_micros(26_000 + number * 100)).await;
        reconnects += call(&mut client, address).await?;
    }
    ensure!(reconnects > 0, "no connection grew idle");
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
            let mut client = Client::connect(address).await?;
            let mut reconnects = 0;
            while reconnects < 5 {
                reconnects += call(&mut client, address).await?;
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

/// One call; on a new connection if this one has been told to end, or if its GOAWAY says that it never took the call. A
/// call that it did take must succeed. Returns the number of reconnects.
async fn call(client: &mut Client, address: SocketAddr) -> Result<u32> {
    for reconnects in 0..10 {
        match echo(client).await {
            Ok(()) => return Ok(reconnects),
            Err(Some(failure)) => bail!("a call that was taken: {failure}"),
            Err(None) => *client = Client::connect(address).await?,
        }
    }
    bail!("no connection lives long enough for a call")
}

/// One call. `None` is a failure of a call that nobody has seen.
async fn echo(client: &Client) -> Result<(), Option<Failure>> {
    if !client.goaways().is_empty() {
        return Err(None);
    }
    let mut call = client.start("Echo", &[]).await.map_err(|_| None)?;
    let stream = call.stream_id();
    let outcome = async {
        call.send(b"echo").await?;
        call.end_sending()?;
        call.rest().await
    };
    match outcome.await {
        Ok(1) => Ok(()),
        Ok(count) => Err(Some(Failure { code: UNKNOWN, why: format!("{count} messages came back") })),
        Err(_) if client.goaways().iter().any(|goaway| goaway.last_stream < stream) => Err(None),
        Err(failure) => Err(Some(failure)),
    }
}
