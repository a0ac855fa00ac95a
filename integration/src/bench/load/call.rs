//! One call, checked to the last byte.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{Ping, RecvStream};
use http::{HeaderMap, Request};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::tls;
use crate::bench::corked::cork;
use crate::load::message;

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// One message there, the same back.
    Unary {
        /// Bytes on the wire, with the prefix.
        size: usize,
    },
    /// One message there, the same back so many times.
    Stream {
        /// Messages.
        messages: u32,
        /// Bytes of each on the wire, with the prefix.
        size: usize,
    },
    /// A message there and back, so many times in turn.
    PingPong {
        /// Round trips.
        messages: u32,
        /// Bytes of each on the wire, with the prefix.
        size: usize,
    },
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Connection {
    send: SendRequest<Bytes>,
}

/// A call of some shape, with what does not change from one to the next.
#[derive(Clone, Debug)]
pub struct Prepared {
    shape: Shape,
    frame: Bytes,
    request: Request<()>,
}

/// What is still to come back, compared as it comes.
struct Expected<'a> {
    frame: &'a Bytes,
    /// Bytes that have come.
    seen: usize,
    /// Bytes in all.
    whole: usize,
}

impl Shape {
    fn method(self) -> &'static str {
        match self {
            Shape::Unary { .. } => "Unary",
            Shape::Stream { .. } => "Stream",
            Shape::PingPong { .. } => "PingPong",
        }
    }

    /// The message with its prefix. Its first four bytes are the count of a stream.
    #[must_use]
    pub fn frame(self) -> Bytes {
        let (messages, size) = match self {
            Shape::Unary { size } => (1, size),
            Shape::Stream { messages, size } | Shape::PingPong { messages, size } => (messages, size),
        };
        let mut body = BytesMut::with_capacity(size);
        body.put_u32(messages);
        // Not constant, so that a piece that went missing shows.
        body.extend((4..size.saturating_sub(message::PREFIX)).map(|index| (index % 251) as u8));
        message::framed(&body)
    }
}

impl Prepared {
    /// Prepares calls of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Prepared {
        let request = Request::post(format!("http://bench.test/bench.Echo/{}", shape.method()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "weir-bench/1")
            .body(())
            .expect("the request is well formed");
        Prepared { shape, frame: shape.frame(), request }
    }
}

impl Connection {
    /// Connects, and waits until the other side has answered a ping.
    ///
    /// # Errors
    ///
    /// When nobody accepts or speaks HTTP/2.
    pub async fn open(target: SocketAddr, tls: bool) -> Result<Connection> {
        let socket = TcpStream::connect(target).await?;
        socket.set_nodelay(true)?;
        if tls {
            Connection::on(tls::Client::new(false).shake(socket).await?).await
        } else {
            Connection::on(socket).await
        }
    }

    async fn on<S: AsyncRead + AsyncWrite + Unpin + 'static>(socket: S) -> Result<Connection> {
        let (corked, cork) = cork(socket);
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(64 << 20)
            .handshake(corked)
            .await?;
        let mut ping = connection.ping_pong().context("a connection has one ping")?;
        spawn_local(async move {
            // How the connection ended, its calls tell.
            let _ = cork.turns(|cx| Pin::new(&mut connection).poll(cx)).await;
        });
        ping.ping(Ping::opaque()).await?;
        Ok(Connection { send })
    }

    /// Makes a call.
    ///
    /// # Errors
    ///
    /// When anything but the bytes that were sent, or a status other than 0, comes back.
    pub async fn call(&mut self, prepared: &Prepared) -> Result<()> {
        match prepared.shape {
            Shape::Unary { .. } => self.once(prepared, 1).await,
            Shape::Stream { messages, .. } => self.once(prepared, messages as usize).await,
            Shape::PingPong { messages, .. } => self.held(prepared, messages).await?.end().await,
        }
    }

    /// One message there, `count` back.
    async fn once(&mut self, prepared: &Prepared, count: usize) -> Result<()> {
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await?;
        let (response, mut request) = self.send.send_request(prepared.request.clone(), false)?;
        request.send_data(prepared.frame.clone(), true)?;
        let mut body = body_of(response.await?)?;
        let mut expected = Expected { frame: &prepared.frame, seen: 0, whole: count * prepared.frame.len() };
        while let Some(piece) = piece(&mut body).await? {
            expected.take(&piece)?;
        }
        expected.complete()?;
        status_ok(body.trailers().await?.as_ref())
    }

    /// A call that is still open after `messages` round trips.
    ///
    /// # Errors
    ///
    /// As those of [`Connection::call`].
    pub async fn held(&mut self, prepared: &Prepared, messages: u32) -> Result<Held> {
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await?;
        let (response, mut request) = self.send.send_request(prepared.request.clone(), false)?;
        request.send_data(prepared.frame.clone(), false)?;
        let mut body = body_of(response.await?)?;
        for left in (0..messages).rev() {
            let mut expected = Expected { frame: &prepared.frame, seen: 0, whole: prepared.frame.len() };
            while expected.seen < expected.whole {
                let piece = piece(&mut body).await?.context("the stream ended early")?;
                expected.take(&piece)?;
            }
            if left > 0 {
                request.send_data(prepared.frame.clone(), false)?;
            }
        }
        Ok(Held { request, body })
    }
}

