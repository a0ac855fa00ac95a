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
    /// The gateway drains, and the route's streams end between two messages then.
    Drain,
    /// The gateway drains, and the time that the route's streams have then is over.
    DrainCut,
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
pub(super) struct Streams {
    open: RefCell<Slab<Rc<Stream>>>,
    /// Why all of them have been told to end: one that comes later is told too.
    over: Cell<Option<Move>>,
}

/// A stream's place among those of its pool.
pub(crate) struct Enrolled {
    pool: Rc<Pool>,
    key: usize,
}

// === impl Move ===

impl Move {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Move; 5] = [Move::Removed, Move::Age, Move::Rebalance, Move::Drain, Move::DrainCut];

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Move::Removed => "endpoint_removed",
            Move::Age => "max_stream_age",
            Move::Rebalance => "rebalance",
            Move::Drain => "drain",
            Move::DrainCut => "drain_cut",
        }
    }

    /// What a client is told.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Move::Removed => "the endpoint was removed, and the stream has had its time (endpoint_drain_timeout)",
            Move::Age => "the stream is older than its route's max_stream_age: open it anew",
            Move::Rebalance => "an endpoint has joined, and the stream makes room (rebalance): open it anew",
            Move::Drain => "the gateway drains (on_drain): open the stream anew",
            Move::DrainCut => "the gateway drains, and the stream has had its time (on_drain): open it anew",
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
        self.has_begun.get() && self.is_known()
    }

    /// True for a call that is known to be no unary one.
    pub(crate) fn is_known(&self) -> bool {
        self.is_stream.get() || self.methods.are_streams(self.method())
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
        let open = self.open.borrow();
        let settled = open.iter().filter(|(_, stream)| stream.told.get().is_none() && stream.may_move());
        settled.map(|(_, stream)| stream.clone()).collect()
    }

    /// Has all of them end, also those that come. Returns how many there are.
    pub(super) fn tell_all(&self, why: Move) -> usize {
        self.over.set(Some(why));
        let open = self.open.borrow();
        open.iter().for_each(|(_, stream)| stream.tell(why));
        open.len()
    }

    /// Adds one, and returns its key. It may have been given its place before all were told, and come afterwards.
    fn add(&self, stream: &Rc<Stream>) -> usize {
        if let Some(why) = self.over.get() {
            stream.tell(why);
        }
        self.open.borrow_mut().insert(stream.clone())
    }
}

// === impl Enrolled ===

impl Enrolled {
    /// `None` where nobody would tell the pool's streams to end.
    pub(super) fn new(pool: &Rc<Pool>, stream: &Rc<Stream>) -> Option<Enrolled> {
        let key = pool.streams()?.add(stream);
        Some(Enrolled { pool: pool.clone(), key })
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        if let Some(streams) = self.pool.streams() {
            streams.open.borrow_mut().try_remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};

    use super::*;

    /// A stream of a method.
    fn stream(methods: &Rc<Methods>) -> Rc<Stream> {
        let call = Call {
            uri: Uri::from_static("/test.Echo/Do"),
            metadata: HeaderMap::new(),
            peer: weir_filter::Peer::Ip(([127, 0, 0, 1], 1).into()),
            extensions: http::Extensions::new(),
        };
        Rc::new(Stream::new(Instant::now(), &call, methods.clone()))
    }

    #[test]
    fn streams_are_told_also_when_they_come_late() {
        let streams = Streams::default();
        let (open, late) = (stream(&Rc::default()), stream(&Rc::default()));
        streams.add(&open);
        assert_eq!(streams.tell_all(Move::Removed), 1);
        streams.add(&late);
        assert!(open.is_told() && late.is_told());
    }

    #[test]
    fn a_stream_may_move_once_it_is_known_to_be_one_and_has_begun() {
        let methods = Rc::default();
        let (talks, watches) = (stream(&methods), stream(&methods));
        talks.moved(true, 1);
        assert!(!talks.may_move(), "it may be unary");
        watches.moved(false, 0);
        talks.moved(true, 2);
        assert!(talks.may_move());
        assert!(!watches.may_move(), "its response has not begun");
        watches.moved(true, 0);
        assert!(watches.may_move(), "its method is known");
    }

    #[test]
    fn what_was_told_is_told_no_more_and_is_not_settled() {
        let streams = Streams::default();
        let one = stream(&Rc::default());
        one.moved(true, 2);
        streams.add(&one);
        assert_eq!(streams.settled().len(), 1);
        one.tell(Move::Rebalance);
        assert!(streams.settled().is_empty());
        one.forget();
        assert!(!one.is_told());
    }
}
