//! A socket that shows whether the peer has spoken, and the GOAWAY frames which pass to h2: h2's client keeps a graceful one to itself for as long as a
//! stream is open.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::client::GoAway;

/// Length of a frame's header (RFC 9113 4.1).
const HEADER: usize = 9;

/// Length of a GOAWAY's fixed part (RFC 9113 6.8).
const GOAWAY_LENGTH: usize = 8;

const GOAWAY: u8 = 0x7;

pub(super) struct Wire {
    socket: TcpStream,
    scan: Scan,
    spoken: watch::Sender<bool>,
    goaways: watch::Sender<Vec<GoAway>>,
}

/// What others see of it.
pub(super) struct Seen {
    /// Something has arrived.
    pub(super) spoken: watch::Receiver<bool>,
    /// The GOAWAY frames that have arrived.
    pub(super) goaways: watch::Receiver<Vec<GoAway>>,
}

/// What has been read of the frame that is arriving.
#[derive(Default)]
struct Scan {
    head: Vec<u8>,
    skip: usize,
}

impl Wire {
    pub(super) fn new(socket: TcpStream) -> (Wire, Seen) {
        let wire = Wire {
            socket,
            scan: Scan::default(),
            spoken: watch::Sender::new(false),
            goaways: watch::Sender::default(),
        };
        let seen = Seen { spoken: wire.spoken.subscribe(), goaways: wire.goaways.subscribe() };
        (wire, seen)
    }
}

impl Scan {
    fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(GoAway)) {
        while !bytes.is_empty() {
            let wanted = if self.head.get(3) == Some(&GOAWAY) { HEADER + GOAWAY_LENGTH } else { HEADER };
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = &bytes[passed..];
            } else if self.head.len() < wanted {
                let (first, rest) = bytes.split_at(1);
                self.head.extend_from_slice(first);
                bytes = rest;
                self.complete(&mut tell);
            }
        }
    }

    fn complete(&mut self, tell: &mut impl FnMut(GoAway)) {
        let is_goaway = self.head.get(3) == Some(&GOAWAY);
        let wanted = if is_goaway { HEADER + GOAWAY_LENGTH } else { HEADER };
        if self.head.len() < wanted {
            return;
        }
        if is_goaway {
            tell(GoAway { last_stream: self.number(HEADER) & 0x7fff_ffff, code: self.number(HEADER + 4) });
        }
        self.skip = (self.number(0) >> 8) as usize - (wanted - HEADER);
        self.head.clear();
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.head[at], self.head[at + 1], self.head[at + 2], self.head[at + 3]])
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.spoken.send_if_modified(|spoken| !std::mem::replace(spoken, true));
        }
        this.scan.pass(&buf.filled()[before..], |goaway| this.goaways.send_modify(|seen| seen.push(goaway)));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goaway_is_seen_however_the_bytes_are_cut() {
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
        let goaway = [&[0, 0, 9, GOAWAY, 0, 0, 0, 0, 0][..], &[0, 0, 0, 5, 0, 0, 0, 11, 7]].concat();
        let wire = [ping.clone(), goaway, ping].concat();
        for piece in 1..wire.len() {
            let (mut scan, mut seen) = (Scan::default(), Vec::new());
            wire.chunks(piece).for_each(|bytes| scan.pass(bytes, |goaway| seen.push(goaway)));
            assert_eq!(seen, [GoAway { last_stream: 5, code: 11 }], "in pieces of {piece}");
            assert!(scan.head.is_empty() && scan.skip == 0);
        }
    }
}