/// A call that is open.
#[derive(Debug)]
pub struct Held {
    request: h2::SendStream<Bytes>,
    body: RecvStream,
}

impl Held {
    /// Ends the call from this side, and waits for its status.
    ///
    /// # Errors
    ///
    /// When it is not 0, or a message comes that nobody asked for.
    pub async fn end(mut self) -> Result<()> {
        self.request.send_data(Bytes::new(), true)?;
        if let Some(piece) = piece(&mut self.body).await? {
            ensure!(piece.is_empty(), "{} bytes came that nobody asked for", piece.len());
        }
        status_ok(self.body.trailers().await?.as_ref())
    }
}

fn body_of(response: http::Response<RecvStream>) -> Result<RecvStream> {
    let (head, body) = response.into_parts();
    ensure!(head.status == 200, "HTTP status {}", head.status);
    if head.headers.contains_key("grpc-status") {
        status_ok(Some(&head.headers))?;
    }
    Ok(body)
}

async fn piece(body: &mut RecvStream) -> Result<Option<Bytes>> {
    let Some(piece) = body.data().await.transpose()? else { return Ok(None) };
    // A stream that has ended has no window to open.
    let _ = body.flow_control().release_capacity(piece.len());
    Ok(Some(piece))
}

impl Expected<'_> {
    fn take(&mut self, mut piece: &[u8]) -> Result<()> {
        while !piece.is_empty() {
            ensure!(self.seen < self.whole, "{} bytes too many came back", piece.len());
            let rest = &self.frame[self.seen % self.frame.len()..];
            let (now, later) = piece.split_at(rest.len().min(piece.len()));
            ensure!(rest.starts_with(now), "other bytes than those sent came back, from {}", self.seen);
            self.seen += now.len();
            piece = later;
        }
        Ok(())
    }

    fn complete(&self) -> Result<()> {
        ensure!(self.seen == self.whole, "{} of {} bytes came back", self.seen, self.whole);
        Ok(())
    }
}

fn status_ok(trailers: Option<&HeaderMap>) -> Result<()> {
    let Some(trailers) = trailers else { bail!("no trailers") };
    let status = trailers.get("grpc-status").context("no grpc-status")?;
    ensure!(status == "0", "grpc-status {status:?}: {:?}", trailers.get("grpc-message"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_however_they_are_cut() {
        let frame = Shape::Stream { messages: 3, size: 100 }.frame();
        assert_eq!(frame.len(), 100);
        let whole = frame.repeat(3);
        for cut in 1..whole.len() {
            let mut expected = Expected { frame: &frame, seen: 0, whole: whole.len() };
            whole.chunks(cut).for_each(|piece| expected.take(piece).expect("these are the bytes"));
            expected.complete().expect("these are all");
        }
        let mut wrong = whole.clone();
        wrong[150] ^= 1;
        assert!(Expected { frame: &frame, seen: 0, whole: whole.len() }.take(&wrong).is_err());
        assert!(Expected { frame: &frame, seen: 0, whole: 200 }.take(&whole).is_err());
        assert!(Expected { frame: &frame, seen: 299, whole: 300 }.complete().is_err());
    }
}
