//! Circuit breakers: how much of a cluster and of its endpoints is in use, counted by all workers together.
//!
//! HTTP/2 does not say whether a call is unary. A call counts as one until a second message has passed in either direction; its
//! method is then known to be one of streams, and the next call to it counts as a stream from its start. A call that is
//! under way is never ended for what it has turned out to be.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Cluster, Endpoint};
use crate::config::plan::{Budget, CircuitBreakers};

/// Methods that a worker remembers as streaming. Names come from strangers, so there is an end to them; a method beyond it
/// counts as unary until the second message of each of its calls.
const REMEMBERED: usize = 4096;

/// What is in use of a cluster or of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    calls: AtomicUsize,
    streams: AtomicUsize,
    connections: AtomicUsize,
}

/// The limits of a cluster, and what is in use of it.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) plan: CircuitBreakers,
    counts: Arc<Counts>,
}

/// What is in use of a cluster, whichever of its configurations let it in.
#[derive(Debug, Default)]
struct Counts {
    usage: Usage,
    pending: AtomicUsize,
}

/// What a call counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    Stream,
}

/// The limit that a call has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub(crate) enum Full {
    Calls,
    Streams,
    EndpointCalls,
    EndpointStreams,
    Pending,
    PendingTimeout,
}

/// A call's place in its cluster and at its endpoint, until it ends.
#[derive(Debug)]
pub(crate) struct Place {
    cluster: Arc<Cluster>,
    endpoint: OnceCell<Arc<Endpoint>>,
    methods: Rc<Methods>,
    kind: Cell<Kind>,
}

/// The place of a call that waits for a stream.
#[derive(Debug)]
pub(crate) struct Pending(Arc<Cluster>);

/// A connection's place in its cluster and at its endpoint.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Cluster>, Arc<Endpoint>);

/// The methods that a worker knows to be streaming.
#[derive(Debug, Default)]
pub(crate) struct Methods(RefCell<HashSet<Box<str>>>);

// === impl Full ===

impl Full {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Full; 6] =
        [Full::Calls, Full::Streams, Full::EndpointCalls, Full::EndpointStreams, Full::Pending, Full::PendingTimeout];

    /// The key that sets it.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Full::Calls => "max_calls",
            Full::Streams => "max_streams",
            Full::EndpointCalls => "per_endpoint.max_calls",
            Full::EndpointStreams => "per_endpoint.max_streams",
            Full::Pending => "max_pending_calls",
            Full::PendingTimeout => "pending_timeout",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Full::Calls => "it has as many calls in flight as it may (max_calls)",
            Full::Streams => "it has as many streams in flight as it may (max_streams)",
            Full::EndpointCalls => "each of its endpoints has as many calls in flight as it may (max_calls)",
            Full::EndpointStreams => "each of its endpoints has as many streams in flight as it may (max_streams)",
            Full::Pending => "as many calls wait for a connection as may (max_pending_calls)",
            Full::PendingTimeout => "no stream became free in time (pending_timeout)",
        }
    }
}

// === impl Usage ===

impl Usage {
    fn of(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Unary => &self.calls,
            Kind::Stream => &self.streams,
        }
    }
}

fn most(budget: &Budget, kind: Kind) -> Option<usize> {
    match kind {
        Kind::Unary => budget.calls,
        Kind::Stream => budget.streams,
    }
}

/// Takes a place, unless as many are taken as may be.
fn take(taken: &AtomicUsize, most: Option<usize>) -> bool {
    let before = taken.fetch_add(1, Ordering::Relaxed);
    let free = most.is_none_or(|most| before < most);
    if !free {
        give_back(taken);
    }
    free
}

fn give_back(taken: &AtomicUsize) {
    taken.fetch_sub(1, Ordering::Relaxed);
}

fn is_full(taken: &AtomicUsize, most: Option<usize>) -> bool {
    most.is_some_and(|most| taken.load(Ordering::Relaxed) >= most)
}

// === impl Breaker ===

impl Breaker {
    pub(crate) fn new(plan: CircuitBreakers) -> Breaker {
        Breaker { plan, counts: Arc::default() }
    }

    /// One with other limits for the same cluster.
    pub(super) fn succeed(plan: CircuitBreakers, before: Option<&Breaker>) -> Breaker {
        Breaker { plan, counts: before.map(|before| before.counts.clone()).unwrap_or_default() }
    }

