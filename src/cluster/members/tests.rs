use std::time::Duration;

use tokio::time::{advance, sleep};

use super::*;
use crate::cluster::{Cluster, Found, fixture};

const ROUND_ROBIN: &str = "lb_policy: RoundRobin";

/// An endpoint of each priority that stands here.
fn found(priorities: &[u32]) -> Vec<Found> {
    (0..).zip(priorities).map(|(at, priority)| Found { priority: *priority, ..Found::on(1000 + at) }).collect()
}

/// A cluster, and who remembers for its choices.
struct Bed {
    cluster: Arc<Cluster>,
    turns: Vec<Turn>,
}

impl Bed {
    fn new(keys: &str, routes: &[&str], found: &[Found]) -> Bed {
        let cluster = Arc::new(fixture::cluster(keys, routes));
        cluster.replace(found);
        Bed { turns: (0..cluster.members().turns).map(|_| Turn::seeded(7)).collect(), cluster }
    }

    fn set_health(&self, healthy: &[bool]) {
        for (endpoint, healthy) in self.cluster.members().endpoints.iter().zip(healthy) {
            self.cluster.set_health(endpoint, *healthy);
        }
    }

    fn pick(&self, path: &str, subset: Option<usize>, skip: impl Fn(usize) -> bool) -> Option<usize> {
        let question = Question { path, metadata: &http::HeaderMap::new(), subset };
        self.cluster.members().pick(&self.turns, &question, skip)
    }

    /// How a thousand calls are spread.
    fn counts(&self, subset: Option<usize>) -> Vec<usize> {
        let mut counts = vec![0; self.cluster.members().endpoints.len()];
        for call in 0..1000 {
            if let Some(at) = self.pick(&format!("/s/m{call}"), subset, |_| false) {
                counts[at] += 1;
            }
        }
        counts
    }

    /// In per cent, by priority.
    fn shares(&self) -> Vec<u32> {
        self.cluster.members().all.each().iter().map(|level| level.share).collect()
    }
}

#[test]
fn the_first_priority_has_all_calls_while_it_can_take_them() {
    let bed = Bed::new(ROUND_ROBIN, &[], &found(&[0, 0, 0, 0, 0, 0, 0, 1, 5]));
    assert_eq!(bed.shares(), [100, 0, 0]);
    bed.set_health(&[false, false, true, true, true, true, true]);
    assert_eq!(bed.shares(), [100, 0, 0], "five of seven are enough");
    bed.set_health(&[false, false, false, true, true, true, true]);
    assert_eq!(bed.shares(), [80, 20, 0]);
    let counts = bed.counts(None);
    assert!((740..860).contains(&counts[3..7].iter().sum::<usize>()), "{counts:?}");
    assert_eq!(counts[7] + counts[3..7].iter().sum::<usize>(), 1000, "{counts:?}");
    bed.set_health(&[false; 7]);
    assert_eq!(bed.shares(), [0, 100, 0]);
    assert_eq!(bed.counts(None)[7], 1000);
    bed.set_health(&[false; 8]);
    assert_eq!(bed.shares(), [0, 0, 100], "numbers may be left out");
    bed.set_health(&[false; 9]);
    assert_eq!(bed.shares(), [0, 0, 0]);
    assert_eq!(bed.pick("/s/m", None, |_| false), None);
}

#[test]
fn what_all_priorities_together_cannot_take_is_shared_out() {
    let bed = Bed::new(ROUND_ROBIN, &[], &found(&[0, 0, 0, 0, 1, 1, 1, 1]));
    bed.set_health(&[true, false, false, false, true, false, false, false]);
    assert_eq!(bed.shares(), [50, 50]);
    let strict = Bed::new("lb_policy: RoundRobin, overprovisioning_factor: 100", &[], &found(&[0, 0, 0, 0, 1]));
    strict.set_health(&[true, true, true, false]);
    assert_eq!(strict.shares(), [75, 25]);
}

#[test]
fn nobody_panics_while_another_priority_can_take_what_is_missing() {
    let keys = "lb_policy: RoundRobin, healthy_panic_threshold: 50, health_checks: [{protocol: tcp}]";
    let bed = Bed::new(keys, &[], &found(&[0, 0, 0, 0, 1, 1]));
    bed.set_health(&[false, false, false, true]);
    assert_eq!((bed.shares(), bed.cluster.members().panic), (vec![35, 65], false));
    bed.set_health(&[false, false, false, true, false, false]);
    assert!(bed.cluster.members().panic);
    assert_eq!(bed.shares(), [100, 0]);
    assert_eq!(bed.counts(None), [250, 250, 250, 250, 0, 0]);
    bed.set_health(&[false; 6]);
    assert_eq!(bed.shares(), [67, 33], "in panic every endpoint counts");
    assert!(bed.counts(None).iter().all(|count| (100..230).contains(count)), "{:?}", bed.counts(None));
}

