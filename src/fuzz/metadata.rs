//! Any bytes where a call has its path, its deadline, its status.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use weir_filter::{Code, Status};

use crate::call::deadline;
use crate::config::load_text;
use crate::config::plan::{Pattern, Rest, Route, Segment};
use crate::registry::Registry;
use crate::route::Router;
use crate::status;

/// Routes of every kind.
const ROUTES: [&str; 8] = [
    "prefix: /a.B",
    "path: /a.B/Get",
    "path: /a.B/*",
    "path: '/a.B/**'",
    "path: /:x/Get",
    "prefix: /a.B/Get/deep",
    "path: '/*/*/**'",
    "path: /",
];

/// A path finds a route that takes it, and none only where none does. What a status says is read as it was written, and a deadline
/// that is handed on is not before the one that came.
///
/// # Panics
///
/// When one of these does not hold.
pub fn metadata(bytes: &[u8]) {
    path(&String::from_utf8_lossy(bytes));
    message(&String::from_utf8_lossy(bytes));
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    status::percent_decode(&value);
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", value.clone());
    status::read(&headers);
    timeout(value);
}

fn path(path: &str) {
    let found = Router::new(routes().into_iter().map(|route| (route.clone(), Rc::new(route))));
    let found = found.find(path, &HeaderMap::new());
    let takers: Vec<Route> = routes().into_iter().filter(|route| takes(&route.pattern, path)).collect();
    match found {
        Some(route) => assert!(takers.contains(route), "{path:?} went to {:?}", route.id),
        None => assert!(takers.is_empty(), "{path:?} found none of {takers:?}"),
    }
}

/// What stands in the documentation, in the plainest words.
fn takes(pattern: &Pattern, path: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    let parts: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    if parts.len() < pattern.segments.len() {
        return false;
    }
    let fit = pattern.segments.iter().zip(&parts).all(|(segment, part)| match segment {
        Segment::Literal(text) => text == part,
        Segment::Any => true,
    });
    let more = parts.len() - pattern.segments.len();
    fit && match pattern.rest {
        Rest::Nothing => more == 0,
        Rest::Any => true,
        Rest::Some => more > 0,
    }
}

fn routes() -> Vec<Route> {
    thread_local! {
        static ROUTES_OF: Vec<Route> = load();
    }
    ROUTES_OF.with(Clone::clone)
}

fn load() -> Vec<Route> {
    let route = |matches: &str| format!("                  - {{match: {{{matches}}}, route: {{cluster: a}}}}\n");
    let routes: String = ROUTES.into_iter().map(route).collect();
    let yaml = format!(
        "static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config:
                routes:
{routes}
              grpc_filters: [{{name: dgp.filter.grpc.proxy}}]
  clusters:
    - {{name: a, lb_policy: Rand, endpoints: []}}
"
    );
    let plan = load_text(&yaml, "fuzz.yaml", &Registry::builtin(), &|_| None).expect("a good configuration");
    plan.listeners[0].routes.clone()
}

fn message(text: &str) {
    let trailers = status::trailers(&Status::new(Code::Internal, text.to_owned()));
    let written = trailers.get("grpc-message").map(status::percent_decode);
    assert_eq!(written.unwrap_or_default(), text);
    assert_eq!(status::read(&trailers), Some(Code::Internal));
}

fn timeout(value: HeaderValue) {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-timeout", value);
    let now = Instant::now();
    let Some(deadline) = deadline::read(&headers, now) else { return };
    deadline::write(&mut headers, deadline, now);
    let again = deadline::read(&headers, now).expect("what was written can be read");
    assert!(again >= deadline, "{again:?} is before {deadline:?}");
}
