//! The pool of connections to an endpoint, where backends are stranger than a library makes them: they hold their SETTINGS
//! back, allow no stream, refuse a second connection, or break off in the middle of a write.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::bare::{Bare, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, Orders};
use weir_integration::peers::client::{Client, METHOD, Open};
use weir_integration::peers::eventually;
use weir_integration::peers::setup::Setup;
use weir_integration::server::free_address;

const WAITING: &str = "weir_calls_waiting{cluster=\"echo\"}";
const IN_FLIGHT: &str = "weir_calls_in_flight{cluster=\"echo\"}";
const CONNECT_FAILURES: &str = "weir_upstream_connect_failures_total{cluster=\"echo\"}";
const RETRIES: &str = "weir_transparent_retries_total{cluster=\"echo\"}";

/// As long as it takes to see whether somebody dials again and again.
const A_WHILE: Duration = Duration::from_secs(1);

async fn connect(gateway: &Gateway) -> Result<Client> {
    Client::connect(gateway.listener("grpc")?).await
}

async fn open(client: &Client, count: usize) -> Result<Vec<Open>> {
    let mut calls = Vec::new();
    for _ in 0..count {
        calls.push(client.open(METHOD, &[]).await?);
    }
    Ok(calls)
}

async fn all_served(calls: Vec<Open>) -> Result<()> {
    for call in calls {
        let answer = call.answer().await?;
        ensure!(answer.status() == Some(0), "{answer:?}");
    }
    Ok(())
}

/// Those who wait leave one by one in the queue: giving it away must not recurse.
#[tokio::test]
async fn thousands_leave_while_they_wait_for_a_connect() -> Result<()> {
    let bare = Bare::listen().await?;
    let setup = Setup::new().admin().route("prefix: /", "echo");
    let mut gateway = setup.cluster("echo", "connect_timeout: 10m", [bare.address]).start(1)?;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let client = connect(&gateway).await?;
        let calls = open(&client, 800).await?;
        clients.push((client, calls));
    }
    gateway.wait_metric(WAITING, |calls| calls == 8000.0).await?;
    drop(clients);
    gateway.wait_metric(IN_FLIGHT, |calls| calls == 0.0).await?;
    ensure!(gateway.metric(WAITING)? == 0.0);

    let _serving = bare.serve(Orders { limit: 100, answer: true });
    let answer = connect(&gateway).await?.call(METHOD, &[]).await?;
    ensure!(answer.status() == Some(0), "{answer:?}");
    ensure!(!gateway.process.has_ended()?);
    Ok(())
}

#[tokio::test]
async fn backend_that_takes_no_streams_for_now() -> Result<()> {
    let bare = Bare::listen().await?;
    let gateway = Setup::to([bare.address]).admin().start(1)?;
    let serving = bare.serve(Orders { limit: 0, answer: true });
    let client = connect(&gateway).await?;
    let calls = open(&client, 4).await?;
    serving.until("a connection", |seen| seen.accepted > 0).await?;
    tokio::time::sleep(A_WHILE).await;
    ensure!(serving.seen().accepted <= 2, "{:?}", serving.seen());
    ensure!(gateway.metric(WAITING)? == 4.0);

    serving.order(Orders { limit: 100, answer: true });
    all_served(calls).await?;
    ensure!(serving.seen().accepted <= 2, "{:?}", serving.seen());
    ensure!(gateway.metric(WAITING)? == 0.0);
    Ok(())
}

#[tokio::test]
async fn another_endpoint_serves_where_one_takes_no_streams() -> Result<()> {
    let (bare, backend) = (Bare::listen().await?, Backend::start().await?);
    let gateway = Setup::to([bare.address, backend.address]).admin().start(1)?;
    let serving = bare.serve(Orders { limit: 0, answer: true });
    let client = connect(&gateway).await?;
    for _ in 0..20 {
        let answer = client.call(METHOD, &[]).await?;
        ensure!((answer.status(), answer.from()) == (Some(0), Some(backend.address.port())), "{answer:?}");
    }
    ensure!(serving.seen().accepted <= 2, "{:?}", serving.seen());
    Ok(())
}

