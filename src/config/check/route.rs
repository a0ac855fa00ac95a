//! Rules for routes.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderName;

use super::{Checker, Scope, pattern};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::manager::{HeaderMatch, Route, RouteAction, RouteConfig, RouteMatch};
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::{self, Pattern};
use crate::config::suggest::closest;

/// The conditions under which a route takes a call: no two routes may have the same.
type Conditions = (Pattern, Vec<(HeaderName, Vec<String>)>);

/// Where a route's calls go, and how.
struct Action {
    /// Index into the plan's clusters.
    cluster: usize,
    subset: Option<usize>,
    place: Place,
    timeouts: plan::Timeouts,
    on_drain: plan::OnDrain,
    call_policy: Option<plan::CallPolicy>,
}

impl Checker<'_, '_> {
    /// The routes, and the place of each one's cluster.
    pub(super) fn routes(&self, config: &At<RouteConfig>, scope: &Scope) -> Vec<(plan::Route, Place)> {
        let Some(value) = &config.value else { return Vec::new() };
        let inner = scope.key("route_config", config);
        let Some(routes) = self.required(value.routes.as_ref(), "routes", &inner) else { return Vec::new() };
        let items = routes.value.as_deref().unwrap_or_default();
        if items.is_empty() && routes.value.is_some() {
            let error = Diagnostic::new(routes.key, format!("no routes in {}", inner.what));
            self.error(error.label("a listener without routes answers every call with UNIMPLEMENTED"));
        }
        let mut seen: HashMap<Conditions, Place> = HashMap::new();
        items.iter().filter_map(|route| self.route(route, scope, &mut seen)).collect()
    }

    fn route(
        &self,
        at: &At<Route>,
        scope: &Scope,
        seen: &mut HashMap<Conditions, Place>,
    ) -> Option<(plan::Route, Place)> {
        let route = at.value.as_ref()?;
        let id = route.id.as_ref().and_then(|id| self.text(id, "id"));
        let scope = scope.item("route", id, at);
        let action = self.action(route, &scope);
        let matches = self.required(route.matches.as_ref(), "match", &scope)?;
        let value = matches.value.as_ref()?;
        self.methods(value);
        let headers: Vec<plan::HeaderMatch> = self.headers(value, &scope);
        let (pattern, text, place) = self.pattern(matches, &scope)?;
        let mut conditions: Vec<_> = headers.iter().map(|one| (one.name.clone(), one.values.clone())).collect();
        conditions.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
        if let Some(first) = seen.insert((pattern.clone(), conditions), place) {
            let error = Diagnostic::new(place, format!("two routes take the same calls: `{text}`"));
            self.error(error.label("the second").other(first, "the first"));
        }
        let Action { cluster, subset, place, timeouts, on_drain, call_policy } = action?;
        if call_policy.is_some() {
            self.retried.borrow_mut().insert(cluster);
        }
        let id = id.unwrap_or(text).into();
        Some((plan::Route { id, pattern, headers, cluster, subset, timeouts, on_drain, call_policy }, place))
    }

    fn action(&self, route: &Route, scope: &Scope) -> Option<Action> {
        let action = self.required(route.route.as_ref(), "route", scope)?;
        let value = action.value.as_ref()?;
        let timeouts = self.timeouts(value);
        let on_drain = self.on_drain(value.on_drain.as_ref(), &scope.key("route", action));
        let call_policy = self.call_policy(value.retry_policy.as_ref(), value.hedging_policy.as_ref(), scope);
        let (cluster, place) = self.route_cluster(value, &scope.key("route", action))?;
        let subset = self.metadata_match(value.metadata_match.as_ref(), cluster);
        Some(Action { cluster, subset, place, timeouts, on_drain, call_policy })
    }

    fn timeouts(&self, action: &RouteAction) -> plan::Timeouts {
        let limit = |field| self.duration(field).filter(|limit| !limit.is_zero());
        let timeouts = plan::Timeouts {
            call: limit(action.timeout.as_ref()),
            stream: limit(action.max_stream_duration.as_ref()),
            age: limit(action.max_stream_age.as_ref()),
            idle: self.never_or(action.idle_timeout.as_ref(), self.stream_idle),
        };
        let shortest = [timeouts.call, timeouts.stream].into_iter().flatten().min();
        if timeouts.call.is_some() && timeouts.call <= timeouts.stream {
            let why = "`timeout` ends every call sooner";
            self.useless("max_stream_duration", action.max_stream_duration.as_ref(), why);
        }
        let is_too_long = |limit: Option<Duration>| limit.is_some() && shortest.is_some_and(|one| Some(one) <= limit);
        let why = "no call lasts that long";
        if is_too_long(timeouts.age) {
            self.useless("max_stream_age", action.max_stream_age.as_ref(), why);
        }
        if is_too_long(timeouts.idle) {
            self.useless("idle_timeout", action.idle_timeout.as_ref(), why);
        }
        timeouts
    }

