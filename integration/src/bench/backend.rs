//! The backend behind every proxy: an echo, on one thread, that answers as gRPC servers do.
//!
//! - `Unary` returns the message when the request has ended: headers, message and trailers in one go;
//! - `Stream` returns the message as often as its first four bytes say;
//! - `PingPong` returns each piece as it comes.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use super::corked::cork;
use crate::load::message;

/// Serves until the process ends, and tells the address first.
///
/// # Errors
///
/// When there is no port.
pub async fn serve(tell: impl FnOnce(SocketAddr)) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    tell(listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        spawn_local(async move {
            // The load looks at every call: a connection that breaks is seen there.
            let _ = connection(socket).await;
        });
    }
}

async fn connection(socket: TcpStream) -> Result<(), h2::Error> {
    let (corked, cork) = cork(socket);
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(64 << 20)
        // A proxy may put every call on one connection.
        .max_concurrent_streams(100_000)
        .max_send_buffer_size(1 << 20)
        .handshake::<_, Bytes>(corked)
        .await?;
    // The handshake waits for nothing but the client's first bytes: SETTINGS leave with the first turn.
    while let Some(accepted) = cork.turns(|cx| connection.poll_accept(cx)).await {
        let (request, respond) = accepted?;
        spawn_local(async move {
            // As above.
            let _ = answer(request, respond).await;
        });
    }
    Ok(())
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
    let (head, mut body) = request.into_parts();
    let mut stream = match head.uri.path() {
        "/bench.Echo/PingPong" => {
            let mut stream = respond.send_response(response_head(), false)?;
            while let Some(piece) = next(&mut body).await? {
                message::send(&mut stream, piece).await?;
            }
            stream
        }
        "/bench.Echo/Stream" => {
            let request = whole(&mut body).await?;
            let mut stream = respond.send_response(response_head(), false)?;
            repeat(&request, &mut stream).await?;
            stream
        }
        _ => {
            let request = whole(&mut body).await?;
            let mut stream = respond.send_response(response_head(), false)?;
            stream.send_data(request, false)?;
            stream
        }
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Ok(stream.send_trailers(trailers)?)
}

async fn repeat(request: &Bytes, stream: &mut SendStream<Bytes>) -> Result<()> {
    let count = request.get(message::PREFIX..).and_then(<[u8]>::first_chunk::<4>).copied();
    ensure!(count.is_some(), "a request for a stream begins with its length");
    for _ in 0..count.map_or(0, u32::from_be_bytes) {
        stream.reserve_capacity(request.len());
        // What is waiting to be sent is bounded by the send buffer; whole messages keep frames and messages aligned.
        poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()?;
        stream.send_data(request.clone(), false)?;
    }
    Ok(())
}

async fn whole(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    let Some(second) = next(body).await? else { return Ok(first) };
    let mut all = BytesMut::with_capacity(4 * (first.len() + second.len()));
    all.extend_from_slice(&first);
    all.extend_from_slice(&second);
    while let Some(piece) = next(body).await? {
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

async fn next(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let Some(piece) = body.data().await.transpose()? else { return Ok(None) };
    // A stream that has ended has no window to open.
    let _ = body.flow_control().release_capacity(piece.len());
    Ok(Some(piece))
}

fn response_head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    head
}
