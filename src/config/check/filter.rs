//! Rules for `grpc_filters`.

use super::proxy::ProxyConfig;
use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::dump;
use crate::config::file::manager::GrpcFilter;
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::NamedFilter;
use crate::config::suggest::did_you_mean;
use crate::config::trail::Trail;
use crate::config::tree::{Node, Value};
use crate::registry::PROXY;

/// Filters of Pixiu and Envoy that Weir does not have so far.
const NOT_BUILT: [&str; 37] = [
    "dgp.filter.grpc.jwt",
    "dgp.filter.grpc.ratelimit",
    "dgp.filter.grpc.accesslog",
    "dgp.filter.grpc.tracing",
    "dgp.filter.http.accesslog",
    "dgp.filter.http.apiconfig",
    "dgp.filter.http.auth.jwt",
    "dgp.filter.http.auth.mcp",
    "dgp.filter.http.authority",
    "dgp.filter.http.circuitbreaker",
    "dgp.filter.http.cors",
    "dgp.filter.http.csrf",
    "dgp.filter.http.directdubboproxy",
    "dgp.filter.http.dubboproxy",
    "dgp.filter.http.event",
    "dgp.filter.http.faultinjection",
    "dgp.filter.http.grpcproxy",
    "dgp.filter.http.header",
    "dgp.filter.http.host",
    "dgp.filter.http.httpproxy",
    "dgp.filter.http.loadbalance",
    "dgp.filter.http.metric",
    "dgp.filter.http.opa",
    "dgp.filter.http.prometheusmetric",
    "dgp.filter.http.proxyrewrite",
    "dgp.filter.http.ratelimit",
    "dgp.filter.http.recovery",
    "dgp.filter.http.response",
    "dgp.filter.http.timeout",
    "dgp.filter.http.traffic",
    "dgp.filter.http.webassembly",
    "dgp.filters.tracing",
    "envoy.filters.http.ext_authz",
    "envoy.filters.http.fault",
    "envoy.filters.http.jwt_authn",
    "envoy.filters.http.local_ratelimit",
    "envoy.filters.http.rbac",
];

impl Checker<'_, '_> {
    /// The filters in their order, and what the proxy at their end is told.
    pub(super) fn grpc_filters(
        &self,
        at: &At<Vec<At<GrpcFilter>>>,
        scope: &Scope,
    ) -> (Vec<NamedFilter>, Option<ProxyConfig>) {
        let Some(items) = &at.value else { return (Vec::new(), None) };
        let mut filters = Vec::new();
        let mut proxies: Vec<(Place, Option<ProxyConfig>)> = Vec::new();
        for item in items {
            let Some(filter) = &item.value else { continue };
            let named = scope.item("filter", None, item);
            let Some(name) = self.required(filter.name.as_ref(), "name", &named) else { continue };
            let Some(text) = self.text(name, "name") else { continue };
            if text == PROXY {
                proxies.push((name.place, self.proxy(filter)));
            } else if let Some(built) = self.filter(text, name.place, filter) {
                if let Some((proxy, _)) = proxies.first() {
                    let error = Diagnostic::new(name.place, format!("`{text}` stands behind `{PROXY}`"));
                    self.error(error.label("nothing passes here").other(*proxy, "calls leave for their cluster here"));
                }
                filters.push(built);
            }
        }
        self.one_proxy(at, &proxies, scope);
        let proxy = proxies.into_iter().next().and_then(|(_, proxy)| proxy);
        (filters, proxy)
    }

    fn one_proxy<T>(&self, at: &At<Vec<At<GrpcFilter>>>, proxies: &[(Place, T)], scope: &Scope) {
        match proxies {
            // It may be the one that could not be read.
            [] if at.value.iter().flatten().any(|item| item.value.is_none()) => {}
            [] => {
                let error = Diagnostic::new(at.key, format!("no `{PROXY}` in `grpc_filters` of {}", scope.what));
                self.error(error.label(format!("end the list with `- name: {PROXY}`")));
            }
            [_] => {}
            [first, second, ..] => {
                let error = Diagnostic::new(second.0, format!("`{PROXY}` stands twice in `grpc_filters`"));
                self.error(error.label("again here").other(first.0, "first here"));
            }
        }
    }

    fn filter(&self, name: &str, place: Place, filter: &GrpcFilter) -> Option<NamedFilter> {
        if !self.registry.knows(name) {
            self.error(self.unknown_filter(name, place));
            return None;
        }
        let empty = Node { place, value: Value::Mapping([].into()) };
        let held = filter.config.as_ref().and_then(|config| self.reader.held(config.value?));
        let (node, trail) = match &held {
            Some(held) => (held.node, held.trail.clone()),
            None => (&empty, Trail::filter(name)),
        };
        let built = self.registry.build(name, self.findings, node, trail)?;
        Some(NamedFilter { name: name.into(), filter: built, config: dump::hidden(node).into() })
    }

    fn unknown_filter(&self, name: &str, place: Place) -> Diagnostic {
        if NOT_BUILT.contains(&name) {
            let label = format!("filters so far: {}", self.known_filters());
            return Diagnostic::new(place, format!("the filter `{name}` is not built yet")).label(label);
        }
        let known = self.registry.names().chain([PROXY]);
        let label = did_you_mean(name, known).unwrap_or_else(|| format!("filters here: {}", self.known_filters()));
        Diagnostic::new(place, format!("unknown filter `{name}`")).label(label)
    }

    fn known_filters(&self) -> String {
        let names: Vec<String> = self.registry.names().chain([PROXY]).map(|name| format!("`{name}`")).collect();
        names.join(", ")
    }
}
