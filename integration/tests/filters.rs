//! What `weir.filter.grpc.headers` does to metadata, as backend and client see it.

#![allow(clippy::unwrap_used)]

use http::HeaderMap;
use weir_integration::peers::backend::{Backend, DO, FROM};
use weir_integration::peers::client::{Answer, Client, METHOD};
use weir_integration::peers::setup::Setup;

const HEADERS: &str = "weir.filter.grpc.headers";

/// Makes one call through filters with these configs, in this order. Returns what the backend got, and the answer.
async fn through(filters: &[&str], metadata: &[(&str, &str)]) -> (HeaderMap, Answer) {
    let backend = Backend::start().await.unwrap();
    let setup = filters.iter().fold(Setup::to([backend.address]), |setup, config| setup.filter(HEADERS, config));
    let gateway = setup.start(1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let answer = client.call(METHOD, metadata).await.unwrap();
    (backend.seen().calls[0].metadata.clone(), answer)
}

fn values<'a>(metadata: &'a HeaderMap, key: &str) -> Vec<&'a str> {
    metadata.get_all(key).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn request_metadata_is_added_set_and_removed() {
    let config = "request: {add: {x-many: third, x-new: added, x-blob-bin: AAEC}, \
                  set: {x-one: replaced, x-fresh: set}, remove: [x-secret, x-absent]}";
    let sent = [
        ("x-many", "first"),
        ("x-many", "second"),
        ("x-one", "1"),
        ("x-one", "2"),
        ("x-secret", "a"),
        ("x-secret", "b"),
        ("x-kept", "kept"),
        ("x-blob-bin", "/w=="),
    ];
    let (metadata, answer) = through(&[config], &sent).await;
    assert_eq!(answer.status(), Some(0));
    for (key, expected) in [
        ("x-many", &["first", "second", "third"][..]),
        ("x-new", &["added"]),
        ("x-blob-bin", &["/w==", "AAEC"]),
        ("x-one", &["replaced"]),
        ("x-fresh", &["set"]),
        ("x-secret", &[]),
        ("x-kept", &["kept"]),
    ] {
        assert_eq!(values(&metadata, key), expected, "{key}");
    }
    // Nothing was asked for in the other direction.
    for key in ["x-many", "x-new", "x-one", "x-fresh"] {
        assert!(answer.header(key).is_none() && answer.trailer(key).is_none(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_metadata_is_added_set_and_removed() {
    let config = format!("response: {{add: {{x-new: added}}, set: {{x-set: set}}, remove: [{FROM}]}}");
    let (metadata, answer) = through(&[&config], &[("x-set", "mine")]).await;
    assert_eq!((answer.header("x-new"), answer.header("x-set")), (Some("added"), Some("set")));
    assert_eq!(answer.from(), None);
    assert_eq!(values(&metadata, "x-set"), ["mine"]);
    // What stands in the trailers stays as it is.
    assert_eq!((answer.trailer("x-trailer"), answer.trailer("x-new")), (Some("original"), None));
    assert_eq!(answer.messages, [&b"abc"[..]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_only_response_is_changed_too() {
    let config = format!("response: {{add: {{x-new: added}}, set: {{x-trailer: set}}, remove: [{FROM}]}}");
    let (_, answer) = through(&[&config], &[(DO, "status=5")]).await;
    assert!(answer.trailers.is_none(), "{answer:?}");
    assert_eq!((answer.status(), answer.message()), (Some(5), "from the backend, 100%25"));
    assert_eq!((answer.header("x-new"), answer.header("x-trailer")), (Some("added"), Some("set")));
    assert_eq!(answer.from(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_run_in_their_order_and_in_reverse_on_the_way_back() {
    let one = "request: {add: {x-way: one}}, response: {add: {x-way: one}}";
    let two = "request: {add: {x-way: two}}, response: {add: {x-way: two}}";
    let (metadata, answer) = through(&[one, two], &[]).await;
    assert_eq!(values(&metadata, "x-way"), ["one", "two"]);
    assert_eq!(values(&answer.headers, "x-way"), ["two", "one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_change_nothing_unasked() {
    let (direct, _) = through(&[], &[("x-kept", "a"), ("x-kept", "b")]).await;
    let (metadata, answer) = through(&["request: {}", "response: {}"], &[("x-kept", "a"), ("x-kept", "b")]).await;
    assert_eq!(metadata, direct);
    assert_eq!(answer.status(), Some(0));
}

/// The endpoint is chosen after the filters: what they set can be what is hashed.
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_is_chosen_by_the_changed_metadata() {
    let backends = Backend::start_many(3).await.unwrap();
    let keys = "lb_policy: RingHashing, hash_on: {metadata: x-tenant}";
    let gateway = Setup::new()
        .route("prefix: /", "c")
        .cluster("c", keys, backends.iter().map(|backend| backend.address))
        .filter(HEADERS, "request: {set: {x-tenant: everybody}}")
        .start(1)
        .unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let mut reached = std::collections::BTreeSet::new();
    for tenant in 0..30 {
        let answer = client.call(METHOD, &[("x-tenant", &tenant.to_string())]).await.unwrap();
        reached.insert(answer.from().unwrap());
    }
    assert_eq!(reached.len(), 1, "{reached:?}");
}
