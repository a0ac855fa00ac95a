//! One look-up of one name of the file, with all the questions that it takes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::memory::{Memory, Reply};
use super::resolver::{Kind, Question, Record, Resolver, Service, Trouble};
use crate::config::plan::{Dns, DnsResolver, Location, LookupFamily};
use crate::socket::Address;

/// Asks for one name of the file.
pub(super) struct Asker {
    location: Location,
    dns: Dns,
    memory: Memory,
    /// What the last look-up found.
    last: Found,
}

/// An address that a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    /// `None` where the file says it.
    pub(super) weight: Option<u32>,
    /// That of an SRV record, the lower the better; 0 otherwise.
    pub(super) priority: u16,
}

/// What a look-up found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) targets: Vec<Target>,
    /// The smallest of the records.
    pub(super) ttl: Option<Duration>,
    /// Why it is to be looked up again soon: it failed, if only in part, or there is nothing.
    pub(super) trouble: Option<Trouble>,
}

/// The addresses of one full name.
#[derive(Clone, Debug, Default)]
struct Addresses {
    all: Vec<IpAddr>,
    ttl: Option<Duration>,
    trouble: Option<Trouble>,
    /// DNS says of one family that there is nothing. That is no trouble while there is something of the other.
    missing: Option<Trouble>,
}

// === impl Asker ===

impl Asker {
    pub(super) fn new(location: Location, dns: Dns) -> Asker {
        Asker { location, dns, memory: Memory::default(), last: Found::default() }
    }

    pub(super) async fn look_up(&mut self) -> Found {
        let found = match self.dns.resolver.clone() {
            DnsResolver::GetAddrInfo => self.get_addr_info().await,
            DnsResolver::Servers(servers) => self.ask(&servers).await,
        };
        self.last = self.believe(found);
        self.last.clone()
    }

    /// A failure takes nothing away, and that there is nothing is believed when it is said twice in a row. The memory sees
    /// to that for each question, and this where other questions are asked than before: the system's files may change.
    fn believe(&self, found: Found) -> Found {
        let stays = found.targets.is_empty()
            && match &found.trouble {
                None => false,
                Some(Trouble::Failed(_)) => true,
                Some(Trouble::NoName | Trouble::NoRecords(_)) => self.last.trouble.is_none(),
            };
        if stays { Found { targets: self.last.targets.clone(), ..found } } else { found }
    }

    async fn ask(&mut self, servers: &[SocketAddr]) -> Found {
        let resolver = match Resolver::new(servers) {
            Ok(resolver) => resolver,
            Err(trouble) => return Found { trouble: Some(trouble), ..Found::default() },
        };
        // What is an address is not asked for.
        let Some(name) = self.location.dns_name() else { return Found::default() };
        let candidates = resolver.candidates(name);
        self.memory.begin();
        let mut worst = None;
        for name in candidates {
            let found = match self.location {
                Location::Host(_, port) => self.host(&resolver, name, port).await,
                _ => self.service(&resolver, name).await,
            };
            if !found.targets.is_empty() {
                // What does not exist under the names before it is as it should be.
                let failed = worst.filter(|trouble| matches!(trouble, Trouble::Failed(_)));
                return Found { trouble: Trouble::worse(found.trouble, failed), ..found };
            }
            worst = Trouble::worse(worst, found.trouble);
        }
        Found { trouble: worst, ..Found::default() }
    }

    async fn host(&mut self, resolver: &Resolver, name: String, port: u16) -> Found {
        let mut addresses = self.addresses(resolver, vec![name]).await;
        let Some(Addresses { all, ttl, trouble, missing }) = addresses.pop() else { return Found::default() };
        let target = |ip| Target { address: SocketAddr::new(ip, port).into(), weight: None, priority: 0 };
        let trouble = if all.is_empty() { Trouble::worse(trouble, missing) } else { trouble };
        Found { targets: all.into_iter().map(target).collect(), ttl, trouble }
    }

