//! Health checks, and what they do to calls.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, Health};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::tap::Tap;
use weir_integration::peers::{eventually, page};

const QUICK: &str = "interval: 20ms, timeout: 10s, healthy_threshold: 2, unhealthy_threshold: 2";

/// The cluster `echo` with these checks, in turn.
fn checked(checks: &str, backends: &[Backend]) -> Setup {
    let keys = format!("lb_policy: RoundRobin, health_checks: [{checks}]");
    let addresses = backends.iter().map(|backend| backend.address);
    Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, addresses)
}

fn grpc(keys: &str) -> String {
    format!("{{protocol: grpc, {keys}}}")
}

async fn client(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()
}

/// Waits for the `count`th line of the log about an endpoint.
fn wait_state(gateway: &Gateway, state: &str, endpoint: SocketAddr, count: usize) -> String {
    let mut seen = 0;
    let named = format!("endpoint={endpoint}");
    let pick = |line: &str| {
        seen += usize::from(line.contains(&format!("endpoint {state}")) && line.contains(&named));
        (seen == count).then(|| line.to_owned())
    };
    gateway.process.wait_line(&format!("`endpoint {state}` about {endpoint}"), pick).unwrap()
}

async fn healthy(gateway: &Gateway, endpoint: SocketAddr) -> Option<f64> {
    let series = format!("weir_endpoint_healthy{{cluster=\"echo\",endpoint=\"{endpoint}\"}}");
    page::metric(gateway.admin().unwrap(), &series).await.unwrap()
}

