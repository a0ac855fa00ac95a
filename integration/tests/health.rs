//! Health checks, and what they do to calls.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::process::Command;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use weir_integration::binary::built;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, Health};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::tap::Tap;
use weir_integration::peers::{eventually, page, within};
use weir_integration::process::Process;

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

/// A server of another's making, which has `Watch`: tonic's health service. It ends with the runtime.
async fn watched(runtime: &Runtime) -> (HealthReporter, SocketAddr) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let (tell, told) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    (reporter, told.await.unwrap())
}

/// The next check is an hour away: only a push can say it.
#[tokio::test(flavor = "multi_thread")]
async fn watch_takes_an_endpoint_out_at_once_and_its_return_is_counted() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (reporter, address) = watched(&runtime).await;
    reporter.set_service_status("pkg.Orders", ServingStatus::Serving).await;
    let keys = "lb_policy: Rand, health_checks: [{protocol: grpc, service_name: pkg.Orders, interval: 1h, timeout: 10s, \
                unhealthy_interval: 20ms, interval_jitter: 0s, healthy_threshold: 3, unhealthy_threshold: 5}]";
    let gateway = Setup::new().admin().route("prefix: /", "echo").cluster("echo", keys, [address]).start(1).unwrap();
    let good = "weir_health_checks_total{cluster=\"echo\",result=\"success\"}";
    gateway.wait_metric(good, |count| count >= 1.0).await.unwrap();
    assert_eq!(healthy(&gateway, address).await, Some(1.0));
    for turn in 1..=2 {
        reporter.set_service_status("pkg.Orders", ServingStatus::NotServing).await;
        let line = wait_state(&gateway, "down", address, turn);
        assert!(line.contains("NOT_SERVING"), "{line}");
        assert_eq!(healthy(&gateway, address).await, Some(0.0));
        let before = gateway.metric(good).unwrap();
        reporter.set_service_status("pkg.Orders", ServingStatus::Serving).await;
        wait_state(&gateway, "up", address, turn);
        let asked = gateway.metric(good).unwrap() - before;
        assert!(asked >= 3.0, "up after {asked} good answers");
    }
    // A watch that breaks is a reason to ask now.
    let bad = "weir_health_checks_total{cluster=\"echo\",result=\"failure\"}";
    let before = gateway.metric(bad).unwrap();
    runtime.shutdown_background();
    gateway.wait_metric(bad, |count| count > before).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_watch_is_asked() {
    let backends = Backend::start_many(1).await.unwrap();
    let gateway = checked(&grpc(QUICK), &backends).start(1).unwrap();
    let seen = backends[0].until("checks", |seen| seen.checks.len() >= 20 && seen.watches >= 1).await.unwrap();
    assert_eq!(seen.watches, 1, "it was told once");
    assert_eq!(seen.accepted, 1, "on the same connection");
    assert_eq!(healthy(&gateway, backends[0].address).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_check_asks_the_endpoints_own_port_for_an_expected_status() {
    let backends = Backend::start_many(1).await.unwrap();
    let (backend, address) = (&backends[0], backends[0].address);
    let statuses = |keys: &str| format!("{{protocol: http, path: \"/healthz?deep\", {keys}, {QUICK}}}");
    let gateway = checked(&statuses("host: orders.internal, expected_statuses: [200-299, 404]"), &backends);
    let gateway = gateway.start(1).unwrap();
    let seen = backend.until("a request", |seen| !seen.gets.is_empty()).await.unwrap();
    assert_eq!(seen.gets[0], "orders.internal/healthz");
    for (turn, (bad, good)) in [(503, 204), (300, 299), (199, 404)].into_iter().enumerate() {
        // An informational status is no answer.
        let bad = if bad == 199 { 403 } else { bad };
        backend.set_http_status(bad);
        let line = wait_state(&gateway, "down", address, turn + 1);
        assert!(line.contains(&format!("HTTP status {bad}")), "{line}");
        backend.set_http_status(good);
        wait_state(&gateway, "up", address, turn + 1);
    }
    drop(gateway);

    // By default it is 200 alone, and the address that it is asked at.
    backend.set_http_status(204);
    let gateway = checked(&format!("{{protocol: http, path: /ready, {QUICK}}}"), &backends).start(1).unwrap();
    wait_state(&gateway, "down", address, 1);
    assert_eq!(backend.seen().gets.last().unwrap(), &format!("{address}/ready"));
}

/// A server of HTTP/1.1 that gives this answer to whatever is asked.
async fn http1(answer: &'static str) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = vec![0; 1024];
            let read = socket.read(&mut request).await.unwrap_or(0);
            assert!(read == 0 || request.starts_with(b"GET /healthz HTTP/1.1\r\n"), "{request:?}");
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn http_check_speaks_http_1_1_where_it_is_told() {
    let good = http1("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
    let bad = http1("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
    let mute = http1("").await;
    let keys = format!(
        "lb_policy: RoundRobin, health_checks: [{{protocol: http, path: /healthz, use_http2: false, {QUICK}}}]"
    );
    let setup = Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, [good, bad, mute]);
    let gateway = setup.start(1).unwrap();
    assert!(wait_state(&gateway, "down", bad, 1).contains("HTTP status 500"));
    assert!(wait_state(&gateway, "down", mute, 1).contains("HTTP/1.1: "));
    gateway
        .wait_metric("weir_health_checks_total{cluster=\"echo\",result=\"success\"}", |count| count >= 5.0)
        .await
        .unwrap();
    assert_eq!(healthy(&gateway, good).await, Some(1.0));
}

/// The port accepts, and that is all. `tcp` finds nothing wrong with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_accepts_and_never_answers_is_down_by_timeouts() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = mute.accept().await {
            held.push(socket);
        }
    });
    let times = "interval: 10ms, timeout: 50ms, unhealthy_threshold: 2";
    let cluster = |check: &str| format!("lb_policy: Rand, health_checks: [{{{check}, {times}}}]");
    let gateway = Setup::new()
        .admin()
        .route("prefix: /", "grpc")
        .cluster("grpc", &cluster("protocol: grpc"), [address])
        .cluster("http", &cluster("protocol: http, path: /"), [address])
        .cluster("tcp", &cluster("protocol: tcp"), [address])
        .start(1)
        .unwrap();
    for name in ["grpc", "http"] {
        let down = |line: &str| line.contains("endpoint down") && line.contains(&format!("cluster={name}"));
        let pick = |line: &str| down(line).then(|| line.to_owned());
        let line = gateway.process.wait_line("`endpoint down`", pick).unwrap();
        assert!(line.contains("no answer in 50ms"), "{line}");
        let late = format!("weir_health_checks_total{{cluster=\"{name}\",result=\"timeout\"}}");
        assert!(gateway.metric(&late).unwrap() >= 2.0);
    }
    let good = "weir_health_checks_total{cluster=\"tcp\",result=\"success\"}";
    gateway.wait_metric(good, |count| count >= 5.0).await.unwrap();
    assert_eq!(gateway.metric("weir_health_checks_total{cluster=\"tcp\",result=\"timeout\"}").unwrap(), 0.0);
    accepting.abort();
}

