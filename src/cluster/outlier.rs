//! Outlier detection: endpoints whose calls fail are taken out for a while (gRFC A50, and Envoy's consecutive failures).
//!
//! Workers count ([`tally`]); everything else is done here, once a process, on the control runtime.

mod rates;
mod tally;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Cluster, Endpoint, Members};
use crate::config::plan::OutlierDetection;
use crate::metrics::Cell;
use tally::Count;
pub(crate) use tally::{Tally, Verdict};

/// A cluster's outlier detection, as workers and the admin listener see it.
#[derive(Debug)]
pub(crate) struct Outliers {
    plan: OutlierDetection,
    /// A row is full somewhere.
    full: Notify,
    counts: Arc<Counts>,
}

/// What became of a cluster's endpoints, whichever of its configurations it was. The detector alone writes them.
#[derive(Debug, Default)]
struct Counts {
    /// Ejections by [`Reason`].
    ejections: [Cell; Reason::ALL.len()],
    /// Ejections that `max_ejection_percent` did not allow.
    prevented: Cell,
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    ConsecutiveGatewayFailure,
    ConsecutiveGrpcFailure,
    SuccessRate,
    FailurePercentage,
}

/// An ejection, for people to read.
#[derive(Clone, Debug)]
pub(crate) struct Ejection {
    pub(crate) reason: Reason,
    pub(crate) until: SystemTime,
    /// Ejections in a row, this one included: it lasts so many times as long as the first.
    pub(crate) times: u32,
}

/// Looks after a cluster for as long as this is polled, from how it is now.
pub(crate) fn detect(cluster: Arc<Cluster>) -> impl Future<Output = ()> {
    let members = cluster.members();
    let known = members.endpoints.iter().map(|endpoint| (endpoint.id, Known::inherited(endpoint))).collect();
    detect_from(cluster, known)
}

async fn detect_from(cluster: Arc<Cluster>, known: HashMap<usize, Known>) {
    let Some(outliers) = &cluster.outliers else { return };
    let interval = outliers.plan.interval;
    let mut detector = Detector { cluster: &cluster, outliers, known };
    let mut sweep = Instant::now() + interval;
    loop {
        let next = detector.first_return().map_or(sweep, |at| at.min(sweep));
        tokio::select! {
            () = outliers.full.notified() => detector.look_at_rows(Instant::now()),
            () = sleep_until(next) => {
                let now = Instant::now();
                if now >= sweep {
                    detector.sweep(now);
                    sweep = now + interval;
                }
                detector.let_back(now);
            }
        }
    }
}

/// What is known of the endpoints of one cluster.
struct Detector<'c> {
    cluster: &'c Cluster,
    outliers: &'c Outliers,
    known: HashMap<usize, Known>,
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
struct Known {
    /// The tally when the window began.
    before: Count,
    /// Ejections in a row; each window without one takes one away.
    times: u32,
    ejected_until: Option<Instant>,
}

// === impl Outliers ===

impl Outliers {
    pub(super) fn new(plan: OutlierDetection) -> Outliers {
        Outliers { plan, full: Notify::new(), counts: Arc::default() }
    }

    /// Those of the same cluster with another configuration.
    pub(super) fn succeed(plan: OutlierDetection, before: Option<&Outliers>) -> Outliers {
        let counts = before.map(|before| before.counts.clone()).unwrap_or_default();
        Outliers { plan, full: Notify::new(), counts }
    }

    pub(super) fn count(&self, tally: &Tally, worker: usize, verdict: Verdict) {
        if tally.count(worker, verdict, &self.plan) {
            self.full.notify_one();
        }
    }

    /// What the end of a call with this status from the backend says about it.
    pub(crate) fn of_status(&self, code: weir_filter::Code) -> Verdict {
        if self.plan.failure_statuses.contains(code) { Verdict::FailureStatus } else { Verdict::Good }
    }

    /// Ejections so far, by reason.
    pub(crate) fn ejections(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.counts.ejections.iter().map(Cell::get))
    }

    /// Ejections that `max_ejection_percent` did not allow.
    pub(crate) fn prevented(&self) -> u64 {
        self.counts.prevented.get()
    }
}

// === impl Reason ===

impl Reason {
    const ALL: [Reason; 4] = [
        Reason::ConsecutiveGatewayFailure,
        Reason::ConsecutiveGrpcFailure,
        Reason::SuccessRate,
        Reason::FailurePercentage,
    ];

    /// As metrics, logs and pages say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Reason::ConsecutiveGrpcFailure => "consecutive_grpc_failure",
            Reason::SuccessRate => "success_rate",
            Reason::FailurePercentage => "failure_percentage",
        }
    }
}

// === impl Detector ===

