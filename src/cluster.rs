//! The endpoints of a cluster, as all workers know them.

pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod dns;
mod endpoint;
#[cfg(test)]
pub(crate) mod fixture;
mod hashing;
pub(crate) mod health;
pub(crate) mod keeper;
pub(crate) mod latency;
pub(crate) mod levels;
mod members;
pub(crate) mod outlier;
pub(crate) mod retries;
pub(crate) mod slow_start;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::config::plan::{self, Labels};
use crate::metrics::Slot;
use crate::socket::Address;
use breaker::Breaker;
pub(crate) use endpoint::Endpoint;
use health::CheckCounts;
pub(crate) use members::Members;
use outlier::{Ejection, Outliers, Verdict};
use retries::Retries;

/// A cluster of the plan, and who is in it now.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The place of its counters.
    pub(crate) index: usize,
    slot: Arc<Slot>,
    pub(crate) plan: plan::Cluster,
    /// What its retries share, whichever worker makes them.
    pub(crate) retries: Retries,
    workers: usize,
    members: ArcSwap<Members>,
    /// Counts the changes of `members`, so that a worker sees with one load that its snapshot still holds.
    version: AtomicU64,
    changing: Mutex<()>,
    /// Wakes whoever waits for a change.
    changed: Notify,
    /// Limits of what may be in use; `None` where there are none.
    pub(crate) breaker: Option<Breaker>,
    /// How health checks ended.
    pub(crate) checks: Arc<CheckCounts>,
    /// How its names are looked up.
    pub(crate) dns: Arc<dns::Status>,
    /// What the ends of calls say about endpoints; `None` where nobody asks.
    pub(crate) outliers: Option<Outliers>,
    /// An endpoint has joined or come back that gets its share little by little.
    joined: Notify,
    gone: AtomicBool,
}

/// An address that discovery has found, with what the file says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: Address,
    pub(crate) weight: u32,
    pub(crate) priority: u32,
    pub(crate) labels: Arc<Labels>,
    pub(crate) name: Option<Arc<str>>,
    /// Whom its certificate must name, where the cluster speaks TLS.
    pub(crate) server_name: Option<ServerName<'static>>,
}

// === impl Cluster ===

impl Cluster {
    /// A cluster without endpoints.
    pub(crate) fn new(slot: Arc<Slot>, plan: plan::Cluster, workers: usize) -> Cluster {
        let members = Members::new(&plan, Vec::new(), Instant::now());
        Cluster {
            index: slot.index,
            slot,
            breaker: plan.circuit_breakers.map(Breaker::new),
            retries: Retries::new(&plan),
            workers,
            members: ArcSwap::from_pointee(members),
            version: AtomicU64::new(1),
            changing: Mutex::new(()),
            changed: Notify::new(),
            checks: Arc::default(),
            dns: Arc::default(),
            outliers: plan.outlier_detection.clone().map(Outliers::new),
            joined: Notify::new(),
            gone: AtomicBool::new(false),
            plan,
        }
    }

    /// The same cluster with another configuration, which its endpoints, their health and what is counted outlive. So do
    /// connections, unless they would be made otherwise now.
    pub(crate) fn succeed(plan: plan::Cluster, before: &Cluster) -> Cluster {
        let mut cluster = Cluster::new(before.slot.clone(), plan, before.workers);
        cluster.breaker = cluster.plan.circuit_breakers.map(|plan| Breaker::succeed(plan, before.breaker.as_ref()));
        cluster.retries = Retries::succeed(&cluster.plan, &before.retries);
        let outliers = cluster.plan.outlier_detection.clone();
        cluster.outliers = outliers.map(|plan| Outliers::succeed(plan, before.outliers.as_ref()));
        cluster.checks = before.checks.clone();
        cluster.dns = before.dns.clone();
        let endpoints = before.members().endpoints.iter().map(|endpoint| cluster.heir(before, endpoint)).collect();
        cluster.members.store(Arc::new(Members::new(&cluster.plan, endpoints, Instant::now())));
        cluster
    }

    /// An endpoint of another configuration, in this one.
    fn heir(&self, before: &Cluster, endpoint: &Arc<Endpoint>) -> Arc<Endpoint> {
        if self.plan.keeps_connections_of(&before.plan) {
            return endpoint.clone();
        }
        let heir = self.endpoint(&endpoint.found());
        heir.inherit(endpoint);
        Arc::new(heir)
    }

    /// Changes with every change of [`Cluster::members`].
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Ready after the next change from now on, whenever it is waited for.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// No configuration has it any more.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// True while this is one of its endpoints, by its address: with another weight it is another [`Endpoint`].
    pub(crate) fn has(&self, endpoint: &Endpoint) -> bool {
        !self.gone.load(Ordering::Relaxed) && self.members.load().endpoints.iter().any(|one| one.is_at(endpoint))
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
                    let endpoint = Arc::new(self.endpoint(found));
                    fresh.push(endpoint.clone());
                    endpoint
                })
            })
            .collect();
        // The first have nobody who could do their work meanwhile.
        if !before.endpoints.is_empty() {
            fresh.iter().for_each(|endpoint| self.joins(endpoint));
        }
        self.publish(endpoints);
        fresh
    }

    fn endpoint(&self, found: &Found) -> Endpoint {
        Endpoint::new(found.clone(), self.workers, self.outliers.is_some(), self.plan.balance.decay_time())
    }

    /// From now on an endpoint gets its share little by little, where the cluster says so.
    fn joins(&self, endpoint: &Endpoint) {
        if self.plan.slow_start.is_some() {
            endpoint.joins(Instant::now());
            self.joined.notify_one();
        }
    }

    /// Records an endpoint's health. True when that is a change.
    pub(crate) fn set_health(&self, endpoint: &Endpoint, healthy: bool) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !endpoint.set_healthy(healthy) {
            return false;
        }
        if healthy {
            self.joins(endpoint);
        }
        self.publish(self.members.load().endpoints.clone());
        true
    }

    /// Takes an endpoint out for what its calls said, or lets it back in.
    pub(crate) fn set_ejection(&self, endpoint: &Endpoint, ejection: Option<Ejection>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if ejection.is_none() {
            self.joins(endpoint);
        }
        endpoint.set_ejection(ejection);
        self.publish(self.members.load().endpoints.clone());
    }

    /// True while an endpoint has less than all of its weight. What has joined longer ago is forgotten.
    fn is_growing(&self, now: Instant) -> bool {
        let Some(plan) = &self.plan.slow_start else { return false };
        let members = self.members.load();
        // Every one is asked: each forgets for itself.
        members.endpoints.iter().filter(|endpoint| endpoint.is_growing(now, plan.window)).count() > 0
    }

    /// Works out anew who gets how much.
    fn renew(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish(self.members.load().endpoints.clone());
    }

    /// Hears from a worker how an attempt at an endpoint, or a connect to it, went.
    pub(crate) fn tell(&self, endpoint: &Endpoint, worker: usize, verdict: Verdict) {
        if let (Some(outliers), Some(tally)) = (&self.outliers, &endpoint.tally) {
            outliers.count(tally, worker, verdict);
        }
    }

    fn publish(&self, endpoints: Vec<Arc<Endpoint>>) {
        let members = Arc::new(Members::new(&self.plan, endpoints, Instant::now()));
        let before = self.members.swap(members.clone());
        self.version.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
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
