//! Finds the endpoints of a cluster and keeps them up to date, on the control runtime.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Found, health};
use crate::config::plan::{Discovery, Endpoint};

/// How long the first look-up may hold up the start.
const FIRST_LOOKUP: Duration = Duration::from_secs(5);

/// Fills the cluster, and returns when that has been tried once: a start that does not wait for it would refuse the
/// first calls.
pub(crate) async fn discover(cluster: Arc<Cluster>) {
    let (interval, first_only) = match cluster.plan.discovery {
        Discovery::Static => {
            let addresses = literal_addresses(&cluster.plan.endpoints);
            let mut checks = HashMap::new();
            update(&cluster, &addresses, &mut checks);
            // The checks run as long as the process.
            std::mem::forget(checks);
            return;
        }
        Discovery::StrictDns { interval } => (interval, false),
        Discovery::LogicalDns { interval } => (interval, true),
    };
    let mut names = Names { cluster, first_only, checks: HashMap::new(), failing: false };
    if tokio::time::timeout(FIRST_LOOKUP, names.refresh()).await.is_err() {
        let cluster = &names.cluster.plan.name;
        tracing::warn!(%cluster, "DNS has not answered in {FIRST_LOOKUP:?}; starting without endpoints");
    }
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            names.refresh().await;
        }
    });
}

/// A cluster whose endpoints DNS names.
struct Names {
    cluster: Arc<Cluster>,
    first_only: bool,
    checks: HashMap<usize, health::Checks>,
    /// The last look-up failed, and the log says so.
    failing: bool,
}

impl Names {
    async fn refresh(&mut self) {
        let cluster = &self.cluster.plan.name;
        match look_up(&self.cluster.plan.endpoints, self.first_only).await {
            Ok(addresses) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(%cluster, "DNS look-up works again");
                }
                update(&self.cluster, &addresses, &mut self.checks);
            }
            // The last good answer stays: a resolver's trouble is no reason to forget backends that work.
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(%cluster, %error, "DNS look-up failed; keeping the endpoints");
            }
            Err(_) => {}
        }
    }
}

fn literal_addresses(endpoints: &[Endpoint]) -> Vec<Found> {
    endpoints
        .iter()
        .filter_map(|endpoint| {
            Some(found(endpoint, SocketAddr::new(endpoint.host.parse::<IpAddr>().ok()?, endpoint.port)))
        })
        .collect()
}

fn found(endpoint: &Endpoint, address: SocketAddr) -> Found {
    Found { address, weight: endpoint.weight, name: endpoint.name.clone() }
}

async fn look_up(endpoints: &[Endpoint], first_only: bool) -> io::Result<Vec<Found>> {
    let mut all: Vec<Found> = Vec::new();
    for endpoint in endpoints {
        let addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
        for address in addresses.take(if first_only { 1 } else { usize::MAX }) {
            if !all.iter().any(|known| known.address == address) {
                all.push(found(endpoint, address));
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

fn update(cluster: &Arc<Cluster>, addresses: &[Found], checks: &mut HashMap<usize, health::Checks>) {
    let before = cluster.members();
    let same = before.endpoints.len() == addresses.len()
        && before.endpoints.iter().zip(addresses).all(|(one, found)| one.is(found));
    if same {
        return;
    }
    for endpoint in cluster.replace(addresses) {
        tracing::debug!(cluster = %cluster.plan.name, endpoint = %endpoint.label, "endpoint added");
        checks.insert(endpoint.id, health::watch(cluster, &endpoint));
    }
    let now = cluster.members();
    checks.retain(|id, _| now.endpoints.iter().any(|endpoint| endpoint.id == *id));
}