impl Detector<'_> {
    /// Ejects endpoints with a row of failures.
    fn look_at_rows(&mut self, now: Instant) {
        let members = self.cluster.members();
        for endpoint in &members.endpoints {
            if let Some(reason) = endpoint.tally.as_ref().and_then(Tally::take_full) {
                self.eject(&members, endpoint, reason, now);
            }
        }
    }

    /// Ends a window, and ejects endpoints by what passed in it.
    fn sweep(&mut self, now: Instant) {
        let members = self.cluster.members();
        self.known.retain(|id, _| members.endpoints.iter().any(|endpoint| endpoint.id == *id));
        let counts: Vec<Count> = members.endpoints.iter().map(|endpoint| self.end_window(endpoint)).collect();
        let plan = &self.outliers.plan;
        let low = plan.success_rate.map(|rule| rates::low_success_rates(&counts, rule));
        let high = plan.failure_percentage.map(|rule| rates::high_failure_percentages(&counts, rule));
        for (places, reason) in [(low, Reason::SuccessRate), (high, Reason::FailurePercentage)] {
            for at in places.unwrap_or_default() {
                self.eject(&members, &members.endpoints[at], reason, now);
            }
        }
        for known in self.known.values_mut().filter(|known| known.ejected_until.is_none()) {
            known.times = known.times.saturating_sub(1);
        }
    }

    /// The ends that were counted since the last window.
    fn end_window(&mut self, endpoint: &Endpoint) -> Count {
        let now = endpoint.tally.as_ref().map(Tally::count_of_all).unwrap_or_default();
        let known = self.known.entry(endpoint.id).or_default();
        now.since(std::mem::replace(&mut known.before, now))
    }

    fn eject(&mut self, members: &Members, endpoint: &Endpoint, reason: Reason, now: Instant) {
        if endpoint.is_ejected() {
            return;
        }
        let (cluster, label, plan) = (&self.cluster.plan.name, &endpoint.label, &self.outliers.plan);
        let ejected = members.endpoints.iter().filter(|endpoint| endpoint.is_ejected()).count();
        if ejected >= most_ejected(members.endpoints.len(), plan.max_ejection_percent) {
            self.outliers.counts.prevented.add(1);
            tracing::debug!(%cluster, endpoint = %label, reason = reason.name(), "not ejected: max_ejection_percent");
            return;
        }
        let known = self.known.entry(endpoint.id).or_default();
        known.times = known.times.saturating_add(1);
        let (times, time) =
            (known.times, plan.base_ejection_time.saturating_mul(known.times).min(plan.max_ejection_time));
        known.ejected_until = Some(now + time);
        self.outliers.counts.ejections[reason as usize].add(1);
        let until = SystemTime::now() + time;
        self.cluster.set_ejection(endpoint, Some(Ejection { reason, until, times }));
        tracing::warn!(%cluster, endpoint = %label, reason = reason.name(), ?time, times, "endpoint ejected");
    }

    /// When the first of the ejections ends.
    fn first_return(&self) -> Option<Instant> {
        self.known.values().filter_map(|known| known.ejected_until).min()
    }

    /// Lets endpoints back whose time is over.
    fn let_back(&mut self, now: Instant) {
        let members = self.cluster.members();
        for (id, known) in &mut self.known {
            if known.ejected_until.is_none_or(|until| until > now) {
                continue;
            }
            known.ejected_until = None;
            let Some(endpoint) = members.endpoints.iter().find(|endpoint| endpoint.id == *id) else { continue };
            // What streams that were open all the while came to says nothing about the calls to come.
            endpoint.tally.as_ref().inspect(|tally| tally.reset_rows());
            self.cluster.set_ejection(endpoint, None);
            tracing::info!(cluster = %self.cluster.plan.name, endpoint = %endpoint.label, "ejection ends");
        }
    }
}

impl Known {
    /// What another configuration of the cluster has left: nothing, for an endpoint that is new.
    fn inherited(endpoint: &Endpoint) -> Known {
        let before = endpoint.tally.as_ref().map(Tally::count_of_all).unwrap_or_default();
        let Some(ejection) = endpoint.reasons().ejection else { return Known { before, ..Known::default() } };
        let left = ejection.until.duration_since(SystemTime::now()).unwrap_or_default();
        Known { before, times: ejection.times, ejected_until: Some(Instant::now() + left) }
    }
}

/// How many of so many endpoints may be ejected at a time. One of several always may: a tenth of three would be none.
fn most_ejected(endpoints: usize, percent: u32) -> usize {
    (endpoints * percent as usize / 100).max(usize::from(endpoints > 1))
}

#[cfg(test)]
#[path = "outlier/tests.rs"]
mod tests;