/// The ports that answered these many calls.
async fn answering(client: &Client, calls: usize) -> Vec<u16> {
    let mut ports = Vec::new();
    for _ in 0..calls {
        let answer = client.call(METHOD, &[]).await.unwrap();
        ports.push(answer.from().unwrap_or_else(|| panic!("{answer:?}")));
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_check_takes_an_endpoint_out_and_brings_it_back() {
    for workers in [1, 2] {
        let mut backends = Backend::start_many(2).await.unwrap();
        let gateway = checked(&format!("{{protocol: tcp, {QUICK}}}"), &backends).start(workers).unwrap();
        let client = client(&gateway).await;
        assert_eq!(answering(&client, 4).await.len(), 2);
        let gone = backends.pop().unwrap();
        let address = gone.address;
        assert_eq!(healthy(&gateway, address).await, Some(1.0));
        drop(gone);
        let line = wait_state(&gateway, "down", address, 1);
        assert!(line.contains("cluster=echo") && line.contains("WARN"), "{line}");
        assert_eq!(healthy(&gateway, address).await, Some(0.0));
        assert_eq!(answering(&client, 10).await, [backends[0].address.port()]);

        backends.push(Backend::start_on(address).await.unwrap());
        let line = wait_state(&gateway, "up", address, 1);
        assert!(line.contains("cluster=echo") && line.contains("INFO"), "{line}");
        assert_eq!(healthy(&gateway, address).await, Some(1.0));
        eventually("calls to the endpoint that is back", async || {
            Ok((answering(&client, 2).await.len() == 2).then_some(()))
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_check_keeps_calls_from_an_endpoint_that_still_answers_them() {
    for workers in [1, 2] {
        let backends = Backend::start_many(2).await.unwrap();
        let gateway = checked(&grpc(QUICK), &backends).start(workers).unwrap();
        let client = client(&gateway).await;
        // A call that is open there goes on to its end.
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut open = client.script("hold").await.unwrap();
            open.headers().await.unwrap();
            held.push(open);
        }
        backends[0].set_health("", &[Health::NotServing]);
        let line = wait_state(&gateway, "down", backends[0].address, 1);
        assert!(line.contains("NOT_SERVING"), "{line}");
        assert_eq!(healthy(&gateway, backends[0].address).await, Some(0.0));
        let before = backends[0].seen().calls.len();
        assert_eq!(answering(&client, 10).await, [backends[1].address.port()]);
        assert_eq!(backends[0].seen().calls.len(), before);
        backends.iter().for_each(Backend::release);
        for open in held {
            assert_eq!(open.answer().await.unwrap().status(), Some(0));
        }

        backends[0].set_health("", &[Health::Serving]);
        wait_state(&gateway, "up", backends[0].address, 1);
        assert_eq!(answering(&client, 4).await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_down_is_unavailable_and_names_the_cluster() {
    let backends = Backend::start_many(2).await.unwrap();
    let gateway = checked(&grpc(QUICK), &backends).start(1).unwrap();
    for backend in &backends {
        backend.set_health("", &[Health::NotServing]);
    }
    for backend in &backends {
        wait_state(&gateway, "down", backend.address, 1);
    }
    let client = client(&gateway).await;
    let answer = client.call(METHOD, &[]).await.unwrap();
    assert_eq!(answer.status(), Some(14));
    assert_eq!(answer.message(), "cluster echo: none of its endpoints is healthy");
    backends[1].set_health("", &[Health::Serving]);
    wait_state(&gateway, "up", backends[1].address, 1);
    assert_eq!(answering(&client, 2).await, [backends[1].address.port()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn thresholds_count_answers_in_a_row() {
    let bad = Health::NotServing;
    let good = Health::Serving;
    let state = |keys: &str| grpc(&format!("interval: 10ms, timeout: 10s, {keys}"));
    let lines = |gateway: &Gateway, state: &str| {
        let lines = gateway.process.lines();
        lines.iter().filter(|line| line.contains(&format!("endpoint {state}"))).count()
    };
    let backends = Backend::start_many(1).await.unwrap();
    let backend = &backends[0];
    backend.set_health("", &[bad, bad, good]);

    // Two in a row are not three, however often.
    let keys = state("unhealthy_threshold: 3, healthy_threshold: 1");
    let gateway = checked(&keys, &backends).start(1).unwrap();
    backend.until("checks", |seen| seen.checks.len() > 20).await.unwrap();
    assert_eq!((lines(&gateway, "down"), lines(&gateway, "up")), (0, 0));
    drop(gateway);

    // Down after two, and one good answer of two brings nothing back.
    let keys = state("unhealthy_threshold: 2, healthy_threshold: 2");
    let gateway = checked(&keys, &backends).start(1).unwrap();
    wait_state(&gateway, "down", backend.address, 1);
    let before = backend.seen().checks.len();
    backend.until("checks", |seen| seen.checks.len() > before + 20).await.unwrap();
    assert_eq!((lines(&gateway, "down"), lines(&gateway, "up")), (1, 0));
    drop(gateway);

    // One good answer brings it back, each time.
    let keys = state("unhealthy_threshold: 2, healthy_threshold: 1");
    let gateway = checked(&keys, &backends).start(1).unwrap();
    wait_state(&gateway, "up", backend.address, 3);
    assert!(lines(&gateway, "down") >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_that_gets_no_answer_in_time_is_bad() {
    let backends = Backend::start_many(1).await.unwrap();
    backends[0].set_health("", &[Health::Silent]);
    let keys = "interval: 10ms, timeout: 70ms, unhealthy_threshold: 2";
    let gateway = checked(&grpc(keys), &backends).start(1).unwrap();
    let line = wait_state(&gateway, "down", backends[0].address, 1);
    assert!(line.contains("no answer in 70ms"), "{line}");
}

/// While one cluster has been checked twenty times, another has been once: checks keep their interval, and two workers
/// ask no more than one.
#[tokio::test(flavor = "multi_thread")]
async fn checks_keep_their_interval_and_are_made_once_a_process() {
    let backends = Backend::start_many(2).await.unwrap();
    let cluster =
        |interval: &str| format!("lb_policy: Rand, health_checks: [{{protocol: grpc, interval: {interval}}}]");
    let gateway = Setup::new()
        .route("prefix: /quick", "quick")
        .route("prefix: /slow", "slow")
        .cluster("quick", &cluster("10ms"), [backends[0].address])
        .cluster("slow", &cluster("1h"), [backends[1].address])
        .start(2)
        .unwrap();
    // Calls over several connections: both workers know the cluster.
    for _ in 0..4 {
        client(&gateway).await.call("/slow/M", &[]).await.unwrap();
    }
    backends[0].until("checks", |seen| seen.checks.len() >= 20).await.unwrap();
    assert_eq!(backends[1].seen().checks, [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_check_asks_for_its_service() {
    let backends = Backend::start_many(1).await.unwrap();
    let keys = format!("service_name: pkg.Orders, {QUICK}");
    let gateway = checked(&grpc(&keys), &backends).start(1).unwrap();
    let seen = backends[0].until("checks", |seen| seen.checks.len() >= 3).await.unwrap();
    assert!(seen.checks.iter().all(|service| service == "pkg.Orders"), "{:?}", seen.checks);
    backends[0].set_health("pkg.Orders", &[Health::NotServing]);
    wait_state(&gateway, "down", backends[0].address, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_is_up_when_all_of_its_checks_say_so() {
    let backends = Backend::start_many(1).await.unwrap();
    let service = |name: &str| grpc(&format!("service_name: {name}, {QUICK}"));
    let checks = format!("{{protocol: tcp, {QUICK}}}, {}, {}", service("a"), service("b"));
    let gateway = checked(&checks, &backends).start(1).unwrap();
    let backend = &backends[0];
    backend.set_health("a", &[Health::NotServing]);
    wait_state(&gateway, "down", backend.address, 1);
    backend.set_health("b", &[Health::NotServing]);
    // The second verdict is known once `b` has been asked often enough; the first is taken back then.
    let asked = backend.seen().checks.iter().filter(|service| *service == "b").count();
    let enough = asked + 4;
    backend.until("checks of b", |seen| seen.checks.iter().filter(|one| *one == "b").count() >= enough).await.unwrap();
    backend.set_health("a", &[Health::Serving]);
    let asked = backend.seen().checks.iter().filter(|service| *service == "a").count();
    let enough = asked + 4;
    backend.until("checks of a", |seen| seen.checks.iter().filter(|one| *one == "a").count() >= enough).await.unwrap();
    assert_eq!(healthy(&gateway, backend.address).await, Some(0.0));
    backend.set_health("b", &[Health::Serving]);
    wait_state(&gateway, "up", backend.address, 1);
}

/// A machine that died without a word leaves a connection that never answers. The checks find the one in its place.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_check_does_not_cling_to_a_dead_connection() {
    let backend = Backend::start().await.unwrap();
    let tap = Tap::start(backend.address).await.unwrap();
    let keys = "lb_policy: Rand, health_checks: [{protocol: grpc, interval: 20ms, timeout: 300ms, \
                healthy_threshold: 1, unhealthy_threshold: 1}]";
    let gateway = Setup::new().route("prefix: /", "echo").cluster("echo", keys, [tap.address]).start(1).unwrap();
    backend.until("a check", |seen| !seen.checks.is_empty()).await.unwrap();
    tap.freeze();
    wait_state(&gateway, "down", tap.address, 1);
    wait_state(&gateway, "up", tap.address, 1);
}
