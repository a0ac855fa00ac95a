//! How long an endpoint takes to answer, as all workers have seen it: an average that forgets, and follows peaks at once
//! (the "Peak EWMA" of Twitter's Finagle).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_filter::Code;

/// What the first call costs an endpoint that did not answer it: without it one that fails at once would look like one that
/// nobody has asked yet, and would be asked by everybody.
const UNANSWERED: Duration = Duration::from_millis(100);

/// True for statuses that a backend has when it is in trouble, which it may say very fast.
pub(crate) fn is_failure(code: Code) -> bool {
    matches!(code, Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss | Code::ResourceExhausted)
}

/// How long the calls of one endpoint took until their responses began.
#[derive(Debug)]
pub(crate) struct Latency {
    /// After this long a measurement counts for a third and a bit (1/e).
    decay: Duration,
    epoch: Instant,
    workers: Box<[Estimate]>,
}

/// What one worker has seen, on a cache line of its own. Only that worker writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Estimate {
    /// Nanoseconds; 0 is that there is none.
    average: AtomicU64,
    /// When it was made, in nanoseconds since the epoch.
    at: AtomicU64,
}

impl Latency {
    pub(super) fn new(decay: Duration, workers: usize) -> Latency {
        Latency { decay, epoch: Instant::now(), workers: (0..workers).map(|_| Estimate::default()).collect() }
    }

    /// A response has begun. Only the thread of `worker` may call this.
    pub(crate) fn answered(&self, worker: usize, asked: Instant, now: Instant) {
        let estimate = &self.workers[worker];
        let (sample, before) = (nanoseconds(now - asked), estimate.average.load(Ordering::Relaxed));
        let average = if sample >= before {
            sample
        } else {
            let kept = self.kept(estimate, now);
            (before as f64 * kept + sample as f64 * (1.0 - kept)) as u64
        };
        self.write(estimate, average, now);
    }

    /// A call has ended without a response, or with one that says that the endpoint failed: that never makes it look faster
    /// than it was. Only the thread of `worker` may call this.
    pub(crate) fn failed(&self, worker: usize, asked: Instant, now: Instant) {
        let estimate = &self.workers[worker];
        let before = match estimate.average.load(Ordering::Relaxed) {
            0 => nanoseconds(UNANSWERED),
            before => before,
        };
        self.write(estimate, before.max(nanoseconds(now - asked)), now);
    }

    /// How long a call would take now: the longest that a worker expects, in nanoseconds. `None` where nobody has asked yet.
    pub(crate) fn estimate(&self, now: Instant) -> Option<f64> {
        let known = self.workers.iter().filter_map(|estimate| match estimate.average.load(Ordering::Relaxed) {
            0 => None,
            average => Some(average as f64 * self.kept(estimate, now)),
        });
        known.reduce(f64::max)
    }

    /// How much of an estimate is left.
    fn kept(&self, estimate: &Estimate, now: Instant) -> f64 {
        let at = Duration::from_nanos(estimate.at.load(Ordering::Relaxed));
        let age = (now - self.epoch).saturating_sub(at);
        (-age.as_secs_f64() / self.decay.as_secs_f64()).exp()
    }

    fn write(&self, estimate: &Estimate, average: u64, now: Instant) {
        estimate.average.store(average.max(1), Ordering::Relaxed);
        estimate.at.store(nanoseconds(now - self.epoch), Ordering::Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Milliseconds that are expected `later`.
    fn expected(latency: &Latency, later: Duration) -> f64 {
        latency.estimate(latency.epoch + later).expect("somebody has asked") / 1e6
    }

    #[test]
    fn peaks_count_at_once_and_are_forgotten_slowly() {
        let latency = Latency::new(MS * 1000, 1);
        assert_eq!(latency.estimate(latency.epoch), None);
        let epoch = latency.epoch;
        latency.answered(0, epoch, epoch + MS * 10);
        latency.answered(0, epoch + MS * 10, epoch + MS * 210);
        assert!((expected(&latency, MS * 210) - 200.0).abs() < 0.1);
        latency.answered(0, epoch + MS * 1200, epoch + MS * 1210);
        // 200 / e of the peak, and the rest of what came a second later.
        assert!((expected(&latency, MS * 1210) - 79.9).abs() < 0.5, "{}", expected(&latency, MS * 1210));
        assert!(expected(&latency, MS * 9000) < 1.0);
    }

    #[test]
    fn a_failure_never_makes_an_endpoint_look_faster() {
        let latency = Latency::new(MS * 1000, 1);
        let epoch = latency.epoch;
        latency.failed(0, epoch, epoch + MS);
        assert!((expected(&latency, MS) - 100.0).abs() < 0.1);
        latency.failed(0, epoch, epoch + MS * 300);
        latency.failed(0, epoch + MS * 300, epoch + MS * 301);
        assert!((expected(&latency, MS * 301) - 300.0).abs() < 0.5);
    }

    #[test]
    fn the_worst_that_a_worker_has_seen_counts() {
        let latency = Latency::new(MS * 1000, 2);
        let epoch = latency.epoch;
        latency.answered(0, epoch, epoch + MS * 5);
        latency.answered(1, epoch, epoch + MS * 50);
        assert!((expected(&latency, MS * 50) - 50.0).abs() < 0.1);
    }
}
