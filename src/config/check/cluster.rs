//! Rules for clusters.

use std::collections::HashMap;
use std::time::Duration;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::Cluster;
use crate::config::file::value::DiscoveryType;
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::{self, Discovery};
use crate::config::suggest::did_you_mean;

const TYPES: [&str; 3] = ["Static", "StrictDNS", "LogicalDns"];

/// Ways of Pixiu to find endpoints that Weir does not have so far.
const NOT_BUILT: [&str; 2] = ["EDS", "OriginalDst"];

/// The clusters by name: the index of each, and the place of its name.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<String, (usize, Place)>,
    order: Vec<String>,
    /// The key `clusters`.
    pub(super) list_place: Option<Place>,
    /// Set when a name could not be made out: a route may mean that one, so an unknown name is no error of its own.
    pub(super) incomplete: bool,
}

impl Names {
    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).map(|(index, _)| *index)
    }

    pub(super) fn place(&self, name: &str) -> Option<Place> {
        self.by_name.get(name).map(|(_, place)| *place)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }
}

impl Checker<'_, '_> {
    /// The names of all clusters, before anything refers to them.
    pub(super) fn cluster_names(&self, field: Option<&At<Vec<At<Cluster>>>>) -> Names {
        let readable = field.is_some_and(|field| field.value.is_some());
        let list_place = field.map(|field| field.key);
        let mut names = Names { list_place, incomplete: !readable, ..Names::default() };
        let items = field.and_then(|field| field.value.as_deref()).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let name = item.value.as_ref().and_then(|cluster| cluster.name.as_ref());
            let name = name.and_then(|name| Some((name.value.clone()?, name.place)));
            let Some((name, place)) = name.filter(|(name, _)| !name.is_empty()) else {
                names.incomplete = true;
                continue;
            };
            match names.by_name.get(&name) {
                Some((_, first)) => {
                    let error = Diagnostic::new(place, format!("two clusters are named `{name}`"));
                    self.error(error.label("the second").other(*first, "the first"));
                }
                None => {
                    names.by_name.insert(name.clone(), (index, place));
                    names.order.push(name);
                }
            }
        }
        names
    }

    pub(super) fn clusters(&self, field: Option<&At<Vec<At<Cluster>>>>, scope: &Scope) -> Vec<plan::Cluster> {
        let Some(field) = self.required(field, "clusters", scope) else { return Vec::new() };
        let items = field.value.as_deref().unwrap_or_default();
        items.iter().enumerate().filter_map(|(index, item)| self.cluster(index, item, scope)).collect()
    }

    fn cluster(&self, index: usize, at: &At<Cluster>, scope: &Scope) -> Option<plan::Cluster> {
        let cluster = at.value.as_ref()?;
        let name = cluster.name.as_ref().and_then(|name| name.value.as_deref());
        let scope = scope.item("cluster", name, at);
        if let Some(field) = self.required(cluster.name.as_ref(), "name", &scope) {
            self.text(field, "name");
        }
        let name = name.unwrap_or_default();
        let mut endpoints = self.endpoints(cluster, &scope);
        let tls = self.cluster_tls(&cluster.tls, index, name, &scope);
        if let Some(tls) = &tls {
            let place = cluster.endpoints.as_ref().map_or(at.place, |endpoints| endpoints.key);
            self.server_names(tls, &mut endpoints, place);
            self.no_checks_by_http1(cluster.health_checks.as_ref());
        }
        let balance = self.balance(cluster, &scope);
        let (subsets, subset_fallback) = self.subsets(cluster, index, &endpoints, &scope);
        self.weights(cluster, &balance);
        let connect = self.positive(cluster.connect_timeout.as_ref(), "connect_timeout");
        let connect = match &cluster.connect_timeout {
            Some(_) => connect,
            None => self.proxy_connect_timeout(index, name),
        };
        let call_policy = self.call_policy(cluster.retry_policy.as_ref(), cluster.hedging_policy.as_ref(), &scope);
        let service_config = self.service_config(cluster);
        let has_policy = cluster.retry_policy.is_some() || cluster.hedging_policy.is_some();
        if !has_policy && service_config.is_none() && !self.retried.borrow().contains(&index) {
            self.useless_retry_keys(cluster);
        }
        let discovery = self.discovery(cluster, &endpoints, &scope);
        let rebalance = self.rebalance(cluster, index, &balance, &discovery);
        let idle = self.duration(cluster.idle_timeout.as_ref()).unwrap_or(Duration::from_secs(600));
        Some(plan::Cluster {
            name: name.into(),
            discovery,
            balance,
            consistent: self.consistent(cluster),
            slow_start: self.slow_start(cluster, &scope),
            overprovisioning_factor: self.overprovisioning_factor(cluster, &endpoints),
            subsets,
            subset_fallback,
            endpoints,
            health_checks: self.health_checks(cluster.health_checks.as_ref(), &scope),
            outlier_detection: self.outlier_detection(cluster.outlier_detection.as_ref()),
            healthy_panic_threshold: self.panic_threshold(cluster),
            circuit_breakers: self.circuit_breakers(cluster.circuit_breakers.as_ref()),
            connect_timeout: connect.unwrap_or(Duration::from_secs(1)),
            idle_timeout: Some(idle).filter(|idle| !idle.is_zero()),
            endpoint_drain_timeout: self.positive(cluster.endpoint_drain_timeout.as_ref(), "endpoint_drain_timeout"),
            rebalance,
            tls,
            http2: self.upstream_http2(cluster.http2.as_ref().and_then(|http2| http2.value.as_ref()), index, name),
            call_policy,
            retry_throttling: self.retry_throttling(cluster.retry_throttling.as_ref(), &scope),
            retry_budget: self.retry_budget(cluster.retry_budget.as_ref()),
            retry_buffer: self.retry_buffer(cluster.retry_buffer.as_ref()),
            service_config,
        })
    }

    fn discovery(&self, cluster: &Cluster, endpoints: &[plan::Endpoint], scope: &Scope) -> Discovery {
        let dns = self.dns(cluster, endpoints, scope);
        let text = cluster.discovery.as_ref().and_then(|at| at.value.as_ref());
        let text = text.map_or("Static", |DiscoveryType(text)| text);
        if text.eq_ignore_ascii_case("StrictDNS") {
            return Discovery::StrictDns(self.looked_up(cluster, dns));
        }
        if text.eq_ignore_ascii_case("LogicalDns") {
            let service = endpoints.iter().find(|endpoint| endpoint.location.is_service());
            if let (Some(at), Some(srv)) = (&cluster.discovery, service) {
                let message = format!("`{}` is a service, which has many hosts", srv.location);
                let error = Diagnostic::new(at.place, message);
                self.error(error.label("`srv` needs `StrictDNS`"));
            }
            return Discovery::LogicalDns(self.looked_up(cluster, dns));
        }
        match &cluster.discovery {
            Some(at) if !text.eq_ignore_ascii_case("Static") => self.error(unknown_type(text, at.place)),
            _ => {}
        }
        self.static_discovery(cluster, endpoints, dns)
    }

    /// Pixiu looks up host names of static clusters too, so their presence decides.
    fn static_discovery(&self, cluster: &Cluster, endpoints: &[plan::Endpoint], dns: plan::Dns) -> Discovery {
        let named = endpoints.iter().find_map(|endpoint| Some((&endpoint.location, endpoint.location.dns_name()?)));
        match (named, &cluster.endpoints) {
            (Some((location, name)), Some(at)) => {
                let what = if location.is_service() { "the name of a service" } else { "a host name" };
                let text = format!("`{name}` is {what}: the cluster is looked up as `StrictDNS` is");
                self.notice(cluster.discovery.as_ref().map_or(at.key, |at| at.place), text);
                Discovery::StrictDns(self.looked_up(cluster, dns))
            }
            _ => {
                let why = "the endpoints are addresses, and none of them ever leaves";
                self.useless("endpoint_drain_timeout", cluster.endpoint_drain_timeout.as_ref(), why);
                self.useless_dns_keys(cluster);
                Discovery::Static
            }
        }
    }
}

fn unknown_type(text: &str, place: Place) -> Diagnostic {
    if NOT_BUILT.iter().any(|known| known.eq_ignore_ascii_case(text)) {
        let label = "`Static`, `StrictDNS` and `LogicalDns` are there so far";
        return Diagnostic::new(place, format!("clusters of type `{text}` are not built yet")).label(label);
    }
    let label = did_you_mean(text, TYPES).unwrap_or_else(|| "one of `Static`, `StrictDNS`, `LogicalDns`".to_owned());
    Diagnostic::new(place, format!("unknown cluster type `{text}`")).label(label)
}
