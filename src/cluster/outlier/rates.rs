//! The two rates of gRFC A50, over the counts of one window.

use super::tally::Count;
use crate::config::plan::{FailurePercentage, SuccessRate};

/// Places of the endpoints whose success rate is too far below the mean.
pub(super) fn low_success_rates(counts: &[Count], rule: SuccessRate) -> Vec<usize> {
    let rates: Vec<(usize, f64)> = with_volume(counts, rule.request_volume)
        .map(|(at, count)| (at, count.good as f64 / count.all() as f64))
        .collect();
    if rates.len() < rule.minimum_hosts {
        return Vec::new();
    }
    let number = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / number;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / number;
    let least = mean - variance.sqrt() * f64::from(rule.stdev_factor) / 1000.0;
    rates.into_iter().filter(|(_, rate)| *rate < least).map(|(at, _)| at).collect()
}

/// Places of the endpoints too many of whose calls failed.
pub(super) fn high_failure_percentages(counts: &[Count], rule: FailurePercentage) -> Vec<usize> {
    let busy: Vec<(usize, Count)> = with_volume(counts, rule.request_volume).collect();
    if busy.len() < rule.minimum_hosts {
        return Vec::new();
    }
    // In whole numbers: a threshold of 100 is met by 100 % exactly.
    let fails = |count: Count| count.bad * 100 >= u64::from(rule.threshold) * count.all();
    busy.into_iter().filter(|(_, count)| fails(*count)).map(|(at, _)| at).collect()
}

fn with_volume(counts: &[Count], volume: u64) -> impl Iterator<Item = (usize, Count)> {
    counts.iter().copied().enumerate().filter(move |(_, count)| count.all() >= volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(u64, u64)]) -> Vec<Count> {
        counts.iter().map(|(good, bad)| Count { good: *good, bad: *bad }).collect()
    }

    #[test]
    fn a_success_rate_far_below_the_mean_is_an_outlier() {
        let rule = SuccessRate { stdev_factor: 1900, minimum_hosts: 5, request_volume: 100 };
        // Mean 0.9, deviation 0.2: what is below 0.52 is out.
        let outlier = counts(&[(100, 0), (100, 0), (100, 0), (100, 0), (50, 50)]);
        assert_eq!(low_success_rates(&outlier, rule), [4]);
        // Two of five are no outliers by this factor, however bad: the deviation is as wide as they are far.
        let half = counts(&[(100, 0), (100, 0), (100, 0), (0, 100), (0, 100)]);
        assert!(low_success_rates(&half, rule).is_empty());
        assert_eq!(low_success_rates(&half, SuccessRate { stdev_factor: 1000, ..rule }), [3, 4]);
        // All alike are none, though all fail.
        assert!(low_success_rates(&counts(&[(0, 100); 5]), rule).is_empty());
    }

    #[test]
    fn a_success_rate_needs_volume_and_company() {
        let rule = SuccessRate { stdev_factor: 1000, minimum_hosts: 3, request_volume: 100 };
        assert_eq!(low_success_rates(&counts(&[(100, 0), (100, 0), (0, 100)]), rule), [2]);
        // One call short of the volume: it neither counts among the hosts nor can it be ejected.
        assert!(low_success_rates(&counts(&[(100, 0), (100, 0), (0, 99)]), rule).is_empty());
        assert!(low_success_rates(&counts(&[(100, 0), (99, 0), (0, 100)]), rule).is_empty());
        assert_eq!(low_success_rates(&counts(&[(100, 0), (100, 0), (0, 100), (0, 99)]), rule), [2]);
        assert!(low_success_rates(&[], SuccessRate { minimum_hosts: 1, ..rule }).is_empty());
    }

    #[test]
    fn a_failure_percentage_counts_from_its_threshold_on() {
        let rule = FailurePercentage { threshold: 85, minimum_hosts: 2, request_volume: 50 };
        let hosts = counts(&[(15, 85), (16, 84), (0, 50), (0, 49), (100, 0)]);
        assert_eq!(high_failure_percentages(&hosts, rule), [0, 2]);
        assert!(high_failure_percentages(&hosts[..1], rule).is_empty(), "too few hosts");
        assert!(high_failure_percentages(&hosts[2..4], rule).is_empty(), "too few hosts with the volume");
        let all = FailurePercentage { threshold: 100, ..rule };
        assert_eq!(high_failure_percentages(&counts(&[(0, 50), (1, 99_999)]), all), [0]);
    }
}
