//! Asks name servers, one after the other as the C library does, and says what their answers are worth.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::system::{self, System};

/// What a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    V4,
    V6,
    Service,
}

/// A name in full, and what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// A record that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Service(Service),
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// In full.
    pub(super) target: String,
}

/// Records, one at least, and for how long they hold where the answer says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) records: Vec<Record>,
    pub(super) ttl: Option<Duration>,
}

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// DNS says that there is no such name.
    NoName,
    /// DNS says that the name has no such records.
    NoRecords(String),
    /// DNS did not say.
    Failed(String),
}

/// The name servers as they are at one moment.
#[derive(Clone)]
pub(super) struct Resolver {
    system: System,
    /// Each alone: which of them answered, and what to make of it, is not for the library to choose.
    servers: Vec<(SocketAddr, TokioResolver)>,
}

impl Resolver {
    /// By the system's files, with these servers in the place of the system's if there are any.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Resolver, Trouble> {
        let mut system = System::read();
        if !servers.is_empty() {
            system.servers = servers.to_vec();
        }
        let servers = system.servers.iter().map(|server| Ok((*server, alone(*server, &system)?)));
        let servers = servers.collect::<Result<_, NetError>>().map_err(|error| Trouble::Failed(error.to_string()))?;
        Ok(Resolver { system, servers })
    }

    /// The full names that a host may mean, in the order in which they are tried.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if system::hosts(host).is_empty() { self.system.candidates(host) } else { vec![full(host)] }
    }

    /// Asks for the records of one name and kind.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, Trouble> {
        if question.kind != Kind::Service {
            let addresses = system::hosts(&question.name);
            if !addresses.is_empty() {
                return of_kind(addresses, question);
            }
            if question.kind == Kind::V6 && self.system.no_aaaa {
                return Err(nothing(question));
            }
        }
        let name = Name::from_ascii(&question.name).map_err(|error| Trouble::Failed(error.to_string()))?;
        let mut trouble = Trouble::Failed("/etc/resolv.conf has no name server".to_owned());
        for _ in 0..self.system.attempts {
            for (address, server) in &self.servers {
                match server.lookup(name.clone(), question.kind.record_type()).await {
                    Ok(lookup) => return records(&lookup, question),
                    Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                        return Err(match none.response_code {
                            ResponseCode::NXDomain => Trouble::NoName,
                            _ => nothing(question),
                        });
                    }
                    Err(error) => trouble = Trouble::Failed(format!("{address}: {}", said(&error))),
                }
            }
        }
        Err(trouble)
    }
}

impl Kind {
    fn record_type(self) -> RecordType {
        match self {
            Kind::V4 => RecordType::A,
            Kind::V6 => RecordType::AAAA,
            Kind::Service => RecordType::SRV,
        }
    }
}

impl Trouble {
    /// Of two reasons the one to act upon, and to tell.
    pub(super) fn worse(one: Option<Trouble>, other: Option<Trouble>) -> Option<Trouble> {
        let rank = |trouble: &Option<Trouble>| match trouble {
            None => 0,
            Some(Trouble::NoName) => 1,
            Some(Trouble::NoRecords(_)) => 2,
            Some(Trouble::Failed(_)) => 3,
        };
        if rank(&other) > rank(&one) { other } else { one }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoName => f.write_str("NXDOMAIN: there is no such name"),
            Trouble::NoRecords(why) | Trouble::Failed(why) => f.write_str(why),
        }
    }
}

/// A resolver that knows this server only, keeps nothing, and tries once.
fn alone(server: SocketAddr, system: &System) -> Result<TokioResolver, NetError> {
    let connection = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let mut connections = vec![connection(ConnectionConfig::tcp())];
    if !system.tcp_only {
        connections.insert(0, connection(ConnectionConfig::udp()));
    }
    let server = NameServerConfig::new(server.ip(), true, connections);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = system.timeout;
    options.attempts = 0;
    options.edns0 = system.edns;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

fn full(host: &str) -> String {
    if host.ends_with('.') { host.to_owned() } else { format!("{host}.") }
}

fn of_kind(addresses: Vec<IpAddr>, question: &Question) -> Result<Answer, Trouble> {
    let wanted = |address: &IpAddr| address.is_ipv4() == (question.kind == Kind::V4);
    let records: Vec<Record> = addresses.into_iter().filter(wanted).map(Record::Address).collect();
    if records.is_empty() { Err(nothing(question)) } else { Ok(Answer { records, ttl: None }) }
}

/// An alias may have a shorter TTL than what it leads to.
fn records(lookup: &hickory_resolver::lookup::Lookup, question: &Question) -> Result<Answer, Trouble> {
    let record = |data: &RData| match (data, question.kind) {
        (RData::A(address), Kind::V4) => Some(Record::Address(address.0.into())),
        (RData::AAAA(address), Kind::V6) => Some(Record::Address(address.0.into())),
        (RData::SRV(srv), Kind::Service) => Some(Record::Service(Service {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: full(&srv.target.to_ascii()),
        })),
        _ => None,
    };
    let records: Vec<Record> = lookup.answers().iter().filter_map(|answer| record(&answer.data)).collect();
    if records.is_empty() {
        return Err(nothing(question));
    }
    let ttl = lookup.answers().iter().map(|answer| answer.ttl).min().unwrap_or_default();
    Ok(Answer { records, ttl: Some(Duration::from_secs(ttl.into())) })
}

fn nothing(question: &Question) -> Trouble {
    Trouble::NoRecords(format!("it has no {} records", question.kind.record_type()))
}

fn said(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::ResponseCode(code)) => code.to_str().to_owned(),
        error => error.to_string(),
    }
}