    async fn service(&mut self, resolver: &Resolver, name: String) -> Found {
        let mut replies = self.memory.ask(resolver, vec![Question { name, kind: Kind::Service }]).await;
        let Some(Reply { answer, trouble }) = replies.pop() else { return Found::default() };
        let Some(answer) = answer else { return Found { trouble, ..Found::default() } };
        let services = services(answer.records);
        // Several records may lead to one host, on ports of their own.
        let mut names: Vec<String> = services.iter().map(|service| service.target.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let hosts = self.addresses(resolver, names.clone()).await;
        let mut found = Found { targets: Vec::new(), ttl: answer.ttl, trouble };
        let mut missing = Some(Trouble::NoRecords("its SRV records lead to no host".to_owned()));
        for service in services {
            let Some(at) = names.iter().position(|name| *name == service.target) else { continue };
            let host = hosts[at].clone();
            found.targets.extend(host.all.into_iter().map(|ip| Target {
                address: SocketAddr::new(ip, service.port).into(),
                weight: Some(u32::from(service.weight).max(1)),
                priority: service.priority,
            }));
            found.ttl = shorter(found.ttl, host.ttl);
            found.trouble = Trouble::worse(found.trouble, host.trouble);
            missing = Trouble::worse(missing, host.missing);
        }
        if found.targets.is_empty() {
            found.trouble = Trouble::worse(found.trouble, missing);
        }
        found
    }

    /// The addresses of each name, of the families that are wanted.
    async fn addresses(&mut self, resolver: &Resolver, names: Vec<String>) -> Vec<Addresses> {
        let family = self.dns.lookup_family;
        let mut found = vec![Addresses::default(); names.len()];
        for kinds in in_turn(family) {
            let without: Vec<usize> = (0..names.len()).filter(|at| found[*at].all.is_empty()).collect();
            let question = |at: usize, kind: &Kind| (at, Question { name: names[at].clone(), kind: *kind });
            let questions = without.iter().flat_map(|at| kinds.iter().map(|kind| question(*at, kind)));
            let (places, questions): (Vec<usize>, Vec<Question>) = questions.unzip();
            for (at, reply) in places.into_iter().zip(self.memory.ask(resolver, questions).await) {
                found[at].take(reply, family);
            }
        }
        found
    }

    async fn get_addr_info(&self) -> Found {
        // The rules of the configuration leave no service to the C library.
        let Location::Host(host, port) = &self.location else { return Found::default() };
        match tokio::net::lookup_host((host.as_str(), *port)).await {
            Ok(found) => {
                let found: Vec<SocketAddr> = of_family(&found.collect::<Vec<_>>(), self.dns.lookup_family);
                let trouble = found.is_empty().then(|| no_address(self.dns.lookup_family));
                let target = |address| Target { address: Address::Ip(address), weight: None, priority: 0 };
                Found { targets: found.into_iter().map(target).collect(), ttl: None, trouble }
            }
            // A name that does not exist is among them: the standard library does not tell one error from the other.
            Err(error) => Found { trouble: Some(Trouble::Failed(error.to_string())), ..Found::default() },
        }
    }
}

// === impl Addresses ===

impl Addresses {
    fn take(&mut self, reply: Reply, family: LookupFamily) {
        match (reply.answer, reply.trouble) {
            (Some(answer), trouble) => {
                self.all.extend(answer.records.into_iter().filter_map(|record| match record {
                    Record::Address(address) => Some(address),
                    Record::Service(_) => None,
                }));
                self.ttl = shorter(self.ttl, answer.ttl);
                self.trouble = Trouble::worse(self.trouble.take(), trouble);
            }
            (None, trouble @ Some(Trouble::Failed(_))) => self.trouble = Trouble::worse(self.trouble.take(), trouble),
            (None, Some(Trouble::NoRecords(_))) => self.missing = Some(no_address(family)),
            (None, trouble) => self.missing = Trouble::worse(self.missing.take(), trouble),
        }
    }
}

/// The families to ask for, all at once, and those to ask for where there is nothing of these.
fn in_turn(family: LookupFamily) -> &'static [&'static [Kind]] {
    match family {
        LookupFamily::All => &[&[Kind::V4, Kind::V6]],
        LookupFamily::V4Only => &[&[Kind::V4]],
        LookupFamily::V6Only => &[&[Kind::V6]],
        LookupFamily::V4Preferred => &[&[Kind::V4], &[Kind::V6]],
        LookupFamily::V6Preferred => &[&[Kind::V6], &[Kind::V4]],
    }
}

