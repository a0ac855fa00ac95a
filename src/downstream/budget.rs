//! A token bucket that reads the clock only when it is empty.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::abuse::Allowance;

/// What is left of an [`Allowance`].
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<i32>,
    refilled: Cell<Instant>,
}

impl Budget {
    pub(super) fn new(allowance: Allowance, now: Instant) -> Budget {
        Budget { left: Cell::new(allowance.burst), refilled: Cell::new(now) }
    }

    /// Takes one. False when there was none.
    pub(super) fn take(&self) -> bool {
        // A turn reads too little to come near the end of the numbers.
        self.left.set(self.left.get() - 1);
        self.left.get() >= 0
    }

    /// Adds what something else has earned.
    pub(super) fn earn(&self, more: i32, allowance: Allowance) {
        self.left.set((self.left.get() + more).min(allowance.burst));
    }

    /// Adds what the time has brought since the last time. True when more was taken than that.
    pub(super) fn is_overdrawn(&self, allowance: Allowance, now: Instant) -> bool {
        let since: Duration = now.saturating_duration_since(self.refilled.replace(now));
        let brought = since.as_secs_f64() * f64::from(allowance.rate);
        self.earn(brought.min(f64::from(allowance.burst)) as i32, allowance);
        self.left.get() < 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance { burst: 1000, rate: 100 };

    fn take(budget: &Budget, count: u32, now: Instant) -> bool {
        let mut empty = false;
        for _ in 0..count {
            empty |= !budget.take();
        }
        empty && budget.is_overdrawn(ALLOWANCE, now)
    }

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let start = Instant::now();
        let budget = Budget::new(ALLOWANCE, start);
        assert!(!take(&budget, 1000, start));
        assert!(!take(&budget, 500, start + Duration::from_secs(5)));
        assert!(take(&budget, 1000, start + Duration::from_secs(6)));
    }

    #[test]
    fn what_keeps_to_the_rate_may_go_on_for_ever() {
        let start = Instant::now();
        let budget = Budget::new(ALLOWANCE, start);
        assert!((0..100).all(|second| !take(&budget, 100, start + Duration::from_secs(second))));
    }

    #[test]
    fn what_is_earned_lasts_no_longer_than_a_burst() {
        let start = Instant::now();
        let budget = Budget::new(ALLOWANCE, start);
        (0..10_000).for_each(|_| budget.earn(10, ALLOWANCE));
        assert!(!take(&budget, 1000, start));
        assert!(take(&budget, 1, start));
    }
}
