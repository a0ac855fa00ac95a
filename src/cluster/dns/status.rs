//! How the look-ups of a cluster go, for people to read.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::resolver::Trouble;

/// How the look-ups of a cluster go. Calls never look at it.
#[derive(Debug, Default)]
pub(crate) struct Status {
    counts: [AtomicU64; RESULTS.len()],
    names: Mutex<Vec<NameStatus>>,
}

/// How the last look-up of a name went, and when the next is due.
#[derive(Clone, Debug)]
pub(crate) struct NameStatus {
    pub(crate) name: Arc<str>,
    pub(crate) last_failure: Option<String>,
    pub(crate) next: Option<SystemTime>,
}

/// As the metric has them.
const RESULTS: [&str; 3] = ["success", "empty", "failure"];

impl Status {
    /// The names of a cluster. Nothing is known of those that were not among them before.
    pub(super) fn begin(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut now = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *now);
        let status = |name: Arc<str>| match before.iter().position(|known| known.name == name) {
            Some(at) => before.swap_remove(at),
            None => NameStatus { name, last_failure: None, next: None },
        };
        *now = names.into_iter().map(status).collect();
    }

    /// A look-up has ended.
    pub(super) fn ended(&self, at: usize, trouble: Option<&Trouble>, wait: Duration) {
        let result = match trouble {
            None => 0,
            Some(Trouble::NoName | Trouble::NoRecords(_)) => 1,
            Some(Trouble::Failed(_)) => 2,
        };
        self.counts[result].fetch_add(1, Ordering::Relaxed);
        if let Some(name) = self.names.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
            name.last_failure = trouble.map(ToString::to_string);
            name.next = SystemTime::now().checked_add(wait);
        }
    }

    /// Look-ups by result.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(&self.counts).map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }

    /// The names that are looked up, in the order of the file.
    pub(crate) fn names(&self) -> Vec<NameStatus> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        names.retain(|name| name.name.parse::<IpAddr>().is_err());
        names
    }
}
