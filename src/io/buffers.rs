//! Write buffers shared by the connections of a worker: an idle connection owns none.

use std::cell::RefCell;

/// A worker rarely has more connections in mid-write than this; further buffers are freed.
const KEEP: usize = 16;

/// Buffers that one large write made larger than this are freed rather than kept.
const KEEP_CAPACITY: usize = 128 * 1024;

const FRESH_CAPACITY: usize = 16 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(super) fn take() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(FRESH_CAPACITY))
}

/// Returns a buffer to the worker.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() > KEEP_CAPACITY {
        return;
    }
    buffer.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < KEEP {
            spare.push(buffer);
        }
    });
}
