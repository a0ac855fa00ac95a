use super::*;
use crate::cluster::{Found, Members, fixture};
use crate::config::plan;

/// A cluster with these keys.
fn plan(keys: &str) -> plan::Cluster {
    fixture::cluster(keys, &[]).plan
}

fn endpoints(weights: &[u32]) -> Vec<Arc<Endpoint>> {
    endpoints_of(weights, 1)
}

fn endpoints_of(weights: &[u32], workers: usize) -> Vec<Arc<Endpoint>> {
    let decay = std::time::Duration::from_secs(10);
    (0_u16..)
        .zip(weights)
        .map(|(at, weight)| Found { weight: *weight, ..Found::on(1000 + at) })
        .map(|found| Arc::new(Endpoint::new(found, workers, false, Some(decay))))
        .collect()
}

fn members(keys: &str, endpoints: &[Arc<Endpoint>]) -> Members {
    Members::new(&plan(keys), endpoints.to_vec(), Instant::now())
}

/// A policy, and which of one worker's choices it makes.
struct Chooser {
    members: Members,
    turns: [Turn; 1],
}

impl Chooser {
    fn new(keys: &str, endpoints: &[Arc<Endpoint>], turn: Turn) -> Chooser {
        Chooser { members: members(keys, endpoints), turns: [turn] }
    }

    fn pick(&self, path: &str, skip: impl Fn(usize) -> bool) -> Option<usize> {
        self.members.pick(&self.turns, &Question { path, metadata: &http::HeaderMap::new(), subset: None }, skip)
    }
}

fn counts(keys: &str, endpoints: &[Arc<Endpoint>], calls: usize) -> Vec<usize> {
    let chooser = Chooser::new(keys, endpoints, Turn::new());
    let mut counts = vec![0; endpoints.len()];
    for call in 0..calls {
        counts[chooser.pick(&format!("/s/m{call}"), |_| false).expect("one is up")] += 1;
    }
    counts
}

const RING: &str = "lb_policy: RingHashing, hash_on: {path: true}";

const MAGLEV: &str = "lb_policy: MaglevHashing, hash_on: {path: true}";

#[test]
fn round_robin_is_even() {
    assert_eq!(counts("lb_policy: RoundRobin", &endpoints(&[1, 1, 1]), 300), [100, 100, 100]);
}

#[test]
fn chance_and_hashes_spread() {
    for balance in ["lb_policy: Rand", RING, MAGLEV] {
        for count in counts(balance, &endpoints(&[1, 1, 1, 1]), 8000) {
            assert!((1500..2500).contains(&count), "{balance}: {count} of 8000 among 4");
        }
    }
}

#[test]
fn the_size_of_a_table_is_the_configured_one() {
    let points = |keys: &str, consistent: &str| {
        let plan = plan(&format!("{keys}, consistent: {{{consistent}}}"));
        let candidates = Candidates { plan: &plan, endpoints: &endpoints(&[1, 1]), shares: None };
        match Balancer::new(&candidates, vec![0, 1]).policy {
            Policy::Keyed(keyed) => keyed.points(),
            _ => 0,
        }
    };
    assert_eq!(points(RING, "replica_num: 1"), 2);
    assert_eq!(points(RING, ""), 1024);
    assert_eq!(points(MAGLEV, "maglev_table_size: 3"), 3);
    assert_eq!(points(MAGLEV, ""), 65_537);
}

#[test]
fn weights_are_shares() {
    for balance in ["lb_policy: WeightRandom", RING, MAGLEV] {
        let counts = counts(balance, &endpoints(&[1, 3]), 8000);
        assert!((5400..6600).contains(&counts[1]), "{balance}: {counts:?} for weights 1 and 3");
    }
}

#[test]
fn weights_of_a_ring_need_not_be_multiples() {
    let counts = counts(RING, &endpoints(&[2, 3]), 8000);
    assert!((4500..5100).contains(&counts[1]), "{counts:?} for weights 2 and 3");
}

#[test]
fn least_request_avoids_the_loaded() {
    let endpoints = endpoints(&[1, 1, 1]);
    for _ in 0..10 {
        endpoints[0].opened(0);
    }
    assert_eq!(counts("lb_policy: LeastRequest", &endpoints, 500)[0], 0);
}