    fn route_cluster(&self, value: &RouteAction, scope: &Scope) -> Option<(usize, Place)> {
        let why = "a route to a cluster that does not exist is an error at start-up";
        self.no_effect("cluster_not_found_response_code", value.cluster_not_found_response_code.as_ref(), why);
        let field = self.required(value.cluster.as_ref(), "cluster", scope)?;
        let name = self.text(field, "cluster")?;
        match self.names.index(name) {
            Some(index) => Some((index, field.place)),
            None if self.names.incomplete => None,
            None => {
                self.error(self.unknown_cluster(name, field.place));
                None
            }
        }
    }

    fn unknown_cluster(&self, name: &str, place: Place) -> Diagnostic {
        let error = Diagnostic::new(place, format!("no cluster is named `{name}`"));
        if let Some(near) = closest(name, self.names.all()) {
            let error = error.label(format!("did you mean `{near}`?"));
            return error.maybe_other(self.names.place(near), "this one");
        }
        let names: Vec<String> = self.names.all().map(|name| format!("`{name}`")).collect();
        let there = if names.is_empty() { "no clusters".to_owned() } else { names.join(", ") };
        error.maybe_other(self.names.list_place, format!("what is here: {there}"))
    }

    /// A gRPC call is always a POST.
    fn methods(&self, matches: &RouteMatch) {
        let Some(at) = &matches.methods else { return };
        let Some(methods) = at.value.as_deref().filter(|methods| !methods.is_empty()) else { return };
        let is_post = |method: &At<String>| method.value.as_ref().is_none_or(|text| text.eq_ignore_ascii_case("POST"));
        if !methods.iter().any(is_post) {
            let error = Diagnostic::new(at.key, "a route that can never match: a gRPC call is always a POST");
            self.error(error.label("add `POST`, or leave `methods` out"));
        }
    }

    fn pattern<'f>(&self, at: &'f At<RouteMatch>, scope: &Scope) -> Option<(Pattern, &'f str, Place)> {
        let matches = at.value.as_ref()?;
        let (field, parse): (_, fn(&str) -> _) = match (&matches.prefix, &matches.path) {
            (Some(prefix), Some(path)) => {
                let error = Diagnostic::new(path.key, "a route has a `prefix` or a `path`, not both");
                self.error(error.label("keep one of them").other(prefix.key, "the other"));
                return None;
            }
            (Some(prefix), None) => (prefix, pattern::prefix),
            (None, Some(path)) => (path, pattern::path),
            (None, None) => {
                if !["prefix", "path"].iter().any(|key| self.findings.is_guessed(at.place, key)) {
                    let what = scope.key("match", at).what;
                    self.error(Diagnostic::new(at.key, format!("missing key `prefix` or `path` in {what}")));
                }
                return None;
            }
        };
        let text = field.value.as_deref()?;
        match parse(text) {
            Ok(pattern) => {
                if !pattern::can_match_grpc(&pattern) {
                    let text = format!("`{text}` takes no gRPC call: their paths are `/package.Service/Method`");
                    self.notice(field.place, text);
                }
                if matches.prefix.is_some() && text.ends_with('.') {
                    self.prefix_of_text(text, field.place);
                }
                Some((pattern, text, field.place))
            }
            Err(problem) => {
                self.error(problem.at(field.place));
                None
            }
        }
    }

    /// Envoy's prefix is one of characters: `/shop.` would take the services of a package.
    fn prefix_of_text(&self, text: &str, place: Place) {
        let message =
            format!("`{text}` takes no service of that package: a prefix is whole segments, as in `/pkg.Service`");
        self.notice(place, message);
    }

    fn headers(&self, matches: &RouteMatch, scope: &Scope) -> Vec<plan::HeaderMatch> {
        let items = matches.headers.as_ref().and_then(|at| at.value.as_deref()).unwrap_or_default();
        items.iter().filter_map(|item| self.header(item, scope)).collect()
    }

    fn header(&self, at: &At<HeaderMatch>, scope: &Scope) -> Option<plan::HeaderMatch> {
        let header = at.value.as_ref()?;
        let scope = scope.item("header", header.name.as_ref().and_then(|name| name.value.as_deref()), at);
        if let Some(regex) = header.regex.as_ref().filter(|regex| regex.value == Some(true)) {
            self.not_built("regex", regex, "values are compared as they are so far");
        }
        let name = self.required(header.name.as_ref(), "name", &scope).and_then(|name| self.metadata_key(name));
        let values = self.required(header.values.as_ref(), "values", &scope)?;
        let texts: Vec<String> = values.value.as_deref()?.iter().filter_map(|value| value.value.clone()).collect();
        if texts.is_empty() {
            self.error(Diagnostic::new(values.key, format!("no values in {}", scope.what)));
        }
        Some(plan::HeaderMatch { name: name?, values: texts })
    }

    /// The name of a metadata key.
    pub(super) fn metadata_key(&self, field: &At<String>) -> Option<HeaderName> {
        let text = self.text(field, "name")?;
        match HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) => Some(name),
            Err(_) => {
                let error = Diagnostic::new(field.place, format!("`{text}` is not a metadata key"));
                let label = "letters, digits, `-`, `_` and `.`";
                self.error(error.label(label));
                None
            }
        }
    }
}