/// While one cluster has been checked twenty times, the others have been as often as their times allow.
#[tokio::test(flavor = "multi_thread")]
async fn checks_begin_after_their_delay_and_wait_longer_by_their_jitter() {
    let backends = Backend::start_many(3).await.unwrap();
    let cluster = |keys: &str| format!("lb_policy: Rand, health_checks: [{{protocol: grpc, timeout: 10s, {keys}}}]");
    let _gateway = Setup::new()
        .route("prefix: /", "quick")
        .cluster("quick", &cluster("interval: 10ms"), [backends[0].address])
        .cluster("delayed", &cluster("interval: 10ms, initial_delay: 1h"), [backends[1].address])
        .cluster("jittered", &cluster("interval: 10ms, interval_jitter: 10000h"), [backends[2].address])
        .start(1)
        .unwrap();
    backends[0].until("checks", |seen| seen.checks.len() >= 20).await.unwrap();
    assert!(backends[1].seen().checks.is_empty());
    // The first check waits too: checks of many endpoints would begin together.
    assert!(backends[2].seen().checks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_is_asked_in_an_interval_of_its_own() {
    let backends = Backend::start_many(1).await.unwrap();
    backends[0].set_health("", &[Health::NotServing]);
    let keys = "interval: 1h, unhealthy_interval: 10ms, timeout: 10s, unhealthy_threshold: 1, healthy_threshold: 2";
    let gateway = checked(&grpc(keys), &backends).start(1).unwrap();
    wait_state(&gateway, "down", backends[0].address, 1);
    backends[0].until("checks", |seen| seen.checks.len() >= 5).await.unwrap();
    let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap().body;
    assert!(page.contains("\"healthy\": false") && page.contains("\"why\": \"NOT_SERVING\""), "{page}");
    backends[0].set_health("", &[Health::Serving]);
    wait_state(&gateway, "up", backends[0].address, 1);
    // Up again, it is asked in an hour.
    let asked = backends[0].seen().checks.len();
    within("a moment", tokio::time::sleep(std::time::Duration::from_millis(100))).await.unwrap();
    assert_eq!(backends[0].seen().checks.len(), asked);
}

/// Stopped, it holds its connections and the watch on it, and answers nothing; killed, it holds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_stopped_or_killed_is_down() {
    let mut command = Command::new(built("health-backend").unwrap());
    let mut backend = Process::start("the health backend", &mut command).unwrap();
    let address = backend.wait_line("its address", |line| line.strip_prefix("listening on ").map(str::to_owned));
    let address: SocketAddr = address.unwrap().parse().unwrap();
    let check = grpc("interval: 20ms, timeout: 300ms, healthy_threshold: 2, unhealthy_threshold: 2");
    let keys = format!("lb_policy: Rand, health_checks: [{check}]");
    let gateway = Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, [address]).start(1).unwrap();
    gateway.wait_metric("weir_health_checks_total{cluster=\"echo\",result=\"success\"}", |n| n >= 2.0).await.unwrap();
    backend.signal("STOP").unwrap();
    let line = wait_state(&gateway, "down", address, 1);
    assert!(line.contains("no answer in 300ms"), "{line}");
    backend.signal("CONT").unwrap();
    wait_state(&gateway, "up", address, 1);
    backend.signal("KILL").unwrap();
    backend.wait().unwrap();
    // A machine under load may have been too slow for an answer in between.
    gateway
        .wait_metric(&format!("weir_endpoint_healthy{{cluster=\"echo\",endpoint=\"{address}\"}}"), |up| up == 0.0)
        .await
        .unwrap();
    let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap().body;
    assert!(page.contains("refused"), "{page}");
}

