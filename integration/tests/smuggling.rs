//! Requests and trailers that two programs would read in two ways: they end their own stream, or what is wrong with them stays
//! behind.

#![allow(clippy::unwrap_used)]

use weir_integration::gateway::Gateway;
use weir_integration::peers::attacker::{Attacker, END_HEADERS, END_STREAM, Frame, field, frame, kind, request};
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

async fn start(config: &str) -> (Backend, Gateway) {
    let backend = Backend::start().await.unwrap();
    let gateway = Setup::to([backend.address]).admin().listener(config).start(1).unwrap();
    (backend, gateway)
}

/// A request without body, with these fields behind the usual ones.
fn ask(stream: u32, path: &str, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let more = fields.iter().flat_map(|(name, value)| field(name, value));
    let block: Vec<u8> = request(path).into_iter().chain(more).collect();
    frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// The first frame of this stream that is HEADERS or RST_STREAM.
async fn answer(attacker: &mut Attacker, stream: u32) -> Frame {
    loop {
        let frame = attacker.next().await.unwrap().expect("the connection goes on");
        if frame.stream == stream && [kind::HEADERS, kind::RST_STREAM].contains(&frame.kind) {
            return frame;
        }
    }
}

/// Each ends its own stream, and the next call of the same connection is served.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_end_their_streams_and_reach_nobody() {
    let (backend, gateway) = start("").await;
    let mut attacker = Attacker::greet(gateway.listener("grpc").unwrap()).await.unwrap();
    let cases: [(&[u8], &[u8]); 9] = [
        (b"connection", b"x-secret"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"te", b"trailers, deflate"),
        (b"content-length", b"7"),
        (b":path", b"/other.Service/Method"),
        (b":status", b"200"),
        (b":authority", b"other.test"),
        (b"host", b"other.test"),
    ];
    let mut stream = 1;
    for (name, value) in cases {
        attacker.say(&ask(stream, "/bad.Service/Method", &[(name, value)])).await.unwrap();
        let refused = answer(&mut attacker, stream).await;
        let said = String::from_utf8_lossy(name);
        if name == b"host" {
            assert_eq!((refused.kind, refused.flags & END_STREAM), (kind::HEADERS, END_STREAM), "{said}: {refused:?}");
        } else {
            assert_eq!((refused.kind, &refused.payload[..]), (kind::RST_STREAM, &[0, 0, 0, 1][..]), "{said}");
        }
        attacker.say(&ask(stream + 2, "/good.Service/Method", &[])).await.unwrap();
        assert_eq!(answer(&mut attacker, stream + 2).await.kind, kind::HEADERS, "{said}");
        stream += 4;
    }
    let seen = backend.seen().calls;
    assert_eq!(seen.len(), cases.len());
    assert!(seen.iter().all(|call| call.path == "/good.Service/Method"), "{seen:?}");
}

/// A host that says what `:authority` says is metadata like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_agrees_passes() {
    let (backend, gateway) = start("").await;
    let mut attacker = Attacker::greet(gateway.listener("grpc").unwrap()).await.unwrap();
    attacker.say(&ask(1, "/good.Service/Method", &[(b"host", b"attack.test")])).await.unwrap();
    assert_eq!(answer(&mut attacker, 1).await.kind, kind::HEADERS);
    assert_eq!(backend.seen().calls[0].metadata["host"], "attack.test");
}

/// What h2 cannot represent ends the connection (docs/transparency.md), and no other client notices.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_represented_ends_its_own_connection_at_most() {
    let (backend, gateway) = start("").await;
    let address = gateway.listener("grpc").unwrap();
    let client = Client::connect(address).await.unwrap();
    let mut held = client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    let cases: [(&[u8], &[u8]); 5] =
        [(b"X-Upper", b"1"), (b"x name", b"1"), (b"x", b"a\r\nb: c"), (b"x", b"a\0b"), (b":unknown", b"1")];
    for (name, value) in cases {
        let mut attacker = Attacker::greet(address).await.unwrap();
        attacker.say(&ask(1, "/bad.Service/Method", &[(name, value)])).await.unwrap();
        attacker.ended().await.unwrap();
    }
    assert_eq!(backend.seen().calls.len(), 1);
    let series = "weir_abusive_connections_total{listener=\"grpc\",reason=\"protocol_error\"}";
    let admin = gateway.admin().unwrap();
    let counted = async || Ok(page::metric(admin, series).await?.filter(|count| *count == 5.0));
    eventually(series, counted).await.unwrap();
    backend.release();
    assert_eq!(held.answer().await.unwrap().status(), Some(0));
}

