//! How names are looked up, as YAML.

use std::net::SocketAddr;

use serde_yaml::Value;

use super::{list, map, some, time};
use crate::config::plan::{Dns, DnsResolver};

pub(super) fn failure_refresh_rate(dns: &Dns) -> Value {
    map([("base_interval", time(dns.failure_base)), ("max_interval", time(dns.failure_max))])
}

pub(super) fn resolver(dns: &Dns) -> &'static str {
    match dns.resolver {
        DnsResolver::Servers(_) => "DNS",
        DnsResolver::GetAddrInfo => "GETADDRINFO",
    }
}

/// Without any, the key stands for those of the system.
pub(super) fn resolvers(dns: &Dns) -> Option<Value> {
    let server = |server: &SocketAddr| {
        let address = map([("address", some(server.ip().to_string())), ("port", some(server.port()))]);
        map([("socket_address", Some(address))])
    };
    match &dns.resolver {
        DnsResolver::Servers(servers) if !servers.is_empty() => list(servers, server),
        _ => None,
    }
}
