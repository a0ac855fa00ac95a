//! Reads ahead of h2 where small frames come in bulk.
//!
//! h2 reads 8 KiB at a time, in which a backend that serves a hundred streams in turns has hardly two frames of one of
//! them. A larger read finds more to gather, with fewer system calls. Large frames go straight to h2: for them the copy
//! would cost more than it saves.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::incoming::Came;

/// What is read at once.
const SIZE: usize = 64 * 1024;

/// Frames of a read that are smaller than this on average are read ahead of.
const SMALL: usize = 1024;

/// A read that brings less than this has emptied the socket: h2's own reads are of that size, or a little less where the rest
/// of a frame was left.
const BULK: usize = 7 * 1024;

/// Buffers that a worker keeps. A connection has one for as long as h2 takes to read it.
const KEEP: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// What a connection has read and h2 has not.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The next read is to be a large one.
    bulk: bool,
}

impl Ahead {
    /// True when the next read should go through [`Ahead::poll_fill`].
    pub(super) fn is_due(&self) -> bool {
        self.bulk
    }

    /// Learns from a read whether there is more to come, and of what kind.
    pub(super) fn learn(&mut self, came: &Came) {
        self.bulk = came.size >= BULK && came.size < came.frames * SMALL;
    }

    /// Reads from the socket what it has. The bytes are [`Ahead::bytes`] then; none are the end of the connection.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE].into());
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        let read = Pin::new(socket).poll_read(cx, &mut buffer);
        let size = buffer.filled().len();
        self.keep(size);
        read
    }

    /// What was read and not taken.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// True when h2 has all that was read.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Only the first `size` bytes are left of what was read.
    pub(super) fn keep(&mut self, size: usize) {
        self.end = self.start + size;
        if size == 0 {
            self.give_back();
        }
    }

    /// Moves what fits into `buf`, and `most` bytes at most.
    pub(super) fn take(&mut self, buf: &mut ReadBuf<'_>, most: usize) {
        let size = buf.remaining().min(self.end - self.start).min(most);
        buf.put_slice(&self.buffer[self.start..self.start + size]);
        self.start += size;
        if self.start == self.end {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        (self.start, self.end) = (0, 0);
        let buffer = std::mem::take(&mut self.buffer);
        // What has been given back has left an empty one here.
        if buffer.is_empty() {
            return;
        }
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEEP {
                spare.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_one_connection_is_nobody_elses() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut ended: &[u8] = &[];
        let mut ahead = Ahead::default();
        assert!(ahead.poll_fill(&mut ended, &mut cx).is_ready());
        ahead.keep(0);
        let mut socket: &[u8] = &[7; 100];
        let mut ahead = Ahead::default();
        assert!(ahead.poll_fill(&mut socket, &mut cx).is_ready());
        assert_eq!(ahead.bytes(), [7; 100]);
        let mut taken = [0; 60];
        ahead.take(&mut ReadBuf::new(&mut taken), 100);
        assert_eq!((taken, ahead.bytes().len()), ([7; 60], 40));
        ahead.take(&mut ReadBuf::new(&mut taken), 100);
        assert!(ahead.is_empty());
    }
}
