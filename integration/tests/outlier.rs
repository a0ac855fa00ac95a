//! Outlier detection: endpoints whose calls fail are taken out for a while, whatever their health checks say.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use weir_integration::binary::built;
use weir_integration::gateway::Gateway;
use weir_integration::load::client::Client as Loader;
use weir_integration::load::grpcio;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::page;
use weir_integration::peers::setup::Setup;
use weir_integration::process::{PATIENCE, Process};

/// The cluster `echo`, in turn, with these keys of `outlier_detection` and further ones of the cluster.
fn detecting(keys: &str, cluster: &str, addresses: impl IntoIterator<Item = SocketAddr>) -> Setup {
    let keys = format!("lb_policy: RoundRobin, outlier_detection: {{{keys}}}, {cluster}");
    Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, addresses)
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

async fn client(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()
}

/// Makes calls until the log has a `count`th line about an endpoint's ejection; what it says.
async fn call_until_ejected(gateway: &Gateway, client: &Client, endpoint: SocketAddr, count: usize) -> String {
    let named = format!("endpoint={endpoint} ");
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let lines = gateway.process.lines();
        let mut ejections = lines.iter().filter(|line| line.contains("endpoint ejected") && line.contains(&named));
        if let Some(line) = ejections.nth(count - 1) {
            return line.clone();
        }
        assert!(std::time::Instant::now() < end, "{endpoint} was not ejected {count} times:\n{}", lines.join("\n"));
        client.call(METHOD, &[]).await.unwrap();
    }
}

