//! The admin listener's pages.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use serde_json::Value;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};
use weir_integration::tools;

/// One sample, as `prometheus_client` understood it.
#[derive(Debug)]
struct Sample {
    kind: String,
    help: String,
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Has Prometheus' own client parse a page.
fn parse(page: &str) -> Vec<Sample> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(page.as_bytes()).unwrap();
    let mut command = Command::new(tools::python().unwrap());
    let parsed = tools::output(command.arg(tools::scripts().join("peers/parse_metrics.py")).arg(file.path())).unwrap();
    let samples: Vec<Value> = serde_json::from_str(&parsed).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sample = |sample: &Value| Sample {
        kind: text(&sample["type"]),
        help: text(&sample["help"]),
        name: text(&sample["name"]),
        labels: sample["labels"].as_object().unwrap().iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        value: sample["value"].as_f64().unwrap_or(f64::INFINITY),
    };
    samples.iter().map(sample).collect()
}

/// The sum of the samples of this name whose labels have these values.
fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
    };
    let found: Vec<&Sample> = samples.iter().filter(matches).collect();
    assert!(!found.is_empty(), "no `{name}` with {labels:?} in {samples:#?}");
    found.iter().map(|sample| sample.value).sum()
}

async fn scrape(gateway: &Gateway) -> Vec<Sample> {
    let page = page::get(gateway.admin().unwrap(), "/metrics").await.unwrap();
    assert_eq!((page.status, &*page.headers["content-type"]), (200, "text/plain; version=0.0.4"));
    tokio::task::spawn_blocking(move || parse(&page.body)).await.unwrap()
}

/// Two listeners' worth of traffic would say no more than one's, so there is one; the clusters are two.
async fn busy_gateway(workers: usize) -> (Gateway, Vec<Backend>, Vec<Client>) {
    let backends = Backend::start_many(2).await.unwrap();
    let gateway = Setup::new()
        .admin()
        .route("prefix: /a", "first")
        .route("prefix: /b", "second")
        .cluster("first", "lb_policy: RoundRobin", [backends[0].address])
        .cluster("second", "lb_policy: Rand", [backends[1].address])
        .start(workers)
        .unwrap();
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(gateway.listener("grpc").unwrap()).await.unwrap());
    }
    (gateway, backends, clients)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    for workers in [1, 2] {
        let (gateway, backends, clients) = busy_gateway(workers).await;
        for client in &clients {
            for _ in 0..5 {
                assert_eq!(client.call("/a/M", &[]).await.unwrap().status(), Some(0));
            }
            assert_eq!(client.call("/a/M", &[(DO, "status=5")]).await.unwrap().status(), Some(5));
            assert_eq!(client.call("/b/M", &[(DO, "say=10,20,30")]).await.unwrap().status(), Some(0));
            assert_eq!(client.call("/c/M", &[]).await.unwrap().status(), Some(12));
        }
        let mut held = clients[0].open("/b/M", &[(DO, "hold")]).await.unwrap();
        held.headers().await.unwrap();

        let samples = scrape(&gateway).await;
        let first = [("listener", "grpc"), ("cluster", "first")];
        let second = [("listener", "grpc"), ("cluster", "second")];
        let none = [("listener", "grpc"), ("cluster", "")];
        for (labels, status, expected) in
            [(first, "OK", 20.0), (first, "NOT_FOUND", 4.0), (second, "OK", 4.0), (none, "UNIMPLEMENTED", 4.0)]
        {
            let labels = [labels[0], labels[1], ("status", status)];
            assert_eq!(sum(&samples, "weir_calls_total", &labels), expected, "{labels:?}");
        }
        for (cluster, expected) in [("first", 0.0), ("second", 1.0), ("", 0.0)] {
            assert_eq!(sum(&samples, "weir_calls_in_flight", &[("cluster", cluster)]), expected, "{cluster}");
        }
        for (labels, expected) in [(first, 24.0), (second, 4.0), (none, 4.0)] {
            assert_eq!(sum(&samples, "weir_call_duration_seconds_count", &labels), expected, "{labels:?}");
            let all = [labels[0], labels[1], ("le", "+Inf")];
            assert_eq!(sum(&samples, "weir_call_duration_seconds_bucket", &all), expected, "{labels:?}");
        }
        assert!(sum(&samples, "weir_call_duration_seconds_sum", &first) > 0.0);
        for (cluster, direction, messages, bytes) in [
            // Prefix and payload: 5 + 3 each.
            ("first", "out", 20.0, 160.0),
            ("second", "out", 12.0, 300.0),
        ] {
            let labels = [("cluster", cluster), ("direction", direction)];
            assert_eq!(sum(&samples, "weir_messages_total", &labels), messages, "{labels:?}");
            assert_eq!(sum(&samples, "weir_bytes_total", &labels), bytes, "{labels:?}");
        }
        // A backend that answers at once may do so before the request's message is read.
        let received = sum(&samples, "weir_messages_total", &[("cluster", "first"), ("direction", "in")]);
        assert!((20.0..=24.0).contains(&received), "{received}");
        assert!(sum(&samples, "weir_bytes_total", &[("cluster", "first"), ("direction", "in")]) >= 160.0);

        assert_eq!(sum(&samples, "weir_downstream_connections", &[("listener", "grpc")]), 4.0);
        let upstream = sum(&samples, "weir_upstream_connections", &[("cluster", "first")]);
        assert!((1.0..=workers as f64).contains(&upstream), "{upstream}");
        for (cluster, backend) in ["first", "second"].into_iter().zip(&backends) {
            let labels = [("cluster", cluster), ("endpoint", &*backend.address.to_string())];
            assert_eq!(sum(&samples, "weir_endpoint_healthy", &labels), 1.0);
        }
        assert_eq!(sum(&samples, "weir_config_notices", &[]), 0.0);
        assert_eq!(sum(&samples, "weir_workers", &[]), workers as f64);

        held.cancel();
        backends[1].until("a reset", |seen| seen.resets.len() == 1).await.unwrap();
        eventually("nothing in flight", async || {
            let series = "weir_calls_in_flight{cluster=\"second\"}";
            Ok((page::metric(gateway.admin()?, series).await? == Some(0.0)).then_some(()))
        })
        .await
        .unwrap();
        drop(clients);
        eventually("no connection", async || {
            let series = "weir_downstream_connections{listener=\"grpc\"}";
            Ok((page::metric(gateway.admin()?, series).await? == Some(0.0)).then_some(()))
        })
        .await
        .unwrap();
    }
}