    /// True when an endpoint takes no more of this kind.
    pub(crate) fn is_full(&self, endpoint: &Endpoint, kind: Kind) -> bool {
        is_full(endpoint.usage.of(kind), most(&self.plan.endpoint, kind))
    }

    /// True when no further connection may be opened to an endpoint.
    pub(crate) fn is_connected_enough(&self, endpoint: &Endpoint) -> bool {
        is_full(&self.counts.usage.connections, self.plan.cluster.connections)
            || is_full(&endpoint.usage.connections, self.plan.endpoint.connections)
    }
}

// === impl Place ===

impl Place {
    /// A place in the cluster for a call of this method; `None` where the cluster has no limits.
    ///
    /// # Errors
    ///
    /// When as many are in flight as may be.
    pub(crate) fn take(cluster: &Arc<Cluster>, methods: &Rc<Methods>, path: &str) -> Result<Option<Place>, Full> {
        let Some(breaker) = &cluster.breaker else { return Ok(None) };
        let kind = methods.kind(path);
        if !take(breaker.counts.usage.of(kind), most(&breaker.plan.cluster, kind)) {
            return Err(if kind == Kind::Unary { Full::Calls } else { Full::Streams });
        }
        let (cluster, methods) = (cluster.clone(), methods.clone());
        Ok(Some(Place { cluster, endpoint: OnceCell::new(), methods, kind: Cell::new(kind) }))
    }

    /// Takes the place at the endpoint too. False when there is none.
    pub(crate) fn take_at(&self, endpoint: &Arc<Endpoint>) -> bool {
        let Some(breaker) = &self.cluster.breaker else { return true };
        let kind = self.kind.get();
        let taken = take(endpoint.usage.of(kind), most(&breaker.plan.endpoint, kind));
        if taken {
            self.endpoint.get_or_init(|| endpoint.clone());
        }
        taken
    }

    /// What the call counts as.
    pub(crate) fn kind(&self) -> Kind {
        self.kind.get()
    }

    /// The call has turned out to be a stream, and so has its method.
    pub(crate) fn is_stream(&self, path: &str) {
        self.give_back();
        self.kind.set(Kind::Stream);
        for usage in self.usages() {
            usage.streams.fetch_add(1, Ordering::Relaxed);
        }
        self.methods.learn(path);
    }

    fn usages(&self) -> impl Iterator<Item = &Usage> {
        let cluster = self.cluster.breaker.as_ref().map(|breaker| &breaker.counts.usage);
        cluster.into_iter().chain(self.endpoint.get().map(|endpoint| &endpoint.usage))
    }

    fn give_back(&self) {
        self.usages().for_each(|usage| give_back(usage.of(self.kind.get())));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}

// === impl Pending ===

impl Pending {
    /// A place among those who wait; `None` where the cluster has no limits.
    ///
    /// # Errors
    ///
    /// When as many wait as may.
    pub(crate) fn take(cluster: &Arc<Cluster>) -> Result<Option<Pending>, Full> {
        let Some(breaker) = &cluster.breaker else { return Ok(None) };
        match take(&breaker.counts.pending, breaker.plan.pending) {
            true => Ok(Some(Pending(cluster.clone()))),
            false => Err(Full::Pending),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(breaker) = &self.0.breaker {
            give_back(&breaker.counts.pending);
        }
    }
}

// === impl Connected ===

impl Connected {
    /// Counts a connection, whether there is room for it or not; `None` where the cluster has no limits.
    pub(crate) fn count(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Option<Connected> {
        let breaker = cluster.breaker.as_ref()?;
        take(&breaker.counts.usage.connections, None);
        take(&endpoint.usage.connections, None);
        Some(Connected(cluster.clone(), endpoint.clone()))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(breaker) = &self.0.breaker {
            give_back(&breaker.counts.usage.connections);
            give_back(&self.1.usage.connections);
        }
    }
}

// === impl Methods ===

impl Methods {
    fn kind(&self, path: &str) -> Kind {
        if self.are_streams(path) { Kind::Stream } else { Kind::Unary }
    }

    /// True when the calls of this method are known to be streams.
    pub(crate) fn are_streams(&self, path: &str) -> bool {
        self.0.borrow().contains(path)
    }

    /// A call of this method has carried a second message.
    pub(crate) fn learn(&self, path: &str) {
        let mut methods = self.0.borrow_mut();
        if methods.len() < REMEMBERED && !methods.contains(path) {
            methods.insert(path.into());
        }
    }
}
