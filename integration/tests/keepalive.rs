//! Keepalive pings: those of clients, policed as gRFC A8 has it, and those to backends.

#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::page;
use weir_integration::peers::setup::Setup;
use weir_integration::peers::tap::Tap;
use weir_integration::tools;

/// A client of a gateway with this `http2` of the listener, with a tap between them.
struct Pinging {
    backend: Backend,
    gateway: Gateway,
    tap: Tap,
    client: Client,
}

impl Pinging {
    async fn start(http2: &str) -> Pinging {
        let backend = Backend::start().await.unwrap();
        let setup = Setup::to([backend.address]).admin().listener(&format!("http2: {{{http2}}}"));
        let gateway = setup.start(1).unwrap();
        let tap = Tap::start(gateway.listener("grpc").unwrap()).await.unwrap();
        let client = Client::connect(tap.address).await.unwrap();
        Pinging { backend, gateway, tap, client }
    }

    /// Pings until the connection ends, at most this often. Returns how often it was answered.
    async fn ping(&mut self, times: usize, pause: Duration) -> usize {
        for time in 0..times {
            if self.client.ping().await.is_err() {
                return time;
            }
            tokio::time::sleep(pause).await;
        }
        times
    }

    /// The connection has ended as gRFC A8 says.
    async fn assert_told_off(mut self) {
        assert_eq!(self.client.ended().await.unwrap(), Some(h2::Reason::ENHANCE_YOUR_CALM));
        let wire = self.tap.until("GOAWAY", |wire| wire.server.iter().any(|frame| frame.kind == 7)).await.unwrap();
        let goaway = wire.server.iter().find(|frame| frame.kind == 7).unwrap();
        assert_eq!(&goaway.payload[8..], b"too_many_pings");
        let why = |line: &str| line.contains("too_many_pings").then(|| line.to_owned());
        let line = self.gateway.process.wait_line("a warning", why).unwrap();
        assert!(line.contains("listener=grpc") && line.contains("peer=127.0.0.1"), "{line}");
        let series = "weir_abusive_connections_total{listener=\"grpc\",reason=\"pings\"}";
        assert_eq!(page::metric(self.gateway.admin().unwrap(), series).await.unwrap(), Some(1.0));
    }
}

/// Pings that are answered: the first sets the clock, two strikes are forgiven, and the answer to the third leaves together
/// with the GOAWAY, which may be noticed before it.
const TOLERATED: std::ops::RangeInclusive<usize> = 3..=4;

const PAUSE: Duration = Duration::from_millis(15);