/// The ports that answered so many calls, all of which must end well.
async fn answering(client: &Client, calls: usize) -> Vec<u16> {
    let mut ports = Vec::new();
    for _ in 0..calls {
        let answer = client.call(METHOD, &[]).await.unwrap();
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        ports.extend(answer.from());
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn ejections(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("weir_ejections_total{{cluster=\"echo\",reason=\"{reason}\"}}")).unwrap()
}

fn of_endpoint(gateway: &Gateway, metric: &str, endpoint: SocketAddr) -> f64 {
    gateway.metric(&format!("{metric}{{cluster=\"echo\",endpoint=\"{endpoint}\"}}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_service_that_lies_is_found_out() {
    for workers in [1, 2] {
        let backends = Backend::start_many(3).await.unwrap();
        let liar = &backends[0];
        let checks = "health_checks: [{protocol: grpc, interval: 20ms, timeout: 10s}]";
        let gateway = detecting("consecutive_grpc_failure: 3", checks, addresses(&backends)).start(workers).unwrap();
        let client = client(&gateway).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut open = client.script("hold").await.unwrap();
            open.headers().await.unwrap();
            held.push(open);
        }
        liar.set_script("status=14").unwrap();
        let line = call_until_ejected(&gateway, &client, liar.address, 1).await;
        for part in ["WARN", "cluster=echo", "reason=\"consecutive_grpc_failure\"", "time=30s", "times=1"] {
            assert!(line.contains(part), "no {part}: {line}");
        }
        assert!(!answering(&client, 10).await.contains(&liar.address.port()));
        // Its checks go on to be answered well, and do not bring it back.
        let asked = liar.seen().checks.len();
        liar.until("checks", |seen| seen.checks.len() > asked + 5).await.unwrap();
        assert_eq!(of_endpoint(&gateway, "weir_endpoint_healthy", liar.address), 1.0);
        assert_eq!(of_endpoint(&gateway, "weir_endpoint_ejected", liar.address), 1.0);
        assert_eq!(ejections(&gateway, "consecutive_grpc_failure"), 1.0);
        assert!(!answering(&client, 10).await.contains(&liar.address.port()));

        let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap();
        let page: Value = serde_json::from_str(&page.body).unwrap();
        let of = |backend: &Backend| {
            let endpoints = page[0]["endpoints"].as_array().unwrap();
            endpoints.iter().find(|one| one["address"] == backend.address.to_string()).unwrap().clone()
        };
        assert_eq!(of(liar)["ejected"], true);
        assert_eq!(of(liar)["ejection"]["reason"], "consecutive_grpc_failure");
        assert_eq!(of(liar)["ejection"]["times"], 1);
        assert!(of(liar)["ejection"]["until"].as_str().unwrap().ends_with('Z'));
        assert_eq!((&of(&backends[1])["ejected"], &of(&backends[1])["ejection"]), (&Value::from(false), &Value::Null));

        // What was open there goes on to its own end.
        backends.iter().for_each(Backend::release);
        for open in held {
            assert_eq!(open.answer().await.unwrap().status(), Some(0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ejection_ends_and_the_next_is_longer() {
    let backends = Backend::start_many(2).await.unwrap();
    let keys = "consecutive_grpc_failure: 2, interval: 1h, base_ejection_time: 200ms, max_ejection_time: 500ms";
    let gateway = detecting(keys, "", addresses(&backends)).start(1).unwrap();
    let client = client(&gateway).await;
    backends[0].set_script("status=13").unwrap();
    for (times, time) in [(1, "time=200ms"), (2, "time=400ms"), (3, "time=500ms")] {
        let line = call_until_ejected(&gateway, &client, backends[0].address, times).await;
        assert!(line.contains(time) && line.contains(&format!("times={times}")), "{line}");
        let mut seen = 0;
        let back = |line: &str| {
            seen += usize::from(line.contains("ejection ends"));
            (seen == times).then_some(())
        };
        gateway.process.wait_line("its end", back).unwrap();
    }
    backends[0].set_script("echo").unwrap();
    assert_eq!(answering(&client, 10).await.len(), 2);
    assert_eq!(of_endpoint(&gateway, "weir_endpoint_ejected", backends[0].address), 0.0);
    assert_eq!(ejections(&gateway, "consecutive_grpc_failure"), 3.0);
}

/// The backend fails each call that it gets, and the client fails each of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_backends_fault_does_not_count() {
    let backends = Backend::start_many(2).await.unwrap();
    let keys = "consecutive_grpc_failure: 2, consecutive_gateway_failure: 2, failure_statuses: [unavailable]";
    let gateway = detecting(keys, "", addresses(&backends)).start(2).unwrap();
    let client = client(&gateway).await;
    // Statuses that the file does not name, and refusals, which send the call elsewhere.
    for script in ["status=13", "status=5", "status=4", "refuse"] {
        for _ in 0..10 {
            let _ = client.script(script).await.unwrap().answer().await;
        }
    }
    // The client leaves.
    for gone in 1..=10 {
        let silent = client.script("silent").await.unwrap();
        let came = |backend: &Backend| {
            backend
                .seen()
                .calls
                .iter()
                .filter(|call| call.metadata.get("x-do").is_some_and(|script| script == "silent"))
                .count()
        };
        while backends.iter().map(came).sum::<usize>() < gone {
            tokio::task::yield_now().await;
        }
        silent.cancel();
    }
    // Its deadlines strike in the middle of answers.
    let mut late = Vec::new();
    for _ in 0..10 {
        let mut open = client.open(METHOD, &[("x-do", "hold"), ("grpc-timeout", "2S")]).await.unwrap();
        open.headers().await.unwrap();
        late.push(open);
    }
    for open in late {
        assert_eq!(open.answer().await.unwrap().status(), Some(4));
    }
    assert!(backends.iter().all(|backend| backend.seen().calls.len() >= 20));
    // One that counts, to be sure that somebody has counted.
    backends[0].set_script("status=14").unwrap();
    call_until_ejected(&gateway, &client, backends[0].address, 1).await;
    assert_eq!(ejections(&gateway, "consecutive_grpc_failure"), 1.0);
    assert_eq!(ejections(&gateway, "consecutive_gateway_failure"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_and_lost_connections_are_gateway_failures() {
    for script in ["reset=2", "lose", "tear"] {
        let backends = Backend::start_many(2).await.unwrap();
        let keys = "consecutive_gateway_failure: 3, consecutive_grpc_failure: 0";
        let gateway = detecting(keys, "", addresses(&backends)).start(1).unwrap();
        let client = client(&gateway).await;
        backends[1].set_script(script).unwrap();
        let line = call_until_ejected(&gateway, &client, backends[1].address, 1).await;
        assert!(line.contains("reason=\"consecutive_gateway_failure\""), "{script}: {line}");
        assert_eq!(answering(&client, 10).await, [backends[0].address.port()], "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_so_many_per_cent_are_ejected() {
    let backends = Backend::start_many(4).await.unwrap();
    let keys = "consecutive_grpc_failure: 2, max_ejection_percent: 50";
    let gateway = detecting(keys, "", addresses(&backends)).start(1).unwrap();
    let client = client(&gateway).await;
    for backend in &backends {
        backend.set_script("status=14").unwrap();
    }
    let prevented = "weir_ejections_prevented_total{cluster=\"echo\"}";
    while gateway.metric(prevented).unwrap() < 4.0 {
        // The backend's own word: the gateway has endpoints left.
        let answer = client.call(METHOD, &[]).await.unwrap();
        assert_eq!((answer.status(), answer.message()), (Some(14), "from the backend, 100%25"));
    }
    assert_eq!(ejections(&gateway, "consecutive_grpc_failure"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_ejected_calls_are_refused_or_panic_sends_them() {
    let backends = Backend::start_many(2).await.unwrap();
    for (panic, message) in [(0, "cluster echo: none of its endpoints is healthy"), (50, "from the backend, 100%25")] {
        backends.iter().for_each(|backend| backend.set_script("status=14").unwrap());
        let panic = format!("healthy_panic_threshold: {panic}");
        let keys = "consecutive_grpc_failure: 2, max_ejection_percent: 100";
        let gateway = detecting(keys, &panic, addresses(&backends)).start(1).unwrap();
        let client = client(&gateway).await;
        for backend in &backends {
            call_until_ejected(&gateway, &client, backend.address, 1).await;
        }
        let answer = client.call(METHOD, &[]).await.unwrap();
        assert_eq!((answer.status(), answer.message()), (Some(14), message));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_success_rate_ejects() {
    let keys = "consecutive_grpc_failure: 0, interval: 500ms, success_rate_stdev_factor: 1000, \
                success_rate_minimum_hosts: 4, success_rate_request_volume: 3";
    one_of_four_is_ejected(keys, "success_rate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_high_failure_percentage_ejects() {
    let keys = "consecutive_grpc_failure: 0, interval: 500ms, failure_percentage_threshold: 60, \
                failure_percentage_minimum_hosts: 4, failure_percentage_request_volume: 3";
    one_of_four_is_ejected(keys, "failure_percentage").await;
}

async fn one_of_four_is_ejected(keys: &str, reason: &str) {
    let backends = Backend::start_many(4).await.unwrap();
    backends[2].set_script("status=14").unwrap();
    let gateway = detecting(keys, "", addresses(&backends)).start(2).unwrap();
    let client = client(&gateway).await;
    let line = call_until_ejected(&gateway, &client, backends[2].address, 1).await;
    assert!(line.contains(&format!("reason=\"{reason}\"")), "{line}");
    assert_eq!(answering(&client, 12).await.len(), 3);
    assert_eq!(ejections(&gateway, reason), 1.0);
}

/// A backend in a process of its own, for signals.
fn doomed() -> (Process, SocketAddr) {
    let mut command = Command::new(built("echo-backend").unwrap());
    let process = Process::start("the echo backend", command.arg("0")).unwrap();
    let address =
        process.wait_line("its address", |line| line.strip_prefix("listening on ").map(str::to_owned)).unwrap();
    (process, address.parse().unwrap())
}

/// Makes unary calls until an endpoint has been ejected; the codes of those that failed.
async fn load_until_ejected(gateway: &Gateway, loader: &Loader, metadata: &[(&'static str, String)]) -> Vec<i32> {
    let mut failed = Vec::new();
    while ejections(gateway, "consecutive_gateway_failure") == 0.0 {
        if let Err(failure) = loader.unary("Echo", metadata, b"hello").await {
            failed.push(failure.code);
        }
    }
    failed
}

/// Killed in the middle of everything: at most what it had in hand fails, and it is ejected when nobody can connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_is_ejected() {
    let (mut killed, address) = doomed();
    let (_other, other) = doomed();
    let gateway = detecting("consecutive_gateway_failure: 3", "", [address, other]).start(1).unwrap();
    let loader = Loader::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    for _ in 0..10 {
        loader.unary("Echo", &[], b"hello").await.unwrap();
    }
    killed.signal("KILL").unwrap();
    killed.wait().unwrap();
    let failed = load_until_ejected(&gateway, &loader, &[]).await;
    assert!(failed.len() <= 1, "{failed:?}");
    assert_eq!(of_endpoint(&gateway, "weir_endpoint_ejected", address), 1.0);
    assert_eq!(of_endpoint(&gateway, "weir_endpoint_ejected", other), 0.0);
}

/// Stopped, it holds its connections and answers nothing: only deadlines tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_backend_is_ejected_by_deadlines() {
    let (stopped, address) = doomed();
    let (_other, other) = doomed();
    let gateway = detecting("consecutive_gateway_failure: 3", "", [address, other]).start(1).unwrap();
    let loader = Loader::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    for _ in 0..10 {
        loader.unary("Echo", &[], b"hello").await.unwrap();
    }
    stopped.signal("STOP").unwrap();
    let deadline = [("grpc-timeout", "500m".to_owned())];
    let failed = load_until_ejected(&gateway, &loader, &deadline).await;
    assert!(failed.len() >= 3 && failed.iter().all(|code| *code == 4), "{failed:?}");
    assert_eq!(of_endpoint(&gateway, "weir_endpoint_ejected", address), 1.0);
    for _ in 0..10 {
        loader.unary("Echo", &[], b"hello").await.unwrap();
    }
    stopped.signal("CONT").unwrap();
}

/// A client library watches its own deadline, and leaves before the gateway would have noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_hangs_is_found_out_by_a_client_library() {
    let backends = Backend::start_many(2).await.unwrap();
    backends.iter().for_each(|backend| backend.set_script("silent").unwrap());
    let gateway = detecting("consecutive_gateway_failure: 3", "", addresses(&backends)).start(1).unwrap();
    let address = gateway.listener("grpc").unwrap();
    tokio::task::spawn_blocking(move || grpcio::run("late", address, &["8"])).await.unwrap().unwrap();
    gateway
        .wait_metric("weir_ejections_total{cluster=\"echo\",reason=\"consecutive_gateway_failure\"}", |count| {
            count == 1.0
        })
        .await
        .unwrap();
}