/// Trailers of a request: what belongs before a message, or to a connection, does not cross behind it.
#[tokio::test(flavor = "multi_thread")]
async fn forbidden_fields_in_trailers_do_not_cross() {
    let (backend, gateway) = start("").await;
    let mut attacker = Attacker::greet(gateway.listener("grpc").unwrap()).await.unwrap();
    let open = frame(kind::HEADERS, END_HEADERS, 1, &request("/good.Service/Method"));
    let fields: [(&[u8], &[u8]); 4] =
        [(b"content-length", b"0"), (b"host", b"other.test"), (b"te", b"trailers"), (b"x-own", b"stays")];
    let block: Vec<u8> = fields.into_iter().flat_map(|(name, value)| field(name, value)).collect();
    attacker.say(&[open, frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat()).await.unwrap();
    assert_eq!(answer(&mut attacker, 1).await.kind, kind::HEADERS);
    assert!(!backend.seen().calls[0].metadata.contains_key("host"));

    // One of a connection ends the stream.
    let open = frame(kind::HEADERS, END_HEADERS, 3, &request("/good.Service/Method"));
    let trailers = frame(kind::HEADERS, END_HEADERS | END_STREAM, 3, &field(b"connection", b"close"));
    attacker.say(&open).await.unwrap();
    attacker.say(&trailers).await.unwrap();
    loop {
        let frame = attacker.next().await.unwrap().expect("the connection goes on");
        if frame.stream == 3 && frame.kind == kind::RST_STREAM {
            assert_eq!(frame.payload, [0, 0, 0, 1]);
            break;
        }
    }
    attacker.say(&ask(5, "/good.Service/Method", &[])).await.unwrap();
    assert_eq!(answer(&mut attacker, 5).await.kind, kind::HEADERS);
}

/// What a stranger writes into a path comes back as text in one field of a trailers-only answer, and in one line of the
/// access log; and the metrics do not grow by it.
#[tokio::test(flavor = "multi_thread")]
async fn local_replies_inject_nothing() {
    let backend = Backend::start().await.unwrap();
    let setup = Setup::new().route("prefix: /known", "echo").cluster("echo", "lb_policy: Rand", [backend.address]);
    let gateway = setup.admin().root("access_log: {path: /dev/stdout}").start(1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let count = async || page::get(gateway.admin().unwrap(), "/metrics").await.unwrap().body.lines().count();
    assert_eq!(client.call("/unknown.Service/Method", &[]).await.unwrap().status(), Some(12));
    let before = count().await;
    for number in 0..200 {
        let path = format!("/strange.Service{number}/Method");
        assert_eq!(client.call(&path, &[]).await.unwrap().status(), Some(12));
    }
    assert_eq!(count().await, before, "series of strangers' methods");

    let mut attacker = Attacker::greet(gateway.listener("grpc").unwrap()).await.unwrap();
    let path = "/a/b\"},{\"status\":\"OK\"%0d%0agrpc-status:0";
    attacker.say(&ask(1, path, &[])).await.unwrap();
    let refused = answer(&mut attacker, 1).await;
    assert!(!refused.payload.windows(2).any(|bytes| bytes == b"\r\n"));
    if refused.kind == kind::HEADERS {
        let line =
            gateway.process.wait_line("its record", |line| line.contains("grpc-status:0").then(|| line.to_owned()));
        let record: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(record["method"], path);
        assert_eq!(record["status"], "UNIMPLEMENTED");
    }
    assert_eq!(client.call(METHOD, &[]).await.unwrap().status(), Some(12));
}
