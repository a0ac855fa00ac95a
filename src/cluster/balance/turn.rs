//! What one worker remembers between choices.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::weights::Weights;

/// What one worker remembers between choices.
#[derive(Debug)]
pub(crate) struct Turn {
    next: Cell<usize>,
    random: Cell<u64>,
    /// Only a weighted turn has any.
    credits: RefCell<Credits>,
}

/// What each endpoint is owed in a weighted turn.
#[derive(Debug, Default)]
struct Credits {
    /// The weights that these belong to.
    weights: usize,
    /// By place: the endpoint's id, and its credit.
    each: Vec<(usize, i64)>,
}

impl Turn {
    /// Starts at a place of its own, so that workers do not all begin with the same endpoint.
    pub(crate) fn new() -> Turn {
        Turn::from_seed(RandomState::new().hash_one(0))
    }

    fn from_seed(seed: u64) -> Turn {
        Turn { next: Cell::new(seed as usize >> 8), random: Cell::new(seed | 1), credits: RefCell::default() }
    }

    /// The same choices every time.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Turn {
        Turn::from_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn next(&self, count: usize) -> usize {
        let next = self.next.get();
        self.next.set(next.wrapping_add(1));
        next % count
    }

    /// xorshift64*: chance that need not withstand an adversary.
    pub(super) fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, each alike but for 1 part in 2^32.
    pub(super) fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.random()) * u128::from(bound)) >> 64) as u64
    }

    /// The next place of a smooth weighted turn among those that `may` be taken: each is credited its weight, and the one
    /// with the most credit pays for all. An endpoint of weight 5 among seven is chosen five times in seven, never five
    /// times in a row.
    pub(super) fn smooth(&self, weights: &Weights, may: impl Fn(&usize) -> bool) -> Option<usize> {
        let mut credits = self.credits.borrow_mut();
        if credits.weights != weights.id() {
            self.renew(&mut credits, weights);
        }
        let (mut best, mut total) = (None, 0);
        for (place, (_, credit)) in credits.each.iter_mut().enumerate().filter(|(place, _)| may(place)) {
            let weight = weights.of(place).cast_signed();
            *credit += weight;
            total += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((place, *credit));
            }
        }
        let (place, credit) = best?;
        credits.each[place].1 = credit - total;
        Some(place)
    }

    /// Endpoints that stay keep what they are owed. Others begin somewhere within their own weight, so that workers do not
    /// all begin with the same one.
    fn renew(&self, credits: &mut Credits, weights: &Weights) {
        let before: HashMap<usize, i64> = credits.each.drain(..).collect();
        let begin = |weight: u64| self.below(weight.max(1)).cast_signed();
        let credit = |(endpoint, weight)| (endpoint, before.get(&endpoint).copied().unwrap_or_else(|| begin(weight)));
        credits.each = weights.each().map(credit).collect();
        credits.weights = weights.id();
    }
}
