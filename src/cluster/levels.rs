//! Priorities: the endpoints of the first take all calls while enough of them are usable, and what they cannot take goes to
//! the next. The rules are Envoy's, so that its users find what they know.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Endpoint;
use super::balance::{Balancer, Candidates, Question, Turn};

/// The endpoints that may be chosen, by priority.
#[derive(Debug)]
pub(crate) struct Levels {
    /// The first is asked first.
    each: Vec<Level>,
    /// The only one that has a share, mostly.
    only: Option<usize>,
}

/// The endpoints of one priority.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) priority: u32,
    /// What it has of the calls, in per cent.
    pub(crate) share: u32,
    /// Too few of its endpoints are usable, so that all are used.
    pub(crate) panic: bool,
    balancer: Balancer,
    /// Which of a worker's turns is for it.
    turn: usize,
}

/// How a priority stands.
struct Standing {
    places: Vec<usize>,
    usable: Vec<usize>,
    /// What it could take of the calls, in per cent.
    capacity: u32,
}

impl Levels {
    /// Of the endpoints at these places. Each level takes a turn.
    pub(super) fn new(candidates: &Candidates<'_>, places: Vec<usize>, turns: &mut usize) -> Levels {
        let mut by_priority: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for at in places {
            by_priority.entry(candidates.endpoints[at].priority).or_default().push(at);
        }
        let standings: Vec<(u32, Standing)> =
            by_priority.into_iter().map(|(priority, places)| (priority, Standing::new(candidates, places))).collect();
        let shares = shares(&standings, candidates.plan.healthy_panic_threshold);
        let alone = standings.len() == 1;
        let enough = standings.iter().map(|(_, standing)| standing.capacity).sum::<u32>() >= 100;
        let threshold = candidates.plan.healthy_panic_threshold;
        let levels = standings.into_iter().zip(shares).map(|((priority, standing), share)| {
            let Standing { places, usable, .. } = standing;
            let few = usable.len() * 100 < threshold as usize * places.len();
            // While another priority can take what is missing, nobody need ask endpoints that are down.
            let panic = few && (alone || !enough);
            *turns += 1;
            let balancer = Balancer::new(candidates, if panic { places } else { usable });
            Level { priority, share, panic, balancer, turn: *turns - 1 }
        });
        let each: Vec<Level> = levels.collect();
        let only = if alone { Some(0) } else { each.iter().position(|level| level.share == 100) };
        Levels { each, only }
    }

    /// The place of the endpoint for a call, or of another that is not to be skipped. Those of other priorities are asked
    /// when all of the one that the call falls to are to be skipped.
    pub(super) fn pick(
        &self,
        endpoints: &[Arc<Endpoint>],
        turns: &[Turn],
        question: &Question<'_>,
        skip: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = self.only.unwrap_or_else(|| self.draw(turns, question));
        let pick = |level: &Level| level.balancer.pick(endpoints, &turns[level.turn], question, &skip);
        let picked = pick(self.each.get(first)?);
        if picked.is_some() || self.each.len() == 1 {
            return picked;
        }
        let others = self.each.iter().enumerate().filter(|(at, _)| *at != first);
        others.map(|(_, level)| level).find_map(pick)
    }

    /// The level that a call falls to: by chance, but a key that is hashed stays where it is.
    fn draw(&self, turns: &[Turn], question: &Question<'_>) -> usize {
        let Some(level) = self.each.first() else { return 0 };
        let drawn = level.balancer.chance(&turns[level.turn], question, 100);
        let mut sum = 0;
        let taken = self.each.iter().position(|level| {
            sum += u64::from(level.share);
            drawn < sum
        });
        taken.unwrap_or(0)
    }

    /// What each endpoint may expect of the calls, by place and in no unit: those that get none are left out.
    pub(super) fn expected(&self, weight: impl Fn(usize) -> f64) -> Vec<(usize, f64)> {
        let of_level = |level: &Level| {
            let places = level.balancer.places();
            let total: f64 = places.iter().map(|at| weight(*at)).sum();
            let each = f64::from(level.share) / total;
            places.iter().map(|at| (*at, weight(*at) * each)).collect::<Vec<_>>()
        };
        self.each.iter().filter(|level| level.share > 0).flat_map(of_level).collect()
    }

    /// True when there is no endpoint, in whatever state.
    pub(super) fn is_nobody(&self) -> bool {
        self.each.is_empty()
    }

    pub(super) fn is_panic(&self) -> bool {
        self.each.iter().any(|level| level.panic)
    }

    /// The levels, the first that is asked first.
    pub(crate) fn each(&self) -> &[Level] {
        &self.each
    }
}

impl Standing {
    fn new(candidates: &Candidates<'_>, places: Vec<usize>) -> Standing {
        let usable: Vec<usize> = places.iter().copied().filter(|at| candidates.endpoints[*at].is_usable()).collect();
        let factor = candidates.plan.overprovisioning_factor as usize;
        let capacity = (usable.len() * factor / places.len()).min(100);
        Standing { places, usable, capacity: capacity as u32 }
    }
}

/// What each priority has of the calls, in per cent: as much as it can take, the first first. Where all together cannot take
/// all, each has its part of what there is. Where nothing is usable, panic spreads calls over all endpoints alike.
fn shares(standings: &[(u32, Standing)], panic_threshold: u32) -> Vec<u32> {
    let capacities: Vec<u32> = standings.iter().map(|(_, standing)| standing.capacity).collect();
    let total = capacities.iter().sum::<u32>();
    let all: usize = standings.iter().map(|(_, standing)| standing.places.len()).sum();
    let wanted: Vec<u32> = match total {
        0 if panic_threshold == 0 => return vec![0; standings.len()],
        0 => standings.iter().map(|(_, standing)| (standing.places.len() * 100 / all.max(1)) as u32).collect(),
        1..100 => capacities.iter().map(|capacity| capacity * 100 / total).collect(),
        _ => capacities,
    };
    let mut left = 100;
    let mut shares: Vec<u32> = wanted
        .into_iter()
        .map(|wanted| {
            let share = wanted.min(left);
            left -= share;
            share
        })
        .collect();
    // What rounding leaves goes to the first that takes any.
    if let Some(first) = shares.iter_mut().find(|share| **share > 0) {
        *first += left;
    }
    shares
}
