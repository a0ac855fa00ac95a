//! Backends that leave, refuse, limit or never answer: no call fails that another connection or endpoint can serve.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::client::{Call, Client, UNAVAILABLE, expect_failure};
use weir_integration::load::config::Config;
use weir_integration::load::runner::Load;
use weir_integration::server::free_address;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn goaway_under_load_with_one_worker() -> Result<()> {
    goaway_under_load(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn goaway_under_load_with_two_workers() -> Result<()> {
    goaway_under_load(2).await
}

/// A graceful GOAWAY, again and again: new calls move to a new connection, old ones end where they are.
async fn goaway_under_load(workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(workers)?;
    let address = gateway.listener("grpc")?;
    let client = Client::connect(address).await?;
    let mut stream = client.start("Echo", &[]).await?;
    stream.send(b"before").await?;
    stream.message().await?;

    let load = Load { connections: 4, in_flight: 10, delay: Duration::from_millis(2) }.start(address).await?;
    load.more(100).await?;
    for round in 1..=5 {
        let before = backend.counts().connections;
        backend.go_away();
        backend.wait("a new connection", |counts| counts.connections > before).await?;
        load.more(200).await?;
        ensure!(backend.counts().broken == 0, "round {round}: {:?}", backend.counts());
    }
    load.stop().await?.none_failed()?;

    stream.send(b"after").await?;
    ensure!(stream.message().await?.as_deref() == Some(&b"after"[..]), "the stream outlives GOAWAY");
    ensure!(stream.finish().await? == 0);
    backend.wait("the end of the connections that were told", |counts| counts.open_connections <= workers).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_stream_a_connection_with_one_worker() -> Result<()> {
    one_stream_a_connection(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_stream_a_connection_with_two_workers() -> Result<()> {
    one_stream_a_connection(2).await
}

/// SETTINGS_MAX_CONCURRENT_STREAMS is 1, and 50 calls are open at once.
async fn one_stream_a_connection(workers: usize) -> Result<()> {
    let backend = Backend::start(Options { max_concurrent_streams: Some(1), ..Options::default() })?;
    let gateway = Config::new(&[backend.address]).start(workers)?;
    let address = gateway.listener("grpc")?;
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let client = Client::connect(address).await?;
        for _ in 0..10 {
            let client = client.clone();
            calls.spawn(async move { client.unary("Gated", &[], b"together").await });
        }
    }
    let counts = backend.wait("50 calls at once", |counts| counts.open_calls == 50).await?;
    ensure!(counts.open_connections >= 50, "{counts:?}");
    backend.open_gate();
    while let Some(reply) = calls.join_next().await {
        ensure!(reply?? == b"together"[..]);
    }
    // And in quick succession: a stream that has ended makes room at once.
    let load = Load { connections: 5, in_flight: 10, ..Load::default() }.start(address).await?;
    load.more(1000).await?;
    load.stop().await?.none_failed()?;
    ensure!(backend.counts().connections <= 100, "{:?}", backend.counts());
    Ok(())
}

/// A connection that is full gets company, and the companions go when they are no longer needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn as_many_connections_as_the_streams_need() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let keys = "http2: {max_streams_per_connection: 10}, idle_timeout: 300ms";
    let gateway = Config::new(&[backend.address]).cluster(keys).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let connections = "weir_upstream_connections{cluster=\"backend\"}";
    ensure!(gateway.metric(connections)? == 0.0, "connections before the first call");
    let mut calls = JoinSet::new();
    for (already, most) in [(0, 10), (10, 20), (20, 35)] {
        for _ in already..most {
            let client = client.clone();
            calls.spawn(async move { client.unary("Gated", &[], b"together").await });
        }
        backend.wait("the calls", |counts| counts.open_calls == most).await?;
        let needed = most.div_ceil(10);
        ensure!(backend.counts().connections == needed, "{most} calls: {:?}", backend.counts());
        ensure!(gateway.metric(connections)? == needed as f64);
    }
    backend.open_gate();
    while let Some(reply) = calls.join_next().await {
        ensure!(reply?? == b"together"[..]);
    }
    gateway.wait_metric(connections, |open| open == 0.0).await?;
    backend.wait("the end of idle connections", |counts| counts.open_connections == 0).await?;
    ensure!(client.unary("Echo", &[], b"again").await? == b"again"[..]);
    Ok(())
}

/// Calls come just when the connection to the backend grows idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_meets_a_connection_that_closes() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).cluster("idle_timeout: 20ms").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for number in 0..60_u64 {
        ensure!(client.unary("Echo", &[], b"x").await? == b"x"[..], "call {number}");
        tokio::time::sleep(Duration::from_micros(18_000 + number * 50)).await;
    }
    ensure!(backend.counts().connections > 1, "no connection grew idle: {:?}", backend.counts());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_refuses_connections_with_one_worker() -> Result<()> {
    an_endpoint_that_refuses_connections(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_refuses_connections_with_two_workers() -> Result<()> {
    an_endpoint_that_refuses_connections(2).await
}

async fn an_endpoint_that_refuses_connections(workers: usize) -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[free_address()?, backend.address]).start(workers)?;
    let load = Load { connections: 4, in_flight: 10, delay: Duration::from_millis(1) };
    let load = load.start(gateway.listener("grpc")?).await?;
    load.more(1000).await?;
    load.stop().await?.none_failed()?;
    let failures = gateway.metric("weir_upstream_connect_failures_total{cluster=\"backend\"}")?;
    ensure!(failures > 0.0, "the endpoint was never tried");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_never_speaks_with_one_worker() -> Result<()> {
    an_endpoint_that_never_speaks(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_never_speaks_with_two_workers() -> Result<()> {
    an_endpoint_that_never_speaks(2).await
}

/// It takes connections, and that is all. Whoever meets it first waits for `connect_timeout`; nobody does later.
async fn an_endpoint_that_never_speaks(workers: usize) -> Result<()> {
    let (_mute, mute_address) = mute()?;
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[mute_address, backend.address]).cluster("connect_timeout: 2s").start(workers)?;
    let address = gateway.listener("grpc")?;
    let mut first = JoinSet::new();
    for _ in 0..10 {
        let client = Client::connect(address).await?;
        first.spawn(async move { client.unary("Echo", &[], b"first").await });
    }
    while let Some(reply) = first.join_next().await {
        ensure!(reply?? == b"first"[..]);
    }
    let client = Client::connect(address).await?;
    let later = Instant::now();
    for _ in 0..50 {
        ensure!(client.unary("Echo", &[], b"later").await? == b"later"[..]);
    }
    ensure!(later.elapsed() < Duration::from_secs(2), "later calls waited: {:?} for 50", later.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_endpoints_that_never_speak() -> Result<()> {
    let ((_one, one), (_two, two)) = (mute()?, mute()?);
    let gateway = Config::new(&[one, two]).cluster("connect_timeout: 200ms").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let began = Instant::now();
    let failure = expect_failure(client.unary("Echo", &[], b"nobody").await, UNAVAILABLE)?;
    ensure!(failure.why.contains("cluster backend"), "{failure}");
    ensure!(began.elapsed() >= Duration::from_millis(400), "each had its time");
    Ok(())
}

/// Callers give up while the gateway still dials: nothing of them stays, not even for a drain.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn callers_that_do_not_wait_for_a_connect() -> Result<()> {
    let (_mute, mute_address) = mute()?;
    let mut gateway = Config::new(&[mute_address]).cluster("connect_timeout: 10m").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut calls = Vec::new();
    for _ in 0..100 {
        calls.push(client.start("Echo", &[]).await?);
    }
    let in_flight = "weir_calls_in_flight{cluster=\"backend\"}";
    gateway.wait_metric(in_flight, |calls| calls == 100.0).await?;
    calls.into_iter().for_each(Call::cancel);
    gateway.wait_metric(in_flight, |calls| calls == 0.0).await?;
    gateway.expect_at_rest().await?;
    gateway.process.signal("TERM")?;
    ensure!(gateway.process.wait()?.code() == Some(0));
    Ok(())
}

/// A port whose connections the kernel accepts and nobody serves.
fn mute() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
