//! What a backend and a client see, and what is refused.

use http::{Extensions, HeaderMap, Uri};
use weir_filter::{Call, ConfigError, Filter, FilterType, Needs, ResponseHead, Step};

use super::{Direction, Headers, HeadersConfig};

fn direction(add: &[(&str, &str)], set: &[(&str, &str)], remove: &[&str]) -> Direction {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Direction { add: pairs(add), set: pairs(set), remove: remove.iter().map(|key| (*key).to_owned()).collect() }
}

fn build(request: Direction, response: Direction) -> Result<Headers, Vec<ConfigError>> {
    Headers::build(HeadersConfig { request, response })
}

fn metadata(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, value.parse().expect("a value"));
    }
    map
}

fn call(metadata: HeaderMap) -> Call {
    let peer = weir_filter::Peer::Ip(([127, 0, 0, 1], 1).into());
    Call { uri: Uri::from_static("/a.B/C"), metadata, peer, extensions: Extensions::new() }
}

fn values<'m>(metadata: &'m HeaderMap, name: &str) -> Vec<&'m str> {
    metadata.get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
}

#[test]
fn the_backend_sees_the_changed_request() {
    let changes = direction(&[("x-add", "2"), ("x-raw-bin", "AAEC")], &[("x-set", "new")], &["x-gone"]);
    let filter = build(changes, Direction::default()).expect("a filter");
    let mut call =
        call(metadata(&[("x-add", "1"), ("x-set", "old"), ("x-set", "older"), ("x-gone", "x"), ("x-stays", "s")]));
    assert!(matches!(filter.request(&mut call), Step::Next));
    assert_eq!(values(&call.metadata, "x-add"), ["1", "2"]);
    assert_eq!(values(&call.metadata, "x-set"), ["new"]);
    assert_eq!(values(&call.metadata, "x-gone"), [""; 0]);
    assert_eq!(values(&call.metadata, "x-stays"), ["s"]);
    assert_eq!(values(&call.metadata, "x-raw-bin"), ["AAEC"]);
}

#[test]
fn the_client_sees_the_changed_response_also_when_it_has_trailers_only() {
    let changes = direction(&[], &[("x-set", "new")], &["server"]);
    let filter = build(Direction::default(), changes).expect("a filter");
    for trailers_only in [false, true] {
        let mut head = metadata(&[("server", "secret"), ("grpc-status", "0")]);
        let head_seen = ResponseHead { http_status: 200, metadata: &mut head, trailers_only };
        filter.response(&call(HeaderMap::new()), head_seen).expect("no status of its own");
        assert_eq!(values(&head, "x-set"), ["new"]);
        assert_eq!(values(&head, "server"), [""; 0]);
        assert_eq!(values(&head, "grpc-status"), ["0"]);
    }
}

#[test]
fn removing_comes_before_adding() {
    let filter = build(direction(&[("x", "new")], &[], &["x"]), Direction::default()).expect("a filter");
    let mut call = call(metadata(&[("x", "old")]));
    let _ = filter.request(&mut call);
    assert_eq!(values(&call.metadata, "x"), ["new"]);
}

#[test]
fn only_what_is_configured_is_asked_for() {
    let nothing = Direction::default;
    let something = || direction(&[], &[], &["x"]);
    for (request, response, needs) in [
        (nothing(), nothing(), Needs::NONE),
        (something(), nothing(), Needs::REQUEST),
        (nothing(), something(), Needs::RESPONSE),
        (something(), something(), Needs::REQUEST | Needs::RESPONSE),
    ] {
        assert_eq!(build(request, response).expect("a filter").needs(), needs);
    }
}

#[test]
fn every_mistake_is_reported_with_its_path() {
    let request = direction(&[("X-Up", "1"), ("grpc-timeout", "1S")], &[("x-bin", "not base64!")], &["te", ":path"]);
    let response = direction(&[("x", "smile \u{263a}")], &[("y", " padded ")], &["y"]);
    let errors = build(request, response).expect_err("mistakes");
    let paths: Vec<String> = errors.iter().map(|error| error.path.join("/")).collect();
    assert_eq!(
        paths,
        [
            "request/set/x-bin",
            "request/add/X-Up",
            "request/add/grpc-timeout",
            "request/remove/0",
            "request/remove/1",
            "response/set/y",
            "response/add/x",
            "response/remove/0",
        ]
    );
}

#[test]
fn keys_of_the_protocol_cannot_be_changed() {
    for key in [
        ":authority",
        "",
        "a b",
        "a/b",
        "connection",
        "content-type",
        "grpc-status",
        "host",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
    ] {
        assert!(build(direction(&[], &[], &[key]), Direction::default()).is_err(), "remove {key:?}");
        assert!(build(direction(&[(key, "v")], &[], &[]), Direction::default()).is_err(), "add {key:?}");
        assert!(build(direction(&[], &[(key, "v")], &[]), Direction::default()).is_err(), "set {key:?}");
    }
}

#[test]
fn binary_values_may_be_padded_or_not() {
    for value in ["AAE", "AAE=", ""] {
        assert!(build(direction(&[("x-bin", value)], &[], &[]), Direction::default()).is_ok(), "{value:?}");
    }
}

#[test]
fn credentials_are_kept_out_of_compression_tables_and_logs() {
    let changes = direction(&[], &[("authorization", "Bearer abc")], &[]);
    let filter = build(changes, Direction::default()).expect("a filter");
    assert!(!format!("{filter:?}").contains("abc"));
}
