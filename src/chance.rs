//! Chance that need not withstand an adversary.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A number below one, each alike.
pub(crate) fn fraction() -> f64 {
    (RandomState::new().hash_one(()) >> 32) as f64 / (1_u64 << 32) as f64
}

/// A time up to a tenth shorter or longer, so that what began together does not end together.
pub(crate) fn about(time: Duration) -> Duration {
    time.mul_f64(0.9 + fraction() / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_tenth_apart_at_most_and_differ() {
        let times: Vec<Duration> = (0..1000).map(|_| about(Duration::from_secs(10))).collect();
        let (least, most) = (times.iter().min().expect("some"), times.iter().max().expect("some"));
        assert!(*least >= Duration::from_secs(9) && *most < Duration::from_secs(11), "{least:?} to {most:?}");
        assert!(*most - *least > Duration::from_secs(1), "{least:?} to {most:?}");
    }
}
