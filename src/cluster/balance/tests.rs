use super::*;
use crate::cluster::Found;

fn endpoints(weights: &[u32]) -> Vec<Arc<Endpoint>> {
    endpoints_of(weights, 1)
}

fn endpoints_of(weights: &[u32], workers: usize) -> Vec<Arc<Endpoint>> {
    (0_u16..)
        .zip(weights)
        .map(|(at, weight)| Found {
            address: ([127, 0, 0, 1], 1000 + at).into(),
            weight: *weight,
            name: None,
            server_name: None,
        })
        .map(|found| Arc::new(Endpoint::new(found, workers, false)))
        .collect()
}

fn balancer(balance: &Balance, consistent: Consistent, endpoints: &[Arc<Endpoint>]) -> Balancer {
    let up = (0..endpoints.len()).filter(|at| endpoints[*at].is_usable()).collect();
    Balancer::new(balance, consistent, endpoints, up)
}

const SIZES: Consistent = Consistent { replicas: None, table_size: 65_537 };

fn counts(balance: &Balance, endpoints: &[Arc<Endpoint>], calls: usize) -> Vec<usize> {
    let balancer = balancer(balance, SIZES, endpoints);
    let turn = Turn::new();
    let metadata = http::HeaderMap::new();
    let mut counts = vec![0; endpoints.len()];
    for call in 0..calls {
        let question = Question { path: &format!("/s/m{call}"), metadata: &metadata };
        counts[balancer.pick(endpoints, &turn, &question, |_| false).expect("one is up")] += 1;
    }
    counts
}

#[test]
fn round_robin_is_even() {
    assert_eq!(counts(&Balance::RoundRobin, &endpoints(&[1, 1, 1]), 300), [100, 100, 100]);
}

#[test]
fn chance_and_hashes_spread() {
    for balance in [Balance::Random, Balance::Ring(HashOn::Path), Balance::Maglev(HashOn::Path)] {
        for count in counts(&balance, &endpoints(&[1, 1, 1, 1]), 8000) {
            assert!((1500..2500).contains(&count), "{balance:?}: {count} of 8000 among 4");
        }
    }
}

#[test]
fn the_size_of_a_table_is_the_configured_one() {
    let endpoints = endpoints(&[1, 1]);
    let share = |balance: &Balance, consistent: Consistent| {
        let balancer = balancer(balance, consistent, &endpoints);
        match balancer.policy {
            Policy::Ring(ring, _) => ring.points(),
            Policy::Maglev(table, _) => table.slots(),
            _ => 0,
        }
    };
    let small = Consistent { replicas: Some(1), table_size: 3 };
    assert_eq!(share(&Balance::Ring(HashOn::Path), small), 2);
    assert_eq!(share(&Balance::Ring(HashOn::Path), SIZES), 1024);
    assert_eq!(share(&Balance::Maglev(HashOn::Path), small), 3);
    assert_eq!(share(&Balance::Maglev(HashOn::Path), SIZES), 65_537);
}

#[test]
fn weights_are_shares() {
    for balance in [Balance::WeightedRandom, Balance::Ring(HashOn::Path), Balance::Maglev(HashOn::Path)] {
        let counts = counts(&balance, &endpoints(&[1, 3]), 8000);
        assert!((5400..6600).contains(&counts[1]), "{balance:?}: {counts:?} for weights 1 and 3");
    }
}

#[test]
fn weights_of_a_ring_need_not_be_multiples() {
    let counts = counts(&Balance::Ring(HashOn::Path), &endpoints(&[2, 3]), 8000);
    assert!((4500..5100).contains(&counts[1]), "{counts:?} for weights 2 and 3");
}

#[test]
fn least_request_avoids_the_loaded() {
    let endpoints = endpoints(&[1, 1, 1]);
    for _ in 0..10 {
        endpoints[0].opened(0);
    }
    assert_eq!(counts(&Balance::LeastRequest, &endpoints, 500)[0], 0);
}

