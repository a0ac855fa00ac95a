//! Families about endpoints: their state, and what brought it about.

use std::sync::atomic::Ordering;

use prometheus::proto::{MetricFamily, MetricType};
use tokio::time::Instant;

use super::super::State;
use super::{counter, family, gauge};
use crate::cluster::outlier::Outliers;
use crate::cluster::{Endpoint, slow_start};
use crate::config::plan::Discovery;

pub(super) fn healthy(state: &State) -> MetricFamily {
    by_endpoint(state, "weir_endpoint_healthy", "1 while health checks let an endpoint have calls.", |endpoint| {
        Some(u64::from(endpoint.is_healthy()))
    })
}

pub(super) fn streams(state: &State) -> MetricFamily {
    by_endpoint(state, "weir_endpoint_open_streams", "Open streams to an endpoint.", |endpoint| {
        Some(endpoint.open() as u64)
    })
}

pub(super) fn health_checks(state: &State) -> MetricFamily {
    let help = "Health checks that were made, by what came of them.";
    let mut family = family("weir_health_checks_total", help, MetricType::COUNTER);
    for cluster in state.clusters.iter().filter(|cluster| !cluster.plan.health_checks.is_empty()) {
        let counts = &cluster.checks;
        for (result, cell) in [("success", &counts.good), ("failure", &counts.bad), ("timeout", &counts.late)] {
            let labels = [("cluster", &*cluster.plan.name), ("result", result)];
            family.mut_metric().push(counter(&labels, cell.load(Ordering::Relaxed)));
        }
    }
    family
}

pub(super) fn dns_lookups(state: &State) -> MetricFamily {
    let help = "Look-ups of names in DNS, by what came of them.";
    let mut family = family("weir_dns_lookups_total", help, MetricType::COUNTER);
    for cluster in state.clusters.iter().filter(|cluster| cluster.plan.discovery != Discovery::Static) {
        for (result, count) in cluster.dns.counts() {
            let labels = [("cluster", &*cluster.plan.name), ("result", result)];
            family.mut_metric().push(counter(&labels, count));
        }
    }
    family
}

pub(super) fn ejected(state: &State) -> MetricFamily {
    let help = "1 while outlier detection keeps calls from an endpoint.";
    by_endpoint(state, "weir_endpoint_ejected", help, |endpoint| {
        endpoint.tally.is_some().then(|| u64::from(endpoint.is_ejected()))
    })
}

pub(super) fn ejections(state: &State) -> MetricFamily {
    let mut family = family("weir_ejections_total", "Endpoints that were ejected, by reason.", MetricType::COUNTER);
    for cluster in &state.clusters {
        for (reason, count) in cluster.outliers.iter().flat_map(Outliers::ejections) {
            let labels = [("cluster", &*cluster.plan.name), ("reason", reason.name())];
            family.mut_metric().push(counter(&labels, count));
        }
    }
    family
}

pub(super) fn ejections_prevented(state: &State) -> MetricFamily {
    let help = "Ejections that max_ejection_percent did not allow.";
    let mut family = family("weir_ejections_prevented_total", help, MetricType::COUNTER);
    for cluster in &state.clusters {
        if let Some(outliers) = &cluster.outliers {
            family.mut_metric().push(counter(&[("cluster", &cluster.plan.name)], outliers.prevented()));
        }
    }
    family
}

pub(super) fn cluster_panic(state: &State) -> MetricFamily {
    let help = "1 while so few endpoints are usable that all get calls.";
    let mut family = family("weir_cluster_panic", help, MetricType::GAUGE);
    for cluster in state.clusters.iter().filter(|cluster| cluster.plan.healthy_panic_threshold > 0) {
        let panic = u64::from(cluster.members().panic);
        family.mut_metric().push(gauge(&[("cluster", &cluster.plan.name)], panic));
    }
    family
}

pub(super) fn priority_share(state: &State) -> MetricFamily {
    let help = "What a priority gets of its cluster's calls, in per cent.";
    let mut family = family("weir_priority_share_percent", help, MetricType::GAUGE);
    for cluster in &state.clusters {
        let members = cluster.members();
        for level in members.all.each().iter().filter(|_| members.all.each().len() > 1) {
            let labels = [("cluster", &*cluster.plan.name), ("priority", &level.priority.to_string())];
            family.mut_metric().push(gauge(&labels, u64::from(level.share)));
        }
    }
    family
}

pub(super) fn slow_start(state: &State) -> MetricFamily {
    let help = "What an endpoint has of its weight, in per cent, where the cluster has slow_start_config.";
    let mut family = family("weir_endpoint_slow_start_percent", help, MetricType::GAUGE);
    let now = Instant::now();
    for cluster in &state.clusters {
        for endpoint in &cluster.members().endpoints {
            let labels = [("cluster", &*cluster.plan.name), ("endpoint", &*endpoint.label)];
            let percent = slow_start::percent(cluster, endpoint, now);
            family.mut_metric().extend(percent.map(|percent| gauge(&labels, percent)));
        }
    }
    family
}

fn by_endpoint(state: &State, name: &str, help: &str, value: impl Fn(&Endpoint) -> Option<u64>) -> MetricFamily {
    let mut family = family(name, help, MetricType::GAUGE);
    for cluster in &state.clusters {
        for endpoint in &cluster.members().endpoints {
            let labels = [("cluster", &*cluster.plan.name), ("endpoint", &*endpoint.label)];
            family.mut_metric().extend(value(endpoint).map(|value| gauge(&labels, value)));
        }
    }
    family
}
