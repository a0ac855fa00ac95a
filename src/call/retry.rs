//! Whether a call that failed is made again, and when (gRFC A6).

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::response::Parts;
use http::{HeaderMap, HeaderName};
use tokio::time::{Instant, Sleep, sleep};
use weir_filter::Code;

use crate::cluster::Cluster;
use crate::config::plan::{HedgingPolicy, RetryPolicy, Thousandths};
use crate::metrics::{Denied, WorkerMetrics};

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// How many attempts came before, as backends and clients are told.
pub(crate) const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// A call that its policy may make again. Calls without a policy have none of this.
pub(crate) struct Retry {
    pub(crate) policy: Arc<RetryPolicy>,
    pub(crate) cluster: Arc<Cluster>,
    metrics: Arc<WorkerMetrics>,
    /// Attempts that failed. Those that no backend processed do not count.
    failed: u32,
    /// Waits that the policy chose, since a backend last chose one.
    backoffs: u32,
    /// The call has a place in its cluster's budget.
    has_place: bool,
    /// The attempt has been counted in the cluster's tokens.
    is_counted: bool,
    /// The response goes to the client: this attempt is the last.
    is_committed: bool,
    /// The head of a response that may still be a failure, and how long it is held.
    held: Option<(Parts, Pin<Box<Sleep>>)>,
    /// The end of the attempt's own time.
    timeout: Option<Pin<Box<Sleep>>>,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// What the client would see.
    pub(crate) code: Code,
    /// It is tried again whatever the policy's statuses are.
    pub(crate) timed_out: bool,
    /// What the backend said about another attempt.
    pub(crate) pushback: Option<Pushback>,
}

/// What a backend says about another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushback {
    /// After this time.
    After(Duration),
    /// Not at all.
    Never,
}

/// What of a call matters to whether it can be made again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// All that was sent of the request is still there.
    pub(crate) is_whole: bool,
    pub(crate) deadline: Option<Instant>,
}

impl Retry {
    pub(crate) fn new(policy: Arc<RetryPolicy>, cluster: Arc<Cluster>, metrics: Arc<WorkerMetrics>) -> Retry {
        Retry {
            policy,
            cluster,
            metrics,
            failed: 0,
            backoffs: 0,
            has_place: false,
            is_counted: false,
            is_committed: false,
            held: None,
            timeout: None,
        }
    }

    /// An attempt that won against others and goes on whatever it comes to. So many came before it; `is_counted` says that it
    /// has been counted in the tokens.
    pub(crate) fn committed(
        hedging: &HedgingPolicy,
        cluster: Arc<Cluster>,
        metrics: Arc<WorkerMetrics>,
        previous: u32,
        is_counted: bool,
    ) -> Retry {
        let policy = RetryPolicy {
            max_attempts: hedging.max_attempts,
            initial_backoff: Duration::ZERO,
            max_backoff: Duration::ZERO,
            backoff_multiplier: Thousandths(0),
            retryable: hedging.non_fatal,
            per_attempt_timeout: None,
            hold_headers: Duration::ZERO,
        };
        let mut retry = Retry::new(Arc::new(policy), cluster, metrics);
        (retry.failed, retry.is_committed, retry.is_counted) = (previous, true, is_counted);
        retry
    }

    /// Attempts before this one.
    pub(crate) fn previous(&self) -> u32 {
        self.failed
    }

    /// An attempt ended in a failure: how long to wait before the next, or `None` when there is none.
    pub(crate) fn grant(&mut self, failure: Failure, circumstances: Circumstances) -> Option<Duration> {
        if self.is_committed || failure.code == Code::Ok {
            return None;
        }
        let retryable = failure.timed_out || self.policy.retryable.contains(failure.code);
        if retryable || failure.pushback == Some(Pushback::Never) {
            self.count(|cluster| cluster.retries.failed());
        }
        if !retryable {
            return None;
        }
        let cluster = self.cluster.index;
        match self.allow(failure, circumstances) {
            Ok(wait) => {
                self.metrics.retries[cluster].add(1);
                self.failed += 1;
                self.is_counted = false;
                self.held = None;
                self.timeout = None;
                Some(wait)
            }
            Err(denied) => {
                self.metrics.denied_retries(cluster, denied).add(1);
                None
            }
        }
    }

