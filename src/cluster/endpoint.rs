//! One address that serves a cluster.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::Found;
use super::breaker::Usage;
use super::latency::Latency;
use super::outlier::{Ejection, Tally};
use crate::config::plan::Labels;
use crate::socket::Address;

/// One address that serves the cluster.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Unlike that of every other endpoint of this process, past ones included.
    pub(crate) id: usize,
    pub(crate) address: Address,
    /// How metrics and logs name it.
    pub(crate) label: Arc<str>,
    pub(crate) weight: u32,
    /// 0 is asked first.
    pub(crate) priority: u32,
    /// What routes may ask for.
    pub(crate) labels: Arc<Labels>,
    /// What the file calls it.
    pub(crate) name: Option<Arc<str>>,
    /// Whom its certificate must name, where the cluster speaks TLS.
    pub(crate) server_name: Option<ServerName<'static>>,
    healthy: AtomicBool,
    /// What its cluster's circuit breakers count.
    pub(crate) usage: Usage,
    ejected: AtomicBool,
    /// What each worker has there: only the sum over all is the endpoint's load.
    work: Box<[Work]>,
    /// How its calls end; `None` where nobody asks.
    pub(crate) tally: Option<Tally>,
    /// How long it takes to answer; `None` where nobody asks.
    pub(crate) latency: Option<Latency>,
    /// When it joined or came back, while it has less than all of its weight for that.
    joined: Mutex<Option<Instant>>,
    reasons: Mutex<Reasons>,
}

/// Why an endpoint is as it is, for people to read. Calls never look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reasons {
    pub(crate) ejection: Option<Ejection>,
    pub(crate) last_check_failure: Option<CheckFailure>,
}

/// A health check that was answered badly, or not at all.
#[derive(Clone, Debug)]
pub(crate) struct CheckFailure {
    pub(crate) why: String,
    pub(crate) time: SystemTime,
}

/// What one worker has at an endpoint, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Work {
    /// Open streams.
    open: AtomicUsize,
    /// Calls that wait for a stream.
    waiting: AtomicUsize,
}

static NEXT_ID: AtomicUsize = AtomicUsize::new(0);

impl Endpoint {
    /// One that is up. `counted` says that somebody asks how its calls end, `decay` how long it is remembered how long they
    /// took, where somebody asks that.
    pub(super) fn new(found: Found, workers: usize, counted: bool, decay: Option<Duration>) -> Endpoint {
        let Found { address, weight, priority, labels, name, server_name } = found;
        Endpoint {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            label: address.to_string().into(),
            address,
            weight,
            priority,
            labels,
            name,
            server_name,
            healthy: AtomicBool::new(true),
            usage: Usage::default(),
            ejected: AtomicBool::new(false),
            work: (0..workers).map(|_| Work::default()).collect(),
            tally: counted.then(|| Tally::new(workers)),
            latency: decay.map(|decay| Latency::new(decay, workers)),
            joined: Mutex::default(),
            reasons: Mutex::default(),
        }
    }

    /// Takes over what is known of the same address from another configuration of its cluster.
    pub(super) fn inherit(&self, before: &Endpoint) {
        self.set_healthy(before.is_healthy());
        let reasons = before.reasons();
        if self.tally.is_some() {
            self.set_ejection(reasons.ejection.clone());
        }
        self.change_reasons(|own| own.last_check_failure = reasons.last_check_failure);
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) =
            *before.joined.lock().unwrap_or_else(PoisonError::into_inner);
    }

    /// The same as found.
    pub(super) fn found(&self) -> Found {
        Found {
            address: self.address.clone(),
            weight: self.weight,
            priority: self.priority,
            labels: self.labels.clone(),
            name: self.name.clone(),
            server_name: self.server_name.clone(),
        }
    }

    /// Whether it is what was found. A name alone makes no other endpoint: two names of the file may share an address,
    /// and which of them DNS finds first is not worth a connection. Under TLS the certificates tell them apart.
    pub(crate) fn is(&self, found: &Found) -> bool {
        let Found { address, weight, priority, labels, name: _, server_name } = found;
        (&self.address, self.weight, self.priority) == (address, *weight, *priority)
            && self.labels == *labels
            && self.server_name == *server_name
    }

    /// Whether it is where the other one is, and shows the same certificate.
    pub(super) fn is_at(&self, other: &Endpoint) -> bool {
        self.address == other.address && self.server_name == other.server_name
    }

    /// False while a health check says that it is down.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// True while it is out for what its calls said.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// True when it is neither down nor ejected.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_healthy() && !self.is_ejected()
    }

    /// True when that is a change.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        self.healthy.swap(healthy, Ordering::Relaxed) != healthy
    }

    pub(super) fn set_ejection(&self, ejection: Option<Ejection>) {
        self.ejected.store(ejection.is_some(), Ordering::Relaxed);
        self.change_reasons(|reasons| reasons.ejection = ejection);
    }

    /// It has joined, or has come back.
    pub(super) fn joins(&self, now: Instant) {
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// How long ago it joined or came back; `None` where that is of no interest any more.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).map(|joined| now.saturating_duration_since(joined))
    }

    /// True while it joined less than `window` ago. After that it is forgotten that it did.
    pub(super) fn is_growing(&self, now: Instant, window: Duration) -> bool {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        *joined = joined.filter(|joined| now.saturating_duration_since(*joined) < window);
        joined.is_some()
    }

    pub(super) fn note_check_failure(&self, why: &str) {
        let failure = CheckFailure { why: why.to_owned(), time: SystemTime::now() };
        self.change_reasons(|reasons| reasons.last_check_failure = Some(failure));
    }

    /// Why it is as it is.
    pub(crate) fn reasons(&self) -> Reasons {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_reasons(&self, change: impl FnOnce(&mut Reasons)) {
        change(&mut self.reasons.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Open streams of all workers.
    pub(crate) fn open(&self) -> usize {
        self.work.iter().map(|work| work.open.load(Ordering::Relaxed)).sum()
    }

    /// Open streams of all workers, and the calls that wait for one here. Without those, calls that come before the first
    /// connection is up would all find the endpoint idle.
    pub(crate) fn load(&self) -> usize {
        let waiting = |work: &Work| work.waiting.load(Ordering::Relaxed);
        self.work.iter().map(|work| work.open.load(Ordering::Relaxed) + waiting(work)).sum()
    }

    /// A worker opened a stream. Only that worker's thread may call this for its index.
    pub(crate) fn opened(&self, worker: usize) {
        increment(&self.work[worker].open);
    }

    /// A worker's stream ended. Only that worker's thread may call this for its index.
    pub(crate) fn ended(&self, worker: usize) {
        decrement(&self.work[worker].open);
    }

    /// A worker's call waits for a stream. Only that worker's thread may call this for its index.
    pub(crate) fn waits(&self, worker: usize) {
        increment(&self.work[worker].waiting);
    }

    /// A worker's call waits no longer. Only that worker's thread may call this for its index.
    pub(crate) fn waits_no_longer(&self, worker: usize) {
        decrement(&self.work[worker].waiting);
    }
}

/// Without a locked instruction: the cell has one writer.
fn increment(cell: &AtomicUsize) {
    cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// The same, downwards.
fn decrement(cell: &AtomicUsize) {
    cell.store(cell.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
}
