//! SIGTERM and SIGINT: clients are told at once, no call fails that can finish in time, and the exit code says whether
//! one was cut.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use weir_integration::admin;
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::channel::{Channel, Outcome};
use weir_integration::load::client::{Call, Client, GoAway, UNAVAILABLE, Windows, expect_failure};
use weir_integration::load::config::Config;
use weir_integration::load::grpcio;
use weir_integration::process::PATIENCE;

/// The first GOAWAY of a graceful end: it excludes no stream yet.
const GRACEFUL: GoAway = GoAway { last_stream: (1 << 31) - 1, code: 0 };

/// `cut` in the exit status of a gateway.
const EXIT_CUT: i32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_in_flight_fails_with_one_worker() -> Result<()> {
    no_call_in_flight_fails(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_in_flight_fails_with_two_workers() -> Result<()> {
    no_call_in_flight_fails(2).await
}

/// 500 unary calls and 50 streams are open when the signal comes; the backend answers only after every client was told.
async fn no_call_in_flight_fails(workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).start(workers)?;
    let address = gateway.listener("grpc")?;
    let mut clients = Vec::new();
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let client = Client::connect(address).await?;
        for _ in 0..50 {
            let client = client.clone();
            calls.spawn(async move { client.unary("Gated", &[], b"in flight").await });
        }
        clients.push(client);
    }
    let mut streams = Vec::new();
    for _ in 0..5 {
        let client = Client::connect(address).await?;
        for _ in 0..10 {
            streams.push(open_stream(&client).await?);
        }
        clients.push(client);
    }
    let idle = Client::connect(address).await?;
    clients.push(idle.clone());
    backend.wait("550 calls at once", |counts| counts.open_calls == 550).await?;
    gateway.wait_metric("weir_downstream_connections{listener=\"grpc\"}", |open| open == 16.0).await?;

    gateway.process.signal("TERM")?;
    for client in &clients {
        ensure!(client.goaway().await? == GRACEFUL);
        ensure!(admin::page(gateway.admin()?, "/ready")?.0 == 503, "ready while draining");
    }
    ensure!(backend.counts().open_calls == 550, "the backend lost a call: {:?}", backend.counts());
    gateway.expect_at_rest().await?;
    idle.closed().await?;
    until_refused(address).await?;

    for stream in &mut streams {
        stream.send(b"still here").await?;
        ensure!(stream.message().await?.as_deref() == Some(&b"still here"[..]));
    }
    backend.open_gate();
    while let Some(reply) = calls.join_next().await {
        ensure!(reply?? == b"in flight"[..]);
    }
    for stream in streams {
        ensure!(stream.finish().await? == 0);
    }
    ensure!(gateway.process.wait()?.code() == Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stuck_call_is_cut_at_the_end_with_one_worker() -> Result<()> {
    a_stuck_call_is_cut_at_the_end(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stuck_call_is_cut_at_the_end_with_two_workers() -> Result<()> {
    a_stuck_call_is_cut_at_the_end(2).await
}

async fn a_stuck_call_is_cut_at_the_end(workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).shutdown("timeout: 1s").start(workers)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut stuck = open_stream(&client).await?;
    let signalled = Instant::now();
    gateway.process.signal("TERM")?;
    let failure = expect_failure(stuck.message().await, UNAVAILABLE)?;
    ensure!(failure.why == "the gateway is shutting down", "{failure}");
    ensure!(signalled.elapsed() >= Duration::from_secs(1), "cut early, after {:?}", signalled.elapsed());
    backend.wait("RST CANCEL", |counts| counts.cancelled == 1).await?;
    ensure!(gateway.process.wait()?.code() == Some(EXIT_CUT));
    Ok(())
}

/// Messages are larger than DATA frames, so that the end of the drain falls into one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flowing_stream_is_cut_between_two_messages() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).shutdown("timeout: 300ms").start(1)?;
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let client = Client::connect(gateway.listener("grpc")?).await?;
        let mut call = client.start("Endless", &[]).await?;
        call.message().await?;
        calls.spawn(async move { call.rest().await });
    }
    gateway.process.signal("TERM")?;
    while let Some(ended) = calls.join_next().await {
        expect_failure(ended?, UNAVAILABLE)?;
    }
    ensure!(gateway.process.wait()?.code() == Some(EXIT_CUT));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_signal_ends_it_now() -> Result<()> {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let backend = Backend::start(Options::default())?;
        let mut gateway = Config::new(&[backend.address]).start(2)?;
        let client = Client::connect(gateway.listener("grpc")?).await?;
        let mut stuck = open_stream(&client).await?;
        gateway.process.signal(first)?;
        client.goaway().await?;
        gateway.process.signal(second)?;
        let told = Instant::now();
        expect_failure(stuck.message().await, UNAVAILABLE)?;
        ensure!(gateway.process.wait()?.code() == Some(EXIT_CUT), "after {first} and {second}");
        ensure!(told.elapsed() < Duration::from_secs(20), "that is not now: {:?}", told.elapsed());
    }
    Ok(())
}

/// Its calls are cut, and what comes later is refused and not accepted first.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_signal_ends_the_delay_too() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).shutdown("delay: 1h").start(2)?;
    let address = gateway.listener("grpc")?;
    let client = Client::connect(address).await?;
    let mut stuck = open_stream(&client).await?;
    gateway.process.signal("TERM")?;
    client.goaway().await?;
    let late = Client::connect(address).await?;
    late.unary("Echo", &[], b"late").await?;
    gateway.process.signal("TERM")?;
    ensure!(late.goaway().await? == GRACEFUL);
    expect_failure(stuck.message().await, UNAVAILABLE)?;
    ensure!(TcpStream::connect(address).is_err(), "a listener outlived the calls that were cut");
    ensure!(gateway.process.wait()?.code() == Some(EXIT_CUT));
    Ok(())
}

