//! What bounds the retries of a cluster, all workers together: tokens, a budget and a buffer.
//!
//! Only calls with a retry policy touch any of it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::config::plan::{self, RetryBudget, RetryThrottling};
use crate::metrics::WorkerMetrics;

/// The bounds, and what has been used of them.
#[derive(Debug)]
pub(crate) struct Retries {
    throttling: Option<RetryThrottling>,
    throttle: Option<Arc<Throttle>>,
    budget: Option<RetryBudget>,
    buffer: usize,
    used: Arc<Used>,
    /// Where the calls in flight are counted.
    workers: OnceLock<Vec<Arc<WorkerMetrics>>>,
}

/// What is in use of a cluster, whichever of its configurations granted it.
#[derive(Debug, Default)]
struct Used {
    /// Retries that wait for their backoff or whose response has not begun.
    under_way: AtomicUsize,
    buffered: AtomicUsize,
}

/// Tokens in thousandths (gRFC A6, "Throttling Retry Attempts and Hedged RPCs").
#[derive(Debug)]
struct Throttle {
    tokens: AtomicU64,
    max: u64,
    ratio: u64,
}

/// What one failure costs.
const TOKEN: u64 = 1000;

impl Retries {
    pub(crate) fn new(plan: &plan::Cluster) -> Retries {
        Retries {
            throttling: plan.throttling(),
            throttle: plan.throttling().map(Throttle::new).map(Arc::new),
            budget: plan.retry_budget,
            buffer: plan.retry_buffer.per_cluster,
            used: Arc::default(),
            workers: OnceLock::new(),
        }
    }

    /// Those of the same cluster with another configuration: what is in use stays in use, and tokens that mean the same
    /// stay as they are.
    pub(super) fn succeed(plan: &plan::Cluster, before: &Retries) -> Retries {
        let mut retries = Retries::new(plan);
        if retries.throttling == before.throttling {
            retries.throttle = before.throttle.clone();
        }
        retries.used = before.used.clone();
        retries
    }

    /// Tells where the workers count their calls. Until then a budget knows of none.
    pub(crate) fn watch(&self, workers: impl Iterator<Item = Arc<WorkerMetrics>>) {
        self.workers.get_or_init(|| workers.collect());
    }

    /// An attempt has succeeded.
    pub(crate) fn succeeded(&self) {
        if let Some(throttle) = &self.throttle {
            throttle.succeeded();
        }
    }

    /// An attempt has failed with a status that could be tried again, or was told not to try.
    pub(crate) fn failed(&self) {
        if let Some(throttle) = &self.throttle {
            throttle.failed();
        }
    }

    /// True while too many attempts fail.
    pub(crate) fn is_throttled(&self) -> bool {
        self.throttle.as_ref().is_some_and(|throttle| throttle.is_low())
    }

    /// Takes a place for a retry of a call to the cluster with this index. False when there is none.
    pub(crate) fn begin(&self, cluster: usize) -> bool {
        let Some(budget) = self.budget else {
            // Counted all the same: the next configuration may have one.
            self.used.under_way.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let in_flight: u64 =
            self.workers.get().into_iter().flatten().map(|worker| worker.in_flight(Some(cluster)).get()).sum();
        let share = in_flight.saturating_mul(u64::from(budget.percent)) / 100;
        let most = usize::try_from(share).unwrap_or(usize::MAX).max(budget.min_concurrency as usize);
        let take = |taken: usize| (taken < most).then_some(taken + 1);
        self.used.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Gives a place back.
    pub(crate) fn end(&self) {
        self.used.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes room for bytes of a request. False when there is none.
    pub(crate) fn keep(&self, bytes: usize) -> bool {
        let take = |kept: usize| kept.checked_add(bytes).filter(|kept| *kept <= self.buffer);
        self.used.buffered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Gives room back.
    pub(crate) fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.used.buffered.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of requests that are kept.
    pub(crate) fn buffered(&self) -> usize {
        self.used.buffered.load(Ordering::Relaxed)
    }
}

impl Throttle {
    fn new(throttling: RetryThrottling) -> Throttle {
        let max = u64::from(throttling.max_tokens) * TOKEN;
        Throttle { tokens: AtomicU64::new(max), max, ratio: throttling.token_ratio.0 }
    }

    fn succeeded(&self) {
        // A cluster that does well leaves the line alone.
        if self.tokens.load(Ordering::Relaxed) < self.max {
            self.change(|tokens| (tokens + self.ratio).min(self.max));
        }
    }

    fn failed(&self) {
        self.change(|tokens| tokens.saturating_sub(TOKEN));
    }

    fn change(&self, to: impl Fn(u64) -> u64) {
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| Some(to(tokens)));
    }

    fn is_low(&self) -> bool {
        self.tokens.load(Ordering::Relaxed) <= self.max / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{RetryBuffer, Thousandths};

    fn retries(budget: Option<RetryBudget>) -> Retries {
        Retries {
            throttling: None,
            throttle: Some(Throttle::new(RetryThrottling { max_tokens: 10, token_ratio: Thousandths(500) }).into()),
            budget,
            buffer: RetryBuffer { per_call: 10, per_cluster: 100 }.per_cluster,
            used: Arc::default(),
            workers: OnceLock::new(),
        }
    }

    #[test]
    fn half_of_the_tokens_stop_retries_and_successes_bring_them_back() {
        let retries = retries(None);
        (0..4).for_each(|_| retries.failed());
        assert!(!retries.is_throttled(), "six of ten are left");
        retries.failed();
        assert!(retries.is_throttled(), "five are half");
        retries.succeeded();
        assert!(!retries.is_throttled());
        (0..100).for_each(|_| retries.failed());
        (0..10).for_each(|_| retries.succeeded());
        assert!(retries.is_throttled(), "never below nothing: ten successes are five tokens");
        retries.succeeded();
        assert!(!retries.is_throttled());
    }

    #[test]
    fn a_budget_is_a_share_of_the_calls_and_never_less_than_its_minimum() {
        let retries = retries(Some(RetryBudget { percent: 20, min_concurrency: 2 }));
        let metrics = Arc::new(WorkerMetrics::new(1, 2));
        assert!(retries.begin(1) && retries.begin(1) && !retries.begin(1));
        retries.watch([metrics.clone(), Arc::new(WorkerMetrics::new(1, 2))].into_iter());
        metrics.in_flight(Some(1)).add(15);
        assert!(retries.begin(1) && !retries.begin(1), "a fifth of fifteen");
        retries.end();
        assert!(retries.begin(1) && !retries.begin(1));
    }

    #[test]
    fn the_buffer_is_bounded() {
        let retries = retries(None);
        assert!(retries.keep(60) && !retries.keep(41) && retries.keep(40));
        retries.release(60);
        assert_eq!(retries.buffered(), 40);
    }
}
