//! Rules for how names are looked up.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::Cluster;
use crate::config::file::dns::NameServer;
use crate::config::file::value::{DnsResolver as ResolverName, LookupFamily as LookupFamilyName};
use crate::config::located::At;
use crate::config::plan::{Dns, DnsResolver, Endpoint, LookupFamily};
use crate::config::suggest::did_you_mean;

/// How long an answer holds that says nothing about it, unless the cluster does.
const REFRESH_RATE: Duration = Duration::from_secs(5);

/// A TTL of zero would ask without a pause.
const MIN_REFRESH_RATE: Duration = Duration::from_secs(1);

/// A mistake in a zone should not stay for a day because its TTL says so.
const MAX_REFRESH_RATE: Duration = Duration::from_secs(300);

/// The first wait after a failure, unless names are looked up more often anyway.
const FAILURE_BASE: Duration = Duration::from_secs(1);

const RESOLVERS: [&str; 2] = ["DNS", "GETADDRINFO"];

impl Checker<'_, '_> {
    pub(super) fn dns(&self, cluster: &Cluster, endpoints: &[Endpoint], scope: &Scope) -> Dns {
        let given = self.positive(cluster.dns_refresh_rate.as_ref(), "dns_refresh_rate");
        let refresh_rate = given.unwrap_or(REFRESH_RATE);
        let resolver = self.resolver(cluster, scope);
        if let (DnsResolver::GetAddrInfo, Some(at), Some(srv)) =
            (&resolver, &cluster.dns_resolver, endpoints.iter().find(|endpoint| endpoint.location.is_service()))
        {
            let error = Diagnostic::new(at.place, format!("`{}` is a service", srv.location));
            self.error(error.label("the C library looks up hosts only: leave this key out"));
        }
        // Whoever writes an interval, and nothing of TTLs, wants the interval: so it was in Pixiu, and is in Envoy.
        let respect_ttl = cluster.respect_dns_ttl.as_ref().and_then(|at| at.value);
        let respect_ttl = respect_ttl.unwrap_or(cluster.dns_refresh_rate.is_none());
        let respect_ttl = respect_ttl && resolver != DnsResolver::GetAddrInfo;
        let (min_refresh_rate, max_refresh_rate) = self.refresh_bounds(cluster);
        let (failure_base, failure_max) = self.failure_rate(cluster, refresh_rate, scope);
        Dns {
            resolver,
            lookup_family: self.lookup_family(cluster),
            respect_ttl,
            refresh_rate,
            min_refresh_rate,
            max_refresh_rate,
            failure_base,
            failure_max,
        }
    }

    /// Names are looked up so; what of it has no effect beside the rest?
    pub(super) fn looked_up(&self, cluster: &Cluster, dns: Dns) -> Dns {
        if dns.resolver == DnsResolver::GetAddrInfo {
            let why = "the C library says neither whom it asks nor how long an answer holds";
            self.useless("dns_resolvers", cluster.dns_resolvers.as_ref(), why);
            let asked = cluster.respect_dns_ttl.as_ref().filter(|at| at.value == Some(true));
            self.useless("respect_dns_ttl", asked, why);
        }
        if !dns.respect_ttl {
            let why = "TTLs are not obeyed: `dns_refresh_rate` alone says when";
            self.useless("dns_min_refresh_rate", cluster.dns_min_refresh_rate.as_ref(), why);
            self.useless("dns_max_refresh_rate", cluster.dns_max_refresh_rate.as_ref(), why);
        }
        dns
    }

    /// A cluster whose endpoints are addresses has no use for any of it.
    pub(super) fn useless_dns_keys(&self, cluster: &Cluster) {
        let why = "the endpoints are addresses, and nothing is looked up";
        self.useless("dns_refresh_rate", cluster.dns_refresh_rate.as_ref(), why);
        self.useless("respect_dns_ttl", cluster.respect_dns_ttl.as_ref(), why);
        self.useless("dns_min_refresh_rate", cluster.dns_min_refresh_rate.as_ref(), why);
        self.useless("dns_max_refresh_rate", cluster.dns_max_refresh_rate.as_ref(), why);
        self.useless("dns_failure_refresh_rate", cluster.dns_failure_refresh_rate.as_ref(), why);
        self.useless("dns_lookup_family", cluster.dns_lookup_family.as_ref(), why);
        self.useless("dns_resolver", cluster.dns_resolver.as_ref(), why);
        self.useless("dns_resolvers", cluster.dns_resolvers.as_ref(), why);
    }

