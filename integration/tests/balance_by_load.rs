//! Choices that change with what endpoints do: slow start, measured latency, bounded hashing.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use serde_json::Value;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, Health};
use weir_integration::peers::client::{Client, METHOD, Open};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

const CHECKS: &str =
    "health_checks: [{protocol: grpc, interval: 20ms, timeout: 10s, healthy_threshold: 1, unhealthy_threshold: 1}]";

fn setup(keys: &str, backends: &[Backend]) -> Setup {
    let addresses = backends.iter().map(|backend| backend.address);
    Setup::new().admin().route("prefix: /", "c").cluster("c", keys, addresses)
}

async fn client(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()
}

/// How many of these calls each backend answered. All must be well.
async fn shares(client: &Client, backends: &[Backend], calls: usize) -> Vec<usize> {
    let mut shares = vec![0; backends.len()];
    for _ in 0..calls {
        let answer = client.call(METHOD, &[]).await.unwrap();
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        let from = answer.from().unwrap();
        shares[backends.iter().position(|backend| backend.address.port() == from).unwrap()] += 1;
    }
    shares
}

async fn gauge(gateway: &Gateway, family: &str, endpoint: SocketAddr) -> Option<f64> {
    let series = format!("{family}{{cluster=\"c\",endpoint=\"{endpoint}\"}}");
    page::metric(gateway.admin().unwrap(), &series).await.unwrap()
}

/// Takes an endpoint out and brings it back, by its health check.
async fn leave_and_return(gateway: &Gateway, backend: &Backend) {
    for (health, state) in [(Health::NotServing, 0.0), (Health::Serving, 1.0)] {
        backend.set_health("", &[health]);
        eventually("the check's verdict", async || {
            Ok((gauge(gateway, "weir_endpoint_healthy", backend.address).await == Some(state)).then_some(()))
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_returns_starts_slowly() {
    for (policy, off) in [("RoundRobin", 1), ("LeastRequest", 25)] {
        let backends = Backend::start_many(2).await.unwrap();
        // So long that the share stands still in this test.
        let slow = "slow_start_config: {slow_start_window: 24h, min_weight_percent: 25}";
        let gateway = setup(&format!("lb_policy: {policy}, {CHECKS}, {slow}"), &backends).start(1).unwrap();
        let client = client(&gateway).await;
        assert_eq!(gauge(&gateway, "weir_endpoint_slow_start_percent", backends[1].address).await, Some(100.0));
        assert_eq!(shares(&client, &backends, 20).await, [10, 10]);
        leave_and_return(&gateway, &backends[1]).await;
        assert_eq!(gauge(&gateway, "weir_endpoint_slow_start_percent", backends[1].address).await, Some(25.0));
        let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap();
        let page: Value = serde_json::from_str(&page.body).unwrap();
        assert_eq!(page[0]["endpoints"][1]["slow_start_percent"], 25, "{page}");
        assert!(page[0]["endpoints"][0].get("slow_start_percent").is_none(), "{page}");
        // A weight of 1 beside one of 4.
        let shares = shares(&client, &backends, 100).await;
        assert!(shares[1].abs_diff(20) <= off, "{policy}: {shares:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_returns_gets_all_of_its_share_in_the_end() {
    let backends = Backend::start_many(2).await.unwrap();
    let slow = "slow_start_config: {slow_start_window: 300ms, aggression: 2}";
    let gateway = setup(&format!("lb_policy: RoundRobin, {CHECKS}, {slow}"), &backends).start(2).unwrap();
    let client = client(&gateway).await;
    leave_and_return(&gateway, &backends[1]).await;
    eventually("all of its weight", async || {
        let percent = gauge(&gateway, "weir_endpoint_slow_start_percent", backends[1].address).await;
        Ok((percent == Some(100.0)).then_some(()))
    })
    .await
    .unwrap();
    let shares = shares(&client, &backends, 20).await;
    assert!(shares[1].abs_diff(10) <= 1, "{shares:?}");
}

/// A call that this backend keeps waiting.
async fn wait_at(client: &Client, backend: &Backend) -> Open {
    loop {
        let mut open = client.open(METHOD, &[]).await.unwrap();
        open.message(b"", true).unwrap();
        tokio::select! {
            headers = open.headers() => drop(headers.unwrap()),
            seen = backend.until_calls(1) => {
                seen.unwrap();
                return open;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_that_answers_sooner_gets_the_calls() {
    for workers in [1, 2] {
        let backends = Backend::start_many(2).await.unwrap();
        backends[0].set_script("silent").unwrap();
        let keys = "lb_policy: PeakEwma, peak_ewma: {decay_time: 1h}";
        let gateway = setup(keys, &backends).start(workers).unwrap();
        let client = client(&gateway).await;
        let waiting = wait_at(&client, &backends[0]).await;
        // While it waits nobody else is sent there.
        assert_eq!(shares(&client, &backends, 20).await, [0, 20]);
        backends[0].set_script("echo").unwrap();
        backends[0].release();
        assert_eq!(waiting.answer().await.unwrap().status(), Some(0));
        // It is known to be slow now, and is not asked while the other is idle.
        assert_eq!(shares(&client, &backends, 20).await, [0, 20]);
        let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap();
        let page: Value = serde_json::from_str(&page.body).unwrap();
        let latency = |at: usize| page[0]["endpoints"][at]["latency_ms"].as_f64().unwrap();
        assert!(latency(0) > latency(1), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_forgotten() {
    let backends = Backend::start_many(2).await.unwrap();
    let gateway = setup("lb_policy: PeakEwma, peak_ewma: {decay_time: 20ms}", &backends).start(1).unwrap();
    let client = client(&gateway).await;
    backends[0].set_script("silent").unwrap();
    let waiting = wait_at(&client, &backends[0]).await;
    backends[0].set_script("echo").unwrap();
    backends[0].release();
    assert_eq!(waiting.answer().await.unwrap().status(), Some(0));
    eventually("it is asked again", async || Ok((shares(&client, &backends, 4).await[0] > 0).then_some(())))
        .await
        .unwrap();
}

/// Failing is the fastest that a backend can do.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_at_once_is_no_fast_one() {
    for script in ["status=14", "status=8", "abort=2", "drop"] {
        let backends = Backend::start_many(2).await.unwrap();
        backends[0].set_script(script).unwrap();
        let gateway = setup("lb_policy: PeakEwma", &backends).start(1).unwrap();
        let client = client(&gateway).await;
        let mut failed = 0;
        for _ in 0..40 {
            failed += usize::from(client.call(METHOD, &[]).await.map_or(true, |answer| answer.status() != Some(0)));
        }
        assert!(failed <= 3, "{script}: {failed} of 40 calls failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_many_calls_spills_over_where_loads_are_bounded() {
    for policy in ["RingHashing", "MaglevHashing"] {
        for (consistent, expected) in [("", vec![0, 0, 0, 12]), ("consistent: {hash_balance_factor: 100}", vec![3; 4])]
        {
            let backends = Backend::start_many(4).await.unwrap();
            let keys = format!("lb_policy: {policy}, hash_on: {{path: true}}, {consistent}");
            let gateway = setup(&keys, &backends).start(2).unwrap();
            let clients = [client(&gateway).await, client(&gateway).await];
            let mut held = Vec::new();
            for at in 0..12 {
                let mut open = clients[at % 2].script("hold").await.unwrap();
                open.headers().await.unwrap();
                held.push(open);
            }
            let mut counts: Vec<usize> = backends.iter().map(|backend| backend.seen().calls.len()).collect();
            counts.sort_unstable();
            assert_eq!(counts, expected, "{policy} {consistent}");
        }
    }
}