#[test]
fn another_priority_is_asked_when_all_of_one_are_to_be_skipped() {
    let bed = Bed::new(ROUND_ROBIN, &[], &found(&[0, 0, 1, 2]));
    assert_eq!(bed.pick("/s/m", None, |at| at < 2), Some(2));
    assert_eq!(bed.pick("/s/m", None, |at| at < 3), Some(3));
    assert_eq!(bed.pick("/s/m", None, |_| true), None);
}

#[test]
fn a_key_stays_with_its_priority() {
    let bed = Bed::new("lb_policy: RingHashing, hash_on: {path: true}", &[], &found(&[0, 0, 0, 0, 1]));
    bed.set_health(&[true, true, false, false]);
    assert_eq!(bed.shares(), [70, 30]);
    for call in 0..50 {
        let path = format!("/s/m{call}");
        let first = bed.pick(&path, None, |_| false);
        assert!((0..20).all(|_| bed.pick(&path, None, |_| false) == first));
    }
    let counts = bed.counts(None);
    assert!((230..370).contains(&counts[4]), "{counts:?}");
}

fn labelled(port: u16, labels: &[(&str, &str)]) -> Found {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Found { labels: Arc::new(labels), ..Found::on(port) }
}

#[test]
fn a_subset_has_the_endpoints_with_its_labels() {
    let found = [
        labelled(1, &[("version", "v1"), ("stage", "prod")]),
        labelled(2, &[("version", "v2"), ("stage", "prod")]),
        labelled(3, &[("version", "v2"), ("stage", "test")]),
    ];
    let routes = ["metadata_match: {version: v2}", "metadata_match: {version: v2, stage: test}"];
    let bed = Bed::new(ROUND_ROBIN, &routes, &found);
    assert_eq!(bed.counts(Some(0)), [0, 500, 500]);
    assert_eq!(bed.counts(Some(1)), [0, 0, 1000]);
    assert_eq!(bed.counts(None).iter().sum::<usize>(), 1000);
    // An endpoint that is down is no reason to ask one of another version.
    bed.set_health(&[true, true, false]);
    assert_eq!(bed.counts(Some(0)), [0, 1000, 0]);
    assert_eq!(bed.pick("/s/m", Some(1), |_| false), None);
}

#[test]
fn a_subset_without_endpoints_falls_back_as_the_cluster_says() {
    let found = [labelled(1, &[("stage", "prod")]), labelled(2, &[])];
    let routes = ["metadata_match: {version: v9}"];
    let counts = |config: &str| {
        let keys = format!("{ROUND_ROBIN}, lb_subset_config: {{{config}}}");
        Bed::new(&keys, &routes, &found).counts(Some(0))
    };
    assert_eq!(counts("fallback_policy: NO_FALLBACK"), [0, 0]);
    assert_eq!(counts("fallback_policy: ANY_ENDPOINT"), [500, 500]);
    assert_eq!(counts("fallback_policy: DEFAULT_SUBSET, default_subset: {stage: prod}"), [1000, 0]);
}

const SLOW: &str = "slow_start_config: {slow_start_window: 10s}";

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_joins_gets_its_share_little_by_little() {
    for policy in ["RoundRobin", "Rand", "WeightedRoundRobin", "WeightRandom", "LeastRequest", "PeakEwma"] {
        let bed = Bed::new(&format!("lb_policy: {policy}, {SLOW}"), &[], &found(&[0]));
        let grow = tokio::spawn(slow_start::grow(bed.cluster.clone()));
        assert_eq!(bed.counts(None), [1000], "who is there from the beginning has nobody to leave calls to");
        bed.cluster.replace(&found(&[0, 0]));
        // 10 and 100 parts of their sums.
        for (seconds, expected) in [(0, 91), (5, 333), (9, 474), (11, 500)] {
            let at = bed.cluster.members().endpoints[1].age(Instant::now()).unwrap_or(Duration::from_secs(60));
            sleep(Duration::from_secs(seconds).saturating_sub(at)).await;
            let counts = bed.counts(None);
            assert!(counts[1].abs_diff(expected) < 60, "{policy} after {seconds} s: {counts:?}");
        }
        // Not a matter of chance any more.
        assert!(bed.cluster.members().endpoints[1].age(Instant::now()).is_none());
        grow.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_comes_back_gets_its_share_little_by_little() {
    let bed = Bed::new(&format!("{ROUND_ROBIN}, {SLOW}"), &[], &found(&[0, 0]));
    let grow = tokio::spawn(slow_start::grow(bed.cluster.clone()));
    assert_eq!(bed.counts(None), [500, 500]);
    bed.set_health(&[true, false]);
    assert_eq!(bed.counts(None), [1000, 0]);
    bed.set_health(&[true, true]);
    assert_eq!(bed.counts(None), [909, 91]);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(bed.counts(None), [500, 500]);
    advance(Duration::from_secs(60)).await;
    assert!(!grow.is_finished());
    grow.abort();
}
