//! Endpoints that leave while a gateway runs: what is open there finishes, new calls go elsewhere, and
//! `endpoint_drain_timeout` is the end.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::bare::{Bare, Frame};
use weir_integration::peers::client::{Client, Failure, METHOD, Open};
use weir_integration::peers::names::{self, NAME, Names};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

/// Backends of which the first is in the cluster.
struct Leaving {
    backends: Vec<Backend>,
    names: Names,
    gateway: Gateway,
    client: Client,
}

impl Leaving {
    async fn start(keys: &str, workers: usize) -> Leaving {
        let backends = names::neighbours(2).await.unwrap();
        let names = Names::new(&names::lines(&[backends[0].address])).unwrap();
        let gateway = names.start(&cluster(backends[0].address.port(), keys), workers).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        Leaving { backends, names, gateway, client }
    }

    /// A call that is open on the first backend.
    async fn open(&self, script: &str) -> Open {
        let mut open = self.client.script(script).await.unwrap();
        open.headers().await.unwrap();
        open
    }

    /// Puts this backend in the place of the others, and waits until the gateway knows.
    async fn only(&self, backend: usize) {
        let address = self.backends[backend].address;
        self.names.point_to(&[address]).unwrap();
        points_to(&self.gateway, &[address.to_string()]).await;
    }

    async fn ended(&self) -> f64 {
        ended(&self.gateway).await
    }
}

fn cluster(port: u16, keys: &str) -> Setup {
    let endpoint = format!("{{socket_address: {{address: {NAME}, port: {port}}}}}");
    let keys = format!("type: StrictDNS, lb_policy: RoundRobin, dns_refresh_rate: 20ms{keys}");
    let listener = Setup::new().admin().root("access_log: {path: /dev/stdout}").route("prefix: /", "named");
    listener.cluster_of("named", &keys, [endpoint])
}

async fn points_to(gateway: &Gateway, addresses: &[String]) {
    let admin = gateway.admin().unwrap();
    eventually("the endpoints change", async || {
        let page = page::get(admin, "/clusters").await?.body;
        let there = page.matches("\"address\"").count() == addresses.len();
        Ok((there && addresses.iter().all(|address| page.contains(address.as_str()))).then_some(()))
    })
    .await
    .unwrap();
}

