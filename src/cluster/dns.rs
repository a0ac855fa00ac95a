//! Finds the endpoints of a cluster and keeps them up to date, on the control runtime.

mod asker;
mod memory;
mod resolver;
mod schedule;
mod status;
mod system;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Cluster, Found, health};
use crate::config::plan::{Discovery, Dns, Endpoint};
use asker::{Asker, Target};
use schedule::Schedule;
pub(crate) use status::{NameStatus, Status};

/// How long a name may hold up the start. Its look-up goes on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers that may wait to be taken.
const ANSWERS: usize = 16;

/// Fills the cluster and keeps it up to date, with its health checks, for as long as this is polled. `first` hears when
/// filling has been tried once: a start that does not wait for it would refuse the first calls.
pub(crate) async fn discover(cluster: Arc<Cluster>, first: oneshot::Sender<()>) {
    let (dns, one_each) = match cluster.plan.discovery.clone() {
        Discovery::Static => {
            let mut checks = HashMap::new();
            update(&cluster, &literal_addresses(&cluster.plan.endpoints), &mut checks);
            // A start that has been given up waits no longer, and drops this.
            let _ = first.send(());
            return std::future::pending().await;
        }
        Discovery::StrictDns(dns) => (dns, false),
        Discovery::LogicalDns(dns) => (dns, true),
    };
    let mut names = Names::new(cluster, one_each);
    let (tell, mut told) = mpsc::channel(ANSWERS);
    // Dropped with this, and with them their look-ups.
    let mut followers = JoinSet::new();
    for (at, name) in names.names.iter().enumerate().filter(|(_, name)| !name.answered) {
        followers.spawn(follow(at, name.endpoint.clone(), dns.clone(), tell.clone()));
    }
    while names.names.iter().any(|name| !name.answered) {
        let Some((at, answer)) = told.recv().await else { break };
        names.take(at, answer);
    }
    names.update();
    let _ = first.send(());
    while let Some((at, answer)) = told.recv().await {
        names.take(at, answer);
        names.update();
    }
}

/// What becomes known of a name.
enum Answer {
    /// It has been asked for this long, and DNS has not answered.
    Late(Duration),
    /// What there is, what is wrong with it, and how long it will be until the next look-up.
    Found(asker::Found, Duration),
}

/// Looks one name up, again and again. Each has a task of its own: one whose server is slow holds up no other.
async fn follow(at: usize, endpoint: Endpoint, dns: Dns, tell: mpsc::Sender<(usize, Answer)>) {
    let mut schedule = Schedule::new(dns.clone());
    let mut asker = Asker::new(endpoint, dns);
    loop {
        let mut look_up = pin!(asker.look_up());
        let found = match timeout(PATIENCE, &mut look_up).await {
            Ok(found) => found,
            Err(_) => {
                if tell.send((at, Answer::Late(PATIENCE))).await.is_err() {
                    return;
                }
                look_up.await
            }
        };
        let wait = match &found.trouble {
            None => schedule.answered(found.ttl),
            Some(_) => schedule.failed(!found.targets.is_empty()),
        };
        if tell.send((at, Answer::Found(found, wait))).await.is_err() {
            return;
        }
        sleep(wait).await;
    }
}

/// A cluster whose endpoints DNS names.
struct Names {
    cluster: Arc<Cluster>,
    one_each: bool,
    names: Vec<Name>,
    checks: HashMap<usize, health::Checks>,
}

/// One of its names. Each stands for itself: that one cannot be found says nothing about the others.
struct Name {
    endpoint: Endpoint,
    /// Where it leads now.
    targets: Vec<Target>,
    answered: bool,
    /// The last look-up failed, and the log says so.
    failing: bool,
}

// === impl Names ===

impl Names {
    fn new(cluster: Arc<Cluster>, one_each: bool) -> Names {
        let names: Vec<Name> = cluster.plan.endpoints.iter().map(Name::new).collect();
        cluster.dns.begin(names.iter().map(|name| name.endpoint.host.as_str().into()));
        Names { cluster, one_each, names, checks: HashMap::new() }
    }

