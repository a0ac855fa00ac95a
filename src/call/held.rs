//! Bytes of a direction that were read and that the far side has not taken.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;

use super::pump::{Far, release};

/// Small chunks that wait together travel together, up to this size: HTTP/2's smallest maximum frame (RFC 9113 4.2). A
/// sender of thousands of tiny frames must not become a flood at the receiver.
pub(super) const JOIN: usize = 16 * 1024;

/// What waits, at most a window of it: the sender's window opens only with what is handed on.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Pieces that nothing more is joined to. Without back-pressure there are none, and the list owns no memory.
    whole: VecDeque<Bytes>,
    /// A chunk as it came, the beginning of the last piece...
    first: Bytes,
    /// ...or that piece, once a second chunk was joined to it.
    joined: BytesMut,
}

impl Held {
    /// Adds a chunk. An empty one vanishes: h2 ends a connection that carries many empty frames.
    pub(super) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        let last = self.first.len() + self.joined.len();
        if last == 0 {
            self.first = chunk;
        } else if last + chunk.len() > JOIN {
            let whole = self.take_last();
            self.whole.push_back(whole);
            self.first = chunk;
        } else {
            if self.joined.is_empty() {
                self.joined.reserve(JOIN);
                self.joined.put(std::mem::take(&mut self.first));
            }
            self.joined.put(chunk);
        }
    }

    /// Sends pieces that are whole while there is room. False when the far side is closed.
    pub(super) fn send_whole<F: Far>(&mut self, source: &mut RecvStream, far: &mut F) -> bool {
        while far.has_room()
            && let Some(piece) = self.whole.pop_front()
        {
            if !hand_on(piece, false, source, far) {
                return false;
            }
        }
        true
    }

    /// Sends all that there is room for. Ready when nothing is left; false when the far side is closed.
    pub(super) fn poll_send<F: Far>(
        &mut self,
        source: &mut RecvStream,
        far: &mut F,
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        while !self.is_empty() {
            std::task::ready!(far.poll_room(cx));
            let piece = self.pop();
            if !hand_on(piece, false, source, far) {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }

    /// Sends all, whether there is room or not: nothing more comes, and what comes after it must not wait.
    pub(super) fn send_all<F: Far>(&mut self, source: &mut RecvStream, far: &mut F) -> bool {
        while !self.is_empty() {
            let piece = self.pop();
            if !hand_on(piece, false, source, far) {
                return false;
            }
        }
        true
    }

    /// The same, with END_STREAM on the last frame.
    pub(super) fn send_all_and_end<F: Far>(&mut self, source: &mut RecvStream, far: &mut F) -> bool {
        while let Some(piece) = self.whole.pop_front() {
            if !hand_on(piece, false, source, far) {
                return false;
            }
        }
        let last = self.take_last();
        hand_on(last, true, source, far)
    }

    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.first.is_empty() && self.joined.is_empty()
    }

    fn pop(&mut self) -> Bytes {
        match self.whole.pop_front() {
            Some(piece) => piece,
            None => self.take_last(),
        }
    }

    fn take_last(&mut self) -> Bytes {
        if self.joined.is_empty() { std::mem::take(&mut self.first) } else { self.joined.split().freeze() }
    }
}

fn hand_on<F: Far>(piece: Bytes, end: bool, source: &mut RecvStream, far: &mut F) -> bool {
    release(source, piece.len());
    far.send(piece, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[usize]) -> Vec<usize> {
        let mut held = Held::default();
        for (value, size) in (0_u8..).zip(chunks) {
            held.push(Bytes::from(vec![value; *size]));
        }
        let mut sizes = Vec::new();
        while !held.is_empty() {
            sizes.push(held.pop().len());
        }
        sizes
    }

    #[test]
    fn small_chunks_join_and_large_ones_pass() {
        assert_eq!(pieces(&[5; 100]), [500]);
        assert_eq!(pieces(&[JOIN, JOIN, 5, 5]), [JOIN, JOIN, 10]);
        assert_eq!(pieces(&[5, 0, 5]), [10]);
        assert_eq!(pieces(&[JOIN - 1, 1, 1]), [JOIN, 1]);
        assert_eq!(pieces(&[0]), Vec::<usize>::new());
    }

    #[test]
    fn the_bytes_keep_their_order() {
        let mut held = Held::default();
        let wire: Vec<u8> = (0..60_000_u32).map(|at| at as u8).collect();
        for chunk in wire.chunks(7001) {
            held.push(Bytes::copy_from_slice(chunk));
        }
        let mut out = Vec::new();
        while !held.is_empty() {
            out.extend_from_slice(&held.pop());
        }
        assert_eq!(out, wire);
    }
}
