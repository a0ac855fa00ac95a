//! When a name is looked up again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::config::plan::Dns;

/// When a name is looked up again.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    dns: Dns,
    /// In a row.
    failures: u32,
}

impl Schedule {
    pub(super) fn new(dns: Dns) -> Schedule {
        Schedule { dns, failures: 0 }
    }

    /// The wait after an answer.
    pub(super) fn answered(&mut self, ttl: Option<Duration>) -> Duration {
        self.failures = 0;
        match ttl.filter(|_| self.dns.respect_ttl) {
            Some(ttl) => ttl.clamp(self.dns.min_refresh_rate, self.dns.max_refresh_rate),
            None => self.dns.refresh_rate,
        }
    }

    /// The wait after a look-up that failed. While there are endpoints that stay it grows; without any, every call is
    /// refused until it is answered.
    pub(super) fn failed(&mut self, endpoints_stay: bool) -> Duration {
        self.failed_by(endpoints_stay, RandomState::new().hash_one(()) as f64 / u64::MAX as f64)
    }

    fn failed_by(&mut self, endpoints_stay: bool, chance: f64) -> Duration {
        let doublings = if endpoints_stay { self.failures.min(30) } else { 0 };
        self.failures = self.failures.saturating_add(1);
        let longest = self.dns.failure_base.saturating_mul(1 << doublings).min(self.dns.failure_max);
        longest.div_f64(2.0) + longest.mul_f64(chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{DnsResolver, LookupFamily};

    const SECOND: Duration = Duration::from_secs(1);

    fn dns() -> Dns {
        Dns {
            resolver: DnsResolver::Servers(Vec::new()),
            lookup_family: LookupFamily::All,
            respect_ttl: true,
            refresh_rate: 5 * SECOND,
            min_refresh_rate: SECOND,
            max_refresh_rate: 300 * SECOND,
            failure_base: SECOND,
            failure_max: 10 * SECOND,
        }
    }

    #[test]
    fn a_ttl_counts_within_its_bounds() {
        let mut schedule = Schedule::new(dns());
        for (ttl, wait) in [(0, 1), (1, 1), (30, 30), (300, 300), (86_400, 300)] {
            assert_eq!(schedule.answered(Some(ttl * SECOND)), wait * SECOND, "{ttl}");
        }
        assert_eq!(schedule.answered(None), 5 * SECOND, "the hosts file has no TTL");
        let mut schedule = Schedule::new(Dns { respect_ttl: false, ..dns() });
        assert_eq!(schedule.answered(Some(30 * SECOND)), 5 * SECOND);
    }

    #[test]
    fn waits_after_failures_double_up_to_the_longest() {
        let mut schedule = Schedule::new(dns());
        let waits: Vec<u64> = (0..6).map(|_| schedule.failed_by(true, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(schedule.failed_by(true, 0.0), 5 * SECOND, "half of it at least");
        assert_eq!(schedule.failed_by(false, 1.0), SECOND, "there is nothing to live on");
        schedule.answered(None);
        assert_eq!(schedule.failed_by(true, 1.0), SECOND, "an answer ends the row");
        for _ in 0..100 {
            let wait = schedule.failed(true);
            assert!(wait <= 10 * SECOND, "{wait:?}");
        }
    }
}
