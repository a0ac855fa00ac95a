//! Rules for endpoints.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::subset::Written;
use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::{Cluster, Endpoint, EndpointAddress};
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::{self, Balance, Location};

impl Checker<'_, '_> {
    pub(super) fn endpoints(&self, cluster: &Cluster, scope: &Scope) -> Vec<plan::Endpoint> {
        let Some(field) = self.required(cluster.endpoints.as_ref(), "endpoints", scope) else { return Vec::new() };
        let Some(items) = &field.value else { return Vec::new() };
        if items.is_empty() {
            self.notice(field.key, format!("{} has no endpoints: its calls end with UNAVAILABLE", scope.what));
        }
        let mut seen: HashMap<String, Place> = HashMap::new();
        let mut endpoints = Vec::new();
        for item in items {
            let (found, distance) = self.endpoint(item, scope);
            for (endpoint, place) in found {
                let is_service = endpoint.location.is_service();
                let key = match &endpoint.location {
                    // A path tells upper from lower case, and a name does not.
                    unix @ Location::Unix(_) => unix.to_string(),
                    other => other.to_string().to_ascii_lowercase(),
                };
                if let Some(first) = seen.insert(key, place) {
                    let message = format!("{} has the endpoint `{}` twice", scope.what, endpoint.location);
                    let more = "to give it more calls, use `meta: {weight: 2}`";
                    let label = if is_service { "its records are asked for once" } else { more };
                    let error = Diagnostic::new(place, message).label(label);
                    self.error(error.other(first, "the first"));
                }
                endpoints.push((endpoint, distance));
            }
        }
        self.by_distance(&mut endpoints);
        endpoints.into_iter().map(|(endpoint, _)| endpoint).collect()
    }

    /// The endpoints that an entry stands for, and how far they are.
    fn endpoint(&self, at: &At<Endpoint>, scope: &Scope) -> (Vec<(plan::Endpoint, Place)>, u32) {
        let Some(endpoint) = &at.value else { return Default::default() };
        let scope = scope.item("endpoint", None, at);
        let distance = self.distance(endpoint, &scope);
        let Some(locations) = self.locations(endpoint, &scope) else { return Default::default() };
        let weight = endpoint.meta.as_ref().map_or(1, |meta| self.weight(meta));
        let priority = self.number(endpoint.priority.as_ref(), "priority", 0..=128, 0);
        let (labels, name) = (Arc::new(self.labels(endpoint.meta.as_ref())), self.endpoint_name(endpoint));
        let of = |location| plan::Endpoint {
            location,
            weight,
            priority,
            labels: labels.clone(),
            name: name.clone(),
            server_name: None,
        };
        (locations.into_iter().map(|(location, place)| (of(location), place)).collect(), distance)
    }

    /// Where the endpoints of an entry are.
    fn locations(&self, endpoint: &Endpoint, scope: &Scope) -> Option<Vec<(Location, Place)>> {
        let address = self.required(endpoint.socket_address.as_ref(), "socket_address", scope)?;
        let value = address.value.as_ref()?;
        self.no_effect("protocol_type", value.protocol_type.as_ref(), "backends are spoken to in gRPC");
        let inner = scope.key("socket_address", address);
        if let Some(srv) = &value.srv {
            let host = self.service(srv, value, endpoint)?;
            return Some(vec![(Location::Service(host), srv.place)]);
        }
        if let (Some(field), None) = (&value.address, &value.domains)
            && let Some((path, place)) = self.unix_path(field, value.port.as_ref())
        {
            return Some(vec![(Location::Unix(path?), place)]);
        }
        let port = self.required(value.port.as_ref(), "port", &inner);
        let port = port.and_then(|port| self.in_range(port, "port", 1..=65_535));
        let hosts = self.hosts(value, &inner);
        let port = port.and_then(|port| u16::try_from(port).ok())?;
        Some(hosts.into_iter().map(|(host, place)| (Location::Host(host, port), place)).collect())
    }