    fn take(&mut self, at: usize, answer: Answer) {
        let (cluster, name) = (&self.cluster.plan.name, &mut self.names[at]);
        name.answered = true;
        match answer {
            Answer::Late(time) => name.fail(&format!("no answer in {time:?}"), cluster),
            Answer::Found(found, wait) => {
                self.cluster.dns.ended(at, found.trouble.as_ref(), wait);
                name.take(found, self.one_each, cluster);
            }
        }
    }

    fn update(&mut self) {
        update(&self.cluster, &self.addresses(), &mut self.checks);
    }

    /// Each address once, in an order that does not depend on the server's.
    fn addresses(&self) -> Vec<Found> {
        let mut addresses: Vec<Found> = Vec::new();
        for name in &self.names {
            for target in &name.targets {
                if !addresses.iter().any(|known| known.address == target.address) {
                    addresses.push(found(&name.endpoint, target));
                }
            }
        }
        addresses.sort_unstable_by_key(|found| found.address);
        addresses
    }
}

// === impl Name ===

impl Name {
    /// One that is an address is found already.
    fn new(endpoint: &Endpoint) -> Name {
        let targets: Vec<Target> = literal(endpoint).into_iter().collect();
        Name { endpoint: endpoint.clone(), answered: !targets.is_empty(), targets, failing: false }
    }

    fn take(&mut self, found: asker::Found, one: bool, cluster: &str) {
        let before = std::mem::replace(&mut self.targets, found.targets);
        if one {
            self.targets = one_of(&self.targets, &before).into_iter().collect();
        }
        let host = &self.endpoint.host;
        match found.trouble {
            Some(trouble) if self.targets.is_empty() && !before.is_empty() => {
                tracing::warn!(%cluster, name = %host, error = %trouble, "DNS has nothing for a name; its endpoints go");
                self.failing = true;
            }
            Some(trouble) => self.fail(&trouble.to_string(), cluster),
            None if std::mem::take(&mut self.failing) => {
                tracing::info!(%cluster, name = %host, "DNS look-up works again");
            }
            None => {}
        }
    }

    /// Says that it begins to fail, once.
    fn fail(&mut self, error: &str, cluster: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%cluster, name = %self.endpoint.host, error, "DNS look-up failed; keeping the endpoints");
        }
    }
}

/// The one that stands for all: the one that has done so as long as it may, since servers change the order from answer
/// to answer. Else the first that there is a route to, IPv6 before IPv4 as RFC 6724 has it.
fn one_of(targets: &[Target], before: &[Target]) -> Option<Target> {
    if let Some(kept) = before.iter().find(|target| targets.contains(target)) {
        return Some(kept.clone());
    }
    let (v6, v4): (Vec<&Target>, Vec<&Target>) = targets.iter().partition(|target| target.address.is_ipv6());
    let all = || v6.iter().chain(&v4).copied();
    all().find(|target| has_route(target.address)).or_else(|| all().next()).cloned()
}

/// Nothing is sent.
fn has_route(address: SocketAddr) -> bool {
    let any: SocketAddr = if address.is_ipv6() { ([0; 16], 0).into() } else { ([0; 4], 0).into() };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

fn literal_addresses(endpoints: &[Endpoint]) -> Vec<Found> {
    endpoints.iter().filter_map(|endpoint| Some(found(endpoint, &literal(endpoint)?))).collect()
}

fn literal(endpoint: &Endpoint) -> Option<Target> {
    let address = SocketAddr::new(endpoint.host.parse::<IpAddr>().ok()?, endpoint.port);
    Some(Target { address, weight: None, priority: 0 })
}

/// The one place where a target becomes an endpoint. The priorities of SRV records go behind the file's own.
fn found(endpoint: &Endpoint, target: &Target) -> Found {
    let Endpoint { weight, priority, labels, name, server_name, .. } = endpoint.clone();
    let weight = target.weight.unwrap_or(weight);
    let priority = priority + u32::from(target.priority);
    Found { address: target.address, weight, priority, labels, name, server_name }
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
