//! Limits that a line of YAML asks for, and that there are none without it.

#![allow(clippy::unwrap_used)]

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::eventually;
use weir_integration::peers::setup::Setup;
use weir_integration::peers::tap::Tap;

struct Limited {
    backend: Backend,
    gateway: Gateway,
    client: Client,
}

impl Limited {
    /// With this listener `config`.
    async fn listener(config: &str) -> Limited {
        let backend = Backend::start().await.unwrap();
        let setup = Setup::to([backend.address]).listener(config);
        Limited::of(backend, &setup).await
    }

    /// With these keys of the cluster.
    async fn cluster(keys: &str) -> Limited {
        let backend = Backend::start().await.unwrap();
        let keys = format!("lb_policy: RoundRobin, {keys}");
        let setup = Setup::new().route("prefix: /", "echo").cluster("echo", &keys, [backend.address]);
        Limited::of(backend, &setup).await
    }

    async fn of(backend: Backend, setup: &Setup) -> Limited {
        let gateway = setup.start(1).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        Limited { backend, gateway, client }
    }

    async fn another_client(&self) -> Client {
        Client::connect(self.gateway.listener("grpc").unwrap()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn received_message_over_the_limit_ends_the_call_after_those_before_it() {
    let limited = Limited::listener("max_receive_message_size: 1KiB").await;
    let mut open = limited.client.open(METHOD, &[]).await.unwrap();
    open.message(&[1; 1024], false).unwrap();
    open.headers().await.unwrap();
    // At once, as a client that knows no limit sends them.
    open.message(&[2; 10], false).unwrap();
    open.message(&[3; 1025], false).unwrap();
    let answer = open.answer().await.unwrap();
    assert_eq!(answer.status(), Some(8), "{answer:?}");
    let text = "a message of 1025 bytes is over the limit of 1024 bytes (max_receive_message_size)";
    assert_eq!(answer.message(), text);
    // The backend gets what came before, and then hears that the call is over.
    let seen = limited.backend.until("a reset", |seen| seen.resets == [h2::Reason::CANCEL]).await.unwrap();
    assert_eq!(seen.bytes, 5 + 1024 + 5 + 10);
    // The connection serves on.
    assert_eq!(limited.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_message_over_the_limit_ends_the_call_after_those_before_it() {
    let limited = Limited::listener("max_send_message_size: 1000").await;
    let answer = limited.client.call(METHOD, &[(DO, "say=1000,0,5,1001,7")]).await.unwrap();
    assert_eq!(answer.status(), Some(8), "{answer:?}");
    assert_eq!(answer.message(), "a message of 1001 bytes is over the limit of 1000 bytes (max_send_message_size)");
    let sizes: Vec<usize> = answer.messages.iter().map(bytes::Bytes::len).collect();
    assert_eq!(sizes, [1000, 0, 5]);
    assert_eq!(limited.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_has_a_limit_of_its_own() {
    let limited = Limited::listener("max_receive_message_size: 10").await;
    let answer = limited.client.call(METHOD, &[(DO, "say=100000")]).await.unwrap();
    assert_eq!((answer.status(), answer.messages[0].len()), (Some(0), 100_000));

    let limited = Limited::listener("max_send_message_size: 10").await;
    let mut open = limited.client.script("say=1").await.unwrap();
    open.message(&[0; 100_000], true).unwrap();
    assert_eq!(open.answer().await.unwrap().status(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_a_message_has_any_size() {
    let limited = Limited::listener("").await;
    let answer = limited.client.call(METHOD, &[(DO, "say=10000000")]).await.unwrap();
    assert_eq!((answer.status(), answer.messages[0].len()), (Some(0), 10_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_has_as_many_streams_as_it_may() {
    let limited = Limited::listener("http2: {max_concurrent_streams: 3}").await;
    assert_eq!(limited.client.most_streams(), 3);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut open = limited.client.script("hold").await.unwrap();
        open.headers().await.unwrap();
        held.push(open);
    }
    // The fourth waits for one to end.
    let mut fourth = Box::pin(limited.client.call(METHOD, &[]));
    assert!(futures_poll(&mut fourth).await.is_none());
    held.pop().unwrap().cancel();
    assert_eq!(fourth.await.unwrap().status(), Some(0));

    let limited = Limited::listener("").await;
    assert_eq!(limited.client.most_streams(), 1000);
}

/// What a future has after the runtime had its turn with everything else.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::time::timeout(std::time::Duration::from_millis(100), future).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn header_list_over_the_limit_is_answered_in_grpc_and_ends_no_other_call() {
    let limited = Limited::listener("http2: {max_header_list_size: 8KiB}").await;
    let mut held = limited.client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    let large = "x".repeat(9000);
    let answer = limited.client.call(METHOD, &[("x-large", &large)]).await.unwrap();
    assert_eq!((answer.http, answer.status()), (200, Some(8)), "{answer:?}");
    assert!(answer.message().contains("8192"), "{answer:?}");
    assert!(limited.backend.seen().calls.len() == 1);
    limited.backend.release();
    assert_eq!(held.answer().await.unwrap().status(), Some(0));

    // The default takes what gRPC libraries refuse.
    let limited = Limited::listener("").await;
    let large = "x".repeat(200_000);
    assert_eq!(limited.client.call(METHOD, &[("x-large", &large)]).await.unwrap().status(), Some(0));
    assert_eq!(limited.backend.seen().calls[0].metadata["x-large"].len(), 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_fields_than_the_limit_are_answered_in_grpc() {
    let limited = Limited::listener("http2: {max_header_count: 20}").await;
    let keys: Vec<String> = (0..20).map(|number| format!("x-{number}")).collect();
    let metadata: Vec<(&str, &str)> = keys.iter().map(|key| (&**key, "")).collect();
    assert_eq!(limited.client.call(METHOD, &metadata[..10]).await.unwrap().status(), Some(0));
    let answer = limited.client.call(METHOD, &metadata).await.unwrap();
    assert_eq!(answer.status(), Some(8), "{answer:?}");
    assert!(answer.message().contains("over the limit of 20 (max_header_count)"), "{answer:?}");
    assert_eq!(limited.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

/// h2 answers what is far over the limit by itself, and knows no gRPC. That call is lost to the records, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn header_list_far_over_the_limit_ends_no_other_call() {
    let limited = Limited::listener("http2: {max_header_list_size: 8KiB}").await;
    let mut held = limited.client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    let large = "x".repeat(1 << 20);
    let answer = limited.client.call(METHOD, &[("x-large", &large[..40_000])]).await.unwrap();
    assert_eq!((answer.http, answer.status()), (200, Some(8)), "{answer:?}");
    let answer = limited.client.call(METHOD, &[("x-large", &large)]).await.unwrap();
    assert_eq!(answer.http, 431, "{answer:?}");
    limited.backend.release();
    assert_eq!(held.answer().await.unwrap().status(), Some(0));
    assert_eq!(limited.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_towards_clients_are_those_of_the_file() {
    let limited = Limited::listener("http2: {stream_window: 100KiB, connection_window: 3MiB}").await;
    let tap = Tap::start(limited.gateway.listener("grpc").unwrap()).await.unwrap();
    let client = Client::connect(tap.address).await.unwrap();
    assert_eq!(client.call(METHOD, &[]).await.unwrap().status(), Some(0));
    let wire = tap.wire();
    assert_eq!(setting(&wire.server, 4), Some(100 << 10));
    assert_eq!(connection_window(&wire.server), 3 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_towards_backends_are_those_of_the_file() {
    for (keys, streams) in [("", 100), (", max_streams_per_connection: 7", 7)] {
        let backend = Backend::start().await.unwrap();
        let tap = Tap::start(backend.address).await.unwrap();
        let keys = format!("lb_policy: Rand, http2: {{stream_window: 100KiB{keys}}}");
        let setup = Setup::new().route("prefix: /", "echo").cluster("echo", &keys, [tap.address]);
        let limited = Limited::of(backend, &setup).await;
        assert_eq!(limited.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
        let wire = tap.wire();
        assert_eq!(setting(&wire.client, 4), Some(100 << 10));
        // One client that does not read must not stall the others: the connection's window covers all of its streams.
        assert_eq!(connection_window(&wire.client), streams * (100 << 10));
    }
}

/// The value of a setting (RFC 9113 6.5.1) in the first SETTINGS.
fn setting(frames: &[weir_integration::peers::tap::Frame], id: u16) -> Option<u32> {
    let settings = frames.iter().find(|frame| frame.kind == 4 && frame.flags == 0)?;
    settings.payload.chunks(6).find_map(|pair| {
        let known = u16::from_be_bytes([pair[0], pair[1]]) == id;
        known.then(|| u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
    })
}

/// The connection's window: what every connection begins with, and the first WINDOW_UPDATE of stream 0.
fn connection_window(frames: &[weir_integration::peers::tap::Frame]) -> u32 {
    let update = frames.iter().find(|frame| frame.kind == 8 && frame.stream == 0).unwrap();
    65_535 + u32::from_be_bytes(update.payload[..4].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_connection_carries_as_many_streams_as_it_may() {
    for (limited, most) in
        [(Limited::cluster("http2: {max_streams_per_connection: 2}").await, 2), (Limited::cluster("").await, 100)]
    {
        for _ in 0..6 {
            let mut open = limited.client.script("hold").await.unwrap();
            open.headers().await.unwrap();
            std::mem::forget(open);
        }
        assert_eq!(limited.backend.seen().accepted, 6_usize.div_ceil(most));
    }
}

/// In Pixiu these stand in the proxy; what the cluster itself says goes before.
#[tokio::test(flavor = "multi_thread")]
async fn proxy_speaks_for_clusters_that_do_not() {
    for (keys, connections) in [("", 3), (", http2: {max_streams_per_connection: 3}", 2)] {
        let backend = Backend::start().await.unwrap();
        let keys = format!("lb_policy: Rand{keys}");
        let setup = Setup::new().route("prefix: /", "echo").cluster("echo", &keys, [backend.address]);
        let limited = Limited::of(backend, &setup.proxy("max_concurrent_streams: 2")).await;
        let mut held = Vec::new();
        for _ in 0..6 {
            let mut open = limited.client.script("hold").await.unwrap();
            open.headers().await.unwrap();
            held.push(open);
        }
        assert_eq!(limited.backend.seen().accepted, connections, "{keys}");
    }
}

/// A port that accepts and never speaks.
#[tokio::test(flavor = "multi_thread")]
async fn connecting_takes_no_longer_than_it_may() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    for (keys, proxy, time) in [
        ("connect_timeout: 130ms", "", "130ms"),
        ("lb_policy: Rand", "connect_timeout: 140ms", "140ms"),
        ("connect_timeout: 150ms", "connect_timeout: 1h", "150ms"),
    ] {
        let gateway =
            Setup::new().route("prefix: /", "echo").cluster("echo", keys, [address]).proxy(proxy).start(1).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        let answer = client.call(METHOD, &[]).await.unwrap();
        assert_eq!(answer.status(), Some(14), "{answer:?}");
        assert_eq!(answer.message(), "cluster echo: none of its endpoints could be connected to");
        let line = |line: &str| line.contains("cannot connect").then(|| line.to_owned());
        let line = gateway.process.wait_line("a warning", line).unwrap();
        assert!(line.contains(&format!("no HTTP/2 SETTINGS within {time}")), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_of_a_client_is_closed_and_a_stream_keeps_it() {
    let limited = Limited::listener("idle_timeout: 150ms").await;
    let mut held = limited.client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    // A connection beside it that has nothing to do comes, and goes, and the one with the stream stays.
    for _ in 0..3 {
        let mut idle = limited.another_client().await;
        assert_eq!(idle.ended().await.unwrap(), None);
    }
    limited.backend.release();
    assert_eq!(held.answer().await.unwrap().status(), Some(0));
    let mut client = limited.client;
    assert_eq!(client.ended().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_connection_of_a_client_is_told_to_go_and_its_calls_end_well() {
    let limited = Limited::listener("max_connection_age: 200ms").await;
    let mut held = limited.client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    // h2 opens no stream on a connection that got a GOAWAY.
    eventually("the GOAWAY", async || {
        let open = limited.client.open(METHOD, &[]).await;
        Ok(open.is_err().then_some(()))
    })
    .await
    .unwrap();
    limited.backend.release();
    assert_eq!(held.answer().await.unwrap().status(), Some(0));
    let mut client = limited.client;
    assert_eq!(client.ended().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_to_a_backend_is_closed() {
    let limited = Limited::cluster("idle_timeout: 100ms").await;
    assert_eq!(limited.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
    limited.backend.until("no connection", |seen| seen.accepted == 1 && seen.connected == 0).await.unwrap();
    // The next call opens another.
    assert_eq!(limited.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
    assert_eq!(limited.backend.seen().accepted, 2);
}
