//! Who is in a cluster at one moment, and the choice among them: first of a subset, then of a priority, then by the policy.

use std::sync::Arc;

use tokio::time::Instant;

use super::Endpoint;
use super::balance::{Candidates, Question, Turn};
use super::levels::Levels;
use super::slow_start;
use crate::config::plan::{self, Balance, Labels, SubsetFallback};

/// The endpoints at one moment, and the choice among those that are usable.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// Too few are usable, so that all are used.
    pub(crate) panic: bool,
    /// All endpoints.
    pub(crate) all: Levels,
    /// Those with the labels that routes ask for.
    subsets: Vec<Levels>,
    /// What a worker has to remember between choices.
    pub(crate) turns: usize,
}

impl Members {
    pub(super) fn new(plan: &plan::Cluster, endpoints: Vec<Arc<Endpoint>>, now: Instant) -> Members {
        let candidates = Candidates { plan, endpoints: &endpoints, shares: shares(plan, &endpoints, now) };
        let mut turns = 0;
        let mut levels = |places: Vec<usize>| Levels::new(&candidates, places, &mut turns);
        let all = levels((0..endpoints.len()).collect());
        let subsets = plan.subsets.iter().map(|labels| levels(subset(plan, &endpoints, labels))).collect();
        Members { panic: all.is_panic(), all, subsets, turns, endpoints }
    }

    /// The place of the endpoint for a call, or of another that is not to be skipped; `None` when there is none.
    pub(crate) fn pick(&self, turns: &[Turn], question: &Question<'_>, skip: impl Fn(usize) -> bool) -> Option<usize> {
        self.levels(question).pick(&self.endpoints, turns, question, skip)
    }

    /// What each endpoint may expect of the calls, in no unit: the endpoints that get none are left out.
    pub(crate) fn expected(&self, balance: &Balance) -> Vec<(&Arc<Endpoint>, f64)> {
        let weighs = !matches!(balance, Balance::RoundRobin | Balance::Random);
        let weight = |at: usize| if weighs { f64::from(self.endpoints[at].weight) } else { 1.0 };
        self.all.expected(weight).into_iter().map(|(at, share)| (&self.endpoints[at], share)).collect()
    }

    /// True when no endpoint could ever take such a call, whatever its state.
    pub(crate) fn is_nobody(&self, question: &Question<'_>) -> bool {
        self.levels(question).is_nobody()
    }

    fn levels(&self, question: &Question<'_>) -> &Levels {
        question.subset.map_or(&self.all, |subset| &self.subsets[subset])
    }

    /// Endpoints that are neither down nor ejected.
    pub(super) fn usable(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.is_usable()).count()
    }
}

fn shares(plan: &plan::Cluster, endpoints: &[Arc<Endpoint>], now: Instant) -> Option<Vec<u64>> {
    let plan = plan.slow_start.as_ref()?;
    let share = |age| slow_start::share(plan, age);
    Some(endpoints.iter().map(|endpoint| endpoint.age(now).map_or(slow_start::WHOLE, share)).collect())
}

/// The places of the endpoints that take the calls of a route which asks for these labels.
fn subset(plan: &plan::Cluster, endpoints: &[Arc<Endpoint>], labels: &Labels) -> Vec<usize> {
    let with = |labels: &Labels| -> Vec<usize> {
        let has = |at: &usize| labels.iter().all(|(key, value)| endpoints[*at].labels.get(key) == Some(value));
        (0..endpoints.len()).filter(has).collect()
    };
    let found = with(labels);
    match plan.subset_fallback {
        SubsetFallback::AnyEndpoint if found.is_empty() => (0..endpoints.len()).collect(),
        SubsetFallback::DefaultSubset(index) if found.is_empty() => with(&plan.subsets[index]),
        _ => found,
    }
}

#[cfg(test)]
mod tests;