/// The same choice among addresses that came together.
fn of_family(found: &[SocketAddr], family: LookupFamily) -> Vec<SocketAddr> {
    let is = |address: &SocketAddr, kind: &Kind| address.is_ipv4() == (*kind == Kind::V4);
    let of = |kinds: &&[Kind]| -> Vec<SocketAddr> {
        found.iter().copied().filter(|address| kinds.iter().any(|kind| is(address, kind))).collect()
    };
    in_turn(family).iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The best first: an address that several records lead to is as good as the best of them. "." is no host (RFC 2782).
fn services(records: Vec<Record>) -> Vec<Service> {
    let service = |record| match record {
        Record::Service(service) if service.target != "." => Some(service),
        _ => None,
    };
    let mut services: Vec<Service> = records.into_iter().filter_map(service).collect();
    services.sort_by_key(|service| service.priority);
    services
}

fn no_address(family: LookupFamily) -> Trouble {
    Trouble::NoRecords(format!("it has no address of {}", family.name()))
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        let dns = Dns {
            resolver: DnsResolver::Servers(Vec::new()),
            lookup_family: LookupFamily::All,
            respect_ttl: true,
            refresh_rate: Duration::from_secs(5),
            min_refresh_rate: Duration::from_secs(1),
            max_refresh_rate: Duration::from_secs(300),
            failure_base: Duration::from_secs(1),
            failure_max: Duration::from_secs(10),
        };
        Asker::new(Location::Host("a.test".to_owned(), 1), dns)
    }

    /// Whether there are endpoints after each of these look-ups, none of which knows what the one before asked.
    fn endpoints(troubles: impl IntoIterator<Item = Option<Trouble>>) -> Vec<bool> {
        let mut asker = asker();
        let target = Target { address: SocketAddr::from(([127, 0, 0, 1], 1)).into(), weight: None, priority: 0 };
        let mut found = |trouble: Option<Trouble>| {
            let targets = if trouble.is_none() { vec![target.clone()] } else { Vec::new() };
            asker.last = asker.believe(Found { targets, ttl: None, trouble });
            !asker.last.targets.is_empty()
        };
        troubles.into_iter().map(&mut found).collect()
    }

    #[test]
    fn endpoints_outlive_failures_and_the_first_no() {
        let failed = || Some(Trouble::Failed("SERVFAIL".to_owned()));
        let none = || Some(Trouble::NoName);
        assert_eq!(endpoints([failed(), None, failed(), failed()]), [false, true, true, true]);
        assert_eq!(endpoints([None, none(), none(), failed()]), [true, true, false, false]);
        assert_eq!(endpoints([None, none(), None, none()]), [true, true, true, true]);
    }

    #[test]
    fn a_family_is_chosen_among_what_there_is() {
        let [v4, v6]: [SocketAddr; 2] = [([127, 0, 0, 1], 1).into(), ([0, 0, 0, 0, 0, 0, 0, 1], 1).into()];
        for (family, found, wanted) in [
            (LookupFamily::All, vec![v6, v4], vec![v6, v4]),
            (LookupFamily::V4Only, vec![v6], vec![]),
            (LookupFamily::V4Preferred, vec![v6, v4], vec![v4]),
            (LookupFamily::V4Preferred, vec![v6], vec![v6]),
            (LookupFamily::V6Preferred, vec![v4], vec![v4]),
        ] {
            assert_eq!(of_family(&found, family), wanted, "{family:?} of {found:?}");
        }
    }
}
