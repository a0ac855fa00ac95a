//! What hedging policies did.

use prometheus::proto::{MetricFamily, MetricType};

use super::{State, by_cluster, counter, family, sum};
use crate::metrics::Denied;

pub(super) fn sent(state: &State) -> MetricFamily {
    let help = "Attempts that a hedging policy made beside or after the first of a call.";
    by_cluster(state, "weir_hedges_total", help, MetricType::COUNTER, |metrics, index| &metrics.hedges[index])
}

pub(super) fn won(state: &State) -> MetricFamily {
    let help = "Calls that such an attempt has answered, and not the first.";
    by_cluster(state, "weir_hedges_won_total", help, MetricType::COUNTER, |metrics, index| &metrics.hedges_won[index])
}

pub(super) fn denied(state: &State) -> MetricFamily {
    let help = "Calls for which a hedging policy makes no further attempt, by what denied it.";
    let mut family = family("weir_hedges_denied_total", help, MetricType::COUNTER);
    for cluster in &state.clusters {
        for (denied, reason) in Denied::HEDGES {
            let labels = [("cluster", &*cluster.plan.name), ("reason", reason)];
            let value = sum(state, |metrics| metrics.denied_hedges(cluster.index, denied));
            family.mut_metric().push(counter(&labels, value));
        }
    }
    family
}
