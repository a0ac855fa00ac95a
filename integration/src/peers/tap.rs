//! A wire-tap between two peers: it relays bytes, tells the frames that passed, and can fall silent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::within;

/// Length of the client's connection preface (RFC 9113 3.4).
const PREFACE: usize = 24;

/// A relay in front of one address. Dropping it cuts its connections.
#[derive(Debug)]
pub struct Tap {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug, Default)]
struct Shared {
    wire: watch::Sender<Wire>,
    /// Connections up to this one are frozen.
    frozen: watch::Sender<usize>,
    /// Nothing goes on to the server.
    held: watch::Sender<bool>,
}

/// What passed.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    /// Frames of the side that connected.
    pub client: Vec<Frame>,
    /// Frames of the side that was connected to.
    pub server: Vec<Frame>,
    /// Connections that were accepted.
    pub accepted: usize,
    /// Connections that the client's side has closed.
    pub closed: usize,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type (RFC 9113 6).
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Tap {
    /// Starts a relay to `target`.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(target: SocketAddr) -> Result<Tap> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, target, shared.clone())).abort_handle();
        Ok(Tap { address, shared, accepting })
    }

    /// From now on nothing passes towards the client on the connections that are open, as when the server's machine has
    /// lost its power: what the client sends is still taken, and a new connection reaches the machine in its place.
    pub fn freeze(&self) {
        self.shared.frozen.send_replace(self.wire().accepted);
    }

    /// From now on what the client sends is taken and kept, as when the server is busy with something else. It comes all at once
    /// after [`Tap::release`].
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// The server reads again.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// What passed so far.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.shared.wire.borrow().clone()
    }

    /// Waits until what passed is as `enough` says.
    ///
    /// # Errors
    ///
    /// When that does not happen.
    pub async fn until(&self, what: &str, enough: impl FnMut(&Wire) -> bool) -> Result<Wire> {
        let mut wire = self.shared.wire.subscribe();
        let waited = within(what, wire.wait_for(enough)).await;
        let reached = waited.with_context(|| format!("on the wire was {:?}", self.wire()))??.clone();
        Ok(reached)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.wire.send_modify(|wire| wire.accepted += 1);
        let number = shared.wire.borrow().accepted;
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        relays.spawn(upwards(from_client, to_server, shared.clone()));
        relays.spawn(downwards(from_server, to_client, shared.clone(), number));
    }
}

async fn upwards(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: Arc<Shared>) {
    let mut frames = Frames { pending: Vec::new(), skip: PREFACE };
    let mut buffer = vec![0; 16 * 1024];
    let (mut held, mut kept) = (shared.held.subscribe(), Vec::new());
    loop {
        tokio::select! {
            read = from.read(&mut buffer) => {
                let Ok(count @ 1..) = read else {
                    let _ = held.wait_for(|held| !held).await;
                    let _ = to.write_all(&kept).await;
                    break;
                };
                let seen = frames.read(&buffer[..count]);
                shared.wire.send_modify(|wire| wire.client.extend(seen));
                kept.extend_from_slice(&buffer[..count]);
            }
            true = async { held.wait_for(|held| !held).await.is_ok() }, if !kept.is_empty() => {
                if to.write_all(&kept).await.is_err() {
                    break;
                }
                kept.clear();
            }
        }
    }
    shared.wire.send_modify(|wire| wire.closed += 1);
}

async fn downwards(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: Arc<Shared>, number: usize) {
    let is_frozen = || number <= *shared.frozen.borrow();
    let mut frames = Frames { pending: Vec::new(), skip: 0 };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if is_frozen() {
            continue;
        }
        let seen = frames.read(&buffer[..count]);
        shared.wire.send_modify(|wire| wire.server.extend(seen));
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    if is_frozen() {
        // Dropping the half would close the connection, and so make a sound.
        std::future::pending::<()>().await;
    }
}

/// Cuts bytes into frames.
struct Frames {
    pending: Vec<u8>,
    skip: usize,
}

impl Frames {
    fn read(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.pending.extend(bytes);
        let skipped = self.skip.min(self.pending.len());
        self.pending.drain(..skipped);
        self.skip -= skipped;
        let mut frames = Vec::new();
        while let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = self.pending.first_chunk::<9>() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if self.pending.len() < 9 + length {
                break;
            }
            let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
            let payload = self.pending[9..9 + length].to_vec();
            self.pending.drain(..9 + length);
            frames.push(Frame { kind, flags, stream, payload });
        }
        frames
    }
}

impl Wire {
    /// Frames of one kind from the client's side.
    pub fn of_client(&self, kind: u8) -> impl Iterator<Item = &Frame> {
        self.client.iter().filter(move |frame| frame.kind == kind)
    }

    /// PINGs that ask, from the client's side.
    #[must_use]
    pub fn client_pings(&self) -> usize {
        self.of_client(6).filter(|frame| frame.flags & 1 == 0).count()
    }
}
