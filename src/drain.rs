//! The way out: how far the gateway is on it, what is left, and the signals that reach every connection or every call of a
//! worker at once.

mod attend;
mod left;
mod stage;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

pub(crate) use attend::{REPORT, attend};
pub(crate) use left::Left;
pub(crate) use stage::{Stage, Stages};

/// Something that happens once: the drain begins, the drain's time is over.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Cell<bool>,
    waiting: RefCell<Slab<Option<Waker>>>,
}

/// One task's interest in a [`Signal`].
#[derive(Debug)]
pub(crate) struct Listening {
    signal: Rc<Signal>,
    key: usize,
}

impl Signal {
    /// Tells everybody, now and later.
    pub(crate) fn raise(&self) {
        self.raised.set(true);
        for (_, waiting) in self.waiting.borrow_mut().iter_mut() {
            if let Some(waker) = waiting.take() {
                waker.wake();
            }
        }
    }

    /// Takes it back for everybody who looks from now on.
    pub(crate) fn lower(&self) {
        self.raised.set(false);
    }

    /// True once it has happened.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.get()
    }

    /// Starts to listen.
    pub(crate) fn listen(self: &Rc<Signal>) -> Listening {
        let key = self.waiting.borrow_mut().insert(None);
        Listening { signal: self.clone(), key }
    }
}

impl Listening {
    /// Ready once the signal has been raised.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.signal.raised.get() {
            return Poll::Ready(());
        }
        match &mut self.signal.waiting.borrow_mut()[self.key] {
            Some(waker) => waker.clone_from(cx.waker()),
            empty => *empty = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.signal.waiting.borrow_mut().remove(self.key);
    }
}
