//! Counts what h2 holds of a stream's outgoing bytes.
//!
//! h2 takes DATA without bound and does not tell when it has left. Every chunk that is handed to h2 carries a pointer to
//! its direction's [`Queue`], and h2 reports progress by advancing the chunk. That gives back-pressure (no more is read
//! from one side than the other side's queue takes) and the moment from which a reset loses nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

/// A direction reads on while less than this is queued towards the far side.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// A reader that was stopped starts again when the queue has fallen to this, so that it moves more than one frame.
const RESUME: usize = SEND_BUFFER / 2;

/// The bytes of one direction of one call that h2 has and the cork has not.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Cell<usize>,
    /// Wake the waiting call when no more than this is left.
    wake_at: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

/// A chunk of DATA on its way out through h2.
#[derive(Debug)]
pub(crate) struct Queued {
    bytes: Bytes,
    queue: Rc<Queue>,
}

// === impl Queue ===

impl Queue {
    /// Accounts for `bytes` and wraps them for h2.
    pub(crate) fn push(self: &Rc<Queue>, bytes: Bytes) -> Queued {
        self.bytes.set(self.bytes.get() + bytes.len());
        Queued { bytes, queue: self.clone() }
    }

    /// True while there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.get() < SEND_BUFFER
    }

    /// Bytes that h2 holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Ready when there is room for more.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_room() { Poll::Ready(()) } else { self.wait(RESUME, cx) }
    }

    /// Ready when h2 holds nothing more.
    pub(crate) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.bytes.get() == 0 { Poll::Ready(()) } else { self.wait(0, cx) }
    }

    fn wait(&self, wake_at: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.wake_at.set(wake_at);
        let mut waiting = self.waiting.borrow_mut();
        match waiting.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waiting = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn left(&self, count: usize) {
        let bytes = self.bytes.get() - count;
        self.bytes.set(bytes);
        if bytes <= self.wake_at.get()
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
    }
}

// === impl Queued ===

impl Buf for Queued {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.queue.left(count);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.queue.left(self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_returns_when_half_has_left() {
        let queue = Rc::new(Queue::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut chunk = queue.push(Bytes::from(vec![0; SEND_BUFFER]));
        assert!(queue.poll_room(&mut cx).is_pending());
        chunk.advance(RESUME - 1);
        assert!(queue.waiting.borrow().is_some(), "not half yet");
        chunk.advance(1);
        assert!(queue.waiting.borrow().is_none(), "woken");
        assert!(queue.poll_room(&mut cx).is_ready());
    }

    #[test]
    fn a_dropped_chunk_has_left() {
        let queue = Rc::new(Queue::default());
        let mut cx = Context::from_waker(Waker::noop());
        let chunk = queue.push(Bytes::from_static(b"abc"));
        assert!(queue.poll_empty(&mut cx).is_pending());
        drop(chunk);
        assert!(queue.poll_empty(&mut cx).is_ready());
    }
}
