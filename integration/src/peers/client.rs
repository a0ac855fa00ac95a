//! A client that shows everything of an answer.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{PingPong, Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::backend::{DO, FROM};
use super::{eventually, framed, within};

/// The method that calls go to when nothing else is said.
pub const METHOD: &str = "/test.Echo/Do";

/// One connection. Dropping it closes it.
#[derive(Debug)]
pub struct Client {
    /// The client's own address.
    pub address: SocketAddr,
    send: SendRequest<Bytes>,
    pings: Option<PingPong>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call that is open.
#[derive(Debug)]
pub struct Open {
    /// The way for requests.
    pub send: SendStream<Bytes>,
    head: ResponseFuture,
    response: Option<(HeaderMap, RecvStream)>,
    /// What was read of the messages before their end.
    read: BytesMut,
}

/// Everything that came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The HTTP status; 0 when there was no head.
    pub http: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// The messages, without their prefixes.
    pub messages: Vec<Bytes>,
    /// Trailers; `None` in a trailers-only answer.
    pub trailers: Option<HeaderMap>,
    /// How the stream failed, if it did.
    pub failure: Option<Failure>,
}

/// How a stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was reset with this code.
    Reset(Reason),
    /// The connection ended.
    Connection,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When no HTTP/2 connection comes about.
    pub async fn connect(address: SocketAddr) -> Result<Client> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        let own = socket.local_addr()?;
        Client::over(socket, own).await
    }

    /// Speaks HTTP/2 on what is connected already, from this address.
    ///
    /// # Errors
    ///
    /// When no HTTP/2 connection comes about.
    pub async fn over<S>(socket: S, own: SocketAddr) -> Result<Client>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder.max_header_list_size(16 << 20).max_send_buffer_size(64 << 20).initial_max_send_streams(0);
        let (send, mut connection) = within("HTTP/2", builder.handshake(socket)).await??;
        let pings = connection.ping_pong();
        let client = Client { address: own, send, pings, connection: tokio::spawn(connection) };
        // No stream may open before the server's settings are here.
        eventually("settings", async || {
            let is_there = client.most_streams() > 0;
            ensure!(is_there || !client.connection.is_finished(), "the connection ended before the server's settings");
            Ok(is_there.then_some(()))
        })
        .await?;
        Ok(client)
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub async fn at(path: &Path) -> Result<Client> {
        let socket = UnixStream::connect(path).await.with_context(|| format!("connecting to {}", path.display()))?;
        // It has no address of its own.
        Client::over(socket, ([0; 4], 0).into()).await
    }

    /// Streams that the server allows at once.
    #[must_use]
    pub fn most_streams(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// Sends a PING and waits for its answer.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn ping(&mut self) -> Result<()> {
        let pings = self.pings.as_mut().context("pings")?;
        within("a pong", pings.ping(h2::Ping::opaque())).await??;
        Ok(())
    }

    /// Waits for the end of the connection, and returns the code of the GOAWAY or error that ended it.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn ended(&mut self) -> Result<Option<Reason>> {
        let end = within("the end of the connection", &mut self.connection).await??;
        Ok(end.err().and_then(|error| error.reason()))
    }

    /// Opens a call.
    ///
    /// # Errors
    ///
    /// When the connection takes none.
    pub async fn open(&self, path: &str, metadata: &[(&str, &str)]) -> Result<Open> {
        let mut request = Request::post(format!("http://test.local{path}")).version(http::Version::HTTP_2).body(())?;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        for (key, value) in metadata {
            headers.append(HeaderName::from_bytes(key.as_bytes())?, HeaderValue::from_str(value)?);
        }
        let mut send = within("room for a stream", self.send.clone().ready()).await??;
        let (head, stream) = send.send_request(request, false)?;
        Ok(Open { send: stream, head, response: None, read: BytesMut::new() })
    }

    /// A stream that has carried two messages, `one` and `two`, there and back: whoever ends it from now on takes nothing from it.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn chat(&self) -> Result<Open> {
        let mut open = self.script("echo").await?;
        open.message(b"one", false)?;
        open.message(b"two", false)?;
        open.has_read(16).await?;
        Ok(open)
    }

    /// Opens a call with a script for the backend.
    ///
    /// # Errors
    ///
    /// When the connection takes none.
    pub async fn script(&self, script: &str) -> Result<Open> {
        self.open(METHOD, &[(DO, script)]).await
    }

    /// Makes a unary call with a message of three bytes.
    ///
    /// # Errors
    ///
    /// When the connection takes none, or no end comes.
    pub async fn call(&self, path: &str, metadata: &[(&str, &str)]) -> Result<Answer> {
        let mut open = self.open(path, metadata).await?;
        // The answer may be there before the request, and its stream closed.
        let _ = open.send.send_data(framed(b"abc"), true);
        open.answer().await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Open {
    /// Sends a message.
    ///
    /// # Errors
    ///
    /// When the stream is closed.
    pub fn message(&mut self, message: &[u8], end: bool) -> Result<()> {
        Ok(self.send.send_data(framed(message), end)?)
    }

    /// Waits for the response headers.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub async fn headers(&mut self) -> Result<HeaderMap> {
        if self.response.is_none() {
            let response = within("response headers", &mut self.head).await??;
            let (head, body) = response.into_parts();
            self.response = Some((head.headers, body));
        }
        let (headers, _) = self.response.as_ref().context("headers")?;
        Ok(headers.clone())
    }

    /// Waits until so many bytes of messages are here, with their prefixes. They are in the answer too.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub async fn has_read(&mut self, bytes: usize) -> Result<()> {
        self.headers().await?;
        let (_, body) = self.response.as_mut().context("headers")?;
        while self.read.len() < bytes {
            let chunk = within("a message", body.data()).await?.context("the response has ended")??;
            let _ = body.flow_control().release_capacity(chunk.len());
            self.read.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// Resets the call with CANCEL.
    pub fn cancel(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// Waits for the end of the call.
    ///
    /// # Errors
    ///
    /// When it does not end, or its messages are not whole without a failure to blame.
    pub async fn answer(self) -> Result<Answer> {
        within("the end of the call", self.collect()).await?
    }

    async fn collect(self) -> Result<Answer> {
        let mut answer = Answer { http: 200, ..Answer::default() };
        let mut body = match self.response {
            Some((headers, body)) => {
                answer.headers = headers;
                body
            }
            None => match self.head.await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    (answer.http, answer.headers) = (head.status.as_u16(), head.headers);
                    body
                }
                Err(error) => {
                    answer.http = 0;
                    answer.failure = Some(Failure::from(&error));
                    return Ok(answer);
                }
            },
        };
        let mut bytes = self.read;
        while let Some(chunk) = body.data().await {
            match chunk {
                Ok(chunk) => {
                    let _ = body.flow_control().release_capacity(chunk.len());
                    bytes.extend_from_slice(&chunk);
                }
                Err(error) => {
                    answer.failure = Some(Failure::from(&error));
                    break;
                }
            }
        }
        if answer.failure.is_none() {
            match body.trailers().await {
                Ok(trailers) => answer.trailers = trailers,
                Err(error) => answer.failure = Some(Failure::from(&error)),
            }
        }
        while let Some(prefix) = bytes.first_chunk::<5>() {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            if bytes.len() < 5 + length {
                break;
            }
            answer.messages.push(bytes.split_to(5 + length).freeze().slice(5..));
        }
        if !bytes.is_empty() && answer.failure.is_none() {
            bail!("half a message at the end: {answer:?}");
        }
        Ok(answer)
    }
}

impl Answer {
    /// A value of the trailers, or of the headers in a trailers-only answer.
    #[must_use]
    pub fn trailer(&self, key: &str) -> Option<&str> {
        self.trailers.as_ref().unwrap_or(&self.headers).get(key)?.to_str().ok()
    }

    /// A value of the headers.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<&str> {
        self.headers.get(key)?.to_str().ok()
    }

    /// `grpc-status`.
    #[must_use]
    pub fn status(&self) -> Option<u8> {
        self.trailer("grpc-status")?.parse().ok()
    }

    /// `grpc-message`.
    #[must_use]
    pub fn message(&self) -> &str {
        self.trailer("grpc-message").unwrap_or_default()
    }

    /// The port of the backend that answered.
    #[must_use]
    pub fn from(&self) -> Option<u16> {
        self.header(FROM)?.parse().ok()
    }
}

impl From<&h2::Error> for Failure {
    fn from(error: &h2::Error) -> Failure {
        match error.reason().filter(|_| error.is_reset()) {
            Some(reason) => Failure::Reset(reason),
            None => Failure::Connection,
        }
    }
}
