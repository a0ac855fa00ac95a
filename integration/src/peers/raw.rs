//! A client of bare frames: it sends what a test writes, well-formed or not, and shows each frame that comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The client's connection preface (RFC 9113 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 6).
pub mod kind {
    #![allow(missing_docs, reason = "they are called as the specification calls them")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags (RFC 9113 6).
pub mod flag {
    #![allow(missing_docs, reason = "they are called as the specification calls them")]
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Raw {
    socket: TcpStream,
}

impl Frame {
    /// The number in the payload at this place.
    #[must_use]
    pub fn number(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }

    /// The error code, of RST_STREAM and GOAWAY.
    #[must_use]
    pub fn error(&self) -> Option<u32> {
        match self.kind {
            kind::RST_STREAM => self.number(0),
            kind::GOAWAY => self.number(4),
            _ => None,
        }
    }
}

/// A frame as bytes. Its length is that of the payload.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that are not indexed, without Huffman's code (RFC 7541 6.2.2).
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 5.1).
fn length(block: &mut Vec<u8>, mut length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push((length % 128 + 128) as u8);
        length /= 128;
    }
    block.push(length as u8);
}

impl Raw {
    /// Connects, and says nothing. No read lasts longer than `patience`.
    ///
    /// # Errors
    ///
    /// When nobody accepts.
    pub fn connect(address: SocketAddr, patience: Duration) -> Result<Raw> {
        let socket = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Raw { socket })
    }

    /// Begins the connection: the preface, these settings, and the other side's, which are acknowledged.
    ///
    /// # Errors
    ///
    /// When the other side does not begin it as it must.
    pub fn begin(&mut self, settings: &[(u16, u32)]) -> Result<()> {
        self.send(PREFACE);
        self.settings(settings);
        let Some(first) = self.read_frame()? else { bail!("the connection was closed") };
        anyhow::ensure!(first.kind == kind::SETTINGS && first.flags == 0, "the first frame is {first:?}");
        self.frame(kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    /// Sends bytes. A connection that is closed says so when it is read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Sends a frame.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload));
    }

    /// Sends SETTINGS.
    pub fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.frame(kind::SETTINGS, flag::NONE, 0, &payload);
    }

    /// The next frame; `None` at the end of the connection.
    ///
    /// # Errors
    ///
    /// When nothing comes in time.
    pub fn read_frame(&mut self) -> Result<Option<Frame>> {
        let Some(head) = self.read(9)? else { return Ok(None) };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let Some(payload) = self.read(length)? else { return Ok(None) };
        Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload }))
    }

    /// The first frame from now on that is `wanted`.
    ///
    /// # Errors
    ///
    /// When the connection ends first, or nothing comes in time.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Result<Frame> {
        loop {
            match self.read_frame()? {
                Some(frame) if wanted(&frame) => return Ok(frame),
                Some(_) => {}
                None => bail!("the connection was closed"),
            }
        }
    }

    fn read(&mut self, length: usize) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        match self.socket.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(None),
            Err(error) => Err(error).context("nothing came"),
        }
    }
}
