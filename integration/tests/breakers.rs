//! Circuit breakers: what meets a limit is told so at once, and everybody else is served.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Answer, Client, METHOD, Open};
use weir_integration::peers::eventually;
use weir_integration::peers::setup::Setup;

/// A method that a test streams to, while [`METHOD`] is unary.
const STREAMING: &str = "/test.Echo/Chat";

/// A gateway whose cluster has these limits, and a client of it.
async fn limited(workers: usize, limits: &str, backends: &[SocketAddr]) -> (Gateway, Client) {
    let endpoints = backends
        .iter()
        .map(|at| format!("{{socket_address: {{address: {}, port: {}}}}}", at.ip(), at.port()))
        .collect::<Vec<_>>()
        .join(", ");
    let setup = Setup::new().admin().route("prefix: /", "echo").cluster("other", "", [backends[0]]);
    // Its limits have commas in braces, which the helper for clusters takes for the ends of keys.
    let cluster = format!(
        "    - {{name: echo, lb_policy: RoundRobin, circuit_breakers: {{{limits}}}, endpoints: [{endpoints}]}}"
    );
    let yaml = format!("{}{cluster}\n", setup.yaml());
    let gateway = Gateway::start_with(&yaml, &["--workers", &workers.to_string()]).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    (gateway, client)
}

/// A unary call that its backend holds.
async fn hold(client: &Client) -> Open {
    let mut open = client.open(METHOD, &[(DO, "hold")]).await.unwrap();
    open.message(b"x", true).unwrap();
    open.headers().await.unwrap();
    open
}

/// A stream that has echoed two messages, and so shown what it is.
async fn stream(client: &Client) -> Open {
    let mut open = client.open(STREAMING, &[(DO, "echo")]).await.unwrap();
    open.message(b"1", false).unwrap();
    open.headers().await.unwrap();
    open.message(b"2", false).unwrap();
    open
}

fn expect_shed(answer: &Answer, message: &str) {
    assert_eq!((answer.status(), answer.message()), (Some(8), message), "{answer:?}");
}

