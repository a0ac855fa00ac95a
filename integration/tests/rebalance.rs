//! `rebalance` of a cluster: when an endpoint joins, it gets its share of the streams that are open, and no more of them end.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO, Health};
use weir_integration::peers::bare::Bare;
use weir_integration::peers::client::{Answer, Client, METHOD, Open};
use weir_integration::peers::names::{self, NAME, Names};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

const WORDS: &str = "an endpoint has joined, and the stream makes room (rebalance): open it anew";

const REBALANCE: &str = "rebalance: {window: 500ms, min_stream_age: 0s, pushback: 40ms}";

/// Backends of which the last is not in the cluster so far.
struct Joining {
    backends: Vec<Backend>,
    names: Names,
    gateway: Gateway,
    clients: Vec<Client>,
}

impl Joining {
    /// With these keys of the cluster, and a client for each worker.
    async fn start(keys: &str, count: u8, workers: usize) -> Joining {
        let backends = names::neighbours(count).await.unwrap();
        let names = Names::new(&names::lines(&addresses(&backends[..usize::from(count) - 1]))).unwrap();
        let endpoint = format!("{{socket_address: {{address: {NAME}, port: {}}}}}", backends[0].address.port());
        let keys = format!("type: StrictDNS, dns_refresh_rate: 20ms, {keys}");
        let gateway = names.start(&setup().cluster_of("named", &keys, [endpoint]), workers).unwrap();
        let mut clients = Vec::new();
        for _ in 0..workers {
            clients.push(Client::connect(gateway.listener("grpc").unwrap()).await.unwrap());
        }
        Joining { backends, names, gateway, clients }
    }

    /// Opens streams, each of which carries two messages, in turn by the clients.
    async fn chats(&self, count: usize) -> Vec<Open> {
        chats(&self.clients, count).await
    }

    /// The last backend joins, and the gateway knows.
    async fn join(&self) {
        self.names.point_to(&addresses(&self.backends)).unwrap();
        let admin = self.gateway.admin().unwrap();
        eventually("the endpoint is found", async || {
            let page = page::get(admin, "/clusters").await?.body;
            Ok((page.matches("\"address\"").count() == self.backends.len()).then_some(()))
        })
        .await
        .unwrap();
    }

    /// Waits for the window to be over, and some more.
    async fn window(&self) {
        tokio::time::sleep(Duration::from_millis(900)).await;
    }

    async fn ended(&self) -> usize {
        ended(&self.gateway).await as usize
    }
}

fn setup() -> Setup {
    let setup = Setup::new().admin().root("access_log: {path: /dev/stdout}");
    setup.route("prefix: /", "named")
}

fn addresses(backends: &[Backend]) -> Vec<std::net::SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

async fn chats(clients: &[Client], count: usize) -> Vec<Open> {
    let mut open = Vec::new();
    for at in 0..count {
        open.push(clients[at % clients.len()].chat().await.unwrap());
    }
    open
}

async fn ended(gateway: &Gateway) -> f64 {
    let series = "weir_streams_ended_total{cluster=\"named\",reason=\"rebalance\"}";
    page::metric(gateway.admin().unwrap(), series).await.unwrap().unwrap()
}

/// Ends each stream from the client's side. Those that have ended already are returned, and how many were alive.
async fn close(open: Vec<Open>) -> (Vec<Answer>, usize) {
    let (mut moved, mut alive) = (Vec::new(), 0);
    for mut chat in open {
        let _ = chat.message(b"last", true);
        let answer = chat.answer().await.unwrap();
        if answer.status() == Some(0) {
            assert_eq!(answer.messages, ["one", "two", "last"]);
            alive += 1;
        } else {
            expect_moved(&answer);
            moved.push(answer);
        }
    }
    (moved, alive)
}

fn expect_moved(answer: &Answer) {
    assert_eq!((answer.status(), answer.message()), (Some(14), WORDS), "{answer:?}");
    assert_eq!(answer.trailer("grpc-retry-pushback-ms"), Some("40"), "{answer:?}");
    assert_eq!(answer.messages, ["one", "two"]);
}

