//! How endpoints are found.

use std::net::SocketAddr;
use std::time::Duration;

/// How a cluster's endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// The addresses stand in the file.
    Static,
    /// Every address that DNS gives is an endpoint.
    StrictDns(Dns),
    /// One address that DNS gives stands for the name.
    LogicalDns(Dns),
}

/// How and when names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Who is asked.
    pub resolver: DnsResolver,
    /// Which of a name's addresses are endpoints.
    pub lookup_family: LookupFamily,
    /// Whether an answer holds for as long as its records say.
    pub respect_ttl: bool,
    /// How long an answer holds where its records do not say, or are not asked.
    pub refresh_rate: Duration,
    /// No answer holds for a shorter time than this.
    pub min_refresh_rate: Duration,
    /// No answer holds for a longer time than this.
    pub max_refresh_rate: Duration,
    /// The longest wait after the first look-up that failed; it doubles with each that follows.
    pub failure_base: Duration,
    /// The longest wait after any look-up that failed.
    pub failure_max: Duration,
}

/// Who is asked for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsResolver {
    /// These name servers in this order; where there are none, those of the system.
    Servers(Vec<SocketAddr>),
    /// The C library, with whatever the system's `nsswitch.conf` plugs into it.
    GetAddrInfo,
}

/// Which of a name's addresses are endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LookupFamily {
    /// All of them.
    #[default]
    All,
    /// Those of IPv4.
    V4Only,
    /// Those of IPv6.
    V6Only,
    /// Those of IPv4, or those of IPv6 where there are no others.
    V4Preferred,
    /// Those of IPv6, or those of IPv4 where there are no others.
    V6Preferred,
}

impl LookupFamily {
    /// All of them.
    pub const ALL: [LookupFamily; 5] = [
        LookupFamily::All,
        LookupFamily::V4Only,
        LookupFamily::V6Only,
        LookupFamily::V4Preferred,
        LookupFamily::V6Preferred,
    ];

    /// As the file has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LookupFamily::All => "ALL",
            LookupFamily::V4Only => "V4_ONLY",
            LookupFamily::V6Only => "V6_ONLY",
            LookupFamily::V4Preferred => "V4_PREFERRED",
            LookupFamily::V6Preferred => "V6_PREFERRED",
        }
    }
}
