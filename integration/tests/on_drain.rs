//! `on_drain` of a route, and a drain that can be taken back: what ends, what does not, and what an operator sees of it.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weir_integration::gateway::Gateway;
use weir_integration::load;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::bare::Bare;
use weir_integration::peers::client::{Answer, Client, Failure, METHOD, Open};
use weir_integration::peers::page;
use weir_integration::peers::setup::Setup;

const ENDS: &str = "the gateway drains (on_drain): open the stream anew";
const CUT: &str = "the gateway drains, and the stream has had its time (on_drain): open it anew";

/// Another method than [`METHOD`]: nothing is known of it.
const UNARY: &str = "/test.Echo/Slow";

struct Draining {
    backend: Backend,
    gateway: Gateway,
    client: Client,
}

impl Draining {
    /// A gateway whose streams end so; a call that is no stream may be told to wait.
    async fn start(on_drain: &str) -> Draining {
        let backend = Backend::start().await.unwrap();
        let setup = Setup::new().admin().route("prefix: /", &format!("echo, on_drain: {{{on_drain}}}"));
        let gateway = setup.cluster("echo", "", [backend.address]).start(2).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        Draining { backend, gateway, client }
    }

    async fn chat(&self) -> Open {
        self.client.chat().await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let page = page::ask(method, self.gateway.admin().unwrap(), path).await.unwrap();
        (page.status, page.body)
    }

    fn left(&self, what: &str) -> String {
        format!("weir_drain_calls_left{{waits_for=\"{what}\"}}")
    }

    fn ended(&self, reason: &str) -> f64 {
        self.gateway.metric(&format!("weir_streams_ended_total{{cluster=\"echo\",reason=\"{reason}\"}}")).unwrap()
    }
}