/// Neither a retry policy nor outlier detection makes anything else of it.
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_joins_gets_its_share() {
    let others = "outlier_detection: {consecutive_gateway_failure: 1, consecutive_grpc_failure: 1}, \
                  retry_policy: {max_attempts: 3, retryable_status_codes: [UNAVAILABLE]}";
    let joining = Joining::start(&format!("lb_policy: RoundRobin, {REBALANCE}, {others}"), 3, 1).await;
    let open = joining.chats(30).await;
    let mut slow = joining.clients[0].open("/test.Echo/Unary", &[(DO, "silent")]).await.unwrap();
    joining.window().await;
    assert_eq!(joining.ended().await, 0, "nobody has joined");
    let joined = Instant::now();
    joining.join().await;
    let series = "weir_streams_ended_total{cluster=\"named\",reason=\"rebalance\"}";
    joining.gateway.wait_metric(series, |ended| ended >= 10.0).await.unwrap();
    // The last one ends in the last tenth of the window.
    assert!(joined.elapsed() >= Duration::from_millis(450), "after {:?}", joined.elapsed());
    joining.window().await;
    assert_eq!(joining.ended().await, 10);
    let (moved, alive) = close(open).await;
    assert_eq!((moved.len(), alive), (10, 20));
    joining.backends[0].release();
    joining.backends[1].release();
    slow.message(b"abc", true).unwrap();
    assert_eq!(slow.answer().await.unwrap().status(), Some(0));
    let resets: Vec<usize> = joining.backends.iter().map(|backend| backend.seen().resets.len()).collect();
    assert_eq!(resets, [5, 5, 0]);
    let calls: usize = joining.backends.iter().map(|backend| backend.seen().calls.len()).sum();
    assert_eq!(calls, 31, "none was made again");
    let page = page::get(joining.gateway.admin().unwrap(), "/metrics").await.unwrap().body;
    let ejections =
        page.lines().filter(|line| line.starts_with("weir_ejections_total")).map(|line| line.ends_with(" 0"));
    assert!(ejections.clone().count() > 0 && ejections.into_iter().all(|none| none), "{page}");
    let told = |line: &str| line.contains("endpoints have changed: streams move").then(|| line.to_owned());
    let line = joining.gateway.process.wait_line("a line", told).unwrap();
    assert!(line.contains("cluster=named streams=10 window=500ms"), "{line}");
    let logged = |line: &str| line.contains("\"ended_by\":\"rebalance\"").then(|| line.to_owned());
    joining.gateway.process.wait_line("a record", logged).unwrap();
}

/// Each worker ends of its own.
#[tokio::test(flavor = "multi_thread")]
async fn workers_together_end_the_share() {
    let joining = Joining::start(&format!("lb_policy: RoundRobin, {REBALANCE}"), 3, 2).await;
    let open = joining.chats(60).await;
    joining.join().await;
    joining.window().await;
    let (moved, alive) = close(open).await;
    assert!((18..=22).contains(&moved.len()), "{} of 60 have moved", moved.len());
    assert_eq!((moved.len() + alive, joining.ended().await), (60, moved.len()));
}

