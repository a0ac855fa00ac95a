//! How an endpoint is chosen, and what the file says of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::Thousandths;

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

/// One endpoint as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name or an IP address, or the name of a service.
    pub host: String,
    /// The port; 0 where SRV records have it.
    pub port: u16,
    /// Whether `host` is a service, of which SRV records name the hosts, ports and weights.
    pub srv: bool,
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
