//! The choice of an endpoint.

mod keyed;
mod turn;
mod weights;

use std::sync::Arc;

use tokio::time::Instant;

use super::Endpoint;
use super::slow_start::WHOLE;
use crate::config::plan::{self, Balance};
use keyed::Keyed;
pub(crate) use turn::Turn;
use weights::Weights;

/// What an endpoint costs that has been asked and has not answered yet, in nanoseconds: more than any that has.
const UNKNOWN: f64 = 1e15;

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
    /// The same.
    PeakEwma(Option<Weights>),
    Keyed(Keyed),
}

/// What a choice may depend on.
pub(crate) struct Question<'a> {
    pub(crate) path: &'a str,
    pub(crate) metadata: &'a http::HeaderMap,
    /// Whose endpoints, of those that routes ask for; `None` is all of them.
    pub(crate) subset: Option<usize>,
}

/// What the choice is made from.
pub(super) struct Candidates<'a> {
    pub(super) plan: &'a plan::Cluster,
    pub(super) endpoints: &'a [Arc<Endpoint>],
    /// What each may have of its weight, in parts of [`WHOLE`]; `None` where all have all of it.
    pub(super) shares: Option<Vec<u64>>,
}

impl Balancer {
    /// Chooses among the endpoints at the places `up`.
    pub(super) fn new(candidates: &Candidates<'_>, up: Vec<usize>) -> Balancer {
        let Candidates { plan, endpoints, shares } = candidates;
        let share = |at: usize| shares.as_ref().map_or(WHOLE, |shares| shares[at]);
        let weights = |weight: fn(&Endpoint) -> u32| {
            Weights::new(up.iter().map(|at| (endpoints[*at].id, u64::from(weight(&endpoints[*at])) * share(*at))))
        };
        let unlike = |weights: Weights| Some(weights).filter(|weights| !weights.are_equal());
        let policy = match &plan.balance {
            Balance::RoundRobin => unlike(weights(|_| 1)).map_or(Policy::RoundRobin, Policy::WeightedRoundRobin),
            Balance::Random => unlike(weights(|_| 1)).map_or(Policy::Random, Policy::WeightedRandom),
            Balance::WeightedRoundRobin => Policy::WeightedRoundRobin(weights(|one| one.weight)),
            Balance::WeightedRandom => Policy::WeightedRandom(weights(|one| one.weight)),
            Balance::LeastRequest => Policy::LeastRequest(unlike(weights(|one| one.weight))),
            Balance::PeakEwma { .. } => Policy::PeakEwma(unlike(weights(|one| one.weight))),
            Balance::Ring(on) => Policy::Keyed(Keyed::ring(endpoints, &up, on, plan.consistent)),
            Balance::Maglev(on) => Policy::Keyed(Keyed::maglev(endpoints, &up, on, plan.consistent)),
        };
        Balancer { up, policy }
    }

    /// The places of those that may be chosen.
    pub(super) fn places(&self) -> &[usize] {
        &self.up
    }

    /// The place of the endpoint for a call, or of another that is not to be skipped; `None` when there is none.
    pub(super) fn pick(
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

    /// A number below `bound` for this call: of its key where it has one, and by chance otherwise.
    pub(super) fn chance(&self, turn: &Turn, question: &Question<'_>, bound: u64) -> u64 {
        match &self.policy {
            Policy::Keyed(keyed) => keyed.hash(turn, question) % bound,
            _ => turn.below(bound),
        }
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
            Policy::LeastRequest(weights) => {
                let load = |place: usize| endpoints[self.up[place]].load() as u64;
                self.cheaper(turn, weights.as_ref(), load, |load, weight| load * weight)
            }
            Policy::PeakEwma(weights) => {
                let now = Instant::now();
                let cost = |place: usize| expected(&endpoints[self.up[place]], now);
                self.cheaper(turn, weights.as_ref(), cost, |cost, weight| cost * weight as f64)
            }
            Policy::Keyed(keyed) => keyed.choose(endpoints, &self.up, keyed.hash(turn, question)),
        }
    }

    /// Of two endpoints the one that costs less for its weight. Where all weigh the same the first of the two is the next in
    /// turn, so that none is left out for long by chance, and calls that find everything idle go round.
    fn cheaper<T: PartialOrd>(
        &self,
        turn: &Turn,
        weights: Option<&Weights>,
        cost: impl Fn(usize) -> T,
        times: impl Fn(T, u64) -> T,
    ) -> usize {
        let count = self.up.len();
        match weights {
            None => {
                let one = turn.next(count);
                let other = (one + 1 + turn.below(count as u64 - 1) as usize) % count;
                if cost(other) < cost(one) { other } else { one }
            }
            Some(weights) => {
                let (one, other) = weights.draw_two(turn);
                let less = times(cost(other), weights.of(one)) < times(cost(one), weights.of(other));
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
            Policy::Keyed(keyed) => keyed.choose_again(endpoints, &self.up, keyed.hash(turn, question), may),
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

/// When an endpoint would be done with one call more, in nanoseconds from now. One that nobody has asked is asked once, and
/// then again when it has answered.
fn expected(endpoint: &Endpoint, now: Instant) -> f64 {
    let load = endpoint.load() as f64;
    match endpoint.latency.as_ref().and_then(|latency| latency.estimate(now)) {
        Some(estimate) => estimate * (load + 1.0),
        None if load == 0.0 => 0.0,
        None => UNKNOWN + load,
    }
}

#[cfg(test)]
mod tests;