    fn refresh_bounds(&self, cluster: &Cluster) -> (Duration, Duration) {
        let min = self.positive(cluster.dns_min_refresh_rate.as_ref(), "dns_min_refresh_rate");
        let max = self.positive(cluster.dns_max_refresh_rate.as_ref(), "dns_max_refresh_rate");
        // One that is given moves the default of the other out of its way.
        let bounds = (
            min.unwrap_or(max.map_or(MIN_REFRESH_RATE, |max| max.min(MIN_REFRESH_RATE))),
            max.unwrap_or(min.map_or(MAX_REFRESH_RATE, |min| min.max(MAX_REFRESH_RATE))),
        );
        if let (true, Some(at), Some(below)) =
            (bounds.1 < bounds.0, &cluster.dns_max_refresh_rate, &cluster.dns_min_refresh_rate)
        {
            let error = Diagnostic::new(at.place, "`dns_max_refresh_rate` is shorter than `dns_min_refresh_rate`");
            self.error(error.other(below.place, "the shortest"));
        }
        bounds
    }

    fn failure_rate(&self, cluster: &Cluster, refresh_rate: Duration, scope: &Scope) -> (Duration, Duration) {
        let default = FAILURE_BASE.min(refresh_rate);
        let Some((at, rate)) = cluster.dns_failure_refresh_rate.as_ref().and_then(|at| Some((at, at.value.as_ref()?)))
        else {
            return (default, default * 10);
        };
        let scope = scope.key("dns_failure_refresh_rate", at);
        let base = self.required(rate.base_interval.as_ref(), "base_interval", &scope);
        let base = self.positive(base, "base_interval").unwrap_or(default);
        let max = self.positive(rate.max_interval.as_ref(), "max_interval").unwrap_or(base.saturating_mul(10));
        if let (true, Some(at)) = (max < base, &rate.max_interval) {
            self.error(Diagnostic::new(at.place, "`max_interval` is shorter than `base_interval`"));
        }
        (base, max)
    }

    fn resolver(&self, cluster: &Cluster, scope: &Scope) -> DnsResolver {
        let servers = self.name_servers(cluster.dns_resolvers.as_ref(), scope);
        let Some((at, ResolverName(text))) =
            cluster.dns_resolver.as_ref().and_then(|at| Some((at, at.value.as_ref()?)))
        else {
            return DnsResolver::Servers(servers);
        };
        if text.eq_ignore_ascii_case("GETADDRINFO") {
            return DnsResolver::GetAddrInfo;
        }
        if !text.eq_ignore_ascii_case("DNS") {
            let label = did_you_mean(&text.to_ascii_uppercase(), RESOLVERS);
            let label = label.unwrap_or_else(|| format!("one of `{}`", RESOLVERS.join("`, `")));
            self.error(Diagnostic::new(at.place, format!("unknown resolver `{text}`")).label(label));
        }
        DnsResolver::Servers(servers)
    }

    fn name_servers(&self, field: Option<&At<Vec<At<NameServer>>>>, scope: &Scope) -> Vec<SocketAddr> {
        let Some((field, items)) = field.and_then(|field| Some((field, field.value.as_deref()?))) else {
            return Vec::new();
        };
        if items.is_empty() {
            let error = Diagnostic::new(field.key, "`dns_resolvers` is empty");
            self.error(error.label("leave it out to ask the name servers of the system"));
        }
        items.iter().filter_map(|item| self.name_server(item, scope)).collect()
    }

    fn name_server(&self, at: &At<NameServer>, scope: &Scope) -> Option<SocketAddr> {
        let server = at.value.as_ref()?;
        let scope = scope.item("name server", None, at);
        let address = self.required(server.socket_address.as_ref(), "socket_address", &scope)?;
        let value = address.value.as_ref()?;
        let scope = scope.key("socket_address", address);
        let ip = self.required(value.address.as_ref(), "address", &scope).and_then(|field| self.ip(field));
        let port = self.number(value.port.as_ref(), "port", 1..=65_535, 53);
        Some(SocketAddr::new(ip?, port))
    }

    fn lookup_family(&self, cluster: &Cluster) -> LookupFamily {
        let Some((at, LookupFamilyName(text))) =
            cluster.dns_lookup_family.as_ref().and_then(|at| Some((at, at.value.as_ref()?)))
        else {
            return LookupFamily::default();
        };
        let known = LookupFamily::ALL.into_iter().find(|family| family.name().eq_ignore_ascii_case(text));
        known.unwrap_or_else(|| {
            let names = LookupFamily::ALL.map(LookupFamily::name);
            let label = did_you_mean(&text.to_ascii_uppercase(), names);
            let label = label.unwrap_or_else(|| format!("one of `{}`", names.join("`, `")));
            self.error(Diagnostic::new(at.place, format!("unknown family of addresses `{text}`")).label(label));
            LookupFamily::default()
        })
    }
}
