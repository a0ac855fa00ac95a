//! A gRPC client that hides nothing: frames as they come, no retries, no reconnects.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::message::{self, Messages, framed};
use super::wire::{Seen, Wire};
use crate::process::PATIENCE;

/// gRPC's CANCELLED.
pub const CANCELLED: i32 = 1;

/// gRPC's UNKNOWN.
pub const UNKNOWN: i32 = 2;

/// gRPC's DEADLINE_EXCEEDED.
pub const DEADLINE_EXCEEDED: i32 = 4;

/// gRPC's RESOURCE_EXHAUSTED.
pub const RESOURCE_EXHAUSTED: i32 = 8;

/// gRPC's INTERNAL.
pub const INTERNAL: i32 = 13;

/// gRPC's UNAVAILABLE.
pub const UNAVAILABLE: i32 = 14;

/// A GOAWAY frame (RFC 9113 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// The highest stream that the sender may have processed.
    pub last_stream: u32,
    /// The error code; 0 is a graceful end.
    pub code: u32,
}

/// How a call failed, in gRPC's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status code.
    pub code: i32,
    /// The status message, or what stood in a status' place.
    pub why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}: {}", self.code, self.why)
    }
}

impl std::error::Error for Failure {}

/// How much the gateway may send unread, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// On each stream.
    pub stream: u32,
    /// On the connection.
    pub connection: u32,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows { stream: 1 << 20, connection: 64 << 20 }
    }
}

/// One connection. Clones share it; it closes with the last clone and the last call.
#[derive(Clone, Debug)]
pub struct Client {
    send: SendRequest<Bytes>,
    spoken: watch::Receiver<bool>,
    goaways: watch::Receiver<Vec<GoAway>>,
    closed: watch::Receiver<bool>,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    head: Option<ResponseFuture>,
    response: Option<RecvStream>,
    request: SendStream<Bytes>,
    messages: Messages,
    end: Option<Result<(), Failure>>,
}

// === impl Client ===

impl Client {
    /// Connects, with windows that no test fills by chance.
    ///
    /// # Errors
    ///
    /// When nobody accepts.
    pub async fn connect(address: SocketAddr) -> Result<Client> {
        Client::connect_with(address, Windows::default()).await
    }

