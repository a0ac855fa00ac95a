//! Clients that leave many calls at once, before a backend has looked at them: servers take that for an attack and end the
//! connection, which here is that of everybody's calls to this backend.

#![allow(clippy::unwrap_used)]

use weir_integration::gateway::Gateway;
use weir_integration::peers::attacker::{Attacker, END_HEADERS, END_STREAM, field, frame, kind, request};
use weir_integration::peers::attacks::stream;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD, Open};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::tap::Tap;
use weir_integration::peers::{eventually, page};

/// Three times as many as an h2 server bears; they fit into one connection.
const CALLS: usize = 60;

/// As many are reset before the backend is known to read on.
const AT_ONCE: usize = 5;

const DELAYED: &str = "weir_upstream_resets_delayed_total{cluster=\"echo\"}";

/// A backend that reads late, and the call of somebody else on the connection to it.
struct Shared {
    backend: Backend,
    tap: Tap,
    gateway: Gateway,
    client: Client,
    open: Open,
}

impl Shared {
    async fn begin() -> Shared {
        Shared::with("").await
    }

    /// With these keys of the cluster.
    async fn with(keys: &str) -> Shared {
        let backend = Backend::start().await.unwrap();
        let tap = Tap::start(backend.address).await.unwrap();
        let gateway =
            Setup::new().route("prefix: /", "echo").cluster("echo", keys, [tap.address]).admin().start(1).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        let mut open = client.script("hold").await.unwrap();
        open.headers().await.unwrap();
        tap.hold();
        Shared { backend, tap, gateway, client, open }
    }

    async fn counts(&self, series: &str, count: usize) {
        let admin = self.gateway.admin().unwrap();
        let look = async || Ok(page::metric(admin, series).await?.filter(|found| *found == count as f64));
        eventually(series, look).await.unwrap();
    }

    /// The backend has been sent the calls; it has not read them.
    async fn sent(&self) {
        let calls = self.tap.until("the calls", |wire| wire.of_client(kind::HEADERS).count() > CALLS);
        calls.await.unwrap();
    }

    fn resets(&self) -> usize {
        self.tap.wire().of_client(kind::RST_STREAM).count()
    }

