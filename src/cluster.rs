//! The endpoints of a cluster, as all workers know them.

pub(crate) mod balance;
pub(crate) mod dns;
mod hashing;
pub(crate) mod health;
pub(crate) mod retries;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::config::plan;
use balance::Balancer;
use retries::Retries;

/// A cluster of the plan, and who is in it now.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Its place in the plan.
    pub(crate) index: usize,
    pub(crate) plan: plan::Cluster,
    /// What its retries share, whichever worker makes them.
    pub(crate) retries: Retries,
    workers: usize,
    members: ArcSwap<Members>,
    /// Counts the changes of `members`, so that a worker sees with one load that its snapshot still holds.
    version: AtomicU64,
    changing: Mutex<()>,
}

/// The endpoints at one moment, and the choice among those that are up.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) balancer: Balancer,
}

/// An address that discovery has found, with what the file says about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) name: Option<Arc<str>>,
}

/// One address that serves the cluster.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Unlike that of every other endpoint of this process, past ones included.
    pub(crate) id: usize,
    pub(crate) address: SocketAddr,
    /// How metrics and logs name it.
    pub(crate) label: Arc<str>,
    pub(crate) weight: u32,
    /// What the file calls it.
    pub(crate) name: Option<Arc<str>>,
    healthy: AtomicBool,
    /// Open streams, a cell for each worker: only the sum over all is the endpoint's load.
    open: Box<[Padded]>,
}

/// A cell with a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicUsize);

static NEXT_ID: AtomicUsize = AtomicUsize::new(0);

// === impl Cluster ===

impl Cluster {
    /// A cluster without endpoints.
    pub(crate) fn new(index: usize, plan: plan::Cluster, workers: usize) -> Cluster {
        let balancer = Balancer::new(&plan.balance, plan.consistent, &[]);
        Cluster {
            index,
            retries: Retries::new(&plan),
            plan,
            workers,
            members: ArcSwap::from_pointee(Members { endpoints: Vec::new(), balancer }),
            version: AtomicU64::new(1),
            changing: Mutex::new(()),
        }
    }

    /// Changes with every change of [`Cluster::members`].
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Who is in the cluster now.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Replaces the endpoints by those found. An endpoint whose address and weight stay is kept, with its health
    /// and its connections. Returns those that are new.
    pub(crate) fn replace(&self, found: &[Found]) -> Vec<Arc<Endpoint>> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.members.load();
        let mut fresh = Vec::new();
        let endpoints = found
            .iter()
            .map(|found| {
                let known = before.endpoints.iter().find(|one| one.is(found));
                known.cloned().unwrap_or_else(|| {
                    let endpoint = Arc::new(Endpoint::new(found.clone(), self.workers));
                    fresh.push(endpoint.clone());
                    endpoint
                })
            })
            .collect();
        self.publish(endpoints);
        fresh
    }

    /// Records an endpoint's health. True when that is a change.
    pub(crate) fn set_health(&self, endpoint: &Endpoint, healthy: bool) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoint.healthy.swap(healthy, Ordering::Relaxed) == healthy {
            return false;
        }
        self.publish(self.members.load().endpoints.clone());
        true
    }

    fn publish(&self, endpoints: Vec<Arc<Endpoint>>) {
        let balancer = Balancer::new(&self.plan.balance, self.plan.consistent, &endpoints);
        self.members.store(Arc::new(Members { endpoints, balancer }));
        self.version.fetch_add(1, Ordering::Release);
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn new(found: Found, workers: usize) -> Endpoint {
        let Found { address, weight, name } = found;
        Endpoint {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            label: address.to_string().into(),
            weight,
            name,
            healthy: AtomicBool::new(true),
            open: (0..workers).map(|_| Padded::default()).collect(),
        }
    }

    /// Whether it is what was found. A name alone makes no other endpoint: two names of the file may share an address,
    /// and which of them DNS finds first is not worth a connection.
    pub(crate) fn is(&self, found: &Found) -> bool {
        self.address == found.address && self.weight == found.weight
    }

    /// False while a health check says that it is down.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Open streams of all workers.
    pub(crate) fn open(&self) -> usize {
        self.open.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }

    /// A worker opened a stream. Only that worker's thread may call this for its index.
    pub(crate) fn opened(&self, worker: usize) {
        let cell = &self.open[worker].0;
        cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A worker's stream ended. Only that worker's thread may call this for its index.
    pub(crate) fn ended(&self, worker: usize) {
        let cell = &self.open[worker].0;
        cell.store(cell.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }
}
