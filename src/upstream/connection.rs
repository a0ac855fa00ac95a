//! One connection to a backend, as its calls see it, and what its frames tell.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::task::{Context, Waker};

use h2::client::SendRequest;
use tokio::time::Instant;

use super::resets::Resets;
use crate::io::{Frame, FrameMeter, Queued};

/// A connection to a backend.
pub(crate) struct Connection {
    send: RefCell<SendRequest<Queued>>,
    meter: Rc<Meter>,
    /// Places for streams that are taken.
    taken: Cell<usize>,
    /// Places among them whose stream has ended. They are free after the connection's next turn: until then h2 may hold
    /// a reset, and with it the stream, against the backend's limit.
    ended: Cell<usize>,
    /// Places that the configuration and the backend allow.
    most: Cell<usize>,
    closing: Cell<bool>,
    idle_since: Cell<Instant>,
    driver: RefCell<Option<Waker>>,
    resets: Resets,
}

/// What the frames on the wire tell about which requests have left and which were taken.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    settings: Cell<u32>,
    heard: Cell<bool>,
    last_taken: Cell<Option<u32>>,
    corked: Cell<u32>,
    written: Cell<u32>,
    answered: Cell<u32>,
    acknowledged: Cell<u32>,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(send: SendRequest<Queued>, meter: Rc<Meter>, configured: usize) -> Connection {
        let connection = Connection {
            send: RefCell::new(send),
            meter,
            taken: Cell::new(0),
            ended: Cell::new(0),
            most: Cell::new(0),
            closing: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            driver: RefCell::new(None),
            resets: Resets::default(),
        };
        connection.note_limit(configured);
        connection
    }

    /// True when a stream opened now would leave at once: h2 would queue one above the backend's limit, and a call in
    /// that queue could neither move nor fail.
    pub(super) fn has_room(&self) -> bool {
        !self.is_leaving() && self.taken.get() < self.most.get()
    }

    /// True when the connection takes no more streams, by the backend's word (GOAWAY) or ours.
    pub(super) fn is_leaving(&self) -> bool {
        self.closing.get() || self.meter.last_taken.get().is_some()
    }

    /// Streams that fit.
    pub(super) fn most_streams(&self) -> usize {
        self.most.get()
    }

    /// Takes note of the backend's limit, which any SETTINGS may change.
    pub(super) fn note_limit(&self, configured: usize) {
        self.most.set(configured.min(self.send.borrow().current_max_send_streams()));
    }

    /// Streams that have not ended, and that somebody wants.
    pub(super) fn open(&self) -> usize {
        self.taken.get() - self.ended.get() - self.resets.waiting()
    }

    /// When the last stream ended; meaningful while none is open.
    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    pub(super) fn opened(&self) {
        self.taken.set(self.taken.get() + 1);
    }

    /// A stream has ended. `wanted` says that somebody waits for its place.
    pub(super) fn stream_ended(&self, wanted: bool) {
        self.ended.set(self.ended.get() + 1);
        let idle = self.open() == 0;
        if idle {
            self.idle_since.set(Instant::now());
        }
        if wanted || self.taken.get() >= self.most.get() || idle && self.is_leaving() {
            self.wake();
        }
    }

    /// Streams have ended that nobody wanted any more.
    pub(super) fn streams_ended(&self, count: usize) {
        self.ended.set(self.ended.get() + count);
    }

    /// A turn has passed and h2 holds nothing of it: the places of streams that ended before it are free.
    pub(super) fn free_ended(&self) {
        self.taken.set(self.taken.get() - self.ended.take());
    }

    /// Closes the connection after its last stream.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    /// Remembers the task that drives the connection.
    pub(super) fn driven_by(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        match driver.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *driver = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.driver.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The h2 handle that opens streams.
    pub(crate) fn send(&self) -> RefMut<'_, SendRequest<Queued>> {
        self.send.borrow_mut()
    }

    pub(super) fn resets(&self) -> &Resets {
        &self.resets
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// True when it is certain that the backend has not seen this stream: its HEADERS were never given to the kernel,
    /// or the backend's GOAWAY excludes it (RFC 9113 6.8).
    pub(crate) fn never_processed(&self, stream: u32) -> bool {
        stream > self.meter.written.get() || self.meter.last_taken.get().is_some_and(|last| stream > last)
    }
}

// === impl Meter ===

impl Meter {
    /// SETTINGS that have come.
    pub(super) fn settings(&self) -> u32 {
        self.settings.get()
    }

    pub(super) fn has_settings(&self) -> bool {
        self.settings.get() > 0
    }

    /// The last stream that the backend has answered, in the order in which they were opened.
    pub(super) fn answered(&self) -> u32 {
        self.answered.get()
    }

    /// SETTINGS that the backend has acknowledged.
    pub(super) fn acknowledged(&self) -> u32 {
        self.acknowledged.get()
    }

    /// True when a frame has come since the last time that this was asked.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.replace(false)
    }
}

impl FrameMeter for Rc<Meter> {
    fn received(&self, frame: Frame) {
        self.heard.set(true);
        match frame {
            Frame::Settings => self.settings.set(self.settings.get() + 1),
            Frame::GoAway(last) => self.last_taken.set(Some(last)),
            Frame::SettingsAck => self.acknowledged.set(self.acknowledged.get() + 1),
            Frame::Headers(stream) => self.answered.set(self.answered.get().max(stream)),
            _ => {}
        }
    }

    fn sent(&self, frame: Frame) {
        if let Frame::Headers(stream) = frame {
            self.corked.set(self.corked.get().max(stream));
        }
    }

    /// Which of the bytes the kernel took is not followed: every request in the cork may be among them.
    fn some_left(&self) {
        self.written.set(self.corked.get());
    }
}
