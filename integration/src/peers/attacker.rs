//! A client of bare frames that does what no library would: floods, frames that never end, malformed requests.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{eventually, within};

/// What a client says first (RFC 9113 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 6).
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// PRIORITY.
    pub const PRIORITY: u8 = 2;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
    /// One that RFC 9113 does not know.
    pub const UNKNOWN: u8 = 0xbb;
}

/// END_STREAM of DATA and HEADERS.
pub const END_STREAM: u8 = 1;

/// END_HEADERS of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;

const HEADER: usize = 9;

/// A connection that says what it is told to.
#[derive(Debug)]
pub struct Attacker {
    socket: TcpStream,
    unread: Vec<u8>,
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A frame as it travels.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The header block of a gRPC call of `path`, in HPACK without its tables.
#[must_use]
pub fn request(path: &str) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "attack.test")];
    let fields = fields.into_iter().chain([("content-type", "application/grpc"), ("te", "trailers")]);
    fields.flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

/// One field of a header block: a literal without indexing (RFC 7541 6.2.2), whatever is in it.
#[must_use]
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        block.extend(length(text.len()));
        block.extend(text);
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 5.1).
fn length(value: usize) -> Vec<u8> {
    const FULL: usize = 127;
    if value < FULL {
        return vec![value as u8];
    }
    let (mut bytes, mut rest) = (vec![FULL as u8], value - FULL);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

impl Attacker {
    /// Connects, and says nothing.
    ///
    /// # Errors
    ///
    /// When it cannot connect.
    pub async fn connect(address: SocketAddr) -> Result<Attacker> {
        let socket = within("a connection", TcpStream::connect(address)).await??;
        socket.set_nodelay(true)?;
        Ok(Attacker { socket, unread: Vec::new() })
    }

    /// Connects, and begins as an honest client does.
    ///
    /// # Errors
    ///
    /// When it cannot connect.
    pub async fn greet(address: SocketAddr) -> Result<Attacker> {
        let mut attacker = Attacker::connect(address).await?;
        attacker.say(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat()).await?;
        Ok(attacker)
    }

    /// Says these bytes.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn say(&mut self, bytes: &[u8]) -> Result<()> {
        within("a write", self.socket.write_all(bytes)).await??;
        Ok(())
    }

    /// Waits until the other side has written all that the kernel takes for somebody who does not read, which is when it holds
    /// the same for a while.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn has_jammed(&self) -> Result<()> {
        const WHILE: usize = 50;
        let (own, far) = (self.socket.local_addr()?.port(), self.socket.peer_addr()?.port());
        let (mut before, mut times) = (0, 0);
        let look = async || {
            let waiting = unsent(far, own)?;
            times = if waiting > 0 && waiting == before { times + 1 } else { 0 };
            before = waiting;
            Ok((times >= WHILE).then_some(()))
        };
        eventually("a socket that is full", look).await
    }

    /// Says what `next` returns, for each number, so many times or until the connection has ended, and reads what comes
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// When neither happens.
    pub async fn flood(self, times: u32, mut next: impl FnMut(u32) -> Vec<u8>) -> Result<()> {
        let piece = |number| (number..times.min(number + 1000)).flat_map(&mut next).collect::<Vec<u8>>();
        self.pour((0..times).step_by(1000).map(piece)).await
    }

    /// Says these pieces until the connection has ended, and reads what comes meanwhile.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn pour(mut self, pieces: impl IntoIterator<Item: AsRef<[u8]>>) -> Result<()> {
        let (mut reader, mut writer) = self.socket.split();
        let deaf = async {
            let mut sink = [0; 16 * 1024];
            while reader.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        };
        let speak = async {
            for piece in pieces {
                if writer.write_all(piece.as_ref()).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        within("the end of the connection", async {
            tokio::select! {
                () = deaf => {}
                () = speak => {}
            }
        })
        .await
    }

    /// The next frame; `None` at the end, however it came.
    ///
    /// # Errors
    ///
    /// When neither comes.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        within("a frame", async {
            loop {
                if let Some(frame) = self.take() {
                    return Some(frame);
                }
                if !self.socket.read_buf(&mut self.unread).await.is_ok_and(|read| read > 0) {
                    return None;
                }
            }
        })
        .await
    }

    /// The next frame of this kind.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub async fn until(&mut self, kind: u8) -> Result<Frame> {
        loop {
            let frame = self.next().await?.with_context(|| format!("the connection ended without a frame {kind}"))?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// Reads until the other side hangs up.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn ended(&mut self) -> Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    fn take(&mut self) -> Option<Frame> {
        let head = *self.unread.first_chunk::<HEADER>()?;
        let end = HEADER + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.unread.get(HEADER..end)?.to_vec();
        self.unread.drain(..end);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}

/// Bytes that the socket from one local port to another has not got rid of.
fn unsent(from: u16, to: u16) -> Result<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let socket = table.lines().find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let ends = [columns.next()?, columns.next()?].map(|end| end.rsplit(':').next().unwrap_or_default());
        (ends == [from, to].map(|port| format!("{port:04X}"))).then_some(columns.nth(1)?)
    });
    let queue = socket.and_then(|queues| queues.split(':').next()).context("the socket is gone")?;
    Ok(u64::from_str_radix(queue, 16)?)
}
