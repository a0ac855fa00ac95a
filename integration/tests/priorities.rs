//! Which endpoints a call may go to at all: priorities, localities and subsets.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, Health};
use weir_integration::peers::client::{Answer, Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

const CHECKS: &str =
    "health_checks: [{protocol: grpc, interval: 20ms, timeout: 10s, healthy_threshold: 1, unhealthy_threshold: 1}]";

/// An endpoint with these keys.
fn endpoint(backend: &Backend, keys: &str) -> String {
    format!("{{socket_address: {{address: 127.0.0.1, port: {}}}, {keys}}}", backend.address.port())
}

/// The cluster `c`: further keys, and an endpoint with its own keys for each backend.
fn cluster(keys: &str, backends: &[Backend], own: &[&str]) -> Setup {
    let endpoints = backends.iter().zip(own).map(|(backend, keys)| endpoint(backend, keys));
    let keys = format!("lb_policy: RoundRobin, {keys}");
    Setup::new().admin().route("prefix: /", "c").cluster_of("c", &keys, endpoints)
}

async fn client(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()
}

async fn call(client: &Client, metadata: &[(&str, &str)]) -> Answer {
    client.call(METHOD, metadata).await.unwrap()
}

/// How many of these calls each backend answered. All must be well.
async fn shares(client: &Client, backends: &[Backend], metadata: &[(&str, &str)], calls: usize) -> Vec<usize> {
    let mut shares = vec![0; backends.len()];
    for _ in 0..calls {
        let answer = call(client, metadata).await;
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        let from = answer.from().unwrap();
        shares[backends.iter().position(|backend| backend.address.port() == from).unwrap()] += 1;
    }
    shares
}

async fn share_of(gateway: &Gateway, priority: u32) -> Option<f64> {
    let series = format!("weir_priority_share_percent{{cluster=\"c\",priority=\"{priority}\"}}");
    page::metric(gateway.admin().unwrap(), &series).await.unwrap()
}

async fn until_share(gateway: &Gateway, priority: u32, share: f64) {
    eventually("the priority's share", async || Ok((share_of(gateway, priority).await == Some(share)).then_some(())))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_to_the_next_priority_as_the_first_can_take_less() {
    for workers in [1, 2] {
        let backends = Backend::start_many(4).await.unwrap();
        let own = ["priority: 0", "", "priority: 1", "priority: 1"];
        let gateway = cluster(CHECKS, &backends, &own).start(workers).unwrap();
        let client = client(&gateway).await;
        assert_eq!(share_of(&gateway, 0).await, Some(100.0));
        assert_eq!(shares(&client, &backends, &[], 20).await[2..], [0, 0]);

        // One of two is 50 per cent, and 70 with the factor of 140.
        backends[0].set_health("", &[Health::NotServing]);
        until_share(&gateway, 0, 70.0).await;
        assert_eq!(share_of(&gateway, 1).await, Some(30.0));
        let half = shares(&client, &backends, &[], 200).await;
        assert_eq!(half[0], 0, "{half:?}");
        // Some seven standard deviations.
        assert!(half[1].abs_diff(140) < 45, "{half:?}");
        assert!(half[2].abs_diff(half[3]) <= 1, "{half:?}");

        backends[1].set_health("", &[Health::NotServing]);
        until_share(&gateway, 1, 100.0).await;
        assert_eq!(shares(&client, &backends, &[], 20).await[..2], [0, 0]);

        let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap();
        let page: Value = serde_json::from_str(&page.body).unwrap();
        assert_eq!(page[0]["priorities"][1]["share_percent"], 100, "{page}");
        assert_eq!(page[0]["endpoints"][3]["priority"], 1, "{page}");

        backends[0].set_health("", &[Health::Serving]);
        backends[1].set_health("", &[Health::Serving]);
        until_share(&gateway, 0, 100.0).await;
        assert_eq!(shares(&client, &backends, &[], 20).await[2..], [0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overprovisioning_says_how_much_a_priority_can_take() {
    let backends = Backend::start_many(3).await.unwrap();
    let keys = format!("{CHECKS}, overprovisioning_factor: 100");
    let gateway = cluster(&keys, &backends, &["", "", "priority: 7"]).start(1).unwrap();
    backends[0].set_health("", &[Health::NotServing]);
    until_share(&gateway, 7, 50.0).await;
    assert_eq!(share_of(&gateway, 0).await, Some(50.0));
}

/// Without a health check nobody knows that an endpoint is gone but the calls themselves.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_when_the_first_priority_is_gone() {
    for workers in [1, 2] {
        let mut backends = Backend::start_many(3).await.unwrap();
        let gateway = cluster("", &backends, &["", "", "priority: 1"]).start(workers).unwrap();
        let client = client(&gateway).await;
        drop(backends.drain(..2));
        assert_eq!(shares(&client, &backends, &[], 30).await, [30]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_to_the_next_priority_when_the_first_has_nobody_left() {
    let backends = Backend::start_many(2).await.unwrap();
    backends[0].set_script("status=14").unwrap();
    let keys = "retry_policy: {max_attempts: 2, initial_backoff: 1ms, retryable_status_codes: [UNAVAILABLE]}";
    let gateway = cluster(keys, &backends, &["", "priority: 1"]).start(1).unwrap();
    let client = client(&gateway).await;
    assert_eq!(shares(&client, &backends, &[], 5).await, [0, 5]);
    assert_eq!(backends[0].seen().calls.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_endpoints_are_asked_first() {
    let backends = Backend::start_many(4).await.unwrap();
    let own = [
        "locality: {region: eu, zone: b}",
        "locality: {region: eu, zone: a, sub_zone: rack-2}",
        "locality: {region: eu, zone: a, sub_zone: rack-1}",
        "",
    ];
    let node = "node: {locality: {region: eu, zone: a, sub_zone: rack-1}}";
    let gateway = cluster(CHECKS, &backends, &own).root(node).start(1).unwrap();
    let client = client(&gateway).await;
    for (at, priority) in [(2, 0), (1, 1), (0, 2), (3, 3)] {
        until_share(&gateway, priority, 100.0).await;
        let shares = shares(&client, &backends, &[], 6).await;
        assert_eq!(shares[at], 6, "{shares:?}");
        backends[at].set_health("", &[Health::NotServing]);
    }
    let mut last = String::new();
    eventually("nobody is left", async || {
        let answer = call(&client, &[]).await;
        last = answer.message().to_owned();
        Ok((answer.status() == Some(14)).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(last, "cluster c: none of its endpoints is healthy");
}

/// A route to version 2 for those who ask for it.
fn versions(keys: &str, backends: &[Backend], wanted: &str) -> Setup {
    let own = ["meta: {version: v1}", "meta: {version: v2, stage: test}", "meta: {version: v2, stage: prod}"];
    let action = format!("c, metadata_match: {{{wanted}}}");
    cluster(keys, backends, &own).route("prefix: /, headers: [{name: x-version, values: [new]}]", &action)
}

const NEW: &[(&str, &str)] = &[("x-version", "new")];

#[tokio::test(flavor = "multi_thread")]
async fn a_route_takes_the_endpoints_with_its_labels() {
    for workers in [1, 2] {
        let backends = Backend::start_many(3).await.unwrap();
        let gateway = versions(CHECKS, &backends, "version: v2").start(workers).unwrap();
        let client = client(&gateway).await;
        assert_eq!(shares(&client, &backends, NEW, 20).await, [0, 10, 10]);
        assert_eq!(shares(&client, &backends, &[], 30).await, [10, 10, 10], "who asks for nothing gets all of them");
        // That all of them are down is no reason to answer with another version.
        for backend in &backends[1..] {
            backend.set_health("", &[Health::NotServing]);
        }
        eventually("version 2 is down", async || Ok((call(&client, NEW).await.status() == Some(14)).then_some(())))
            .await
            .unwrap();
        assert_eq!(call(&client, NEW).await.message(), "cluster c: none of its endpoints is healthy");
        assert_eq!(shares(&client, &backends, &[], 5).await, [5, 0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_labels_must_all_be_there() {
    let backends = Backend::start_many(3).await.unwrap();
    let gateway = versions("", &backends, "version: v2, stage: prod").start(1).unwrap();
    assert_eq!(shares(&client(&gateway).await, &backends, NEW, 10).await, [0, 0, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_nobody_has_fall_back_as_the_cluster_says() {
    for (config, new, plain) in [
        ("fallback_policy: ANY_ENDPOINT", [2, 2, 2], [2, 2, 2]),
        ("fallback_policy: DEFAULT_SUBSET, default_subset: {version: v1}", [6, 0, 0], [6, 0, 0]),
    ] {
        let backends = Backend::start_many(3).await.unwrap();
        let keys = format!("lb_subset_config: {{{config}}}");
        let gateway = versions(&keys, &backends, "version: v3").start(1).unwrap();
        let client = client(&gateway).await;
        assert_eq!(shares(&client, &backends, NEW, 6).await, new, "{config}");
        assert_eq!(shares(&client, &backends, &[], 6).await, plain, "{config}");
        let line = "no endpoint of cluster `c` has `version: v3`: its calls go where `lb_subset_config` says";
        gateway.process.wait_line("a notice", |text| text.contains(line).then_some(())).unwrap();
    }
}

/// The only endpoint with the label is a name that DNS does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_subset_that_has_not_been_found_says_so() {
    let backends = Backend::start_many(1).await.unwrap();
    let missing = "{socket_address: {address: missing.invalid, port: 1}, meta: {version: v2}}".to_owned();
    let endpoints = [endpoint(&backends[0], "meta: {version: v1}"), missing];
    let gateway = Setup::new()
        .route("prefix: /", "c")
        .route("prefix: /, headers: [{name: x-version, values: [new]}]", "c, metadata_match: {version: v2}")
        .cluster_of("c", "lb_policy: RoundRobin, type: StrictDNS", endpoints)
        .start(1)
        .unwrap();
    let client = client(&gateway).await;
    let answer = call(&client, NEW).await;
    assert_eq!(answer.status(), Some(14), "{answer:?}");
    assert_eq!(answer.message(), "cluster c: none of its endpoints has the labels that the route asks for");
    assert_eq!(shares(&client, &backends, &[], 3).await, [3]);
}