    fn allow(&mut self, failure: Failure, circumstances: Circumstances) -> Result<Duration, Denied> {
        if self.failed + 1 >= self.policy.max_attempts {
            return Err(Denied::Attempts);
        }
        if failure.pushback == Some(Pushback::Never) {
            return Err(Denied::Pushback);
        }
        if !circumstances.is_whole {
            return Err(Denied::Buffer);
        }
        if self.cluster.retries.is_throttled() {
            return Err(Denied::Throttled);
        }
        let pushed_back = match failure.pushback {
            Some(Pushback::After(wait)) => Some(wait),
            Some(Pushback::Never) | None => None,
        };
        let wait = pushed_back.unwrap_or_else(|| jittered(longest_wait(&self.policy, self.backoffs)));
        if circumstances.deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
            return Err(Denied::Deadline);
        }
        if !self.has_place && !self.cluster.retries.begin(self.cluster.index) {
            return Err(Denied::Budget);
        }
        self.has_place = true;
        self.backoffs = if pushed_back.is_some() { 0 } else { self.backoffs + 1 };
        Ok(wait)
    }

    /// The response goes to the client, whatever it comes to.
    pub(crate) fn commit(&mut self) {
        self.is_committed = true;
        self.timeout = None;
        self.give_place_back();
    }

    /// The call has ended with this code.
    pub(crate) fn settle(&mut self, code: Code) {
        if code == Code::Ok {
            self.count(|cluster| cluster.retries.succeeded());
        } else if self.policy.retryable.contains(code) {
            self.count(|cluster| cluster.retries.failed());
        }
    }

    fn count(&mut self, count: impl Fn(&Cluster)) {
        if !std::mem::replace(&mut self.is_counted, true) {
            count(&self.cluster);
        }
    }

    /// Holds the head of a response back.
    pub(crate) fn hold(&mut self, head: Parts) {
        self.held = Some((head, Box::pin(sleep(self.policy.hold_headers))));
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// The head that is held, to be handed on.
    pub(crate) fn let_go(&mut self) -> Option<Parts> {
        self.held.take().map(|(head, _)| head)
    }

    /// Ready when a head has been held for long enough.
    pub(crate) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.held {
            Some((_, timer)) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// Ready when the attempt has had its time. The time begins with the first call.
    pub(crate) fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(time) = self.policy.per_attempt_timeout.filter(|_| !self.is_committed) else { return Poll::Pending };
        self.timeout.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(cx).map(|()| time)
    }

    fn give_place_back(&mut self) {
        if std::mem::take(&mut self.has_place) {
            self.cluster.retries.end();
        }
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        self.give_place_back();
    }
}

impl Failure {
    /// A failure that nobody said anything about but this.
    pub(crate) fn of(code: Code) -> Failure {
        Failure { code, timed_out: false, pushback: None }
    }

    /// A failure that trailers tell of, or a trailers-only head.
    pub(crate) fn told_by(code: Code, trailers: &HeaderMap) -> Failure {
        Failure { pushback: pushback(trailers), ..Failure::of(code) }
    }
}

/// What cannot be read asks for no retry (gRFC A6, "Pushback").
fn pushback(trailers: &HeaderMap) -> Option<Pushback> {
    let mut values = trailers.get_all(&PUSHBACK).iter();
    let first = values.next()?;
    let number = first.to_str().ok().and_then(|text| text.parse::<i32>().ok()).filter(|_| values.next().is_none());
    Some(match number.and_then(|number| u64::try_from(number).ok()) {
        Some(millis) => Pushback::After(Duration::from_millis(millis)),
        None => Pushback::Never,
    })
}

/// The longest wait after so many waits.
fn longest_wait(policy: &RetryPolicy, waits: u32) -> Duration {
    let exponent = i32::try_from(waits).unwrap_or(i32::MAX);
    let seconds = policy.initial_backoff.as_secs_f64() * policy.backoff_multiplier.as_f64().powi(exponent);
    Duration::try_from_secs_f64(seconds).unwrap_or(policy.max_backoff).min(policy.max_backoff)
}

/// Any time up to this: callers that failed together come back apart.
#[expect(clippy::cast_precision_loss, reason = "fifty-odd bits of chance are enough")]
fn jittered(longest: Duration) -> Duration {
    let chance = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    longest.mul_f64(chance.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{StatusCodes, Thousandths};

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 5,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            backoff_multiplier: Thousandths(2000),
            retryable: StatusCodes::default(),
            per_attempt_timeout: None,
            hold_headers: Duration::ZERO,
        }
    }

    #[test]
    fn waits_grow_to_their_limit() {
        let waits: Vec<_> = (0..6).map(|waits| longest_wait(&policy(), waits).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        let huge = RetryPolicy { backoff_multiplier: Thousandths(1_000_000), ..policy() };
        assert_eq!(longest_wait(&huge, u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn jitter_is_full() {
        let longest = Duration::from_secs(1);
        let waits: Vec<_> = (0..1000).map(|_| jittered(longest)).collect();
        assert!(waits.iter().all(|wait| *wait <= longest));
        for tenth in 0..10 {
            let found = waits.iter().filter(|wait| wait.as_millis() / 100 == tenth).count();
            assert!((50..200).contains(&found), "{found} of 1000 in the tenth {tenth}");
        }
    }

    #[test]
    fn pushback_is_a_number_or_a_no() {
        let said = |values: &[&'static str]| {
            let mut trailers = HeaderMap::new();
            for value in values {
                trailers.append(PUSHBACK, http::HeaderValue::from_static(value));
            }
            pushback(&trailers)
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&["0"]), Some(Pushback::After(Duration::ZERO)));
        assert_eq!(said(&["1500"]), Some(Pushback::After(Duration::from_millis(1500))));
        for no in [&["-1"][..], &["soon"], &[""], &["1.5"], &["2147483648"], &["1", "1"]] {
            assert_eq!(said(no), Some(Pushback::Never), "{no:?}");
        }
    }
}