#[tokio::test]
async fn another_endpoint_serves_where_one_is_full_and_refuses_connections() -> Result<()> {
    let (bare, backend) = (Bare::listen().await?, Backend::start().await?);
    let gateway = Setup::to([bare.address, backend.address]).admin().start(1)?;
    let client = connect(&gateway).await?;
    // One for each endpoint.
    let _open = open(&client, 2).await?;
    let mut peer = bare.accept().await?;
    peer.settings(&[(MAX_CONCURRENT_STREAMS, 1)]).await?;
    peer.request().await?;
    drop(bare);
    let began = Instant::now();
    for _ in 0..20 {
        let answer = client.call(METHOD, &[]).await?;
        ensure!((answer.status(), answer.from()) == (Some(0), Some(backend.address.port())), "{answer:?}");
    }
    ensure!(began.elapsed() < Duration::from_secs(5), "they waited: {:?}", began.elapsed());
    ensure!(gateway.metric(CONNECT_FAILURES)? >= 1.0);
    Ok(())
}

/// The only endpoint takes one stream, and no other connection: who comes second waits for the first to end.
#[tokio::test]
async fn calls_wait_where_a_full_endpoint_refuses_connections() -> Result<()> {
    let bare = Bare::listen().await?;
    let gateway = Setup::to([bare.address]).admin().start(1)?;
    let client = connect(&gateway).await?;
    // Read as it comes: small frames that nobody reads end a connection of h2's.
    let first = tokio::spawn(client.open(METHOD, &[]).await?.answer());
    let mut peer = bare.accept().await?;
    peer.settings(&[(MAX_CONCURRENT_STREAMS, 1)]).await?;
    let stream = peer.request().await?;
    drop(bare);
    let second = open(&client, 1).await?;
    gateway.wait_metric(CONNECT_FAILURES, |failures| failures > 0.0).await?;

    // Every message is a turn of the connection, and none is a reason to dial.
    peer.begin(stream).await?;
    let began = Instant::now();
    while began.elapsed() < A_WHILE {
        peer.message(stream).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ensure!(gateway.metric(WAITING)? == 1.0);
    let failures = gateway.metric(CONNECT_FAILURES)?;
    ensure!(failures <= 6.0, "{failures} connects in {A_WHILE:?}");

    peer.end(stream).await?;
    ensure!(first.await??.status() == Some(0));
    let stream = peer.request().await?;
    peer.answer(stream).await?;
    all_served(second).await
}

/// A place whose call was cancelled is not free before the reset has left: h2 counts the stream until then, and so does
/// the backend.
#[tokio::test]
async fn bursts_of_cancels_at_the_backends_limit() -> Result<()> {
    let bare = Bare::listen().await?;
    let gateway = Setup::to([bare.address]).admin().start(1)?;
    let serving = bare.serve(Orders { limit: 10, answer: false });
    let client = connect(&gateway).await?;
    let mut calls = open(&client, 10).await?;
    for round in 1..=20 {
        serving.until("the calls", |seen| seen.requests >= 10 * round).await?;
        calls.into_iter().for_each(Open::cancel);
        calls = open(&client, 10).await?;
    }
    let seen = serving.until("the last calls", |seen| seen.requests >= 210).await?;
    ensure!(seen.requests == 210 && seen.ended == 0 && seen.most_open <= 10, "{seen:?}");
    ensure!(gateway.metric(RETRIES)? == 0.0);
    serving.order(Orders { limit: 10, answer: true });
    all_served(calls).await
}

/// The backend takes some of a write, reads it, and is gone. What it has read is not sent again; what had not left is.
#[tokio::test]
async fn requests_of_a_half_written_cork_are_not_sent_again() -> Result<()> {
    // Twice what the sockets between the two hold.
    const CALLS: usize = 1900;
    const PAD: usize = 4000;
    let bare = Bare::with_receive_buffer(8 << 10)?;
    let address = bare.address;
    let setup = Setup::new().admin().route("prefix: /", "echo");
    let gateway = setup.cluster_of(
        "echo",
        "http2: {max_streams_per_connection: 5000}",
        [format!("{{socket_address: {{address: {}, port: {}}}}}", address.ip(), address.port())],
    );
    let gateway = gateway.start(1)?;
    let clients = [connect(&gateway).await?, connect(&gateway).await?];
    let mut calls = vec![clients[0].open(METHOD, &[("x-id", "first")]).await?];
    let mut peer = bare.accept().await?;
    peer.settings(&[(MAX_CONCURRENT_STREAMS, 5000), (INITIAL_WINDOW_SIZE, 1 << 20)]).await?;
    peer.widen(1 << 29).await?;
    drop(bare);
    // Metadata is nearly all of a call, so that a write that stops anywhere stops between many HEADERS.
    let pad = "p".repeat(PAD);
    for id in 1..CALLS {
        let metadata = [("x-id", id.to_string()), ("x-pad", format!("{id}{pad}"))];
        let metadata = metadata.each_ref().map(|(key, value)| (*key, value.as_str()));
        let mut call = clients[id % 2].open(METHOD, &metadata).await?;
        call.message(b"abc", true)?;
        calls.push(call);
        if id % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    gateway.wait_metric(IN_FLIGHT, |calls| calls == CALLS as f64).await?;
    gateway.process.signal("STOP")?;
    let left = peer.drain().await?;
    ensure!(left.len() < CALLS * PAD * 3 / 4, "the sockets held everything");
    peer.break_off()?;
    let before = requests_in(left).await?;
    let backend = Backend::start_on(address).await?;
    gateway.process.signal("CONT")?;
    // At once: together they are more than a client's window. Those that the backend may have seen fail.
    let mut calls: JoinSet<_> = calls.into_iter().map(Open::answer).collect();
    while let Some(answer) = calls.join_next().await {
        answer??;
    }
    let after: BTreeSet<String> = backend.seen().calls.iter().map(|call| id_of(&call.metadata)).collect();
    ensure!(!before.is_empty() && !after.is_empty(), "{} before, {} after", before.len(), after.len());
    let twice: Vec<_> = before.intersection(&after).collect();
    ensure!(twice.is_empty(), "sent twice: {twice:?}");
    Ok(())
}

fn id_of(headers: &http::HeaderMap) -> String {
    headers["x-id"].to_str().unwrap().to_owned()
}

/// The ids of the requests in what a client has sent.
async fn requests_in(sent: Vec<u8>) -> Result<BTreeSet<String>> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut answers, mut requests) = tokio::io::split(near);
    tokio::spawn(async move {
        // Its end is the connection's, and no error of this test's.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut requests, &sent).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut requests).await;
    });
    tokio::spawn(async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await });
    let mut server: h2::server::Connection<_, bytes::Bytes> = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 30)
        .max_concurrent_streams(5000)
        .handshake(far)
        .await?;
    let mut ids = BTreeSet::new();
    let mut kept = Vec::new();
    // Ends with an error: the bytes break off in the middle of a frame.
    while let Some(Ok((request, respond))) = server.accept().await {
        ids.insert(id_of(request.headers()));
        kept.push((request, respond));
    }
    Ok(ids)
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_logged_once_and_when_it_is_back() -> Result<()> {
    let address = free_address()?;
    let gateway = Setup::to([address]).admin().start(1)?;
    let client = connect(&gateway).await?;
    for _ in 0..300 {
        ensure!(client.call(METHOD, &[]).await?.status() == Some(14));
    }
    let _backend = Backend::start_on(address).await?;
    eventually("the endpoint serves", async || Ok((client.call(METHOD, &[]).await?.status() == Some(0)).then_some(())))
        .await?;
    let again = |line: &str| line.contains("connects again").then(|| line.to_owned());
    let again = gateway.process.wait_line("an INFO", again)?;
    ensure!(again.contains("INFO") && again.contains(&format!("endpoint={address}")), "{again}");
    let lines = gateway.process.lines();
    let refusals: Vec<_> = lines.iter().filter(|line| line.contains("cannot connect")).collect();
    ensure!(refusals.len() == 1 && refusals[0].contains("WARN"), "{refusals:#?}");
    Ok(())
}