#[test]
fn an_endpoint_that_is_down_gets_none_and_the_others_keep_their_keys() {
    let endpoints = endpoints(&[1, 1, 1, 1]);
    let pick = |balance: &Balance, path: &str| {
        let metadata = http::HeaderMap::new();
        let question = Question { path, metadata: &metadata };
        balancer(balance, SIZES, &endpoints).pick(&endpoints, &Turn::new(), &question, |_| false).expect("up")
    };
    for balance in [Balance::Ring(HashOn::Path), Balance::Maglev(HashOn::Path)] {
        let before: Vec<usize> = (0..40).map(|key| pick(&balance, &format!("/s/m{key}"))).collect();
        endpoints[2].set_healthy(false);
        let after: Vec<usize> = (0..40).map(|key| pick(&balance, &format!("/s/m{key}"))).collect();
        endpoints[2].set_healthy(true);
        assert!(!after.contains(&2));
        let moved = before.iter().zip(&after).filter(|(was, is)| **was != 2 && was != is).count();
        assert!(moved <= 8, "{balance:?} moved {moved} of 40 keys that it need not have");
    }
}

#[test]
fn nothing_up_is_nothing_picked() {
    let metadata = http::HeaderMap::new();
    let question = Question { path: "/s/m", metadata: &metadata };
    let none = balancer(&Balance::RoundRobin, SIZES, &[]);
    assert_eq!(none.pick(&[], &Turn::new(), &question, |_| false), None);
    let one = endpoints(&[1]);
    let only = balancer(&Balance::RoundRobin, SIZES, &one);
    assert_eq!(only.pick(&one, &Turn::new(), &question, |_| true), None);
}

/// Opens streams that stay open, each by the worker that `worker` says, and returns how many each endpoint has.
fn hold(endpoints: &[Arc<Endpoint>], seed: u64, streams: usize, worker: impl Fn(usize) -> usize) -> Vec<usize> {
    let balancer = balancer(&Balance::LeastRequest, SIZES, endpoints);
    let turns = [Turn::seeded(seed), Turn::seeded(seed + 1000)];
    let metadata = http::HeaderMap::new();
    let question = Question { path: "/s/m", metadata: &metadata };
    for stream in 0..streams {
        let worker = worker(stream);
        let at = balancer.pick(endpoints, &turns[worker], &question, |_| false).expect("one is up");
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
    assert_eq!(counts(&Balance::LeastRequest, &endpoints, 100), [0, 100]);
    endpoints[0].waits_no_longer(0);
    assert_eq!(counts(&Balance::LeastRequest, &endpoints, 100), [50, 50]);
}

#[test]
fn least_request_weighs_held_streams_and_idle_endpoints() {
    for seed in 1..100 {
        let held = hold(&endpoints(&[1, 3, 6]), seed, 1000, |_| 0);
        for (held, expected) in held.iter().zip([100, 300, 600]) {
            assert!(held.abs_diff(expected) <= expected / 20, "seed {seed}: {held:?}");
        }
    }
    let idle = counts(&Balance::LeastRequest, &endpoints(&[1, 3]), 8000);
    // More than ten standard deviations of 39.
    assert!((5600..6400).contains(&idle[1]), "{idle:?} for weights 1 and 3");
}

#[test]
fn weighted_turn_is_exact_and_evenly_mixed() {
    let endpoints = endpoints(&[5, 1, 1]);
    let balancer = balancer(&Balance::WeightedRoundRobin, SIZES, &endpoints);
    let metadata = http::HeaderMap::new();
    let question = Question { path: "/s/m", metadata: &metadata };
    for seed in 1..50 {
        let turn = Turn::seeded(seed);
        let picked: Vec<usize> =
            (0..70).filter_map(|_| balancer.pick(&endpoints, &turn, &question, |_| false)).collect();
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
    let balancer = balancer(&Balance::WeightedRoundRobin, SIZES, &endpoints);
    let metadata = http::HeaderMap::new();
    let question = Question { path: "/s/m", metadata: &metadata };
    let turn = Turn::seeded(1);
    let picks = |skip: usize, calls: usize| {
        let picked = (0..calls).filter_map(|_| balancer.pick(&endpoints, &turn, &question, |at| at == skip));
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