async fn ended(gateway: &Gateway) -> f64 {
    let series = "weir_streams_ended_total{cluster=\"named\",reason=\"endpoint_removed\"}";
    page::metric(gateway.admin().unwrap(), series).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_worker_lets_go_of_an_endpoint_that_left() {
    for workers in [1, 2] {
        let leaving = Leaving::start("", workers).await;
        assert_eq!(leaving.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
        assert_eq!(leaving.backends[0].seen().connected, 1);
        leaving.names.point_to(&[leaving.backends[1].address]).unwrap();
        // No call comes.
        leaving.backends[0].until("no connection", |seen| seen.connected == 0).await.unwrap();
        assert_eq!(leaving.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
        assert_eq!(leaving.backends[1].seen().calls.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_finish_and_new_calls_go_elsewhere() {
    for keys in ["", ", endpoint_drain_timeout: 1h"] {
        let leaving = Leaving::start(keys, 2).await;
        let mut echo = leaving.open("echo").await;
        leaving.only(1).await;
        for _ in 0..4 {
            let answer = leaving.client.call(METHOD, &[]).await.unwrap();
            assert_eq!((answer.status(), answer.from()), (Some(0), Some(leaving.backends[1].address.port())));
        }
        assert_eq!(leaving.backends[1].seen().calls.len(), 4);
        echo.message(b"still here", true).unwrap();
        let answer = echo.answer().await.unwrap();
        assert_eq!((answer.status(), answer.messages), (Some(0), vec!["still here".into()]), "{keys}");
        leaving.backends[0].until("no connection", |seen| seen.connected == 0).await.unwrap();
        assert_eq!(leaving.ended().await, 0.0);
    }
}

/// Streams of every kind: one that talks, one that is silent, one that has had no headers.
#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_time_of_their_endpoint_is_over() {
    let leaving = Leaving::start(", endpoint_drain_timeout: 300ms", 1).await;
    let mut echo = leaving.open("echo").await;
    let (hold, silent) = (leaving.open("hold").await, leaving.client.script("silent").await.unwrap());
    leaving.backends[0].until_calls(3).await.unwrap();
    echo.message(b"one", false).unwrap();
    leaving.backends[0].until("a message", |seen| seen.bytes == 8).await.unwrap();
    let removed = Instant::now();
    leaving.only(1).await;
    let text = "the endpoint was removed, and the stream has had its time (endpoint_drain_timeout)";
    let mut messages = Vec::new();
    for open in [echo, hold, silent] {
        let answer = open.answer().await.unwrap();
        assert_eq!((answer.status(), answer.message()), (Some(14), text), "{answer:?}");
        messages.extend(answer.messages);
    }
    assert!(removed.elapsed() >= Duration::from_millis(300), "after {:?}", removed.elapsed());
    assert_eq!(messages, ["one"]);
    leaving.backends[0].until("no connection", |seen| seen.connected == 0).await.unwrap();
    assert_eq!(leaving.ended().await, 3.0);

    let told = |line: &str| line.contains("its streams end").then(|| line.to_owned());
    let line = leaving.gateway.process.wait_line("a line", told).unwrap();
    assert!(line.contains("cluster=named") && line.contains("streams=3"), "{line}");
    let logged = |line: &str| line.contains("\"ended_by\":\"endpoint_removed\"").then(|| line.to_owned());
    let line = leaving.gateway.process.wait_line("a record", logged).unwrap();
    assert!(line.contains("\"status\":\"UNAVAILABLE\",\"upstream_status\":null"), "{line}");
    assert_eq!(leaving.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

/// An attempt that has won among several is a stream like any other from then on.
#[tokio::test(flavor = "multi_thread")]
async fn stream_of_a_hedged_call_ends_too() {
    let hedged = ", endpoint_drain_timeout: 300ms, hedging_policy: {max_attempts: 2, hedging_delay: 1h}";
    let leaving = Leaving::start(hedged, 1).await;
    let hold = leaving.open("hold").await;
    leaving.only(1).await;
    let answer = hold.answer().await.unwrap();
    assert_eq!(answer.status(), Some(14), "{answer:?}");
    assert_eq!(leaving.ended().await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_comes_back_keeps_its_streams() {
    let leaving = Leaving::start(", endpoint_drain_timeout: 2s", 1).await;
    let hold = leaving.open("hold").await;
    leaving.only(1).await;
    leaving.only(0).await;
    // Longer than the bound.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(leaving.ended().await, 0.0);
    leaving.backends[0].release();
    assert_eq!(hold.answer().await.unwrap().status(), Some(0));
}

/// The backend is in the middle of a message when the time is over, and ends it, or does not.
#[tokio::test(flavor = "multi_thread")]
async fn message_that_has_begun_has_a_moment_to_end() {
    for ends in [true, false] {
        let bare = Bare::listen().await.unwrap();
        let names = Names::new(&names::lines(&[bare.address])).unwrap();
        let setup = cluster(bare.address.port(), ", endpoint_drain_timeout: 100ms");
        let gateway = names.start(&setup, 1).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        let mut open = client.open(METHOD, &[]).await.unwrap();
        let mut peer = bare.accept().await.unwrap();
        peer.settings(&[]).await.unwrap();
        let stream = peer.request().await.unwrap();
        peer.begin(stream).await.unwrap();
        open.headers().await.unwrap();
        peer.prefix(stream).await.unwrap();
        names.set(&format!("127.0.0.9 {NAME}")).unwrap();
        let told = |line: &str| line.contains("its streams end").then_some(());
        gateway.process.wait_line("the end of its time", told).unwrap();
        if ends {
            peer.rest(stream).await.unwrap();
        }
        let answer = open.answer().await.unwrap();
        if ends {
            assert_eq!((answer.status(), answer.messages), (Some(14), vec!["x".into()]));
        } else {
            assert_eq!(answer.failure, Some(Failure::Reset(h2::Reason::INTERNAL_ERROR)), "{answer:?}");
        }
        while peer.next().await.unwrap() != Some(Frame::Reset(stream)) {}
        // The connection ends with its last stream.
        while peer.next().await.unwrap().is_some() {}
        assert_eq!(ended(&gateway).await, 1.0);
    }
}

/// A call that waits on a full connection of an endpoint which leaves, because the other one cannot be connected to.
#[tokio::test(flavor = "multi_thread")]
async fn call_that_waits_for_room_goes_elsewhere_when_the_endpoint_leaves() {
    let keys = ", http2: {max_streams_per_connection: 1}, circuit_breakers: {max_connections: 1}";
    let leaving = Leaving::start(keys, 1).await;
    let hold = leaving.open("hold").await;
    let mut waits = leaving.client.open(METHOD, &[]).await.unwrap();
    waits.message(b"abc", true).unwrap();
    let series = "weir_calls_waiting{cluster=\"named\"}";
    leaving.gateway.wait_metric(series, |calls| calls == 1.0).await.unwrap();
    leaving.only(1).await;
    let answer = waits.answer().await.unwrap();
    assert_eq!((answer.status(), answer.from()), (Some(0), Some(leaving.backends[1].address.port())));
    leaving.backends[0].release();
    assert_eq!(hold.answer().await.unwrap().status(), Some(0));
}
