//! The endpoints of a cluster, as all workers know them.

pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod dns;
mod endpoint;
mod hashing;
pub(crate) mod health;
pub(crate) mod outlier;
pub(crate) mod retries;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;

use crate::config::plan;
use balance::Balancer;
use breaker::Breaker;
pub(crate) use endpoint::Endpoint;
use health::CheckCounts;
use outlier::{Ejection, Outliers, Verdict};
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
    /// Limits of what may be in use; `None` where there are none.
    pub(crate) breaker: Option<Breaker>,
    /// How health checks ended.
    pub(crate) checks: CheckCounts,
    /// How its names are looked up.
    pub(crate) dns: dns::Status,
    /// What the ends of calls say about endpoints; `None` where nobody asks.
    pub(crate) outliers: Option<Outliers>,
}

/// The endpoints at one moment, and the choice among those that are usable.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) balancer: Balancer,
    /// Too few are usable, so that all are used.
    pub(crate) panic: bool,
}

/// An address that discovery has found, with what the file says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) name: Option<Arc<str>>,
    /// Whom its certificate must name, where the cluster speaks TLS.
    pub(crate) server_name: Option<ServerName<'static>>,
}

// === impl Cluster ===

impl Cluster {
    /// A cluster without endpoints.
    pub(crate) fn new(index: usize, plan: plan::Cluster, workers: usize) -> Cluster {
        let members = Members::new(&plan, Vec::new());
        Cluster {
            index,
            breaker: plan.circuit_breakers.map(Breaker::new),
            retries: Retries::new(&plan),
            workers,
            members: ArcSwap::from_pointee(members),
            version: AtomicU64::new(1),
            changing: Mutex::new(()),
            checks: CheckCounts::default(),
            dns: dns::Status::default(),
            outliers: plan.outlier_detection.clone().map(Outliers::new),
            plan,
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
                    let endpoint = Arc::new(Endpoint::new(found.clone(), self.workers, self.outliers.is_some()));
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
        if !endpoint.set_healthy(healthy) {
            return false;
        }
        self.publish(self.members.load().endpoints.clone());
        true
    }

    /// Takes an endpoint out for what its calls said, or lets it back in.
    pub(crate) fn set_ejection(&self, endpoint: &Endpoint, ejection: Option<Ejection>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        endpoint.set_ejection(ejection);
        self.publish(self.members.load().endpoints.clone());
    }

    /// Hears from a worker how an attempt at an endpoint, or a connect to it, went.
    pub(crate) fn tell(&self, endpoint: &Endpoint, worker: usize, verdict: Verdict) {
        if let (Some(outliers), Some(tally)) = (&self.outliers, &endpoint.tally) {
            outliers.count(tally, worker, verdict);
        }
    }

    fn publish(&self, endpoints: Vec<Arc<Endpoint>>) {
        let members = Arc::new(Members::new(&self.plan, endpoints));
        let before = self.members.swap(members.clone());
        self.version.fetch_add(1, Ordering::Release);
        let (cluster, of) = (&self.plan.name, members.endpoints.len());
        match (before.panic, members.panic) {
            (false, true) => {
                let usable = members.usable();
                tracing::warn!(%cluster, usable, of, "panic: too few endpoints are usable, all get calls");
            }
            (true, false) => tracing::info!(%cluster, of, "panic ends: only usable endpoints get calls"),
            _ => {}
        }
    }
}

// === impl Members ===

impl Members {
    fn new(plan: &plan::Cluster, endpoints: Vec<Arc<Endpoint>>) -> Members {
        let usable: Vec<usize> = (0..endpoints.len()).filter(|at| endpoints[*at].is_usable()).collect();
        let panic = usable.len() * 100 < plan.healthy_panic_threshold as usize * endpoints.len();
        let chosen = if panic { (0..endpoints.len()).collect() } else { usable };
        let balancer = Balancer::new(&plan.balance, plan.consistent, &endpoints, chosen);
        Members { endpoints, balancer, panic }
    }

    /// Endpoints that are neither down nor ejected.
    fn usable(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.is_usable()).count()
    }
}
