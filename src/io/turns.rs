//! The turns of a connection: when has what was handed to h2 left it?

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// Counts the turns of a connection after which nothing was left in its cork.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    clean: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Turns {
    /// A turn has ended and all of it is with the kernel.
    pub(super) fn turned(&self) {
        self.clean.set(self.clean.get().wrapping_add(1));
        if !self.waiting.borrow().is_empty() {
            for waker in self.waiting.take() {
                waker.wake();
            }
        }
    }

    /// Turns so far.
    pub(crate) fn now(&self) -> u64 {
        self.clean.get()
    }

    /// Ready when a whole turn has passed since [`Turns::now`] was `since`: every frame that flow control did not hold
    /// back has then left.
    pub(crate) fn poll_passed(&self, since: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.clean.get() != since {
            return Poll::Ready(());
        }
        self.waiting.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }
}
