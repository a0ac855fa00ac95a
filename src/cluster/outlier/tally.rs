//! What workers count for outlier detection. The rest of it runs on the control runtime.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::Reason;
use crate::config::plan::OutlierDetection;
use crate::metrics::Cell;

/// What an attempt, or a connect, says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered, with a status that is no failure of its.
    Good,
    /// It answered with one of the failing statuses.
    FailureStatus,
    /// It could not be connected to, was lost, reset the stream, or never answered.
    GatewayFailure,
}

/// How the calls of one endpoint end.
#[derive(Debug)]
pub(crate) struct Tally {
    /// One for each worker, which alone writes it. Never reset: a window is a difference.
    totals: Box<[Totals]>,
    gateway_failures_in_a_row: AtomicU32,
    failure_statuses_in_a_row: AtomicU32,
    /// The rows that were full since somebody looked: a bit for each [`Row`].
    full: AtomicU8,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Totals {
    good: Cell,
    bad: Cell,
}

/// Calls that ended well, and that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) good: u64,
    pub(super) bad: u64,
}

/// The bits of [`Tally::full`].
const ROWS: [(u8, Reason); 2] = [(1, Reason::ConsecutiveGatewayFailure), (2, Reason::ConsecutiveGrpcFailure)];

impl Tally {
    pub(in crate::cluster) fn new(workers: usize) -> Tally {
        Tally {
            totals: (0..workers).map(|_| Totals::default()).collect(),
            gateway_failures_in_a_row: AtomicU32::new(0),
            failure_statuses_in_a_row: AtomicU32::new(0),
            full: AtomicU8::new(0),
        }
    }

    /// Counts. True when a row became full. Only that worker's thread may call this for its index.
    ///
    /// A good end writes nothing that another worker writes, but after a failure.
    pub(super) fn count(&self, worker: usize, verdict: Verdict, plan: &OutlierDetection) -> bool {
        let totals = &self.totals[worker];
        match verdict {
            Verdict::Good => {
                totals.good.add(1);
                end_row(&self.gateway_failures_in_a_row);
                end_row(&self.failure_statuses_in_a_row);
                false
            }
            // A backend that answers badly is there.
            Verdict::FailureStatus => {
                totals.bad.add(1);
                end_row(&self.gateway_failures_in_a_row);
                self.lengthen(&self.failure_statuses_in_a_row, plan.consecutive_grpc_failure, ROWS[1].0)
            }
            // One that does not answer has not answered well: the row of statuses goes on after it.
            Verdict::GatewayFailure => {
                totals.bad.add(1);
                self.lengthen(&self.gateway_failures_in_a_row, plan.consecutive_gateway_failure, ROWS[0].0)
            }
        }
    }

    fn lengthen(&self, row: &AtomicU32, most: u32, bit: u8) -> bool {
        if most == 0 || row.fetch_add(1, Ordering::Relaxed) + 1 < most {
            return false;
        }
        row.store(0, Ordering::Relaxed);
        self.full.fetch_or(bit, Ordering::Relaxed);
        true
    }

    /// A row that was full since the last time that this was asked.
    pub(super) fn take_full(&self) -> Option<Reason> {
        let full = self.full.swap(0, Ordering::Relaxed);
        ROWS.into_iter().find(|(bit, _)| full & bit != 0).map(|(_, reason)| reason)
    }

    /// Rows begin anew.
    pub(super) fn reset_rows(&self) {
        end_row(&self.gateway_failures_in_a_row);
        end_row(&self.failure_statuses_in_a_row);
        self.full.store(0, Ordering::Relaxed);
    }

    /// The ends that all workers have counted.
    pub(super) fn count_of_all(&self) -> Count {
        self.totals.iter().fold(Count::default(), |sum, totals| Count {
            good: sum.good + totals.good.get(),
            bad: sum.bad + totals.bad.get(),
        })
    }
}

fn end_row(row: &AtomicU32) {
    if row.load(Ordering::Relaxed) != 0 {
        row.store(0, Ordering::Relaxed);
    }
}

impl Count {
    pub(super) fn all(self) -> u64 {
        self.good + self.bad
    }

    /// What came since `before`.
    pub(super) fn since(self, before: Count) -> Count {
        Count { good: self.good - before.good, bad: self.bad - before.bad }
    }
}