#[test]
fn an_endpoint_that_is_down_gets_none_and_the_others_keep_their_keys() {
    let endpoints = endpoints(&[1, 1, 1, 1]);
    let pick =
        |balance: &str, path: &str| Chooser::new(balance, &endpoints, Turn::new()).pick(path, |_| false).expect("up");
    for balance in [RING, MAGLEV] {
        let before: Vec<usize> = (0..40).map(|key| pick(balance, &format!("/s/m{key}"))).collect();
        endpoints[2].set_healthy(false);
        let after: Vec<usize> = (0..40).map(|key| pick(balance, &format!("/s/m{key}"))).collect();
        endpoints[2].set_healthy(true);
        assert!(!after.contains(&2));
        let moved = before.iter().zip(&after).filter(|(was, is)| **was != 2 && was != is).count();
        assert!(moved <= 8, "{balance} moved {moved} of 40 keys that it need not have");
    }
}

#[test]
fn nothing_up_is_nothing_picked() {
    let none = Chooser::new("lb_policy: RoundRobin", &[], Turn::new());
    assert_eq!(none.pick("/s/m", |_| false), None);
    let only = Chooser::new("lb_policy: RoundRobin", &endpoints(&[1]), Turn::new());
    assert_eq!(only.pick("/s/m", |_| true), None);
}

/// Opens streams that stay open, each by the worker that `worker` says, and returns how many each endpoint has.
fn hold(endpoints: &[Arc<Endpoint>], seed: u64, streams: usize, worker: impl Fn(usize) -> usize) -> Vec<usize> {
    let chooser = |seed| Chooser::new("lb_policy: LeastRequest", endpoints, Turn::seeded(seed));
    let choosers = [chooser(seed), chooser(seed + 1000)];
    for stream in 0..streams {
        let worker = worker(stream);
        let at = choosers[worker].pick("/s/m", |_| false).expect("one is up");
        endpoints[at].opened(worker);
    }
    endpoints.iter().map(|endpoint| endpoint.open()).collect()
}

#[test]
fn least_request_spreads_what_all_workers_hold() {
    for seed in 1..200 {
        let held = hold(&endpoints_of(&[1; 10], 2), seed, 1000, |stream| usize::from(stream % 10 == 0));
        assert!(held.iter().all(|held| (95..=105).contains(held)), "seed {seed}: {held:?}");
    }
}

#[test]
fn least_request_makes_up_for_what_another_worker_has_done() {
    for seed in 1..200 {
        let endpoints = endpoints_of(&[1; 10], 2);
        for endpoint in &endpoints[..5] {
            (0..50).for_each(|_| endpoint.opened(0));
        }
        let held = hold(&endpoints, seed, 750, |_| 1);
        assert!(held.iter().all(|held| (95..=105).contains(held)), "seed {seed}: {held:?}");
    }
}

#[test]
fn least_request_counts_calls_that_wait_for_a_stream() {
    let endpoints = endpoints(&[1, 1]);
    endpoints[0].waits(0);
    assert_eq!(counts("lb_policy: LeastRequest", &endpoints, 100), [0, 100]);
    endpoints[0].waits_no_longer(0);
    assert_eq!(counts("lb_policy: LeastRequest", &endpoints, 100), [50, 50]);
}

#[test]
fn least_request_weighs_held_streams_and_idle_endpoints() {
    for seed in 1..100 {
        let held = hold(&endpoints(&[1, 3, 6]), seed, 1000, |_| 0);
        for (held, expected) in held.iter().zip([100, 300, 600]) {
            assert!(held.abs_diff(expected) <= expected / 20, "seed {seed}: {held:?}");
        }
    }
    let idle = counts("lb_policy: LeastRequest", &endpoints(&[1, 3]), 8000);
    // More than ten standard deviations of 39.
    assert!((5600..6400).contains(&idle[1]), "{idle:?} for weights 1 and 3");
}

#[test]
fn weighted_turn_is_exact_and_evenly_mixed() {
    let endpoints = endpoints(&[5, 1, 1]);
    for seed in 1..50 {
        let chooser = Chooser::new("lb_policy: WeightedRoundRobin", &endpoints, Turn::seeded(seed));
        let picked: Vec<usize> = (0..70).filter_map(|_| chooser.pick("/s/m", |_| false)).collect();
        for round in picked.windows(7) {
            let counts = [0, 1, 2].map(|at| round.iter().filter(|picked| **picked == at).count());
            assert_eq!(counts, [5, 1, 1], "seed {seed}: {picked:?}");
        }
        let longest = picked.chunk_by(|one, next| one == next).map(<[usize]>::len).max();
        assert!(longest <= Some(4), "seed {seed}: {picked:?}");
    }
}

#[test]
fn weighted_turn_shares_out_what_is_skipped_and_owes_nothing_afterwards() {
    let endpoints = endpoints(&[2, 1, 1]);
    let chooser = Chooser::new("lb_policy: WeightedRoundRobin", &endpoints, Turn::seeded(1));
    let picks = |skip: usize, calls: usize| {
        let picked = (0..calls).filter_map(|_| chooser.pick("/s/m", |at| at == skip));
        picked.fold([0_usize; 3], |mut counts, at| {
            counts[at] += 1;
            counts
        })
    };
    let [_, one, other] = picks(0, 100);
    assert!(one.abs_diff(50) <= 1 && one + other == 100, "{one} and {other}");
    let after = picks(3, 100);
    assert!(after[0].abs_diff(50) <= 2, "{after:?}");
}

