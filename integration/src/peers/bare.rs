//! A backend of bare frames: it says what a test tells it to, when the test does, and nothing that a library would add.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::within;

/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 6.5.2).
pub const MAX_CONCURRENT_STREAMS: u16 = 3;

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 6.5.2).
pub const INITIAL_WINDOW_SIZE: u16 = 4;

const PREFACE: usize = 24;
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` and `content-type: application/grpc`, in HPACK without its tables.
const HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";

/// `grpc-status: 0`.
const OK: &[u8] = b"\x00\x0bgrpc-status\x010";

/// A port whose connections wait until [`Bare::accept`].
#[derive(Debug)]
pub struct Bare {
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Peer {
    socket: TcpStream,
    unread: Vec<u8>,
    begun: bool,
}

/// A frame that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A request's HEADERS, and its stream.
    Request(u32),
    /// RST_STREAM, and its stream.
    Reset(u32),
    /// Any other.
    Other,
}

/// What all connections of a backend do. It may change while they are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub limit: u32,
    /// Calls are answered; they are held otherwise.
    pub answer: bool,
}

/// What a backend has seen on all of its connections.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections that were accepted.
    pub accepted: usize,
    /// Connections that have ended.
    pub ended: usize,
    /// Requests.
    pub requests: usize,
    /// The most requests that were open at once on one connection.
    pub most_open: usize,
}

/// A backend at work.
#[derive(Debug)]
pub struct Serving {
    orders: watch::Sender<Orders>,
    seen: Arc<watch::Sender<Seen>>,
}

// === impl Bare ===

impl Bare {
    /// Listens on a port that the kernel chooses.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn listen() -> Result<Bare> {
        Ok(Bare::of(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?)?)
    }

    /// Listens with a receive buffer of about this many bytes.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn with_receive_buffer(bytes: u32) -> Result<Bare> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(bytes)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Bare::of(socket.listen(16)?)?)
    }

    fn of(listener: TcpListener) -> std::io::Result<Bare> {
        Ok(Bare { address: listener.local_addr()?, listener })
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub async fn accept(&self) -> Result<Peer> {
        let (socket, _) = within("a connection", self.listener.accept()).await??;
        socket.set_nodelay(true)?;
        Ok(Peer { socket, unread: Vec::new(), begun: false })
    }

    /// Serves all connections, those that wait already too.
    #[must_use]
    pub fn serve(self, orders: Orders) -> Serving {
        let serving = Serving { orders: watch::Sender::new(orders), seen: Arc::default() };
        let (orders, seen) = (serving.orders.subscribe(), serving.seen.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = self.listener.accept().await {
                let peer = Peer { socket, unread: Vec::new(), begun: false };
                seen.send_modify(|seen| seen.accepted += 1);
                let (orders, seen) = (orders.clone(), seen.clone());
                tokio::spawn(async move {
                    // However it ended, the connection is gone.
                    let _ = peer.serve(orders, &seen).await;
                    seen.send_modify(|seen| seen.ended += 1);
                });
            }
        });
        serving
    }
}

// === impl Serving ===

impl Serving {
    /// Changes the orders, of open connections too.
    pub fn order(&self, orders: Orders) {
        self.orders.send_replace(orders);
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what it has seen is as `enough` says.
    ///
    /// # Errors
    ///
    /// When that does not happen.
    pub async fn until(&self, what: &str, enough: impl FnMut(&Seen) -> bool) -> Result<Seen> {
        let mut seen = self.seen.subscribe();
        let waited = within(what, seen.wait_for(enough)).await;
        let reached = waited.with_context(|| format!("the backend saw {:?}", self.seen()))??.clone();
        Ok(reached)
    }
}

// === impl Peer ===

impl Peer {
    /// Sends SETTINGS.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn settings(&mut self, settings: &[(u16, u32)]) -> Result<()> {
        let payload: Vec<u8> =
            settings.iter().flat_map(|(key, value)| key.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
        self.send(SETTINGS, 0, 0, &payload).await
    }

    /// Widens the connection's window by this many bytes.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn widen(&mut self, bytes: u32) -> Result<()> {
        self.send(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes()).await
    }

    /// Begins the response.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn begin(&mut self, stream: u32) -> Result<()> {
        self.send(HEADERS, END_HEADERS, stream, HEAD).await
    }

    /// Sends a message of one byte.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn message(&mut self, stream: u32) -> Result<()> {
        self.send(DATA, 0, stream, b"\0\0\0\0\x01x").await
    }

    /// Sends the prefix of a message of one byte, without the byte.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn prefix(&mut self, stream: u32) -> Result<()> {
        self.send(DATA, 0, stream, b"\0\0\0\0\x01").await
    }

    /// Sends the byte of a message whose prefix has been sent.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn rest(&mut self, stream: u32) -> Result<()> {
        self.send(DATA, 0, stream, b"x").await
    }

    /// Ends a response that has begun, with OK.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn end(&mut self, stream: u32) -> Result<()> {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, OK).await
    }

    /// Answers with OK and nothing else.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn answer(&mut self, stream: u32) -> Result<()> {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &[HEAD, OK].concat()).await
    }

    /// The stream of the next request.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub async fn request(&mut self) -> Result<u32> {
        within("a request", async {
            loop {
                if let Frame::Request(stream) = self.next().await?.context("the connection ended")? {
                    return Ok(stream);
                }
            }
        })
        .await?
    }

    /// The next frame; `None` at the end. Nothing is lost when this is dropped before it is ready.
    ///
    /// # Errors
    ///
    /// When the connection broke.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take() {
                return Ok(Some(frame));
            }
            if self.socket.read_buf(&mut self.unread).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Everything that came until now and was not taken as frames: all that has left the other side, if that has been
    /// stopped.
    ///
    /// # Errors
    ///
    /// When the connection broke.
    pub async fn drain(&mut self) -> Result<Vec<u8>> {
        let quiet = std::time::Duration::from_millis(300);
        while let Ok(read) = tokio::time::timeout(quiet, self.socket.read_buf(&mut self.unread)).await {
            if read? == 0 {
                break;
            }
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Breaks the connection off with a TCP reset.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn break_off(self) -> Result<()> {
        self.socket.set_zero_linger()?;
        Ok(())
    }

    async fn serve(mut self, mut orders: watch::Receiver<Orders>, seen: &watch::Sender<Seen>) -> Result<()> {
        let mut open = BTreeSet::new();
        orders.mark_changed();
        loop {
            tokio::select! {
                biased;
                changed = orders.changed() => {
                    changed?;
                    let limit = orders.borrow_and_update().limit;
                    self.settings(&[(MAX_CONCURRENT_STREAMS, limit)]).await?;
                }
                frame = self.next() => match frame? {
                    Some(Frame::Request(stream)) => {
                        open.insert(stream);
                        seen.send_modify(|seen| {
                            seen.requests += 1;
                            seen.most_open = seen.most_open.max(open.len());
                        });
                    }
                    Some(Frame::Reset(stream)) => { open.remove(&stream); }
                    Some(Frame::Other) => {}
                    None => return Ok(()),
                }
            }
            if orders.borrow().answer {
                for stream in std::mem::take(&mut open) {
                    self.answer(stream).await?;
                }
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        if !self.begun {
            self.unread.get(..PREFACE)?;
            self.unread.drain(..PREFACE);
            self.begun = true;
        }
        let head = *self.unread.first_chunk::<HEADER>()?;
        let end = HEADER + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        self.unread.get(..end)?;
        self.unread.drain(..end);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(match head[3] {
            HEADERS => Frame::Request(stream),
            RST_STREAM => Frame::Reset(stream),
            _ => Frame::Other,
        })
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?.to_be_bytes();
        let stream = stream.to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream);
        frame.extend(payload);
        self.socket.write_all(&frame).await?;
        Ok(())
    }
}