/// Clients that open anew what has ended find the new endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_opened_anew_go_where_there_are_fewest() {
    let joining = Joining::start(&format!("lb_policy: LeastRequest, {REBALANCE}"), 2, 1).await;
    let mut watching = JoinSet::new();
    for chat in joining.chats(20).await {
        watching.spawn(async move { chat.answer().await });
    }
    joining.join().await;
    let mut again = Vec::new();
    while again.len() < 10 {
        expect_moved(&watching.join_next().await.unwrap().unwrap().unwrap());
        let mut chat = joining.clients[0].script("echo").await.unwrap();
        chat.headers().await.unwrap();
        again.push(chat);
    }
    joining.window().await;
    assert_eq!(joining.ended().await, 10);
    assert_eq!(watching.len(), 10);
    // Of two endpoints it is always the one with fewer.
    assert_eq!(joining.backends[1].seen().calls.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_recovers_gets_its_share() {
    let backends = Backend::start_many(2).await.unwrap();
    backends[1].set_health("", &[Health::NotServing]);
    let checks = "health_checks: [{protocol: grpc, interval: 20ms, unhealthy_threshold: 1, healthy_threshold: 1}]";
    let setup =
        setup().cluster("named", &format!("lb_policy: RoundRobin, {REBALANCE}, {checks}"), addresses(&backends));
    let gateway = setup.start(1).unwrap();
    let healthy = format!("weir_endpoint_healthy{{cluster=\"named\",endpoint=\"{}\"}}", backends[1].address);
    gateway.wait_metric(&healthy, |healthy| healthy == 0.0).await.unwrap();
    let clients = [Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()];
    let open = chats(&clients, 20).await;
    assert_eq!(backends[1].seen().calls.len(), 0);
    backends[1].set_health("", &[Health::Serving]);
    gateway
        .wait_metric("weir_streams_ended_total{cluster=\"named\",reason=\"rebalance\"}", |ended| ended == 10.0)
        .await
        .unwrap();
    let (moved, alive) = close(open).await;
    assert_eq!((moved.len(), alive), (10, 10));
}

/// Both streams are within a message. The one that has to go does so when its message has ended.
#[tokio::test(flavor = "multi_thread")]
async fn stream_within_a_message_is_not_cut() {
    let bare = Bare::listen().await.unwrap();
    let joins = Backend::start_on(([127, 0, 0, 2], bare.address.port()).into()).await.unwrap();
    let names = Names::new(&names::lines(&[bare.address])).unwrap();
    let endpoint = format!("{{socket_address: {{address: {NAME}, port: {}}}}}", bare.address.port());
    let keys = format!("type: StrictDNS, dns_refresh_rate: 20ms, lb_policy: RoundRobin, {REBALANCE}");
    let gateway = names.start(&setup().cluster_of("named", &keys, [endpoint]), 1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let (mut open, mut streams) = (Vec::new(), Vec::new());
    let mut first = client.open(METHOD, &[]).await.unwrap();
    let mut peer = bare.accept().await.unwrap();
    peer.settings(&[]).await.unwrap();
    for at in 0..2 {
        let mut next = if at == 0 { None } else { Some(client.open(METHOD, &[]).await.unwrap()) };
        let stream = peer.request().await.unwrap();
        peer.begin(stream).await.unwrap();
        next.as_mut().unwrap_or(&mut first).headers().await.unwrap();
        peer.message(stream).await.unwrap();
        peer.message(stream).await.unwrap();
        peer.prefix(stream).await.unwrap();
        open.extend(next);
        streams.push(stream);
    }
    open.push(first);
    names.point_to(&[bare.address, joins.address]).unwrap();
    let told = |line: &str| line.contains("endpoints have changed: streams move").then_some(());
    gateway.process.wait_line("a line", told).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(ended(&gateway).await, 0.0);
    for stream in &streams {
        peer.rest(*stream).await.unwrap();
    }
    gateway
        .wait_metric("weir_streams_ended_total{cluster=\"named\",reason=\"rebalance\"}", |ended| ended == 1.0)
        .await
        .unwrap();
    for stream in &streams {
        peer.end(*stream).await.unwrap();
    }
    let mut statuses = Vec::new();
    for one in open {
        let answer = one.answer().await.unwrap();
        assert_eq!(answer.messages, ["x", "x", "x"], "{answer:?}");
        statuses.push(answer.status());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [Some(0), Some(14)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_or_was_not_asked_to_stays() {
    let young = "lb_policy: RoundRobin, rebalance: {window: 500ms, min_stream_age: 1h}";
    for keys in [young, "lb_policy: RoundRobin"] {
        let joining = Joining::start(keys, 3, 1).await;
        let open = joining.chats(30).await;
        joining.join().await;
        joining.window().await;
        assert_eq!(joining.ended().await, 0, "{keys}");
        let (moved, alive) = close(open).await;
        assert_eq!((moved.len(), alive), (0, 30), "{keys}");
    }
}

/// An endpoint that gets no calls gets no streams either: nothing ends for one that stands by.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_for_an_endpoint_that_stands_by() {
    let backends = Backend::start_many(2).await.unwrap();
    backends[1].set_health("", &[Health::NotServing]);
    let endpoint = |backend: &Backend, priority: u32| {
        let port = backend.address.port();
        format!("{{socket_address: {{address: 127.0.0.1, port: {port}}}, priority: {priority}}}")
    };
    let check = "{protocol: grpc, interval: 20ms, timeout: 10s, healthy_threshold: 1, unhealthy_threshold: 1}";
    let keys = format!("lb_policy: LeastRequest, {REBALANCE}, health_checks: [{check}]");
    let endpoints = [endpoint(&backends[0], 0), endpoint(&backends[1], 1)];
    let gateway = setup().cluster_of("named", &keys, endpoints).start(1).unwrap();
    let healthy = format!("weir_endpoint_healthy{{cluster=\"named\",endpoint=\"{}\"}}", backends[1].address);
    let until = async |state: f64| {
        let admin = gateway.admin().unwrap();
        let look = async || Ok((page::metric(admin, &healthy).await? == Some(state)).then_some(()));
        eventually("the check's verdict", look).await.unwrap();
    };
    until(0.0).await;
    let clients = [Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()];
    let open = chats(&clients, 10).await;
    backends[1].set_health("", &[Health::Serving]);
    until(1.0).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (moved, alive) = close(open).await;
    assert_eq!((moved.len(), alive), (0, 10));
}
