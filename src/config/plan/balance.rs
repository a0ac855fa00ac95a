//! How an endpoint is chosen, and what the file says of each.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::Thousandths;
use crate::socket::Address;

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// In turn, in proportion to the weights and evenly mixed.
    WeightedRoundRobin,
    /// By chance, each alike.
    Random,
    /// By chance, in proportion to the weights.
    WeightedRandom,
    /// The one with fewer open streams for its weight, of two.
    LeastRequest,
    /// The one that would be the sooner done with one call more, by how long its calls took and how many it has, of two.
    PeakEwma {
        /// How long it takes until little is left of what was measured.
        decay_time: Duration,
    },
    /// Consistent hashing on a ring.
    Ring(HashOn),
    /// Consistent hashing by a Maglev table.
    Maglev(HashOn),
}

impl Balance {
    /// How long it is remembered how long calls took; `None` where nobody asks.
    #[must_use]
    pub fn decay_time(&self) -> Option<Duration> {
        match self {
            Balance::PeakEwma { decay_time } => Some(*decay_time),
            _ => None,
        }
    }
}

/// What a hashing policy hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The value of this metadata key; a call without it is spread by chance.
    Metadata(http::HeaderName),
    /// The full method name.
    Path,
}

/// How large the table of a hashing policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consistent {
    /// How often the endpoint of the least weight stands on a ring; `None` leaves it to the number of endpoints.
    pub replicas: Option<u32>,
    /// The number of slots of a Maglev table; prime.
    pub table_size: u32,
    /// No endpoint has more than this percentage of its even share of the open streams; `None` is no such bound.
    pub balance_factor: Option<u32>,
}

/// How an endpoint that joins or comes back gets its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// How long it takes until it has all of its weight.
    pub window: Duration,
    /// 1 grows in a straight line, more than that grows faster at the beginning.
    pub aggression: Thousandths,
    /// What it has of its weight at least, in per cent.
    pub min_weight_percent: u32,
}

/// Labels of an endpoint, or those that a route asks for.
pub type Labels = BTreeMap<String, String>;

/// Who takes the calls of a route that asks for labels which no endpoint has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubsetFallback {
    /// Nobody.
    #[default]
    NoFallback,
    /// Every endpoint.
    AnyEndpoint,
    /// The endpoints of this subset, which also take the calls of routes that ask for nothing.
    DefaultSubset(usize),
}

/// Where an endpoint is, as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A host name or an IP address, and a port.
    Host(String, u16),
    /// A service, of which SRV records name the hosts, ports and weights.
    Service(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Location {
    /// True for a service.
    #[must_use]
    pub fn is_service(&self) -> bool {
        matches!(self, Location::Service(_))
    }

    /// What DNS is asked for, where it has to be.
    #[must_use]
    pub fn dns_name(&self) -> Option<&str> {
        match self {
            Location::Host(host, _) => host.parse::<IpAddr>().is_err().then_some(host),
            Location::Service(service) => Some(service),
            Location::Unix(_) => None,
        }
    }

    /// Where it is, unless DNS has to be asked.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match self {
            Location::Host(host, port) => Some(SocketAddr::new(host.parse().ok()?, *port).into()),
            Location::Service(_) => None,
            Location::Unix(path) => Some(Address::Unix(path.clone())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Host(host, port) => write!(f, "{host}:{port}"),
            Location::Service(service) => f.write_str(service),
            Location::Unix(path) => Address::Unix(path.clone()).fmt(f),
        }
    }
}

/// One endpoint as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub location: Location,
    /// Its share where a policy weighs; at least 1.
    pub weight: u32,
    /// 0 is asked first; the others when too few of those before are usable.
    pub priority: u32,
    /// What routes may ask for.
    pub labels: Arc<Labels>,
    /// How the admin page of the clusters calls it: its `name` in the file, or its `id`.
    pub name: Option<Arc<str>>,
    /// The name that its certificate must have, where its cluster speaks TLS.
    pub server_name: Option<ServerName<'static>>,
}