/// A load balancer takes its time to see that readiness fails: what it sends meanwhile is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_delay_keeps_listeners_open() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).shutdown("delay: 3s").start(2)?;
    let address = gateway.listener("grpc")?;
    let mut late_python = grpcio::start("calls", address, &["20"])?;
    let before = Client::connect(address).await?;
    before.unary("Echo", &[], b"before").await?;

    let signalled = Instant::now();
    gateway.process.signal("TERM")?;
    ensure!(before.goaway().await? == GRACEFUL);
    ensure!(admin::page(gateway.admin()?, "/ready")?.0 == 503, "ready while draining");
    for _ in 0..3 {
        let late = Client::connect(address).await?;
        ensure!(late.unary("Echo", &[], b"late").await? == b"late"[..]);
    }
    late_python.signal("USR1")?;
    ensure!(late_python.wait()?.success(), "{}", late_python.lines().join("\n"));
    until_refused(address).await?;
    ensure!(signalled.elapsed() >= Duration::from_secs(3), "closed early, after {:?}", signalled.elapsed());
    ensure!(gateway.process.wait()?.code() == Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_without_pause_with_one_worker() -> Result<()> {
    calls_without_pause(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_without_pause_with_two_workers() -> Result<()> {
    calls_without_pause(2).await
}

/// Clients go on calling while they are told to go: until the listeners are closed, and not one call fails.
async fn calls_without_pause(workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).shutdown("delay: 500ms").start(workers)?;
    let address = gateway.listener("grpc")?;
    let mut channels = JoinSet::new();
    for _ in 0..30 {
        channels.spawn(async move {
            let mut channel = Channel::new(address);
            while channel.call().await? == Outcome::Succeeded {}
            anyhow::Ok(channel.reconnects())
        });
    }
    backend.wait("calls", |counts| counts.answered > 300).await?;
    gateway.process.signal("TERM")?;
    while let Some(reconnects) = channels.join_next().await {
        ensure!((1..=2).contains(&reconnects??), "told at the signal, and again when the listener closed");
    }
    ensure!(gateway.process.wait()?.code() == Some(0));
    Ok(())
}

/// A scanner or a TCP health check that connects and never speaks is no call.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_silent_connection_does_not_hold_it_up() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).start(1)?;
    let _silent = TcpStream::connect(gateway.listener("grpc")?)?;
    gateway.wait_metric("weir_downstream_connections{listener=\"grpc\"}", |open| open == 1.0).await?;
    let signalled = Instant::now();
    gateway.process.signal("TERM")?;
    ensure!(gateway.process.wait()?.code() == Some(0));
    ensure!(signalled.elapsed() < Duration::from_secs(20), "it took {:?}", signalled.elapsed());
    Ok(())
}

/// The backend has answered, the gateway holds the answer, and the client does not take it: that call was cut, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_was_not_taken_is_a_call_that_was_cut() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).shutdown("timeout: 1500ms").start(1)?;
    let windows = Windows { stream: 1024, connection: 1 << 20 };
    let client = Client::connect_with(gateway.listener("grpc")?, windows).await?;
    let mut call = client.start("Echo", &[]).await?;
    call.send(&[7; 30 * 1024]).await?;
    call.end_sending()?;
    call.head().await?;
    backend.wait("the end of its answer", |counts| counts.answered == 1).await?;
    gateway.process.signal("TERM")?;
    ensure!(gateway.process.wait()?.code() == Some(EXIT_CUT));
    expect_failure(call.message().await, UNAVAILABLE)?;
    Ok(())
}

/// A stream whose first message has come back.
async fn open_stream(client: &Client) -> Result<Call> {
    let mut call = client.start("Echo", &[]).await?;
    call.send(b"open").await?;
    ensure!(call.message().await?.as_deref() == Some(&b"open"[..]));
    Ok(call)
}

async fn until_refused(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        ensure!(Instant::now() < end, "new connections are taken for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
