//! The page `/clusters`: every endpoint, its state, and why.

use serde::Serialize;

use super::State;
use crate::access_log::timestamp;
use crate::cluster::dns::NameStatus;
use crate::cluster::{Cluster, Endpoint};

#[derive(Serialize)]
struct ClusterPage<'a> {
    name: &'a str,
    /// Only where there is a threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    panic: Option<bool>,
    /// The names that DNS is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<NamePage>,
    endpoints: Vec<EndpointPage>,
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
struct EndpointPage {
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
    open_streams: usize,
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
    let pages: Vec<_> = state.clusters.iter().map(|cluster| page(cluster)).collect();
    serde_json::to_string_pretty(&pages).map_or_else(|error| error.to_string(), |text| text + "\n")
}

fn page(cluster: &Cluster) -> ClusterPage<'_> {
    let members = cluster.members();
    ClusterPage {
        name: &cluster.plan.name,
        panic: (cluster.plan.healthy_panic_threshold > 0).then_some(members.panic),
        names: cluster.dns.names().into_iter().map(name_page).collect(),
        endpoints: members.endpoints.iter().map(|endpoint| endpoint_page(endpoint)).collect(),
    }
}

fn name_page(name: NameStatus) -> NamePage {
    NamePage { name: name.name.to_string(), last_failure: name.last_failure, next_lookup: name.next.map(timestamp) }
}

fn endpoint_page(endpoint: &Endpoint) -> EndpointPage {
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
        open_streams: endpoint.open(),
    }
}
