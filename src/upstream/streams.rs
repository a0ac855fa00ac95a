//! The open streams of a pool that may be told to end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::uri::PathAndQuery;
use slab::Slab;
use tokio::time::Instant;
use weir_filter::Call;

use super::pool::Pool;
use crate::cluster::breaker::Methods;

/// Why a stream ends although neither side has ended it: its client is to open it anew, which leads elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Its endpoint left the cluster, and `endpoint_drain_timeout` is over.
    Removed,
    /// It is older than the `max_stream_age` of its route.
    Age,
    /// An endpoint joined, and gets its share.
    Rebalance,
}

/// A stream, as far as one needs to know to have it end.
#[derive(Debug)]
pub(crate) struct Stream {
    /// When its call began.
    pub(super) since: Instant,
    method: Option<PathAndQuery>,
    methods: Rc<Methods>,
    /// It has carried a second message.
    is_stream: Cell<bool>,
    /// Its client has the response's head.
    has_begun: Cell<bool>,
    told: Cell<Option<Move>>,
    call: RefCell<Option<Waker>>,
}

/// The streams of a pool.
#[derive(Debug, Default)]
pub(super) struct Streams(RefCell<Slab<Rc<Stream>>>);

/// A stream's place among those of its pool.
pub(crate) struct Enrolled {
    pool: Rc<Pool>,
    key: usize,
}

// === impl Move ===

impl Move {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Move; 3] = [Move::Removed, Move::Age, Move::Rebalance];

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Move::Removed => "endpoint_removed",
            Move::Age => "max_stream_age",
            Move::Rebalance => "rebalance",
        }
    }

    /// What a client is told.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Move::Removed => "the endpoint was removed, and the stream has had its time (endpoint_drain_timeout)",
            Move::Age => "the stream is older than its route's max_stream_age: open it anew",
            Move::Rebalance => "an endpoint has joined, and the stream makes room (rebalance): open it anew",
        }
    }
}

// === impl Stream ===

impl Stream {
    /// For a call that began at `since`, to a cluster of which this is known.
    pub(crate) fn new(since: Instant, call: &Call, methods: Rc<Methods>) -> Stream {
        let method = call.uri.path_and_query().cloned();
        let (is_stream, has_begun) = (Cell::new(false), Cell::new(false));
        Stream { since, method, methods, is_stream, has_begun, told: Cell::default(), call: RefCell::default() }
    }

    /// Takes note of how far the call has come: whether its client has the response's head, and the messages of that
    /// direction which has more.
    pub(crate) fn moved(&self, has_begun: bool, messages: u64) {
        self.has_begun.set(has_begun);
        if messages > 1 && !self.is_stream.replace(true) {
            self.methods.learn(self.method());
        }
    }

    /// True for a stream that can be ended between two messages: not for a call that may be unary, nor for one whose client
    /// would take the end for the answer.
    pub(crate) fn may_move(&self) -> bool {
        self.has_begun.get() && (self.is_stream.get() || self.methods.are_streams(self.method()))
    }

    fn method(&self) -> &str {
        self.method.as_ref().map_or("", PathAndQuery::path)
    }

    /// Has the stream end.
    pub(super) fn tell(&self, why: Move) {
        self.told.set(Some(why));
        if let Some(call) = self.call.take() {
            call.wake();
        }
    }

    /// Ready when the stream should end.
    pub(crate) fn poll_told(&self, cx: &Context<'_>) -> Poll<Move> {
        if let Some(why) = self.told.get() {
            return Poll::Ready(why);
        }
        match &mut *self.call.borrow_mut() {
            Some(call) => call.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    #[cfg(test)]
    pub(super) fn is_told(&self) -> bool {
        self.told.get().is_some()
    }

    /// The stream is opened anew by the gateway itself: what its last one was told does not count.
    pub(crate) fn forget(&self) {
        self.told.set(None);
    }
}

// === impl Streams ===

impl Streams {
    /// Those that can be ended between two messages, and have not been told yet.
    pub(super) fn settled(&self) -> Vec<Rc<Stream>> {
        let streams = self.0.borrow();
        let settled = streams.iter().filter(|(_, stream)| stream.told.get().is_none() && stream.may_move());
        settled.map(|(_, stream)| stream.clone()).collect()
    }

    /// Has all of them end. Returns how many there are.
    pub(super) fn tell_all(&self, why: Move) -> usize {
        let streams = self.0.borrow();
        streams.iter().for_each(|(_, stream)| stream.tell(why));
        streams.len()
    }
}

// === impl Enrolled ===

impl Enrolled {
    /// `None` where nobody would tell the pool's streams to end.
    pub(super) fn new(pool: &Rc<Pool>, stream: &Rc<Stream>) -> Option<Enrolled> {
        let key = pool.streams()?.0.borrow_mut().insert(stream.clone());
        Some(Enrolled { pool: pool.clone(), key })
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        if let Some(streams) = self.pool.streams() {
            streams.0.borrow_mut().try_remove(self.key);
        }
    }
}