/// Calls that all stay open, with a key of their own each, of which half are the same.
fn hold_keys(keys: &str, endpoints: &[Arc<Endpoint>], calls: usize) -> Vec<usize> {
    let chooser = Chooser::new(keys, endpoints, Turn::new());
    for call in 0..calls {
        let path = if call % 2 == 0 { "/s/hot".to_owned() } else { format!("/s/m{call}") };
        endpoints[chooser.pick(&path, |_| false).expect("one is up")].opened(0);
    }
    endpoints.iter().map(|endpoint| endpoint.open()).collect()
}

#[test]
fn a_hot_key_spills_over_where_loads_are_bounded() {
    for policy in [RING, MAGLEV] {
        let free = hold_keys(policy, &endpoints(&[1, 1, 1, 1]), 400);
        assert!(free.iter().any(|held| *held > 200), "{policy}: {free:?}");
        for (bound, most) in [(100, 100), (125, 125), (150, 150)] {
            let keys = format!("{policy}, consistent: {{hash_balance_factor: {bound}}}");
            let held = hold_keys(&keys, &endpoints(&[1, 1, 1, 1]), 400);
            assert!(held.iter().all(|held| *held <= most), "{keys}: {held:?}");
            assert!(held.contains(&most), "{keys}: {held:?}");
            let held = hold_keys(&keys, &endpoints(&[1, 1, 1, 5]), 400);
            assert!(held[..3].iter().all(|held| *held <= most / 2), "{keys}: {held:?}");
        }
    }
}

#[test]
fn a_key_stays_where_it_belongs_while_there_is_room() {
    for policy in [RING, MAGLEV] {
        let keys = format!("{policy}, consistent: {{hash_balance_factor: 150}}");
        let endpoints = endpoints(&[1, 1, 1, 1]);
        for call in 0..40 {
            let path = format!("/s/m{call}");
            let pick = |keys: &str| Chooser::new(keys, &endpoints, Turn::new()).pick(&path, |_| false);
            assert_eq!(pick(&keys), pick(policy));
        }
    }
}

const EWMA: &str = "lb_policy: PeakEwma";

#[test]
fn the_faster_endpoint_gets_calls_until_it_has_as_much_to_do() {
    let endpoints = endpoints(&[1, 1]);
    let (now, ms) = (Instant::now(), std::time::Duration::from_millis(1));
    for (endpoint, took) in endpoints.iter().zip([10, 40]) {
        endpoint.latency.as_ref().expect("it is measured").answered(0, now, now + ms * took);
    }
    let chooser = Chooser::new(EWMA, &endpoints, Turn::new());
    for _ in 0..100 {
        endpoints[chooser.pick("/s/m", |_| false).expect("one is up")].opened(0);
    }
    let held: Vec<usize> = endpoints.iter().map(|endpoint| endpoint.open()).collect();
    assert!((78..=82).contains(&held[0]), "{held:?}");
}

#[test]
fn an_endpoint_that_nobody_knows_is_asked_once_until_it_answers() {
    let endpoints = endpoints(&[1, 1]);
    let (now, ms) = (Instant::now(), std::time::Duration::from_millis(1));
    endpoints[0].latency.as_ref().expect("it is measured").answered(0, now, now + ms * 500);
    let chooser = Chooser::new(EWMA, &endpoints, Turn::new());
    assert_eq!(chooser.pick("/s/m", |_| false), Some(1));
    endpoints[1].opened(0);
    assert!((0..50).all(|_| chooser.pick("/s/m", |_| false) == Some(0)));
    endpoints[1].latency.as_ref().expect("it is measured").answered(0, now, now + ms);
    assert_eq!(chooser.pick("/s/m", |_| false), Some(1));
}

#[test]
fn weights_count_beside_latencies() {
    let endpoints = endpoints(&[1, 3]);
    let now = Instant::now();
    for endpoint in &endpoints {
        endpoint.latency.as_ref().expect("it is measured").answered(0, now, now + std::time::Duration::from_millis(10));
    }
    let chooser = Chooser::new(EWMA, &endpoints, Turn::seeded(1));
    for _ in 0..400 {
        endpoints[chooser.pick("/s/m", |_| false).expect("one is up")].opened(0);
    }
    assert!(endpoints[0].open().abs_diff(100) <= 5, "{}", endpoints[0].open());
}