    /// All calls have left. The backend hears it of each, in its time, and nobody else does.
    async fn outlive(self) {
        self.counts(DELAYED, CALLS - AT_ONCE).await;
        self.tap.until("the first resets", |wire| wire.of_client(kind::RST_STREAM).count() == AT_ONCE).await.unwrap();
        assert_eq!(self.resets(), AT_ONCE);
        self.tap.release();
        self.tap.until("all resets", |wire| wire.of_client(kind::RST_STREAM).count() == CALLS).await.unwrap();
        self.backend.until("all of them", |seen| seen.resets.len() == CALLS).await.unwrap();
        assert_eq!(self.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
        assert_eq!(self.backend.seen().accepted, 1, "another connection");
        self.backend.release();
        assert_eq!(self.open.answer().await.unwrap().status(), Some(0));
    }
}

/// The frames that open the calls.
fn calls() -> Vec<u8> {
    let block = [request("/leaver.Service/Method"), field(b"x-do", b"silent")].concat();
    (0..CALLS as u32)
        .flat_map(|number| frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(number), &block))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_connection() {
    let shared = Shared::begin().await;
    let mut leaver = Attacker::greet(shared.gateway.listener("grpc").unwrap()).await.unwrap();
    leaver.say(&calls()).await.unwrap();
    shared.sent().await;
    drop(leaver);
    shared.outlive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cancels_all_that_it_has() {
    let shared = Shared::begin().await;
    let mut leaver = Attacker::greet(shared.gateway.listener("grpc").unwrap()).await.unwrap();
    leaver.say(&calls()).await.unwrap();
    shared.sent().await;
    let cancel = |number| frame(kind::RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
    leaver.say(&(0..CALLS as u32).flat_map(cancel).collect::<Vec<u8>>()).await.unwrap();
    shared.outlive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_deadlines_are_over() {
    let shared = Shared::begin().await;
    let mut answers = Vec::new();
    for _ in 0..CALLS {
        let path = "/leaver.Service/Method";
        answers.push(shared.client.open(path, &[("x-do", "silent"), ("grpc-timeout", "500m")]).await.unwrap());
    }
    shared.sent().await;
    for open in answers {
        assert_eq!(open.answer().await.unwrap().status(), Some(4));
    }
    shared.outlive().await;
}

/// A backend that answers later calls has read of the earlier ones: nothing else is asked of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_tells_what_was_read() {
    let shared = Shared::begin().await;
    shared.tap.release();
    let mut leaver = Attacker::greet(shared.gateway.listener("grpc").unwrap()).await.unwrap();
    leaver.say(&calls()).await.unwrap();
    shared.sent().await;
    assert_eq!(shared.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
    drop(leaver);
    shared.backend.until("all resets", |seen| seen.resets.len() == CALLS).await.unwrap();
    let settings = shared.tap.wire().of_client(kind::SETTINGS).filter(|frame| frame.flags == 0).count();
    assert_eq!(settings, 1, "those of the connection's beginning");
    shared.counts(DELAYED, 0).await;
    assert_eq!(shared.backend.seen().accepted, 1);
}

/// What nobody wants any more keeps no connection open, and a backend that never reads again none of those to come.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_stands_still_loses_a_connection_that_nobody_wants() {
    let shared = Shared::begin().await;
    let mut leaver = Attacker::greet(shared.gateway.listener("grpc").unwrap()).await.unwrap();
    leaver.say(&calls()).await.unwrap();
    shared.sent().await;
    drop(leaver);
    shared.counts(DELAYED, CALLS - AT_ONCE).await;
    let connections = "weir_upstream_connections{cluster=\"echo\"}";
    shared.counts(connections, 1).await;
    let Shared { backend, tap, gateway, client, open } = shared;
    open.cancel();
    let admin = gateway.admin().unwrap();
    eventually(connections, async || Ok(page::metric(admin, connections).await?.filter(|count| *count == 0.0)))
        .await
        .unwrap();
    tap.release();
    assert_eq!(client.call(METHOD, &[]).await.unwrap().status(), Some(0));
    assert_eq!(backend.seen().accepted, 2);
}

/// Calls that are given up keep no place in a circuit breaker, whatever the backend does.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_reset_is_no_call() {
    let limits = format!("circuit_breakers: {{max_calls: {}, max_streams: {}}}", CALLS + 1, CALLS + 1);
    let shared = Shared::with(&limits).await;
    for count in [CALLS / 2, CALLS / 2, CALLS / 3] {
        let mut calls = Vec::new();
        for _ in 0..count {
            let late = [("x-do", "silent"), ("grpc-timeout", "300m")];
            calls.push(shared.client.open("/leaver.Service/Method", &late).await.unwrap());
        }
        for call in calls {
            assert_eq!(call.answer().await.unwrap().status(), Some(4));
        }
    }
}

/// A stream that the backend has reset itself needs no reset, and waits for none.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_the_backend_ends_are_over() {
    let shared = Shared::with(
        "retry_policy: {max_attempts: 2, initial_backoff: 1ms, max_backoff: 1ms, \
                               retryable_status_codes: [INTERNAL]}",
    )
    .await;
    shared.tap.release();
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        calls.push(shared.client.open(METHOD, &[("x-do", "abort=2;echo")]).await.unwrap());
    }
    for mut call in calls {
        call.message(b"", true).unwrap();
        assert_eq!(call.answer().await.unwrap().status(), Some(0));
    }
    shared.counts("weir_retries_total{cluster=\"echo\"}", CALLS).await;
    shared.counts(DELAYED, 0).await;
    assert_eq!(shared.resets(), 0);
}