    /// The name of a service, whose records say all that the other keys say.
    fn service(&self, srv: &At<String>, address: &EndpointAddress, endpoint: &Endpoint) -> Option<String> {
        let places = [
            ("address", address.address.as_ref().map(|at| at.key)),
            ("domains", address.domains.as_ref().map(|at| at.key)),
            ("port", address.port.as_ref().map(|at| at.key)),
        ];
        for (key, place) in places.into_iter().filter_map(|(key, place)| Some((key, place?))) {
            let error = Diagnostic::new(place, format!("an endpoint has `srv` or `{key}`, not both"));
            self.error(error.label("the SRV records have hosts and ports").other(srv.key, "the service"));
        }
        let labels = endpoint.meta.as_ref().and_then(|meta| meta.value.as_ref());
        if let Some(Some(weight)) = labels.and_then(|labels| labels.get("weight")) {
            self.notice(weight.place, "`weight` has no effect: the SRV records have weights".to_owned());
        }
        let text = srv.value.as_deref().unwrap_or_default();
        if text.split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            let error = Diagnostic::new(srv.place, format!("`{text}` has a port"));
            self.error(error.label("a service alone: its SRV records have the ports"));
            return None;
        }
        let host = self.host(srv)?;
        if host.parse::<IpAddr>().is_ok() {
            let error = Diagnostic::new(srv.place, format!("`{host}` is an address, and no name of a service"));
            self.error(error.label("such as `_grpc._tcp.orders.internal`; an address stands in `address`"));
            return None;
        }
        Some(host)
    }

    /// `name`, or else `id` in one of its two spellings.
    fn endpoint_name(&self, endpoint: &Endpoint) -> Option<Arc<str>> {
        if let (Some(id), Some(upper)) = (&endpoint.id, &endpoint.upper_id) {
            let error = Diagnostic::new(upper.key, "an endpoint has `id` or `ID`, not both");
            self.error(error.label("keep one of them").other(id.key, "the other"));
        }
        let name = endpoint.name.as_ref().map(|field| (field, "name"));
        let id = endpoint.id.as_ref().or(endpoint.upper_id.as_ref()).map(|field| (field, "id"));
        let (field, key) = name.or(id)?;
        self.text(field, key).map(Arc::from)
    }

    /// `address`, or each of `domains`.
    fn hosts(&self, address: &EndpointAddress, scope: &Scope) -> Vec<(String, Place)> {
        let domains = address.domains.as_ref().and_then(|at| Some((at, at.value.as_deref()?)));
        let domains = domains.filter(|(_, domains)| !domains.is_empty());
        let fields: Vec<&At<String>> = match (&address.address, domains) {
            (Some(host), Some((domains, _))) => {
                let error = Diagnostic::new(domains.key, "an endpoint has an `address` or `domains`, not both");
                self.error(error.label("keep one of them").other(host.key, "the other"));
                return Vec::new();
            }
            (Some(host), None) => vec![host],
            (None, Some((_, domains))) => domains.iter().collect(),
            (None, None) => {
                self.error(Diagnostic::new(scope.place, format!("missing key `address` in {}", scope.what)));
                return Vec::new();
            }
        };
        fields.into_iter().filter_map(|field| Some((self.host(field)?, field.place))).collect()
    }

    /// An IP address, or a host name (RFC 1123; underscores are common in practice).
    fn host(&self, field: &At<String>) -> Option<String> {
        let text = self.text(field, "address")?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let label = |label: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !label.is_empty() && label.len() <= 63 && label.bytes().all(allowed)
        };
        let name = bare.strip_suffix('.').unwrap_or(bare);
        // Four numbers are a mistyped address, which a resolver would look up and not find.
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if bare.parse::<IpAddr>().is_ok() || (!is_number && name.len() <= 253 && name.split('.').all(label)) {
            return Some(bare.to_owned());
        }
        let error = Diagnostic::new(field.place, format!("`{text}` is neither an IP address nor a host name"));
        let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        self.error(if bare.starts_with("unix:") {
            error.label("a Unix socket stands in `address`")
        } else if bare.contains("://") {
            error.label("a host alone, without a scheme")
        } else if has_port {
            error.label("the port has a key of its own: `port`")
        } else {
            error
        });
        None
    }

    fn weight(&self, meta: &At<Written>) -> u32 {
        let Some(labels) = &meta.value else { return 1 };
        let Some(Some(field)) = labels.get("weight") else { return 1 };
        let Some(text) = &field.value else { return 1 };
        match text.parse::<u64>() {
            Ok(number) => {
                let at = At { value: Some(number), place: field.place, key: field.key };
                self.number(Some(&at), "weight", 1..=1_000_000, 1)
            }
            Err(_) => {
                self.error(Diagnostic::new(
                    field.place,
                    format!("expected a whole number for `weight`, found `{text}`"),
                ));
                1
            }
        }
    }

    /// Pixiu gives an endpoint without a weight a share of its own.
    pub(super) fn weights(&self, cluster: &Cluster, balance: &Balance) {
        if !matches!(balance, Balance::WeightedRandom | Balance::WeightedRoundRobin) {
            return;
        }
        let Some(endpoints) = &cluster.endpoints else { return };
        let unlabelled = |at: &At<Endpoint>| {
            let endpoint = at.value.as_ref();
            let address = endpoint.and_then(|endpoint| endpoint.socket_address.as_ref()?.value.as_ref());
            let labels = endpoint.and_then(|endpoint| endpoint.meta.as_ref()?.value.as_ref());
            address.is_none_or(|address| address.srv.is_none())
                && labels.is_none_or(|labels| labels.get("weight").is_none_or(Option::is_none))
        };
        if let Some(endpoint) = endpoints.value.as_deref().unwrap_or_default().iter().find(|at| unlabelled(at)) {
            self.notice(endpoint.place, "an endpoint without `meta.weight` has weight 1");
        }
    }
}
