//! Finds the endpoints of a cluster and keeps them up to date, on the control runtime.

mod asker;
mod memory;
mod resolver;
mod schedule;
mod status;
mod system;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::keeper::{Task, Tenure};
use super::{Cluster, Found, health};
use crate::config::plan::{Discovery, Dns, Endpoint, Location};
use asker::{Asker, Target};
use schedule::Schedule;
pub(crate) use status::{NameStatus, Status};

/// How long a name may hold up the start. Its look-up goes on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers that may wait to be taken.
const ANSWERS: usize = 16;

/// Fills a cluster and keeps it up to date, with its health checks, for as long as this is polled: each of its
/// configurations from the moment that it comes.
pub(crate) async fn discover(mut tenures: mpsc::Receiver<Tenure>) {
    let (tell, mut told) = mpsc::channel(ANSWERS);
    let Some(Tenure { cluster, ready }) = tenures.recv().await else { return };
    let mut names = Names::new(cluster, tell);
    let mut waits = Some(ready);
    loop {
        if names.names.iter().all(|name| name.answered) {
            names.update();
            // A start that has been given up waits no longer, and has dropped the other end.
            waits.take().map(|ready| ready.send(()));
        }
        tokio::select! {
            Some(Tenure { cluster, ready }) = tenures.recv() => {
                names.begin(cluster);
                waits = Some(ready);
            }
            Some((id, answer)) = told.recv() => names.take(id, answer),
            else => return,
        }
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
async fn follow(at: usize, location: Location, dns: Dns, tell: mpsc::Sender<(usize, Answer)>) {
    let mut schedule = Schedule::new(dns.clone());
    let mut asker = Asker::new(location, dns);
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

/// A cluster, and the names of its endpoints where DNS knows them.
struct Names {
    cluster: Arc<Cluster>,
    names: Vec<Name>,
    /// No name has had this yet.
    next: usize,
    tell: mpsc::Sender<(usize, Answer)>,
    checks: HashMap<usize, health::Checks>,
}

/// One of its names. Each stands for itself: that one cannot be found says nothing about the others.
struct Name {
    /// Unlike that of every other name of the cluster, past ones included.
    id: usize,
    endpoint: Endpoint,
    dns: Dns,
    one_each: bool,
    /// Where it leads now.
    targets: Vec<Target>,
    answered: bool,
    /// The last look-up failed, and the log says so.
    failing: bool,
    /// Looks it up, where it is no address.
    _follower: Option<Task>,
}

// === impl Names ===

impl Names {
    fn new(cluster: Arc<Cluster>, tell: mpsc::Sender<(usize, Answer)>) -> Names {
        let mut names = Names { cluster: cluster.clone(), names: Vec::new(), next: 0, tell, checks: HashMap::new() };
        names.begin(cluster);
        names
    }

    /// Goes on with another configuration. Names that are looked up as before stay as they are.
    fn begin(&mut self, cluster: Arc<Cluster>) {
        let mut before = std::mem::take(&mut self.names);
        let (dns, one_each) = match &cluster.plan.discovery {
            Discovery::Static => (None, false),
            Discovery::StrictDns(dns) => (Some(dns), false),
            Discovery::LogicalDns(dns) => (Some(dns), true),
        };
        for (endpoint, dns) in cluster.plan.endpoints.iter().zip(std::iter::repeat(dns).map_while(|dns| dns)) {
            let name = match before.iter().position(|name| name.is_asked_for(endpoint, dns, one_each)) {
                Some(at) => Name { endpoint: endpoint.clone(), ..before.swap_remove(at) },
                None => self.name(endpoint, dns, one_each),
            };
            self.names.push(name);
        }
        cluster.dns.begin(self.names.iter().map(|name| name.name().into()));
        self.cluster = cluster;
        self.check_anew();
    }

    fn name(&mut self, endpoint: &Endpoint, dns: &Dns, one_each: bool) -> Name {
        let id = self.next;
        self.next += 1;
        let mut name = Name::new(id, endpoint, dns, one_each);
        if !name.answered {
            name._follower = Some(Task::spawn(follow(id, endpoint.location.clone(), dns.clone(), self.tell.clone())));
        }
        name
    }

    /// Health checks report to a configuration: those of another one end.
    fn check_anew(&mut self) {
        self.checks.clear();
        // What the former ones found out since the configuration was made.
        self.cluster.renew();
        for endpoint in &self.cluster.members().endpoints {
            if self.cluster.plan.health_checks.is_empty() {
                // Nobody else would ever find it well again.
                self.cluster.set_health(endpoint, true);
            }
            self.checks.insert(endpoint.id, health::watch(&self.cluster, endpoint));
        }
    }

    fn take(&mut self, id: usize, answer: Answer) {
        let cluster = &self.cluster.plan.name;
        // One that has left may have had an answer on its way.
        let Some(at) = self.names.iter().position(|name| name.id == id) else { return };
        let name = &mut self.names[at];
        name.answered = true;
        match answer {
            Answer::Late(time) => name.fail(&format!("no answer in {time:?}"), cluster),
            Answer::Found(found, wait) => {
                self.cluster.dns.ended(at, found.trouble.as_ref(), wait);
                name.take(found, cluster);
            }
        }
    }

    fn update(&mut self) {
        let addresses = match self.cluster.plan.discovery {
            Discovery::Static => literal_addresses(&self.cluster.plan.endpoints),
            Discovery::StrictDns(_) | Discovery::LogicalDns(_) => self.addresses(),
        };
        update(&self.cluster, &addresses, &mut self.checks);
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
        addresses.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        addresses
    }
}

// === impl Name ===

impl Name {
    /// One that is an address is found already.
    fn new(id: usize, endpoint: &Endpoint, dns: &Dns, one_each: bool) -> Name {
        let targets: Vec<Target> = literal(endpoint).into_iter().collect();
        let (endpoint, dns, answered) = (endpoint.clone(), dns.clone(), !targets.is_empty());
        Name { id, endpoint, dns, one_each, targets, answered, failing: false, _follower: None }
    }

    /// True when what is known of it is known of this endpoint, too.
    fn is_asked_for(&self, endpoint: &Endpoint, dns: &Dns, one_each: bool) -> bool {
        self.endpoint.location == endpoint.location && (&self.dns, self.one_each) == (dns, one_each)
    }

    /// What it is called in DNS.
    fn name(&self) -> String {
        self.endpoint.location.dns_name().map_or_else(|| self.endpoint.location.to_string(), str::to_owned)
    }

    fn take(&mut self, found: asker::Found, cluster: &str) {
        let before = std::mem::replace(&mut self.targets, found.targets);
        if self.one_each {
            self.targets = one_of(&self.targets, &before).into_iter().collect();
        }
        let name = self.name();
        match found.trouble {
            Some(trouble) if self.targets.is_empty() && !before.is_empty() => {
                tracing::warn!(%cluster, %name, error = %trouble, "DNS has nothing for a name; its endpoints go");
                self.failing = true;
            }
            Some(trouble) => self.fail(&trouble.to_string(), cluster),
            None if std::mem::take(&mut self.failing) => {
                tracing::info!(%cluster, %name, "DNS look-up works again");
            }
            None => {}
        }
    }

    /// Says that it begins to fail, once.
    fn fail(&mut self, error: &str, cluster: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%cluster, name = %self.name(), error, "DNS look-up failed; keeping the endpoints");
        }
    }
}

/// The one that stands for all: the one that has done so as long as it may, since servers change the order from answer
/// to answer. Else the first that there is a route to, IPv6 before IPv4 as RFC 6724 has it.
fn one_of(targets: &[Target], before: &[Target]) -> Option<Target> {
    if let Some(kept) = before.iter().find(|target| targets.contains(target)) {
        return Some(kept.clone());
    }
    let is_v6 = |target: &&Target| target.address.ip().is_some_and(|address| address.is_ipv6());
    let (v6, v4): (Vec<&Target>, Vec<&Target>) = targets.iter().partition(is_v6);
    let all = || v6.iter().chain(&v4).copied();
    all().find(|target| target.address.ip().is_none_or(has_route)).or_else(|| all().next()).cloned()
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
    Some(Target { address: endpoint.location.address()?, weight: None, priority: 0 })
}

/// The one place where a target becomes an endpoint. The priorities of SRV records go behind the file's own.
fn found(endpoint: &Endpoint, target: &Target) -> Found {
    let Endpoint { weight, priority, labels, name, server_name, .. } = endpoint.clone();
    let weight = target.weight.unwrap_or(weight);
    let priority = priority + u32::from(target.priority);
    Found { address: target.address.clone(), weight, priority, labels, name, server_name }
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
