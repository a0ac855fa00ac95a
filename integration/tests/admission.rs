//! Who is let in, how many of them, and what is believed of what they say.

#![allow(clippy::unwrap_used)]

use weir_integration::gateway::Gateway;
use weir_integration::peers::attacker::Attacker;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

async fn start(config: &str, root: &str) -> (Backend, Gateway) {
    let backend = Backend::start().await.unwrap();
    let setup = Setup::to([backend.address]).admin().listener(config);
    let setup = if root.is_empty() { setup } else { setup.root(root) };
    let gateway = setup.start(2).unwrap();
    (backend, gateway)
}

async fn client(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()
}

async fn until(gateway: &Gateway, series: &str, enough: impl Fn(f64) -> bool) {
    let admin = gateway.admin().unwrap();
    eventually(series, async || Ok(page::metric(admin, series).await?.filter(|value| enough(*value)))).await.unwrap();
}

/// There is a place, at once or soon.
async fn gets_in(gateway: &Gateway) {
    let greeted = async || {
        let Ok(mut newcomer) = Attacker::greet(gateway.listener("grpc")?).await else { return Ok(None) };
        newcomer.next().await
    };
    eventually("a place", greeted).await.unwrap();
}

/// One that is over the limit is closed at once; those who are in have their calls; who comes after one has left gets in.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_a_limit_is_closed_at_once() {
    for limit in ["max_connections", "max_connections_per_source"] {
        let (_backend, gateway) = start(&format!("{limit}: 2"), "").await;
        let first = client(&gateway).await;
        let second = client(&gateway).await;
        for _ in 0..5 {
            let mut third = Attacker::connect(gateway.listener("grpc").unwrap()).await.unwrap();
            third.ended().await.unwrap();
        }
        for client in [&first, &second] {
            assert_eq!(client.call(METHOD, &[]).await.unwrap().status(), Some(0));
        }
        let series = format!("weir_refused_connections_total{{listener=\"grpc\",limit=\"{limit}\"}}");
        until(&gateway, &series, |count| count == 5.0).await;
        let lines: Vec<String> = gateway.process.lines();
        let told = lines.iter().filter(|line| line.contains("a connection is refused") && line.contains(limit)).count();
        assert_eq!(told, 3, "the first, the second, the fourth: {lines:?}");

        drop(second);
        until(&gateway, "weir_downstream_connections{listener=\"grpc\"}", |open| open == 1.0).await;
        gets_in(&gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_word_on_the_way_that_it_came_is_worth_what_the_listener_says() {
    let said = [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-client-cert", "Subject=\"CN=admin\""),
        ("forwarded", "for=203.0.113.7"),
        ("x-real-ip", "203.0.113.7"),
        ("x-other", "stays"),
    ];
    for (config, seen) in [
        ("", Some("203.0.113.7")),
        ("forwarding_headers: REPLACE", Some("127.0.0.1")),
        ("forwarding_headers: REMOVE", None),
    ] {
        let (backend, gateway) = start(config, "").await;
        assert_eq!(client(&gateway).await.call(METHOD, &said).await.unwrap().status(), Some(0));
        let call = backend.seen().calls.remove(0);
        assert_eq!(call.metadata.get("x-forwarded-for").map(|value| value.to_str().unwrap()), seen, "{config}");
        for name in ["x-forwarded-client-cert", "forwarded", "x-real-ip"] {
            assert_eq!(call.metadata.contains_key(name), config.is_empty(), "{config}: {name}");
        }
        assert_eq!(call.metadata["x-other"], "stays");
    }
}

/// Streams whose client reads nothing fill the memory. Then nothing new is taken on, and what is there goes on; when they
/// have ended, all is well again.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_memory_refuses_what_is_new_and_lives() {
    let (backend, gateway) = start("http2: {max_concurrent_streams: 10000}", "memory_limit: 40MiB").await;
    let honest = client(&gateway).await;
    let mut held = honest.script("hold").await.unwrap();
    held.headers().await.unwrap();
    let hungry = client(&gateway).await;
    let mut streams = Vec::new();
    let answer = loop {
        // Nobody reads what these say.
        if let Ok(stream) = hungry.script("say=400000").await {
            streams.push(stream);
        }
        let answer = honest.call(METHOD, &[]).await.unwrap();
        if answer.status() != Some(0) {
            break answer;
        }
        assert!(streams.len() < 5_000, "the memory has no end");
    };
    assert_eq!(answer.status(), Some(8), "{answer:?}");
    assert_eq!(answer.message(), "the gateway is short of memory (memory_limit)");
    assert_eq!(answer.header("grpc-retry-pushback-ms"), Some("1000"));
    let mut late = Attacker::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    late.ended().await.unwrap();
    until(&gateway, "weir_refused_connections_total{listener=\"grpc\",limit=\"memory_limit\"}", |count| count == 1.0)
        .await;
    until(&gateway, "weir_calls_refused_for_memory_total{listener=\"grpc\"}", |count| count >= 1.0).await;
    gateway.process.wait_line("a warning", |line| line.contains("memory is short").then_some(())).unwrap();

    // Refusing does not help: everybody is told to go, and the calls that are open stay.
    gateway.process.wait_line("a GOAWAY", |line| line.contains("connections are told to end").then_some(())).unwrap();
    eventually("the GOAWAY", async || Ok(honest.open(METHOD, &[]).await.is_err().then_some(()))).await.unwrap();

    drop((streams, hungry));
    gateway.process.wait_line("relief", |line| line.contains("memory is no longer short").then_some(())).unwrap();
    backend.release();
    assert_eq!(held.answer().await.unwrap().status(), Some(0));
    gets_in(&gateway).await;
    let again = client(&gateway).await;
    assert_eq!(again.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

/// An edge says what it does in /config, and other listeners do none of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_shows_what_holds() {
    let backend = Backend::start().await.unwrap();
    let yaml = Setup::to([backend.address]).admin().yaml();
    let edge = yaml.replacen("protocol_type: GRPC", "protocol_type: GRPC\n      edge: true", 1);
    assert_ne!(yaml, edge);
    for (yaml, expected) in [(&yaml, "max_connections_per_source: 0"), (&edge, "max_connections_per_source: 100")] {
        let gateway = Gateway::start(yaml).unwrap();
        let shown = page::get(gateway.admin().unwrap(), "/config").await.unwrap().body;
        assert!(shown.contains(expected), "{shown}");
        let said = [("x-forwarded-for", "203.0.113.7")];
        assert_eq!(client(&gateway).await.call(METHOD, &said).await.unwrap().status(), Some(0));
    }
    let seen: Vec<_> = backend.seen().calls.iter().map(|call| call.metadata["x-forwarded-for"].clone()).collect();
    assert_eq!(seen, ["203.0.113.7", "127.0.0.1"]);
}

/// A place is not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_speaks_no_http2_holds_a_place_no_longer_than_the_preface_may_take() {
    let (_backend, gateway) = start("max_connections: 1, http2: {header_timeout: 1s}", "").await;
    let mut silent = Attacker::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    until(&gateway, "weir_downstream_connections{listener=\"grpc\"}", |open| open == 1.0).await;
    silent.ended().await.unwrap();
    gets_in(&gateway).await;
}
