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
        let backend = Backend::start().await.unwrap();
        let tap = Tap::start(backend.address).await.unwrap();
        let gateway = Setup::to([tap.address]).admin().start(1).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        let mut open = client.script("hold").await.unwrap();
        open.headers().await.unwrap();
        tap.hold();
        Shared { backend, tap, gateway, client, open }
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
        let admin = self.gateway.admin().unwrap();
        let waiting =
            async || Ok(page::metric(admin, DELAYED).await?.filter(|count| *count == (CALLS - AT_ONCE) as f64));
        eventually(DELAYED, waiting).await.unwrap();
        self.tap.until("the first resets", |wire| wire.of_client(kind::RST_STREAM).count() == AT_ONCE).await.unwrap();
        assert_eq!(self.resets(), AT_ONCE);
        self.tap.release();
        self.tap.until("all resets", |wire| wire.of_client(kind::RST_STREAM).count() == CALLS).await.unwrap();
        // The first ones are not even handed out by the backend's h2.
        self.backend.until("the rest of them", |seen| seen.resets.len() >= CALLS - AT_ONCE).await.unwrap();
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
    assert_eq!(page::metric(shared.gateway.admin().unwrap(), DELAYED).await.unwrap(), Some(0.0));
    assert_eq!(shared.backend.seen().accepted, 1);
}
