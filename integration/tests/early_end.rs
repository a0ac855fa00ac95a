//! A backend that answers before it has taken the request.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use http::Response;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;

/// Streams that the backend allows at once.
const LIMIT: u32 = 2;

/// More than HTTP/2's first window, less than what the gateway takes from a client meanwhile.
const MESSAGE: usize = 150_000;

/// Answers each call with UNAUTHENTICATED, once as many calls may be answered; reads no request, and resets none.
async fn serve(socket: TcpStream, allowed: watch::Receiver<usize>) {
    let mut builder = h2::server::Builder::new();
    let mut connection = builder.max_concurrent_streams(LIMIT).handshake::<_, Bytes>(socket).await.unwrap();
    // While these are held no RST_STREAM says that the rest of the request is not wanted.
    let mut unread: Vec<RecvStream> = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        unread.push(request.into_body());
        let (nth, mut allowed) = (unread.len(), allowed.clone());
        tokio::spawn(async move {
            allowed.wait_for(|allowed| *allowed >= nth).await.unwrap();
            let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", "16");
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        });
    }
}

async fn start(allowed: watch::Receiver<usize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, allowed.clone()));
        }
    });
    address
}

/// What is left of the request stays in no queue: each such call would take one stream of the backend's for good.
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_request_does_not_keep_a_stream_open() {
    let (allow, allowed) = watch::channel(0);
    let gateway = Setup::to([start(allowed).await]).start(1).unwrap();
    let mut client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    for call in 1..=3 * LIMIT as usize {
        let mut open = client.open(METHOD, &[]).await.unwrap();
        open.message(&vec![7; MESSAGE], true).unwrap();
        // The gateway has the request when it answers what came after it.
        client.ping().await.unwrap();
        allow.send(call).unwrap();
        let answer = open.answer().await.unwrap();
        assert_eq!(answer.status(), Some(16), "call {call}: {answer:?}");
    }
}
