//! The page `/clusters`: every endpoint, its state, and why.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::time::Instant;

use super::State;
use crate::access_log::timestamp;
use crate::cluster::dns::NameStatus;
use crate::cluster::levels::Level;
use crate::cluster::{Cluster, Endpoint, Members, slow_start};
use crate::config::plan::Labels;

#[derive(Serialize)]
struct ClusterPage<'a> {
    name: &'a str,
    /// Only where there is a threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    panic: Option<bool>,
    /// Only where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    priorities: Option<Vec<PriorityPage>>,
    /// The names that DNS is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<NamePage>,
    endpoints: Vec<EndpointPage<'a>>,
}

#[derive(Serialize)]
struct NamePage {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<String>,
    /// None while it is being looked up for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_lookup: Option<String>,
}

#[derive(Serialize)]
struct PriorityPage {
    priority: u32,
    share_percent: u32,
}

#[derive(Serialize)]
struct EndpointPage<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    address: String,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_check_failure: Option<CheckFailurePage>,
    /// Only where outlier detection is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejection: Option<EjectionPage>,
    weight: u32,
    /// Only while it has less than all of its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start_percent: Option<u64>,
    #[serde(skip_serializing_if = "is_first")]
    priority: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a Labels,
    /// Only where the policy goes by it, and once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    open_streams: usize,
}

fn is_first(priority: &u32) -> bool {
    *priority == 0
}

#[derive(Serialize)]
struct CheckFailurePage {
    why: String,
    time: String,
}

#[derive(Serialize)]
struct EjectionPage {
    reason: &'static str,
    until: String,
    times: u32,
}

/// The whole page.
pub(super) fn text(state: &State) -> String {
    let members: Vec<_> = state.clusters.iter().map(|cluster| (cluster, cluster.members())).collect();
    let pages: Vec<_> = members.iter().map(|(cluster, members)| page(cluster, members)).collect();
    serde_json::to_string_pretty(&pages).map_or_else(|error| error.to_string(), |text| text + "\n")
}

fn page<'a>(cluster: &'a Cluster, members: &'a Members) -> ClusterPage<'a> {
    let levels = members.all.each();
    let priority = |level: &Level| PriorityPage { priority: level.priority, share_percent: level.share };
    let now = Instant::now();
    ClusterPage {
        name: &cluster.plan.name,
        panic: (cluster.plan.healthy_panic_threshold > 0).then_some(members.panic),
        priorities: (levels.len() > 1).then(|| levels.iter().map(priority).collect()),
        names: cluster.dns.names().into_iter().map(name_page).collect(),
        endpoints: members.endpoints.iter().map(|endpoint| endpoint_page(cluster, endpoint, now)).collect(),
    }
}

fn name_page(name: NameStatus) -> NamePage {
    NamePage { name: name.name.to_string(), last_failure: name.last_failure, next_lookup: name.next.map(timestamp) }
}

fn endpoint_page<'a>(cluster: &Cluster, endpoint: &'a Endpoint, now: Instant) -> EndpointPage<'a> {
    let reasons = endpoint.reasons();
    EndpointPage {
        name: endpoint.name.as_deref().map(str::to_owned),
        address: endpoint.label.to_string(),
        healthy: endpoint.is_healthy(),
        last_check_failure: reasons
            .last_check_failure
            .map(|failure| CheckFailurePage { why: failure.why, time: timestamp(failure.time) }),
        ejected: endpoint.tally.is_some().then_some(reasons.ejection.is_some()),
        ejection: reasons.ejection.map(|ejection| EjectionPage {
            reason: ejection.reason.name(),
            until: timestamp(ejection.until),
            times: ejection.times,
        }),
        weight: endpoint.weight,
        slow_start_percent: slow_start::percent(cluster, endpoint, now).filter(|percent| *percent < 100),
        priority: endpoint.priority,
        labels: &endpoint.labels,
        latency_ms: endpoint.latency.as_ref().and_then(|latency| Some((latency.estimate(now)? / 1e3).round() / 1e3)),
        open_streams: endpoint.open(),
    }
}
