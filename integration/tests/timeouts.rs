//! The time limits of a route: each one ends its calls with a status that says which, and there are none without them.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::bare::{Bare, Frame, Peer};
use weir_integration::peers::client::{Answer, Client, Failure, METHOD, Open};
use weir_integration::peers::page;
use weir_integration::peers::setup::Setup;

struct Timed {
    backend: Backend,
    gateway: Gateway,
    client: Client,
}

impl Timed {
    /// A route with these limits.
    async fn route(limits: &str) -> Timed {
        let backend = Backend::start().await.unwrap();
        let (gateway, client) = gateway(limits, backend.address).await;
        Timed { backend, gateway, client }
    }

    /// How many calls this limit has ended.
    async fn timed_out(&self, limit: &str) -> f64 {
        let series = format!("weir_calls_timed_out_total{{cluster=\"echo\",limit=\"{limit}\"}}");
        page::metric(self.gateway.admin().unwrap(), &series).await.unwrap().unwrap()
    }

    /// The `grpc-timeout` that the backend's last call came with.
    fn told(&self) -> Option<String> {
        let calls = self.backend.seen().calls;
        let timeout = calls.last().unwrap().metadata.get("grpc-timeout");
        timeout.map(|value| value.to_str().unwrap().to_owned())
    }
}

async fn gateway(limits: &str, backend: std::net::SocketAddr) -> (Gateway, Client) {
    let action = format!("echo, {limits}");
    let setup = Setup::new().admin().route("prefix: /", &action).cluster("echo", "", [backend]);
    let gateway = setup.start(1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    (gateway, client)
}

/// A call whose response is in the middle of a message: the client's side, the backend's, and its stream there.
async fn in_a_message(limits: &str) -> (Gateway, Client, Open, Peer, u32) {
    let bare = Bare::listen().await.unwrap();
    let (gateway, client) = gateway(limits, bare.address).await;
    let mut open = client.open(METHOD, &[]).await.unwrap();
    let mut peer = bare.accept().await.unwrap();
    peer.settings(&[]).await.unwrap();
    let stream = peer.request().await.unwrap();
    peer.begin(stream).await.unwrap();
    open.headers().await.unwrap();
    peer.prefix(stream).await.unwrap();
    (gateway, client, open, peer, stream)
}

fn expect_deadline(answer: &Answer, message: &str) {
    assert_eq!((answer.status(), answer.message()), (Some(4), message), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_with_its_routes_timeout_and_its_backend_is_told() {
    let timed = Timed::route("timeout: 300ms").await;
    let answer = timed.client.call(METHOD, &[(DO, "silent")]).await.unwrap();
    expect_deadline(&answer, "the route's timeout has passed");
    timed.backend.until("a reset", |seen| seen.resets == [h2::Reason::CANCEL]).await.unwrap();
    let told = timed.told().unwrap();
    let micros: u32 = told.strip_suffix('u').unwrap_or_else(|| panic!("{told}")).parse().unwrap();
    assert!(micros <= 300_000, "{told}");
    assert_eq!(timed.timed_out("timeout").await, 1.0);
    // The next call has all of its time.
    assert_eq!(timed.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shorter_of_two_deadlines_holds() {
    let timed = Timed::route("timeout: 1h").await;
    let answer = timed.client.call(METHOD, &[(DO, "silent"), ("grpc-timeout", "100m")]).await.unwrap();
    expect_deadline(&answer, "deadline exceeded at the gateway");
    assert!(timed.told().unwrap().ends_with('n') || timed.told().unwrap().ends_with('u'), "{:?}", timed.told());
    assert_eq!(timed.timed_out("timeout").await, 0.0);

    let timed = Timed::route("timeout: 100ms").await;
    let answer = timed.client.call(METHOD, &[(DO, "silent"), ("grpc-timeout", "1H")]).await.unwrap();
    expect_deadline(&answer, "the route's timeout has passed");
    assert_eq!(timed.timed_out("timeout").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_duration_however_busy_and_its_backend_is_not_told() {
    let timed = Timed::route("max_stream_duration: 500ms").await;
    let mut open = timed.client.script("echo").await.unwrap();
    open.message(b"one", false).unwrap();
    open.message(b"two", false).unwrap();
    let answer = open.answer().await.unwrap();
    expect_deadline(&answer, "the route's max_stream_duration has passed");
    assert_eq!(answer.messages, ["one", "two"]);
    assert_eq!(timed.told(), None);
    timed.backend.until("a reset", |seen| seen.resets == [h2::Reason::CANCEL]).await.unwrap();
    assert_eq!(timed.timed_out("max_stream_duration").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_lives_for_as_long_as_messages_come() {
    let timed = Timed::route("idle_timeout: 1s").await;
    let mut open = timed.client.script("echo").await.unwrap();
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        open.message(b"x", false).unwrap();
        sent += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = open.answer().await.unwrap();
    expect_deadline(&answer, "no message came from either side for the route's idle_timeout");
    assert_eq!(answer.messages.len(), sent);
    timed.backend.until("a reset", |seen| seen.resets == [h2::Reason::CANCEL]).await.unwrap();
    assert_eq!(timed.timed_out("idle_timeout").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_answers_is_idle_too() {
    let timed = Timed::route("idle_timeout: 200ms").await;
    let answer = timed.client.call(METHOD, &[(DO, "silent")]).await.unwrap();
    expect_deadline(&answer, "no message came from either side for the route's idle_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_has_begun_comes_before_the_status() {
    let (_gateway, _client, open, mut peer, stream) = in_a_message("max_stream_duration: 300ms").await;
    tokio::time::sleep(Duration::from_millis(310)).await;
    peer.rest(stream).await.unwrap();
    let answer = open.answer().await.unwrap();
    expect_deadline(&answer, "the route's max_stream_duration has passed");
    assert_eq!(answer.messages, ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_never_ends_is_reset_with_its_call() {
    let (_gateway, _client, open, mut peer, stream) = in_a_message("timeout: 100ms").await;
    let answer = open.answer().await.unwrap();
    assert_eq!(answer.failure, Some(Failure::Reset(h2::Reason::INTERNAL_ERROR)), "{answer:?}");
    while peer.next().await.unwrap() != Some(Frame::Reset(stream)) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_is_no_limit() {
    let timed = Timed::route("timeout: 0s, max_stream_duration: 0s, idle_timeout: 0s").await;
    let mut open = timed.client.script("hold").await.unwrap();
    open.headers().await.unwrap();
    assert_eq!(timed.told(), None);
    timed.backend.release();
    assert_eq!(open.answer().await.unwrap().status(), Some(0));
}
