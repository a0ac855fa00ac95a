//! Finds the endpoints of a cluster and keeps them up to date, on the control runtime.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Cluster, Found, health};
use crate::config::plan::{Discovery, Endpoint, LookupFamily};

/// How long one name may hold up the answers of the others, and all of them the start.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cluster without endpoints refuses every call: it asks again after this, however long the interval is.
const EMPTY_RETRY: Duration = Duration::from_secs(1);

/// Fills the cluster and keeps it up to date, with its health checks, for as long as this is polled. `first` hears when
/// filling has been tried once: a start that does not wait for it would refuse the first calls.
pub(crate) async fn discover(cluster: Arc<Cluster>, first: oneshot::Sender<()>) {
    let (interval, first_only) = match cluster.plan.discovery {
        Discovery::Static => {
            let mut checks = HashMap::new();
            update(&cluster, &literal_addresses(&cluster.plan.endpoints), &mut checks);
            // A start that has been given up waits no longer, and drops this.
            let _ = first.send(());
            return std::future::pending().await;
        }
        Discovery::StrictDns { interval } => (interval, false),
        Discovery::LogicalDns { interval } => (interval, true),
    };
    let mut names = Names::new(cluster, first_only);
    names.refresh().await;
    let _ = first.send(());
    loop {
        sleep(if names.cluster.members().endpoints.is_empty() { interval.min(EMPTY_RETRY) } else { interval }).await;
        names.refresh().await;
    }
}

/// A cluster whose endpoints DNS names.
struct Names {
    cluster: Arc<Cluster>,
    first_only: bool,
    names: Vec<Name>,
    /// One at most for each name, with the name's index. A resolver that is slow answers in a later turn.
    look_ups: JoinSet<(usize, io::Result<Vec<SocketAddr>>)>,
    checks: HashMap<usize, health::Checks>,
}

/// One of its names. Each stands for itself: that one cannot be found says nothing about the others.
struct Name {
    endpoint: Endpoint,
    /// The last good answer. A resolver's trouble is no reason to forget backends that work.
    found: Vec<SocketAddr>,
    asked: bool,
    /// Who asked last.
    task: Option<Id>,
    /// The last look-up failed, and the log says so.
    failing: bool,
}

impl Names {
    fn new(cluster: Arc<Cluster>, first_only: bool) -> Names {
        let name = |endpoint: &Endpoint| Name {
            endpoint: endpoint.clone(),
            found: Vec::new(),
            asked: false,
            task: None,
            failing: false,
        };
        let names = cluster.plan.endpoints.iter().map(name).collect();
        Names { cluster, first_only, names, look_ups: JoinSet::new(), checks: HashMap::new() }
    }

    /// Looks every name up, all at once, and takes the answers that come in time.
    async fn refresh(&mut self) {
        self.ask();
        let until = Instant::now() + PATIENCE;
        while let Ok(Some(answer)) = timeout_at(until, self.look_ups.join_next()).await {
            match answer {
                Ok((at, answer)) => self.names[at].take(answer, &self.cluster.plan.name),
                Err(error) => self.panicked(&error),
            }
        }
        for name in self.names.iter_mut().filter(|name| name.asked) {
            name.fail(&format!("no answer in {PATIENCE:?}"), &self.cluster.plan.name);
        }
        update(&self.cluster, &self.addresses(), &mut self.checks);
    }

    fn ask(&mut self) {
        for (at, name) in self.names.iter_mut().enumerate().filter(|(_, name)| !name.asked) {
            name.asked = true;
            let (host, port) = (name.endpoint.host.clone(), name.endpoint.port);
            let most = if self.first_only { 1 } else { usize::MAX };
            let family = self.cluster.plan.lookup_family;
            let look_up = self.look_ups.spawn(async move {
                let found = tokio::net::lookup_host((host, port)).await;
                (at, found.and_then(|found| of_family(found.collect(), family, most)))
            });
            name.task = Some(look_up.id());
        }
    }

    /// A bug; the name is asked again next time.
    fn panicked(&mut self, error: &JoinError) {
        tracing::error!(cluster = %self.cluster.plan.name, %error, "a DNS look-up panicked");
        if let Some(name) = self.names.iter_mut().find(|name| name.task == Some(error.id())) {
            name.take(Err(io::Error::other("the look-up panicked")), &self.cluster.plan.name);
        }
    }

    /// Each address once, in an order that does not depend on the resolver's.
    fn addresses(&self) -> Vec<Found> {
        let mut addresses: Vec<Found> = Vec::new();
        for name in &self.names {
            for address in &name.found {
                if !addresses.iter().any(|known| known.address == *address) {
                    addresses.push(found(&name.endpoint, *address));
                }
            }
        }
        addresses.sort_unstable_by_key(|found| found.address);
        addresses
    }
}

impl Name {
    fn take(&mut self, answer: io::Result<Vec<SocketAddr>>, cluster: &str) {
        self.asked = false;
        match answer {
            Ok(found) => {
                self.found = found;
                if std::mem::take(&mut self.failing) {
                    tracing::info!(%cluster, name = %self.endpoint.host, "DNS look-up works again");
                }
            }
            Err(error) => self.fail(&error.to_string(), cluster),
        }
    }

    /// Says that it begins to fail, once.
    fn fail(&mut self, error: &str, cluster: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%cluster, name = %self.endpoint.host, error, "DNS look-up failed; keeping the endpoints");
        }
    }
}

/// As many of the addresses as are wanted of this family.
fn of_family(found: Vec<SocketAddr>, family: LookupFamily, most: usize) -> io::Result<Vec<SocketAddr>> {
    let of = |wanted: fn(&SocketAddr) -> bool| -> Vec<SocketAddr> { found.iter().copied().filter(wanted).collect() };
    let (v4, v6) = (of(SocketAddr::is_ipv4), of(SocketAddr::is_ipv6));
    let mut wanted = match family {
        LookupFamily::All => found,
        LookupFamily::V4Only => v4,
        LookupFamily::V6Only => v6,
        LookupFamily::V4Preferred => {
            if v4.is_empty() {
                v6
            } else {
                v4
            }
        }
        LookupFamily::V6Preferred => {
            if v6.is_empty() {
                v4
            } else {
                v6
            }
        }
    };
    if wanted.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("it has no address of {}", family.name())));
    }
    wanted.truncate(most);
    Ok(wanted)
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
    let Endpoint { weight, priority, labels, name, server_name, .. } = endpoint.clone();
    Found { address, weight, priority, labels, name, server_name }
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
