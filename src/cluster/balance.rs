//! The choice of an endpoint.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::Endpoint;
use super::hashing::{self, Maglev, Ring};
use crate::config::plan::{Balance, Consistent, HashOn};

/// A cluster's policy over the endpoints that may be chosen. Rebuilt when they change, never during a call.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// Places in the cluster's list of endpoints of those that may be chosen.
    up: Vec<usize>,
    policy: Policy,
}

#[derive(Debug)]
enum Policy {
    RoundRobin,
    Random,
    /// Sums of the weights up to and with each endpoint that may be chosen.
    WeightedRandom(Vec<u64>),
    LeastRequest,
    Ring(Ring, HashOn),
    Maglev(Maglev, HashOn),
}

/// What one worker remembers between choices.
#[derive(Debug)]
pub(crate) struct Turn {
    next: Cell<usize>,
    random: Cell<u64>,
}

/// What a choice may depend on.
pub(crate) struct Question<'a> {
    pub(crate) path: &'a str,
    pub(crate) metadata: &'a http::HeaderMap,
}

impl Balancer {
    /// Chooses among the endpoints at the places `up`.
    pub(crate) fn new(
        balance: &Balance,
        consistent: Consistent,
        endpoints: &[Arc<Endpoint>],
        up: Vec<usize>,
    ) -> Balancer {
        let named = || up.iter().map(|at| (&*endpoints[*at].label, endpoints[*at].weight));
        let policy = match balance {
            Balance::RoundRobin => Policy::RoundRobin,
            Balance::Random => Policy::Random,
            Balance::WeightedRandom => Policy::WeightedRandom(
                named()
                    .scan(0, |sum, (_, weight)| {
                        *sum += u64::from(weight);
                        Some(*sum)
                    })
                    .collect(),
            ),
            Balance::LeastRequest => Policy::LeastRequest,
            Balance::Ring(hash_on) => Policy::Ring(Ring::new(named(), consistent.replicas), hash_on.clone()),
            Balance::Maglev(hash_on) => Policy::Maglev(Maglev::new(named(), consistent.table_size), hash_on.clone()),
        };
        Balancer { up, policy }
    }

    /// The place of the endpoint for a call, or of another that is not to be skipped; `None` when there is none.
    pub(crate) fn pick(
        &self,
        endpoints: &[Arc<Endpoint>],
        turn: &Turn,
        question: &Question<'_>,
        skip: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.up.is_empty() {
            return None;
        }
        let may = |place: &usize| !skip(self.up[*place]);
        // The common case needs one choice; only when it is to be skipped is it worth to ask whether there is another.
        let first = self.choose(endpoints, turn, question);
        let place = if may(&first) {
            Some(first)
        } else if (0..self.up.len()).any(|place| may(&place)) {
            self.choose_again(endpoints, turn, question, may)
        } else {
            None
        };
        place.map(|place| self.up[place])
    }

    /// A place in `up`.
    fn choose(&self, endpoints: &[Arc<Endpoint>], turn: &Turn, question: &Question<'_>) -> usize {
        let count = self.up.len();
        if count == 1 {
            return 0;
        }
        match &self.policy {
            Policy::RoundRobin => turn.next(count),
            Policy::Random => turn.below(count as u64) as usize,
            Policy::WeightedRandom(sums) => {
                let drawn = turn.below(sums.last().copied().unwrap_or(1).max(1));
                sums.partition_point(|sum| *sum <= drawn).min(count - 1)
            }
            Policy::LeastRequest => {
                let one = turn.below(count as u64) as usize;
                let other = (one + 1 + turn.below(count as u64 - 1) as usize) % count;
                let load = |at: usize| endpoints[self.up[at]].open();
                if load(other) < load(one) { other } else { one }
            }
            Policy::Ring(ring, hash_on) => ring.at(hash_on.of(turn, question)),
            Policy::Maglev(table, hash_on) => table.at(hash_on.of(turn, question)),
        }
    }

    /// A place that `may` be taken, in the policy's own way: its neighbour alone would get all that an endpoint which is
    /// passed over leaves. A hashing policy goes on from where the key is, so that the key stays with its second choice.
    fn choose_again(
        &self,
        endpoints: &[Arc<Endpoint>],
        turn: &Turn,
        question: &Question<'_>,
        may: impl Fn(&usize) -> bool,
    ) -> Option<usize> {
        match &self.policy {
            Policy::Ring(ring, hash_on) => ring.from(hash_on.of(turn, question)).find(may),
            Policy::Maglev(table, hash_on) => table.from(hash_on.of(turn, question)).find(may),
            _ => {
                let count = self.up.len();
                let by_policy = (0..count).map(|_| self.choose(endpoints, turn, question)).find(&may);
                // Chance may have passed by all that are left.
                by_policy.or_else(|| {
                    let start = turn.below(count as u64) as usize;
                    (0..count).map(|step| (start + step) % count).find(may)
                })
            }
        }
    }
}

impl HashOn {
    fn of(&self, turn: &Turn, question: &Question<'_>) -> u64 {
        match self {
            HashOn::Path => hashing::hash(question.path.as_bytes(), 0),
            HashOn::Metadata(key) => match question.metadata.get(key) {
                Some(value) => hashing::hash(value.as_bytes(), 0),
                None => turn.random(),
            },
        }
    }
}

// === impl Turn ===

impl Turn {
    /// Starts at a place of its own, so that workers do not all begin with the same endpoint.
    pub(crate) fn new() -> Turn {
        let seed = RandomState::new().hash_one(0);
        Turn { next: Cell::new(seed as usize >> 8), random: Cell::new(seed | 1) }
    }

    fn next(&self, count: usize) -> usize {
        let next = self.next.get();
        self.next.set(next.wrapping_add(1));
        next % count
    }

    /// xorshift64*: chance that need not withstand an adversary.
    fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, each alike but for 1 part in 2^32.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.random()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Found;

    fn endpoints(weights: &[u32]) -> Vec<Arc<Endpoint>> {
        (0_u16..)
            .zip(weights)
            .map(|(at, weight)| Found {
                address: ([127, 0, 0, 1], 1000 + at).into(),
                weight: *weight,
                name: None,
                server_name: None,
            })
            .map(|found| Arc::new(Endpoint::new(found, 1, false)))
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
}