    /// Connects with these windows.
    ///
    /// # Errors
    ///
    /// When nobody accepts.
    pub async fn connect_with(address: SocketAddr, windows: Windows) -> Result<Client> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        let (wire, Seen { spoken, goaways }) = Wire::new(socket);
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(windows.stream)
            .initial_connection_window_size(windows.connection)
            .max_concurrent_reset_streams(2000)
            .handshake(wire)
            .await?;
        let (close, closed) = watch::channel(false);
        tokio::spawn(async move {
            // How the connection ended, its calls tell.
            let _ = connection.await;
            close.send_replace(true);
        });
        Ok(Client { send, spoken, goaways, closed })
    }

    /// Starts a call of `/weir.Load/METHOD`. It waits while the gateway takes no more streams.
    ///
    /// # Errors
    ///
    /// When the connection takes no more calls.
    pub async fn start(&self, method: &str, metadata: &[(&'static str, String)]) -> Result<Call, Failure> {
        let mut request = Request::post(format!("http://load.test/weir.Load/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, value);
        }
        let request = request.body(()).expect("a test's metadata is well formed");
        let mut send = self.send.clone().ready().await.map_err(|error| failure_of(&error))?;
        let (head, request) = send.send_request(request, false).map_err(|error| failure_of(&error))?;
        Ok(Call { head: Some(head), response: None, request, messages: Messages::default(), end: None })
    }

    /// One request, one response.
    ///
    /// # Errors
    ///
    /// With the call's status, or UNKNOWN when there was not one response.
    pub async fn unary(
        &self,
        method: &str,
        metadata: &[(&'static str, String)],
        message: &[u8],
    ) -> Result<Bytes, Failure> {
        let mut call = self.start(method, metadata).await?;
        call.send(message).await?;
        call.end_sending()?;
        let reply = call.message().await?;
        let (Some(reply), None) = (reply, call.message().await?) else {
            return Err(Failure { code: UNKNOWN, why: "not one response".into() });
        };
        Ok(reply)
    }

    /// Waits for the first GOAWAY, which may have come already.
    ///
    /// # Errors
    ///
    /// When the connection ends, or [`PATIENCE`] does, without one.
    pub async fn goaway(&self) -> Result<GoAway> {
        let mut goaways = self.goaways.clone();
        let seen = timeout(PATIENCE, goaways.wait_for(|seen| !seen.is_empty())).await.context("no GOAWAY came")?;
        Ok(seen.context("the connection ended without GOAWAY")?[0])
    }

    /// All GOAWAY frames so far.
    #[must_use]
    pub fn goaways(&self) -> Vec<GoAway> {
        self.goaways.borrow().clone()
    }

    /// Waits until the other side has spoken, as gRPC's clients do before they make calls; false when it hung up instead.
    pub async fn spoken(&self) -> bool {
        let mut spoken = self.spoken.clone();
        spoken.wait_for(|spoken| *spoken).await.is_ok()
    }

    /// Waits for the end of the connection.
    ///
    /// # Errors
    ///
    /// When it outlasts [`PATIENCE`].
    pub async fn closed(&self) -> Result<()> {
        let mut closed = self.closed.clone();
        timeout(PATIENCE, closed.wait_for(|closed| *closed)).await.context("the connection stays open")??;
        Ok(())
    }

    /// True once the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }
}

// === impl Call ===

impl Call {
    /// The id of its stream.
    #[must_use]
    pub fn stream_id(&self) -> u32 {
        self.request.stream_id().as_u32()
    }

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// When the call has ended: with how it ended.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        message::send(&mut self.request, framed(message)).await.map_err(|error| failure_of(&error))
    }

    /// Half-closes.
    ///
    /// # Errors
    ///
    /// When the call has ended.
    pub fn end_sending(&mut self) -> Result<(), Failure> {
        self.request.send_data(Bytes::new(), true).map_err(|error| failure_of(&error))
    }

    /// Waits for the response headers.
    ///
    /// # Errors
    ///
    /// When the call ends without, or with status other than OK in them.
    pub async fn head(&mut self) -> Result<(), Failure> {
        let Some(head) = self.head.take() else { return Ok(()) };
        let response = head.await.map_err(|error| failure_of(&error))?;
        if response.body().is_end_stream() {
            let end = judge(response.headers());
            self.end = Some(end.clone());
            return end;
        }
        self.response = Some(response.into_body());
        Ok(())
    }

    /// The next message; `None` when the call has ended with OK.
    ///
    /// # Errors
    ///
    /// When it ended otherwise.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Failure> {
        self.head().await?;
        loop {
            if let Some(message) = self.messages.take() {
                return Ok(Some(message));
            }
            if let Some(end) = &self.end {
                return end.clone().map(|()| None);
            }
            let Some(response) = &mut self.response else {
                return Err(Failure { code: UNKNOWN, why: "no response headers".into() });
            };
            match response.data().await {
                Some(Ok(chunk)) => {
                    // A stream that has ended has no window to open.
                    let _ = response.flow_control().release_capacity(chunk.len());
                    self.messages.push(&chunk);
                }
                Some(Err(error)) => self.end = Some(Err(failure_of(&error))),
                None => {
                    let trailers = response.trailers().await.map_err(|error| failure_of(&error))?;
                    self.end = Some(match trailers {
                        Some(_) if !self.messages.is_empty() => {
                            Err(Failure { code: INTERNAL, why: "trailers in the middle of a message".into() })
                        }
                        Some(trailers) => judge(&trailers),
                        None => Err(Failure { code: UNKNOWN, why: "no trailers".into() }),
                    });
                }
            }
        }
    }

    /// Half-closes, reads to the end and returns the number of messages.
    ///
    /// # Errors
    ///
    /// When the call does not end with OK.
    pub async fn finish(mut self) -> Result<usize, Failure> {
        self.end_sending()?;
        self.rest().await
    }

    /// Reads to the end and returns the number of messages.
    ///
    /// # Errors
    ///
    /// When the call does not end with OK.
    pub async fn rest(&mut self) -> Result<usize, Failure> {
        let mut messages = 0;
        while self.message().await?.is_some() {
            messages += 1;
        }
        Ok(messages)
    }

    /// Resets the stream with CANCEL.
    pub fn cancel(mut self) {
        self.request.send_reset(Reason::CANCEL);
    }
}

/// The status in trailers.
fn judge(trailers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(Failure { code, why: text("grpc-message").unwrap_or_default().to_owned() }),
        None => Err(Failure { code: UNKNOWN, why: "no grpc-status".into() }),
    }
}

/// What a client makes of a stream's end without trailers (gRPC over HTTP/2, "Errors").
fn failure_of(error: &h2::Error) -> Failure {
    let code = match error.reason().filter(|_| error.is_reset()) {
        None | Some(Reason::REFUSED_STREAM) => UNAVAILABLE,
        Some(Reason::CANCEL) => CANCELLED,
        Some(Reason::ENHANCE_YOUR_CALM) => RESOURCE_EXHAUSTED,
        Some(_) => INTERNAL,
    };
    Failure { code, why: error.to_string() }
}

/// Fails unless a call failed with this status.
///
/// # Errors
///
/// When the call succeeded, or failed otherwise.
pub fn expect_failure<T>(outcome: Result<T, Failure>, code: i32) -> Result<Failure> {
    match outcome {
        Err(failure) if failure.code == code => Ok(failure),
        Err(failure) => bail!("status {code} expected, got {failure}"),
        Ok(_) => bail!("status {code} expected, but the call succeeded"),
    }
}
