//! The forms that one and the same thing may have in a file: addresses, names, places of a key.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

/// The gateway carries a call to this backend.
async fn assert_serves(gateway: &Gateway, backend: &Backend) {
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let answer = client.call(METHOD, &[]).await.unwrap();
    assert_eq!((answer.status(), answer.from()), (Some(0), Some(backend.address.port())), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_and_endpoints_have_addresses_of_either_version() {
    let six: SocketAddr = "[::1]:0".parse().unwrap();
    let backend = Backend::start_on(six).await.expect("the machine needs IPv6 on its loopback");
    let port = backend.address.port();
    for address in ["::1", "'[::1]'"] {
        let endpoint = format!("{{socket_address: {{address: {address}, port: {port}}}}}");
        let keys = "lb_policy: Rand, health_checks: [{protocol: grpc, interval: 20ms}]";
        let setup = Setup::new().admin().route("prefix: /", "echo").cluster_of("echo", keys, [endpoint]);
        let yaml = setup.yaml().replacen(
            "address: {socket_address: {address: 127.0.0.1",
            "address: {socket_address: {address: '::1'",
            2,
        );
        let gateway = Gateway::start(&yaml).unwrap();
        assert!(gateway.listener("grpc").unwrap().is_ipv6() && gateway.admin().unwrap().is_ipv6());
        assert_serves(&gateway, &backend).await;
        backend.until("a check", |seen| seen.checks.len() > 1).await.unwrap();
        let series = format!("weir_endpoint_healthy{{cluster=\"echo\",endpoint=\"[::1]:{port}\"}}");
        assert_eq!(page::metric(gateway.admin().unwrap(), &series).await.unwrap(), Some(1.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_without_an_address_is_reached_at_every_one() {
    let backend = Backend::start().await.unwrap();
    let setup = Setup::to([backend.address]);
    let yaml = setup.yaml().replacen("{address: 127.0.0.1, port: 0}", "{port: 0}", 1);
    let gateway = Gateway::start(&yaml).unwrap();
    let bound = gateway.listener("grpc").unwrap();
    assert!(bound.ip().is_unspecified(), "{bound}");
    for host in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        let client = Client::connect((host, bound.port()).into()).await.unwrap();
        assert_eq!(client.call(METHOD, &[]).await.unwrap().status(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_type_is_known_in_any_case() {
    let backend = Backend::start().await.unwrap();
    for protocol in ["GRPC", "grpc", "gRPC", "HTTP2", "http2"] {
        let yaml =
            Setup::to([backend.address]).yaml().replace("protocol_type: GRPC", &format!("protocol_type: {protocol}"));
        assert_serves(&Gateway::start(&yaml).unwrap(), &backend).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_an_endpoint_are_for_the_reader() {
    let backend = Backend::start().await.unwrap();
    let port = backend.address.port();
    for labels in ["id: one, name: first", "ID: one"] {
        let endpoint = format!("{{{labels}, socket_address: {{address: 127.0.0.1, port: {port}}}}}");
        let setup = Setup::new().admin().route("prefix: /", "echo").cluster_of("echo", "lb_policy: Rand", [endpoint]);
        let gateway = setup.start(1).unwrap();
        assert_serves(&gateway, &backend).await;
        // Its address names it.
        let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap();
        assert!(page.body.contains(&format!("127.0.0.1:{port}")), "{}", page.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tls_may_be_said_aloud() {
    let backend = Backend::start().await.unwrap();
    let setup = Setup::to([backend.address]).listener("enable_tls: false");
    let setup = setup.proxy("enable_tls: false, tls_cert_file: '', tls_key_file: ''");
    let gateway = setup.start(1).unwrap();
    assert_serves(&gateway, &backend).await;
    let lines = gateway.process.lines();
    assert!(!lines.iter().any(|line| line.starts_with("notice")), "{lines:?}");
}

/// `shutdown_config` may stand under `static_resources`, as in Pixiu, or at the top.
#[tokio::test(flavor = "multi_thread")]
async fn drain_has_its_time_from_either_place() {
    let backend = Backend::start().await.unwrap();
    let top = Setup::to([backend.address]).root("shutdown_config: {timeout: 80ms}").yaml();
    let nested = Setup::to([backend.address]).yaml().replacen(
        "static_resources:\n",
        "static_resources:\n  shutdown_config: {timeout: 80ms}\n",
        1,
    );
    for yaml in [top, nested] {
        let mut gateway = Gateway::start(&yaml).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        let mut held = client.script("hold").await.unwrap();
        held.headers().await.unwrap();
        gateway.process.signal("TERM").unwrap();
        let answer = held.answer().await.unwrap();
        assert_eq!((answer.status(), answer.message()), (Some(14), "the gateway is shutting down"));
        assert_eq!(gateway.process.wait().unwrap().code(), Some(4));
    }
}

/// Names are an operator's own, and what reads them must not stumble over one.
#[tokio::test(flavor = "multi_thread")]
async fn names_may_have_any_character() {
    let backend = Backend::start().await.unwrap();
    let name = "a \\\"b\\\" \\\\ ü {c}";
    let setup = Setup::new()
        .admin()
        .root("access_log: {path: /dev/stdout}")
        .route("prefix: /", &format!("\"{name}\""))
        .cluster(&format!("\"{name}\""), "lb_policy: Rand", [backend.address]);
    let gateway = setup.start(1).unwrap();
    assert_serves(&gateway, &backend).await;
    // In metrics a quote and a backslash are escaped as they are in YAML and JSON.
    let series = format!("weir_upstream_connections{{cluster=\"{name}\"}}");
    eventually("the metric", async || Ok(page::metric(gateway.admin()?, &series).await?)).await.unwrap();
    let record = gateway.process.wait_line("a record", |line| serde_json::from_str::<serde_json::Value>(line).ok());
    assert_eq!(record.unwrap()["cluster"], "a \"b\" \\ ü {c}");
}
