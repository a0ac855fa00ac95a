//! `max_stream_age` of a route: old streams end between two messages, and nothing else does.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_integration::gateway::Gateway;
use weir_integration::load;
use weir_integration::load::grpcio;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::bare::{Bare, Frame, Peer};
use weir_integration::peers::client::{Answer, Client, Failure, METHOD, Open};
use weir_integration::peers::page;
use weir_integration::peers::setup::Setup;

const WORDS: &str = "the stream is older than its route's max_stream_age: open it anew";

/// Another method than [`METHOD`]: nothing is known of it.
const OTHER: &str = "/test.Echo/Other";

struct Aging {
    backend: Backend,
    gateway: Gateway,
    client: Client,
}

impl Aging {
    async fn start(limits: &str) -> Aging {
        let backend = Backend::start().await.unwrap();
        let gateway = gateway(limits, backend.address, 1);
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        Aging { backend, gateway, client }
    }

    async fn chat(&self) -> Open {
        self.client.chat().await.unwrap()
    }

    async fn ended(&self) -> f64 {
        ended(&self.gateway).await
    }
}

fn gateway(limits: &str, backend: SocketAddr, workers: usize) -> Gateway {
    let setup = Setup::new().admin().root("access_log: {path: /dev/stdout}");
    let setup = setup.root("shutdown_config: {timeout: 100ms}").route("prefix: /", &format!("echo, {limits}"));
    setup.cluster("echo", "", [backend]).start(workers).unwrap()
}

async fn ended(gateway: &Gateway) -> f64 {
    let series = "weir_streams_ended_total{cluster=\"echo\",reason=\"max_stream_age\"}";
    page::metric(gateway.admin().unwrap(), series).await.unwrap().unwrap()
}

fn expect_old(answer: &Answer) {
    assert_eq!((answer.status(), answer.message()), (Some(14), WORDS), "{answer:?}");
    assert_eq!(answer.trailer("grpc-retry-pushback-ms"), Some("0"), "{answer:?}");
}