#[tokio::test(flavor = "multi_thread")]
async fn client_that_pings_too_often_is_told_so() {
    let mut pinging = Pinging::start("").await;
    let mut held = pinging.client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    assert!(TOLERATED.contains(&pinging.ping(10, PAUSE).await));
    pinging.assert_told_off().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_keeps_to_the_minimum_may_ping_for_ever() {
    let mut pinging = Pinging::start("keepalive_min_time: 10ms").await;
    let mut held = pinging.client.script("hold").await.unwrap();
    held.headers().await.unwrap();
    assert_eq!(pinging.ping(20, PAUSE).await, 20);
    pinging.backend.release();
    assert_eq!(held.answer().await.unwrap().status(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_without_calls_need_permission() {
    let mut pinging = Pinging::start("keepalive_min_time: 10ms").await;
    assert!(TOLERATED.contains(&pinging.ping(10, PAUSE).await));
    pinging.assert_told_off().await;

    let mut pinging = Pinging::start("keepalive_min_time: 10ms, keepalive_permit_without_calls: true").await;
    assert_eq!(pinging.ping(20, PAUSE).await, 20);
    assert_eq!(pinging.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
}

/// As grpc-go measures the bandwidth: a ping with each answer.
#[tokio::test(flavor = "multi_thread")]
async fn pings_between_answers_are_no_strikes() {
    let mut pinging = Pinging::start("").await;
    for _ in 0..20 {
        assert_eq!(pinging.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
        pinging.client.ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_pings_as_often_as_it_may_and_is_told_when_it_does_not() {
    let held = async |http2: &str, seconds: &str| {
        let backend = Backend::start().await.unwrap();
        let gateway = Setup::to([backend.address]).listener(&format!("http2: {{{http2}}}")).start(1).unwrap();
        let target = gateway.listener("grpc").unwrap().to_string();
        let mut command = Command::new(tools::python().unwrap());
        command.arg(tools::scripts().join("peers/keepalive.py")).args([&target, seconds]);
        tokio::task::spawn_blocking(move || tools::output(&mut command)).await.unwrap().unwrap()
    };
    let (honest, eager) = tokio::join!(held("keepalive_min_time: 50ms", "1.5"), held("", "60"));
    // Fifteen pings, and the call lived until its deadline.
    assert!(honest.starts_with("DEADLINE_EXCEEDED"), "{honest}");
    assert!(eager.starts_with("UNAVAILABLE") && eager.to_lowercase().contains("too"), "{eager}");
}

/// A gateway with one cluster for each of these settings, each behind a tap of its own, and a call held on each.
struct Upstreams {
    backend: Backend,
    taps: Vec<Tap>,
    client: Client,
    held: Vec<weir_integration::peers::client::Open>,
    _gateway: Gateway,
}

impl Upstreams {
    async fn start(keys: &[&str], proxy: &str) -> Upstreams {
        let backend = Backend::start().await.unwrap();
        let mut setup = Setup::new().proxy(proxy);
        let mut taps = Vec::new();
        for (at, keys) in keys.iter().enumerate() {
            let tap = Tap::start(backend.address).await.unwrap();
            let (route, name) = (format!("prefix: /s{at}"), format!("c{at}"));
            setup = setup.route(&route, &name).cluster(&name, &format!("lb_policy: Rand, {keys}"), [tap.address]);
            taps.push(tap);
        }
        let gateway = setup.start(1).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        let mut held = Vec::new();
        for at in 0..keys.len() {
            let mut open = client.open(&format!("/s{at}/M"), &[("x-do", "hold")]).await.unwrap();
            open.headers().await.unwrap();
            held.push(open);
        }
        Upstreams { backend, taps, client, held, _gateway: gateway }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_backend_is_pinged_while_a_call_is_open() {
    let pinged = "http2: {keepalive_interval: 30ms, keepalive_timeout: 30s}";
    let mut upstreams = Upstreams::start(&[pinged, "", pinged], "").await;
    // The third has no call.
    upstreams.held.pop().unwrap().cancel();
    upstreams.backend.until("a reset", |seen| seen.resets.len() == 1).await.unwrap();
    let before = upstreams.taps[2].wire().client_pings();
    upstreams.taps[0].until("pings", |wire| wire.client_pings() >= 6).await.unwrap();
    assert_eq!(upstreams.taps[1].wire().client_pings(), 0, "nobody asked for pings");
    assert!(upstreams.taps[2].wire().client_pings() <= before + 1, "a connection without calls is left alone");
    upstreams.backend.release();
    for open in upstreams.held {
        assert_eq!(open.answer().await.unwrap().status(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_backend_is_dropped() {
    let quick = "http2: {keepalive_interval: 30ms, keepalive_timeout: 60ms}";
    let patient = "http2: {keepalive_interval: 30ms, keepalive_timeout: 1h}";
    let mut upstreams = Upstreams::start(&[quick, patient], "").await;
    upstreams.taps.iter().for_each(Tap::freeze);
    let (patient, quick) = (upstreams.held.pop().unwrap(), upstreams.held.pop().unwrap());
    let answer = quick.answer().await.unwrap();
    assert_eq!(answer.status(), Some(14), "{answer:?}");
    assert_eq!(answer.message(), "the connection to the backend was lost");
    // A new connection finds the machine that took the dead one's place.
    assert_eq!(upstreams.client.call("/s0/M", &[]).await.unwrap().status(), Some(0));
    assert_eq!((upstreams.taps[0].wire().accepted, upstreams.taps[1].wire().accepted), (2, 1));
    let still_open = tokio::time::timeout(Duration::from_millis(50), patient.answer()).await;
    assert!(still_open.is_err(), "{still_open:?}");
}

/// Pixiu has these in the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn proxy_keepalive_counts_where_the_cluster_says_nothing() {
    let keys = ["", "http2: {keepalive_interval: 1h}"];
    let mut upstreams = Upstreams::start(&keys, "keepalive_time: 30ms, keepalive_timeout: 60ms").await;
    upstreams.taps[0].until("pings", |wire| wire.client_pings() >= 3).await.unwrap();
    assert_eq!(upstreams.taps[1].wire().client_pings(), 0);
    upstreams.taps[0].freeze();
    let answer = upstreams.held.swap_remove(0).answer().await.unwrap();
    assert_eq!(answer.status(), Some(14), "{answer:?}");
}
