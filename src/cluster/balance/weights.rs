//! Shares of the endpoints that may be chosen.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Turn;

/// The weights of the endpoints that may be chosen, by place.
#[derive(Debug)]
pub(super) struct Weights {
    /// Unlike that of all other weights of this process.
    id: usize,
    endpoints: Vec<usize>,
    /// Sums of the weights up to and with each.
    sums: Vec<u64>,
}

/// 0 is that of nobody.
static NEXT_ID: AtomicUsize = AtomicUsize::new(1);

impl Weights {
    /// Of these endpoints by id, with a weight each.
    pub(super) fn new(each: impl Iterator<Item = (usize, u64)>) -> Weights {
        let (endpoints, weights): (Vec<usize>, Vec<u64>) = each.unzip();
        let sums = weights.into_iter().scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Weights { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), endpoints, sums: sums.collect() }
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    /// Ids and weights.
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, u64)> {
        self.endpoints.iter().enumerate().map(|(place, id)| (*id, self.of(place)))
    }

    /// The weight at a place.
    pub(super) fn of(&self, place: usize) -> u64 {
        self.sums[place] - self.before(place)
    }

    pub(super) fn are_equal(&self) -> bool {
        (0..self.sums.len()).all(|place| self.of(place) == self.of(0))
    }

    /// A place by chance, in proportion to the weights.
    pub(super) fn draw(&self, turn: &Turn) -> usize {
        self.at(turn.below(self.total()))
    }

    /// Two places, of which there must be as many: one by chance, the other by chance among the rest.
    pub(super) fn draw_two(&self, turn: &Turn) -> (usize, usize) {
        let one = self.draw(turn);
        let drawn = turn.below(self.total() - self.of(one));
        let skipped = if drawn < self.before(one) { 0 } else { self.of(one) };
        (one, self.at(drawn + skipped))
    }

    fn at(&self, drawn: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= drawn).min(self.sums.len().saturating_sub(1))
    }

    fn before(&self, place: usize) -> u64 {
        place.checked_sub(1).map_or(0, |before| self.sums[before])
    }

    fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0).max(1)
    }
}