/// A stream of two messages on a bare backend, which is in the middle of a third.
async fn in_a_message(limits: &str) -> (Gateway, Client, Open, Peer, u32) {
    let bare = Bare::listen().await.unwrap();
    let gateway = gateway(limits, bare.address, 1);
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let mut open = client.open(METHOD, &[]).await.unwrap();
    let mut peer = bare.accept().await.unwrap();
    peer.settings(&[]).await.unwrap();
    let stream = peer.request().await.unwrap();
    peer.begin(stream).await.unwrap();
    open.headers().await.unwrap();
    for _ in 0..2 {
        peer.message(stream).await.unwrap();
    }
    peer.prefix(stream).await.unwrap();
    (gateway, client, open, peer, stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn old_stream_ends_and_can_be_opened_anew() {
    let aging = Aging::start("max_stream_age: 1s").await;
    let opened = Instant::now();
    let open = aging.chat().await;
    let answer = open.answer().await.unwrap();
    expect_old(&answer);
    assert!(opened.elapsed() >= Duration::from_millis(900), "after {:?}", opened.elapsed());
    assert_eq!(answer.messages, ["one", "two"]);
    aging.backend.until("a reset", |seen| seen.resets == [h2::Reason::CANCEL]).await.unwrap();
    assert_eq!(aging.ended().await, 1.0);
    let logged = |line: &str| line.contains("\"ended_by\":\"max_stream_age\"").then(|| line.to_owned());
    let line = aging.gateway.process.wait_line("a record", logged).unwrap();
    assert!(line.contains("\"status\":\"UNAVAILABLE\",\"upstream_status\":null"), "{line}");

    let mut again = aging.chat().await;
    again.message(b"three", true).unwrap();
    let answer = again.answer().await.unwrap();
    assert_eq!((answer.status(), answer.messages.len()), (Some(0), 3));
}

/// What a library makes of it, in the middle of a busy talk with large messages.
#[tokio::test(flavor = "multi_thread")]
async fn talk_of_grpcio_ends_with_its_messages_whole() {
    let backend = load::backend::Backend::start(load::backend::Options::default()).unwrap();
    for workers in [1, 2] {
        let gateway = gateway("max_stream_age: 1s", backend.address, workers);
        let address = gateway.listener("grpc").unwrap();
        let said = tokio::task::spawn_blocking(move || grpcio::output("chat", address, &[])).await.unwrap().unwrap();
        let words: Vec<&str> = said.split_whitespace().collect();
        let [ended, count, rest @ ..] = &words[..] else { panic!("{said}") };
        assert_eq!((*ended, rest), ("ended", &["True", "UNAVAILABLE", "0"][..]), "{said}");
        assert!(count.parse::<u32>().unwrap() > 2, "{said}");
        assert_eq!(self::ended(&gateway).await, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_has_begun_ends_however_long_it_takes() {
    let (gateway, _client, open, mut peer, stream) = in_a_message("max_stream_age: 1s").await;
    // Longer than a call has that is cut.
    tokio::time::sleep(Duration::from_millis(1900)).await;
    assert_eq!(ended(&gateway).await, 0.0);
    peer.rest(stream).await.unwrap();
    let answer = open.answer().await.unwrap();
    expect_old(&answer);
    assert_eq!(answer.messages, ["x", "x", "x"]);
    while peer.next().await.unwrap() != Some(Frame::Reset(stream)) {}
    assert_eq!(ended(&gateway).await, 1.0);
}

/// A stream that waits for its message does not hide a limit that cuts, nor the end of a drain.
#[tokio::test(flavor = "multi_thread")]
async fn what_cuts_a_stream_still_does_while_it_waits() {
    let limits = "max_stream_age: 1s, max_stream_duration: 1500ms";
    let (gateway, _client, open, _peer, _) = in_a_message(limits).await;
    let answer = open.answer().await.unwrap();
    assert_eq!(answer.failure, Some(Failure::Reset(h2::Reason::INTERNAL_ERROR)), "{answer:?}");
    assert_eq!(ended(&gateway).await, 0.0);

    let (mut gateway, _client, open, _peer, _) = in_a_message("max_stream_age: 1s").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    gateway.process.signal("TERM").unwrap();
    let answer = open.answer().await.unwrap();
    assert_eq!(answer.failure, Some(Failure::Reset(h2::Reason::INTERNAL_ERROR)), "{answer:?}");
    assert_eq!(gateway.process.wait().unwrap().code(), Some(4));
}

/// A client that watches sends one message and may wait for ever; what is known of the method counts.
#[tokio::test(flavor = "multi_thread")]
async fn silent_stream_of_a_method_that_streams_ends_at_once() {
    let aging = Aging::start("max_stream_age: 300ms").await;
    let chat = aging.chat().await;
    let mut watch = aging.client.script("hold").await.unwrap();
    watch.headers().await.unwrap();
    watch.message(b"watch", false).unwrap();
    let answer = watch.answer().await.unwrap();
    expect_old(&answer);
    assert!(answer.messages.is_empty());
    expect_old(&chat.answer().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_unary_is_left_alone() {
    let aging = Aging::start("max_stream_age: 150ms").await;
    let mut slow = aging.client.open("/test.Echo/Slow", &[(DO, "silent")]).await.unwrap();
    let mut held = aging.client.open(OTHER, &[(DO, "hold")]).await.unwrap();
    held.headers().await.unwrap();
    held.message(b"one", false).unwrap();
    let mut late = aging.client.open(OTHER, &[(DO, "echo")]).await.unwrap();
    late.headers().await.unwrap();
    late.message(b"one", false).unwrap();
    // Several ages.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(aging.ended().await, 0.0);
    // A second message tells.
    late.message(b"two", false).unwrap();
    expect_old(&late.answer().await.unwrap());
    // And then of the method.
    expect_old(&held.answer().await.unwrap());
    aging.backend.release();
    slow.message(b"abc", true).unwrap();
    let answer = slow.answer().await.unwrap();
    assert_eq!((answer.status(), answer.messages), (Some(0), vec!["abc".into()]));
    assert_eq!(aging.ended().await, 2.0);
}

/// The client could take UNAVAILABLE for "not processed", and send everything once more.
#[tokio::test(flavor = "multi_thread")]
async fn stream_whose_response_has_not_begun_is_left_alone() {
    let aging = Aging::start("max_stream_age: 150ms").await;
    let mut upload = aging.client.script("silent").await.unwrap();
    for _ in 0..5 {
        upload.message(b"part", false).unwrap();
    }
    aging.backend.until_calls(1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(aging.ended().await, 0.0);
    aging.backend.release();
    // Its headers come now, and it is old.
    expect_old(&upload.answer().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_began_together_do_not_end_together() {
    let aging = Aging::start("max_stream_age: 2s").await;
    let opened = Instant::now();
    let mut ends = Vec::new();
    let mut chats = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let mut open = aging.client.script("echo").await.unwrap();
        open.message(b"one", false).unwrap();
        open.message(b"two", false).unwrap();
        chats.spawn(async move {
            let answer = open.answer().await.unwrap();
            (answer, opened.elapsed())
        });
    }
    while let Some(chat) = chats.join_next().await {
        let (answer, end) = chat.unwrap();
        expect_old(&answer);
        assert_eq!(answer.messages, ["one", "two"]);
        ends.push(end);
    }
    ends.sort_unstable();
    assert!(ends[0] >= Duration::from_millis(1800), "{ends:?}");
    assert!(ends[39] - ends[0] >= Duration::from_millis(50), "{ends:?}");
    assert_eq!(aging.ended().await, 40.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_streams_grow_old() {
    for limits in ["timeout: 0s", "max_stream_age: 0s", "max_stream_age: 1h"] {
        let aging = Aging::start(limits).await;
        let mut open = aging.chat().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        open.message(b"three", true).unwrap();
        let answer = open.answer().await.unwrap();
        assert_eq!((answer.status(), answer.messages.len()), (Some(0), 3), "{limits}");
        assert_eq!(aging.ended().await, 0.0);
    }
}
