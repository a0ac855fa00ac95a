//! Streams through a filter that asks for whole messages: the sample's, which counts them.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::process::Command;

use bytes::{Bytes, BytesMut};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use weir_integration::binary::built;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::within;
use weir_integration::process::Process;

/// The gateway of the sample, in front of a backend that says what each request was.
struct Filtered {
    client: Client,
    /// All DATA of each request, once it has ended.
    requests: mpsc::UnboundedReceiver<Bytes>,
    _gateway: Process,
    _config: NamedTempFile,
}

impl Filtered {
    /// `reads` says whether the backend opens its windows.
    async fn start(reads: bool) -> Filtered {
        let (backend, requests) = start_backend(reads).await;
        let config = NamedTempFile::with_suffix(".yaml").unwrap();
        let setup = Setup::to([backend]).filter("acme.filter.tenant", "tenants: [blue], max_messages: 100000000");
        std::fs::write(config.path(), setup.yaml()).unwrap();
        let mut command = Command::new(built("weir-sample-custom-filter").unwrap());
        let gateway =
            Process::start("custom-filter", command.args(["run", "--workers", "1", "-c"]).arg(config.path())).unwrap();
        let listening = |line: &str| line.strip_prefix("listening: listener grpc on ")?.parse::<SocketAddr>().ok();
        let address = gateway.wait_line("the listener", listening).unwrap();
        gateway.wait_line("ready", |line| line.starts_with("ready").then_some(())).unwrap();
        let client = Client::connect(address).await.unwrap();
        Filtered { client, requests, _gateway: gateway, _config: config }
    }
}

async fn start_backend(reads: bool) -> (SocketAddr, mpsc::UnboundedReceiver<Bytes>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, reads, ended.clone()));
        }
    });
    (address, requests)
}

async fn serve(socket: TcpStream, reads: bool, ended: mpsc::UnboundedSender<Bytes>) {
    let builder = h2::server::Builder::new();
    let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let ended = ended.clone();
        tokio::spawn(async move {
            let (mut body, mut bytes) = (request.into_body(), BytesMut::new());
            while let Some(Ok(chunk)) = body.data().await {
                if reads {
                    let _ = body.flow_control().release_capacity(chunk.len());
                }
                bytes.extend_from_slice(&chunk);
            }
            let head = http::Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
            // The client may have left.
            let _ = respond.send_response(head.body(()).unwrap(), true);
            let _ = ended.send(bytes.freeze());
        });
    }
}

const BLUE: (&str, &str) = ("x-tenant", "blue");

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_at_the_end_passes() {
    let mut filtered = Filtered::start(true).await;
    for wire in [&b"\0\0\0\0\x0aabc"[..], b"\0\0\0\0\x01x\0\0", b"\0\0\0\0\x01x\x01\0\0\0\x05abcd"] {
        let mut open = filtered.client.open(METHOD, &[BLUE]).await.unwrap();
        open.send.send_data(Bytes::from_static(wire), true).unwrap();
        assert_eq!(open.answer().await.unwrap().status(), Some(0));
        assert_eq!(within("the request", filtered.requests.recv()).await.unwrap().unwrap(), wire);
    }
}

/// The window opens for the rest of a message that is larger than it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_every_window_passes() {
    let mut filtered = Filtered::start(true).await;
    let mut open = filtered.client.open(METHOD, &[BLUE]).await.unwrap();
    let message = vec![7; 3 << 20];
    for end in [false, true] {
        open.message(&message, end).unwrap();
    }
    assert_eq!(open.answer().await.unwrap().status(), Some(0));
    let got = within("the request", filtered.requests.recv()).await.unwrap().unwrap();
    assert_eq!(got.len(), 2 * (5 + message.len()));
}

/// A stream of tiny messages that the backend does not read is no flood: h2 must not be left to keep its frames, or it
/// ends the whole connection for them.
#[tokio::test(flavor = "multi_thread")]
async fn tiny_messages_that_nobody_reads_end_no_connection() {
    let filtered = Filtered::start(false).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut open = filtered.client.open(METHOD, &[BLUE]).await.unwrap();
        for _ in 0..20 {
            for _ in 0..2000 {
                open.message(b"x", false).unwrap();
            }
            // Answered after all these frames: the connection is still there.
            let answer = filtered.client.call(METHOD, &[]).await.unwrap();
            assert_eq!(answer.status(), Some(16), "the filter's answer to a call without a tenant: {answer:?}");
        }
        streams.push(open);
    }
    for open in streams {
        open.cancel();
    }
}