fn shed(gateway: &Gateway, limit: &str) -> f64 {
    gateway.metric(&format!("weir_calls_shed_total{{cluster=\"echo\",limit=\"{limit}\"}}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_limit_are_rejected_with_a_pushback() {
    let backend = Backend::start().await.unwrap();
    let (gateway, client) = limited(1, "max_calls: 2, pushback: 250ms", &[backend.address]).await;
    let held = [hold(&client).await, hold(&client).await];
    let answer = client.call(METHOD, &[]).await.unwrap();
    expect_shed(&answer, "cluster echo: it has as many calls in flight as it may (max_calls)");
    assert_eq!(answer.trailer("grpc-retry-pushback-ms"), Some("250"));
    assert_eq!(shed(&gateway, "max_calls"), 1.0);
    assert_eq!(backend.seen().calls.len(), 2, "the backend hears nothing of it");

    backend.release();
    for open in held {
        assert_eq!(open.answer().await.unwrap().status(), Some(0));
    }
    assert_eq!(client.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_that_of_all_workers_together() {
    let backend = Backend::start().await.unwrap();
    let (gateway, first) = limited(2, "max_calls: 3, pushback: 0s", &[backend.address]).await;
    let second = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let _held = [hold(&first).await, hold(&second).await, hold(&first).await];
    for client in [&first, &second] {
        let answer = client.call(METHOD, &[]).await.unwrap();
        expect_shed(&answer, "cluster echo: it has as many calls in flight as it may (max_calls)");
        assert_eq!(answer.trailer("grpc-retry-pushback-ms"), None);
    }
    assert_eq!(shed(&gateway, "max_calls"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_a_budget_of_their_own() {
    let backend = Backend::start().await.unwrap();
    let (gateway, client) = limited(1, "max_calls: 1, max_streams: 2", &[backend.address]).await;
    // The first call to the method is taken for a unary one until its second message.
    let mut first = stream(&client).await;
    backend.until("both messages", |seen| seen.bytes == 2 * 6).await.unwrap();
    first.message(b"3", false).unwrap();
    let second = stream(&client).await;
    let answer = client.call(STREAMING, &[]).await.unwrap();
    expect_shed(&answer, "cluster echo: it has as many streams in flight as it may (max_streams)");
    assert_eq!(answer.trailer("grpc-retry-pushback-ms"), Some("1000"));
    // They take nothing from the unary calls, and these nothing from them.
    let held = hold(&client).await;
    expect_shed(
        &client.call(METHOD, &[]).await.unwrap(),
        "cluster echo: it has as many calls in flight as it may (max_calls)",
    );
    second.cancel();
    backend.until("a reset", |seen| seen.resets.len() == 1).await.unwrap();
    assert_eq!(client.call(STREAMING, &[]).await.unwrap().status(), Some(0));
    assert_eq!((shed(&gateway, "max_streams"), shed(&gateway, "max_calls")), (1.0, 1.0));
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_endpoint_is_passed_over() {
    let (one, two) = (Backend::start().await.unwrap(), Backend::start().await.unwrap());
    let limits = "per_endpoint: {max_calls: 1, max_streams: 1000}";
    let (gateway, client) = limited(1, limits, &[one.address, two.address]).await;
    let _held = [hold(&client).await, hold(&client).await];
    assert_eq!((one.seen().calls.len(), two.seen().calls.len()), (1, 1));
    let answer = client.call(METHOD, &[]).await.unwrap();
    expect_shed(&answer, "cluster echo: each of its endpoints has as many calls in flight as it may (max_calls)");
    assert_eq!(shed(&gateway, "per_endpoint.max_calls"), 1.0);
    one.release();
    one.until("its call's end", |seen| seen.calls.len() == 1).await.unwrap();
    for _ in 0..4 {
        let answer = loop {
            let answer = client.call(METHOD, &[]).await.unwrap();
            if answer.status() == Some(0) {
                break answer;
            }
        };
        assert_eq!(answer.from(), Some(one.address.port()), "the other is full");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_at_their_limit_and_calls_wait_for_a_stream() {
    let backend = Backend::start().await.unwrap();
    let endpoint = format!("{{socket_address: {{address: 127.0.0.1, port: {}}}}}", backend.address.port());
    let setup = Setup::new().admin().route("prefix: /", "echo").cluster("other", "", [backend.address]);
    let cluster = format!(
        "    - {{name: echo, http2: {{max_streams_per_connection: 1}}, \
         circuit_breakers: {{max_connections: 2, per_endpoint: {{max_connections: 7}}, max_pending_calls: 1, \
         pending_timeout: 300ms}}, endpoints: [{endpoint}]}}"
    );
    let gateway = Gateway::start(&format!("{}{cluster}\n", setup.yaml())).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let first = hold(&client).await;
    let _second = hold(&client).await;
    assert_eq!(backend.seen().accepted, 2);
    // The third waits, and the fourth is one too many to wait.
    let mut third = client.open(METHOD, &[]).await.unwrap();
    third.message(b"x", true).unwrap();
    gateway.wait_metric("weir_calls_waiting{cluster=\"echo\"}", |waiting| waiting == 1.0).await.unwrap();
    let answer = client.call(METHOD, &[]).await.unwrap();
    expect_shed(&answer, "cluster echo: as many calls wait for a connection as may (max_pending_calls)");
    let answer = third.answer().await.unwrap();
    expect_shed(&answer, "cluster echo: no stream became free in time (pending_timeout)");
    assert_eq!(backend.seen().accepted, 2, "no further connection");
    assert_eq!((shed(&gateway, "max_pending_calls"), shed(&gateway, "pending_timeout")), (1.0, 1.0));
    // One that ends makes room.
    first.cancel();
    eventually("room for another call", async || {
        Ok((client.call(METHOD, &[]).await?.status() == Some(0)).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(backend.seen().accepted, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_calls_at_once_meet_no_limit_that_nobody_set() {
    let backend = Backend::start().await.unwrap();
    let setup = Setup::to([backend.address]).admin().listener("http2: {max_concurrent_streams: 3000}");
    let gateway = setup.start(1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..2000 {
        let mut open = client.open(METHOD, &[(DO, "hold")]).await.unwrap();
        open.message(b"x", true).unwrap();
        held.push(open);
    }
    backend.until_calls(2000).await.unwrap();
    backend.release();
    for open in held {
        assert_eq!(open.answer().await.unwrap().status(), Some(0));
    }
}