/// Dashboards hold on to these names, kinds and labels.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_their_names_kinds_and_labels() {
    let (gateway, _backends, clients) = busy_gateway(1).await;
    clients[0].call("/a/M", &[]).await.unwrap();
    let samples = scrape(&gateway).await;
    for (name, kind, labels) in [
        ("weir_calls_total", "counter", &["cluster", "listener", "status"][..]),
        ("weir_calls_in_flight", "gauge", &["cluster"]),
        ("weir_call_duration_seconds_bucket", "histogram", &["cluster", "le", "listener"]),
        ("weir_call_duration_seconds_sum", "histogram", &["cluster", "listener"]),
        ("weir_call_duration_seconds_count", "histogram", &["cluster", "listener"]),
        ("weir_messages_total", "counter", &["cluster", "direction"]),
        ("weir_bytes_total", "counter", &["cluster", "direction"]),
        ("weir_downstream_connections", "gauge", &["listener"]),
        ("weir_upstream_connections", "gauge", &["cluster"]),
        ("weir_endpoint_healthy", "gauge", &["cluster", "endpoint"]),
        ("weir_config_notices", "gauge", &[]),
    ] {
        let of_name: Vec<&Sample> = samples.iter().filter(|sample| sample.name == name).collect();
        assert!(!of_name.is_empty(), "no `{name}`");
        for sample in of_name {
            assert_eq!(sample.kind, kind, "{name}");
            assert!(!sample.help.is_empty(), "{name}");
            let found: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(found, labels, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_are_counted() {
    let backend = Backend::start().await.unwrap();
    let gateway =
        Setup::to([backend.address]).admin().listener("read_timeout: 5s, write_timeout: 5s").start(1).unwrap();
    let notices = page::metric(gateway.admin().unwrap(), "weir_config_notices").await.unwrap();
    assert_eq!(notices, Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_until_the_drain_and_live_to_the_end() {
    let backend = Backend::start().await.unwrap();
    let mut gateway = Setup::to([backend.address]).admin().start(1).unwrap();
    let admin = gateway.admin().unwrap();
    for (path, text) in [("/ready", "ready\n"), ("/live", "live\n")] {
        let page = page::get(admin, path).await.unwrap();
        assert_eq!((page.status, &*page.body), (200, text), "{path}");
    }
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let mut held = client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    gateway.process.signal("TERM").unwrap();
    gateway.process.wait_line("the drain", |line| line.contains("drain begins").then_some(())).unwrap();
    let page = page::get(admin, "/ready").await.unwrap();
    assert_eq!((page.status, &*page.body), (503, "draining\n"));
    assert_eq!(page::get(admin, "/live").await.unwrap().status, 200);
    assert_eq!(page::metric(admin, "weir_calls_in_flight{cluster=\"echo\"}").await.unwrap(), Some(1.0));
    backend.release();
    assert_eq!(held.answer().await.unwrap().status(), Some(0));
    assert_eq!(gateway.process.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_show_their_endpoints() {
    let backends = Backend::start_many(2).await.unwrap();
    let endpoint = |names: &str, backend: &Backend, weight: usize| {
        let port = backend.address.port();
        format!("{{{names}, socket_address: {{address: 127.0.0.1, port: {port}}}, meta: {{weight: {weight}}}}}")
    };
    let endpoints = [endpoint("id: a, name: blue", &backends[0], 1), endpoint("ID: 2", &backends[1], 5)];
    let gone = weir_integration::server::free_address().unwrap();
    let checks = "lb_policy: Rand, health_checks: [{protocol: tcp, interval: 20ms, unhealthy_threshold: 1}]";
    let gateway = Setup::new()
        .admin()
        .route("prefix: /", "weighted")
        .cluster_of("weighted", "lb_policy: WeightRandom", endpoints)
        .cluster("gone", checks, [gone])
        .start(2)
        .unwrap();
    gateway.process.wait_line("down", |line| line.contains("endpoint down").then_some(())).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let mut held = client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap();
    assert_eq!((page.status, &*page.headers["content-type"]), (200, "application/json"));
    let mut found: Value = serde_json::from_str(&page.body).unwrap();
    let open: u64 = [0, 1].map(|at| found[0]["endpoints"][at]["open_streams"].take().as_u64().unwrap()).iter().sum();
    assert_eq!(open, 1);
    let failure = found[1]["endpoints"][0].as_object_mut().unwrap().remove("last_check_failure").unwrap();
    assert!(failure["why"].as_str().unwrap().contains("refused"), "{failure}");
    assert!(failure["time"].as_str().unwrap().ends_with('Z'), "{failure}");
    let line = |address: &str, healthy: bool, weight: u32, open: Value| serde_json::json!({"address": address, "healthy": healthy, "weight": weight, "open_streams": open});
    let named = |name: &str, mut line: Value| {
        line["name"] = name.into();
        line
    };
    let addresses: Vec<String> = backends.iter().map(|backend| backend.address.to_string()).collect();
    let expected = serde_json::json!([
        {"name": "weighted", "endpoints": [
            named("blue", line(&addresses[0], true, 1, Value::Null)),
            named("2", line(&addresses[1], true, 5, Value::Null))
        ]},
        {"name": "gone", "endpoints": [line(&gone.to_string(), false, 1, 0.into())]}
    ]);
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_is_what_runs_and_hides_secrets() {
    let backend = Backend::start().await.unwrap();
    let gateway = Setup::new()
        .admin()
        .route("prefix: /pkg.S, headers: [{name: x-env, values: [canary]}]", "echo")
        .route("path: '/pkg.S/*'", "echo")
        .cluster("echo", "lb_policy: RingHashing, hash_on: {metadata: x-user}", [backend.address])
        .filter("weir.filter.grpc.headers", "request: {set: {x-api-token: hunter2, x-team: blue}}")
        .listener("max_receive_message_size: 4MiB")
        .root("node: {id: edge-1}")
        .start(1)
        .unwrap();
    let page = page::get(gateway.admin().unwrap(), "/config").await.unwrap();
    assert_eq!((page.status, &*page.headers["content-type"]), (200, "application/yaml"));
    assert!(!page.body.contains("hunter2"), "{}", page.body);
    assert!(page.body.contains("x-api-token: <hidden>") && page.body.contains("blue"), "{}", page.body);
    assert!(page.body.contains("max_receive_message_size: 4MiB"), "{}", page.body);

    assert!(page.body.contains("node:\n  id: edge-1\n"), "{}", page.body);
    let node = page::metric(gateway.admin().unwrap(), "weir_node_info{id=\"edge-1\",cluster=\"\"}").await.unwrap();
    assert_eq!(node, Some(1.0));

    // It is a configuration: a gateway that runs it shows the same, and does the same.
    let again = Gateway::start(&page.body).unwrap();
    let repeated = page::get(again.admin().unwrap(), "/config").await.unwrap();
    assert_eq!(repeated.body, page.body);
    let client = Client::connect(again.listener("grpc").unwrap()).await.unwrap();
    assert_eq!(client.call("/pkg.S/M", &[]).await.unwrap().from(), Some(backend.address.port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_pages_and_methods_are_refused() {
    let backend = Backend::start().await.unwrap();
    let gateway = Setup::to([backend.address]).admin().start(1).unwrap();
    let admin = gateway.admin().unwrap();
    assert_eq!(page::get(admin, "/nothing").await.unwrap().status, 404);
    let refused = page::ask("POST", admin, "/metrics").await.unwrap();
    assert_eq!((refused.status, &*refused.headers["allow"]), (405, "GET, HEAD"));
    let head = page::ask("HEAD", admin, "/ready").await.unwrap();
    assert_eq!((head.status, &*head.body), (200, ""));
    let index = page::get(admin, "/").await.unwrap();
    for line in index.body.lines() {
        let (path, word) = line.split_once(' ').unwrap();
        assert!(!word.trim().is_empty(), "{line}");
        let (status, allowed) = if word.contains("POST") { (405, Some("POST")) } else { (200, None) };
        let page = page::get(admin, path).await.unwrap();
        assert_eq!((page.status, page.headers.get("allow").map(String::as_str)), (status, allowed), "{path}");
    }
    assert_eq!(index.body.lines().count(), 8);
    // A stranger who speaks no HTTP costs the others nothing.
    let mut stranger = tokio::net::TcpStream::connect(admin).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stranger, b"\0\0\0\0").await.unwrap();
    assert_eq!(page::get(admin, "/live").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_port_serves_metrics_alone() {
    let backend = Backend::start().await.unwrap();
    let setup = Setup::to([backend.address]).root("metric: {enable: true, prometheus_port: 0}");
    let gateway = setup.start(1).unwrap();
    let bound = gateway.metrics().unwrap();
    assert!(bound.ip().is_unspecified(), "{bound}");
    let address = ([127, 0, 0, 1], bound.port()).into();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    client.call(METHOD, &[]).await.unwrap();
    let page = page::get(address, "/metrics").await.unwrap();
    assert!(page.body.contains(r#"weir_calls_total{listener="grpc",cluster="echo",status="OK"} 1"#), "{}", page.body);
    for path in ["/", "/ready", "/live", "/clusters", "/config", "/reload", "/drain", "/undrain"] {
        assert_eq!(page::get(address, path).await.unwrap().status, 404, "{path}");
    }
    let lines = gateway.process.lines();
    assert!(!lines.iter().any(|line| line.starts_with("listening: admin")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_are_not_enabled_are_not_served() {
    let backend = Backend::start().await.unwrap();
    for line in ["metric: {enable: false, prometheus_port: 0}", "metric: {prometheus_port: 0}"] {
        let gateway = Setup::to([backend.address]).root(line).start(1).unwrap();
        let lines = gateway.process.lines();
        assert!(!lines.iter().any(|line| line.starts_with("listening: metrics")), "{line}: {lines:?}");
    }
}