fn expect_told(answer: &Answer, words: &str, pushback: &str) {
    assert_eq!((answer.status(), answer.message()), (Some(14), words), "{answer:?}");
    assert_eq!(answer.trailer("grpc-retry-pushback-ms"), Some(pushback), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_over_the_window_and_unary_calls_are_waited_for() {
    let mut drained = Draining::start("policy: end_at_message_boundary, window: 2s, pushback: 250ms").await;
    let mut unary = drained.client.open(UNARY, &[(weir_integration::peers::backend::DO, "silent")]).await.unwrap();
    unary.message(b"abc", true).unwrap();
    let mut chats = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let open = drained.chat().await;
        chats.spawn(async move { (open.answer().await.unwrap(), Instant::now()) });
    }
    drained.gateway.process.signal("TERM").unwrap();
    drained.gateway.wait_metric("weir_drain_state", |state| state == 2.0).await.unwrap();
    drained.gateway.wait_metric(&drained.left("message_boundary"), |left| left > 0.0).await.unwrap();
    assert_eq!(drained.gateway.metric(&drained.left("cut")).unwrap(), 0.0);
    assert_eq!(drained.ask("POST", "/undrain").await.0, 409);
    let mut ends = Vec::new();
    while let Some(chat) = chats.join_next().await {
        let (answer, end) = chat.unwrap();
        expect_told(&answer, ENDS, "250");
        assert_eq!(answer.messages, ["one", "two"]);
        ends.push(end);
    }
    ends.sort_unstable();
    // Twenty moments in two seconds, of which not even a slow machine makes one.
    assert!(ends[19] - ends[0] >= Duration::from_millis(200), "{ends:?}");
    drained.gateway.wait_metric(&drained.left("message_boundary"), |left| left == 0.0).await.unwrap();
    assert_eq!(drained.gateway.metric(&drained.left("own_end")).unwrap(), 1.0);
    assert_eq!(drained.ended("drain"), 20.0);
    drained.backend.release();
    let answer = unary.answer().await.unwrap();
    assert_eq!((answer.status(), answer.messages), (Some(0), vec!["abc".into()]));
    assert_eq!(
        drained.gateway.process.wait().unwrap().code(),
        Some(0),
        "what the file asks for is no call that was cut"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_cut_at_their_time() {
    let mut drained = Draining::start("policy: cut, after: 300ms").await;
    let chat = drained.chat().await;
    let mut unary = drained.client.open(UNARY, &[(weir_integration::peers::backend::DO, "silent")]).await.unwrap();
    unary.message(b"abc", true).unwrap();
    let asked = Instant::now();
    drained.gateway.process.signal("TERM").unwrap();
    drained.gateway.wait_metric("weir_drain_state", |state| state == 2.0).await.unwrap();
    let answer = chat.answer().await.unwrap();
    expect_told(&answer, CUT, "0");
    assert!(asked.elapsed() >= Duration::from_millis(300), "after {:?}", asked.elapsed());
    assert_eq!(drained.ended("drain_cut"), 1.0);
    drained.backend.release();
    assert_eq!(unary.answer().await.unwrap().status(), Some(0));
    assert_eq!(drained.gateway.process.wait().unwrap().code(), Some(0));
}

/// A message that does not end holds up `end_at_message_boundary`, and not `cut`.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_end_is_cut_and_else_waited_for() -> Result<()> {
    for (on_drain, reason) in
        [("policy: cut, after: 0s", "drain_cut"), ("policy: end_at_message_boundary, window: 1ms", "drain")]
    {
        let bare = Bare::listen().await?;
        let setup = Setup::new().admin().route("prefix: /", &format!("echo, on_drain: {{{on_drain}}}"));
        let gateway = setup.cluster("echo", "", [bare.address]).start(1)?;
        let client = Client::connect(gateway.listener("grpc")?).await?;
        let mut open = client.open(METHOD, &[]).await?;
        let mut peer = bare.accept().await?;
        peer.settings(&[]).await?;
        let stream = peer.request().await?;
        peer.begin(stream).await?;
        open.headers().await?;
        for _ in 0..2 {
            peer.message(stream).await?;
        }
        peer.prefix(stream).await?;
        page::ask("POST", gateway.admin()?, "/drain").await?;
        let series = format!("weir_streams_ended_total{{cluster=\"echo\",reason=\"{reason}\"}}");
        if reason == "drain_cut" {
            let answer = open.answer().await?;
            ensure!(answer.failure == Some(Failure::Reset(h2::Reason::INTERNAL_ERROR)), "{answer:?}");
        } else {
            // Longer than a call has that is cut.
            tokio::time::sleep(Duration::from_millis(900)).await;
            ensure!(gateway.metric(&series)? == 0.0);
            peer.rest(stream).await?;
            let answer = open.answer().await?;
            expect_told(&answer, ENDS, "0");
            ensure!(answer.messages == ["x", "x", "x"], "{answer:?}");
        }
        gateway.wait_metric(&series, |ended| ended == 1.0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_taken_back() -> Result<()> {
    let drained = Draining::start("policy: end_at_message_boundary, window: 1s").await;
    let address = drained.gateway.listener("grpc")?;
    let told = load::client::Client::connect(address).await?;
    ensure!(drained.ask("GET", "/drain").await.0 == 405, "whoever only looks must not drain");
    ensure!(drained.ask("POST", "/undrain").await == (200, "serving\n".to_owned()), "there is nothing to take back");
    for _ in 0..2 {
        ensure!(drained.ask("POST", "/drain").await == (200, "draining\n".to_owned()));
    }
    ensure!(drained.ask("GET", "/ready").await == (503, "draining\n".to_owned()));
    ensure!(drained.ask("GET", "/live").await.0 == 200);
    ensure!(drained.gateway.metric("weir_drain_state")? == 1.0);
    told.goaway().await?;
    told.closed().await?;
    // Whoever comes in spite of it is served.
    let late = Client::connect(address).await?;
    ensure!(late.call(METHOD, &[]).await?.status() == Some(0));

    ensure!(drained.ask("POST", "/undrain").await.0 == 200);
    ensure!(drained.ask("GET", "/ready").await == (200, "ready\n".to_owned()));
    ensure!(drained.gateway.metric("weir_drain_state")? == 0.0);
    ensure!(drained.gateway.listener("grpc")? == address);
    let back = Client::connect(address).await?;
    let mut chat = back.script("echo").await?;
    for word in [b"one", b"two"] {
        chat.message(word, false)?;
    }
    // Longer than the window: a stream that came after the drain does not end.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    chat.message(b"three", true)?;
    let answer = chat.answer().await?;
    ensure!((answer.status(), answer.messages.len()) == (Some(0), 3), "{answer:?}");
    Ok(())
}

/// Streams whose moment has not come keep their connection's last stream, and go on.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_have_not_ended_stay_when_a_drain_is_taken_back() -> Result<()> {
    let drained = Draining::start("policy: cut, after: 1s").await;
    let mut chat = drained.chat().await;
    drained.ask("POST", "/drain").await;
    drained.gateway.wait_metric(&drained.left("cut"), |left| left == 1.0).await?;
    drained.ask("POST", "/undrain").await;
    ensure!(drained.gateway.metric(&drained.left("cut"))? == 0.0);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    chat.message(b"three", true)?;
    let answer = chat.answer().await?;
    ensure!((answer.status(), answer.messages.len()) == (Some(0), 3), "{answer:?}");
    ensure!(drained.ended("drain_cut") == 0.0);
    Ok(())
}

/// The process ends as if it had not been asked to drain before, and does not wait for its delay again.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_drained_ends_when_it_is_told_to() -> Result<()> {
    let backend = Backend::start().await?;
    let setup = Setup::to([backend.address]).admin().root("shutdown_config: {timeout: 1h, delay: 500ms}");
    let mut gateway = setup.start(1)?;
    page::ask("POST", gateway.admin()?, "/drain").await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    gateway.process.signal("TERM")?;
    ensure!(gateway.process.wait()?.code() == Some(0));
    Ok(())
}