/// Half of the endpoints must be usable: below that a health service that is wrong everywhere is the likelier cause.
#[tokio::test(flavor = "multi_thread")]
async fn below_the_panic_threshold_all_endpoints_get_calls() {
    let backends = Backend::start_many(2).await.unwrap();
    let addresses = backends.iter().map(|backend| backend.address);
    let keys = format!("lb_policy: RoundRobin, healthy_panic_threshold: 50, health_checks: [{}]", grpc(QUICK));
    let gateway = Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, addresses).start(2).unwrap();
    let client = client(&gateway).await;
    let panic = "weir_cluster_panic{cluster=\"echo\"}";
    backends[0].set_health("", &[Health::NotServing]);
    wait_state(&gateway, "down", backends[0].address, 1);
    assert_eq!(answering(&client, 6).await, [backends[1].address.port()]);
    assert_eq!(gateway.metric(panic).unwrap(), 0.0);

    backends[1].set_health("", &[Health::NotServing]);
    let line =
        gateway.process.wait_line("panic", |line| line.contains("panic: too few").then(|| line.to_owned())).unwrap();
    assert!(line.contains("cluster=echo") && line.contains("usable=0") && line.contains("of=2"), "{line}");
    assert_eq!(answering(&client, 6).await.len(), 2);
    assert_eq!(gateway.metric(panic).unwrap(), 1.0);
    let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap().body;
    assert!(page.contains("\"panic\": true"), "{page}");

    backends[1].set_health("", &[Health::Serving]);
    gateway.process.wait_line("its end", |line| line.contains("panic ends").then_some(())).unwrap();
    assert_eq!(answering(&client, 6).await, [backends[1].address.port()]);
}
