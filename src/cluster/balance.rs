//! The choice of an endpoint.

mod turn;
mod weights;

use std::sync::Arc;

use super::Endpoint;
use super::hashing::{self, Maglev, Ring};
use crate::config::plan::{Balance, Consistent, HashOn};
pub(crate) use turn::Turn;
use weights::Weights;

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
    WeightedRoundRobin(Weights),
    WeightedRandom(Weights),
    /// `None` where all weigh the same.
    LeastRequest(Option<Weights>),
    Ring(Ring, HashOn),
    Maglev(Maglev, HashOn),
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
        let weights = || Weights::new(up.iter().map(|at| (endpoints[*at].id, u64::from(endpoints[*at].weight))));
        let policy = match balance {
            Balance::RoundRobin => Policy::RoundRobin,
            Balance::Random => Policy::Random,
            Balance::WeightedRoundRobin => Policy::WeightedRoundRobin(weights()),
            Balance::WeightedRandom => Policy::WeightedRandom(weights()),
            Balance::LeastRequest => Policy::LeastRequest(Some(weights()).filter(|weights| !weights.are_equal())),
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
            Policy::WeightedRoundRobin(weights) => turn.smooth(weights, |_| true).unwrap_or(0),
            Policy::WeightedRandom(weights) => weights.draw(turn),
            Policy::LeastRequest(weights) => self.less_loaded(endpoints, turn, weights.as_ref()),
            Policy::Ring(ring, hash_on) => ring.at(hash_on.of(turn, question)),
            Policy::Maglev(table, hash_on) => table.at(hash_on.of(turn, question)),
        }
    }

    /// Of two endpoints the one that would have less to do for its weight. Where all weigh the same the first of the two is
    /// the next in turn, so that none is left out for long by chance, and calls that find everything idle go round.
    fn less_loaded(&self, endpoints: &[Arc<Endpoint>], turn: &Turn, weights: Option<&Weights>) -> usize {
        let count = self.up.len();
        let load = |place: usize| endpoints[self.up[place]].load() as u64;
        match weights {
            None => {
                let one = turn.next(count);
                let other = (one + 1 + turn.below(count as u64 - 1) as usize) % count;
                if load(other) < load(one) { other } else { one }
            }
            Some(weights) => {
                let (one, other) = weights.draw_two(turn);
                let less = load(other) * weights.of(one) < load(one) * weights.of(other);
                if less { other } else { one }
            }
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
            Policy::WeightedRoundRobin(weights) => turn.smooth(weights, may),
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

#[cfg(test)]
mod tests;
