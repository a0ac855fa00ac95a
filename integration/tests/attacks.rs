//! What a hostile client can do costs itself its connection, and others nothing: the gateway stays up, calls of others go
//! on, and the metric says what it was.

#![allow(clippy::unwrap_used)]

use weir_integration::gateway::Gateway;
use weir_integration::peers::attacker::{Attacker, END_HEADERS, END_STREAM, PREFACE, field, frame, kind, request};
use weir_integration::peers::attacks::{Flood, bomb, flood, open, stream};
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD, Open};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

/// More than any budget holds, and than the time of a test brings.
const MANY: u32 = 400_000;

/// A gateway with an honest client, which has a call open.
struct Siege {
    backend: Backend,
    gateway: Gateway,
    client: Client,
    held: Open,
}

impl Siege {
    async fn begin(config: &str) -> Siege {
        let backend = Backend::start().await.unwrap();
        let gateway = Setup::to([backend.address]).admin().listener(config).start(1).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        let mut held = client.script("hold").await.unwrap();
        held.headers().await.unwrap();
        Siege { backend, gateway, client, held }
    }

    async fn attacker(&self) -> Attacker {
        Attacker::greet(self.gateway.listener("grpc").unwrap()).await.unwrap()
    }

    /// The connection of the attacker ends, while the calls of the other client go on.
    async fn flood(&self, next: impl FnMut(u32) -> Vec<u8>) {
        let attacker = self.attacker().await;
        let mut attack = Box::pin(attacker.flood(MANY, next));
        loop {
            tokio::select! {
                ended = &mut attack => return ended.unwrap(),
                answer = self.client.call(METHOD, &[]) => assert_eq!(answer.unwrap().status(), Some(0)),
            }
        }
    }

    async fn counted(&self, reason: &str, times: f64) {
        let series = format!("weir_abusive_connections_total{{listener=\"grpc\",reason=\"{reason}\"}}");
        let admin = self.gateway.admin().unwrap();
        let look = async || Ok(page::metric(admin, &series).await?.filter(|count| *count == times));
        eventually(&series, look).await.unwrap();
    }

    /// Everything is as it was.
    async fn outlived(self) {
        assert_eq!(self.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
        self.backend.release();
        assert_eq!(self.held.answer().await.unwrap().status(), Some(0));
    }

    async fn outlives(self, reason: &str, next: impl FnMut(u32) -> Vec<u8>) {
        self.flood(next).await;
        self.counted(reason, 1.0).await;
        self.outlived().await;
    }
}

/// A flood, with its own name in the metric.
async fn is_outlived(name: &str, config: &str) {
    let Flood { reason, next, .. } = flood(name).unwrap();
    Siege::begin(config).await.outlives(reason, next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_as_soon_as_they_are_opened() {
    is_outlived("cancel", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_the_gateway_is_made_to_reset() {
    is_outlived("overflow", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_without_end() {
    is_outlived("malformed", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_without_end() {
    is_outlived("ping", "").await;
    // And where pings may come as often as they like.
    is_outlived("ping", "http2: {keepalive_min_time: 0s, keepalive_permit_without_calls: true}").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_without_end() {
    is_outlived("settings", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_say_nothing_without_end() {
    for name in ["empty-data", "window-update", "priority", "unknown", "pong"] {
        is_outlived(name, "").await;
    }
}

/// h2 counts these itself.
#[tokio::test(flavor = "multi_thread")]
async fn header_blocks_without_end() {
    is_outlived("continuation", "").await;
    is_outlived("fields", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_bytes_that_become_many() {
    let siege = Siege::begin("").await;
    let mut attacker = siege.attacker().await;
    attacker.say(&bomb()).await.unwrap();
    attacker.ended().await.unwrap();
    siege.counted("http2_limits", 1.0).await;
    siege.outlived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_too_long_over_a_frame_or_the_preface() {
    let siege = Siege::begin("http2: {header_timeout: 1s}").await;
    let address = siege.gateway.listener("grpc").unwrap();
    let words = async |mut attacker: Attacker| {
        let goaway = attacker.until(kind::GOAWAY).await.unwrap();
        attacker.ended().await.unwrap();
        assert_eq!(goaway.payload[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
        String::from_utf8(goaway.payload[8..].to_vec()).unwrap()
    };
    let block = request("/attack.Service/Method");
    // HEADERS without END_HEADERS, half a HEADERS, half a SETTINGS.
    let whole = frame(kind::HEADERS, 0, 1, &block);
    let half = &frame(kind::HEADERS, END_HEADERS, 1, &block)[..20];
    let settings = &frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9])[..12];
    for bytes in [&whole, half, settings] {
        let mut attacker = siege.attacker().await;
        attacker.say(bytes).await.unwrap();
        assert_eq!(words(attacker).await, "frame_took_too_long");
    }
    // CONTINUATION after CONTINUATION, in good time each.
    let mut attacker = siege.attacker().await;
    attacker.say(&whole).await.unwrap();
    let dribble = async {
        while attacker.say(&frame(kind::CONTINUATION, 0, 1, &[])).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    dribble.await;
    siege.counted("slow_frame", 4.0).await;

    for bytes in [&b""[..], &PREFACE[..10], PREFACE] {
        let mut attacker = Attacker::connect(address).await.unwrap();
        attacker.say(bytes).await.unwrap();
        attacker.ended().await.unwrap();
    }
    siege.counted("slow_preface", 3.0).await;
    siege.outlived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_may_take_its_time() {
    let siege = Siege::begin("http2: {header_timeout: 300ms}").await;
    let mut attacker = siege.attacker().await;
    let data = frame(kind::DATA, 0, 1, b"\0\0\0\0\x05hello");
    attacker.say(&[open(1), data[..12].to_vec()].concat()).await.unwrap();
    attacker.until(kind::HEADERS).await.unwrap();
    // One that has begun later, and not with DATA, is gone before.
    let mut other = siege.attacker().await;
    other.say(&frame(kind::HEADERS, 0, 1, &[])).await.unwrap();
    other.until(kind::GOAWAY).await.unwrap();
    attacker.say(&data[12..]).await.unwrap();
    attacker.until(kind::DATA).await.unwrap();
    siege.outlived().await;
}

/// What HTTP/2 itself makes a fault of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_protocol_are_counted() {
    let siege = Siege::begin("").await;
    let mut attacker = siege.attacker().await;
    attacker.say(&frame(kind::DATA, 0, 0, &[0])).await.unwrap();
    attacker.until(kind::GOAWAY).await.unwrap();
    siege.counted("protocol_error", 1.0).await;
    siege.outlived().await;
}

/// It asks for a lot, opens no window and never reads: neither a flood nor an end. What it can make the gateway hold is
/// bounded, and the calls of others to the same backend go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_and_never_reads() {
    let siege = Siege::begin("http2: {max_concurrent_streams: 100}").await;
    let before = siege.gateway.resident_memory().unwrap();
    // A window of nothing (RFC 9113 6.5.2), which no response fits into.
    let mut closed = siege.attacker().await;
    closed.say(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await.unwrap();
    // And one with all windows open, whose socket fills up.
    let mut deaf = siege.attacker().await;
    let window = 0x3fff_ffff_u32.to_be_bytes();
    deaf.say(&frame(kind::SETTINGS, 0, 0, &[&[0, 4][..], &window].concat())).await.unwrap();
    deaf.say(&frame(kind::WINDOW_UPDATE, 0, 0, &window)).await.unwrap();
    let block = [request("/attack.Service/Method"), field(b"x-do", b"say=3000000")].concat();
    for number in 0..100 {
        let ask = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(number), &block);
        for attacker in [&mut closed, &mut deaf] {
            attacker.say(&ask).await.unwrap();
        }
    }
    siege.backend.until("the calls", |seen| seen.calls.len() >= 201).await.unwrap();
    // Pings that are answered into a socket that nobody reads.
    for _ in 0..2 {
        closed.say(&frame(kind::PING, 0, 0, &[0; 8])).await.unwrap();
    }
    for _ in 0..200 {
        assert_eq!(siege.client.call(METHOD, &[]).await.unwrap().status(), Some(0));
    }
    let grown = siege.gateway.resident_memory().unwrap().saturating_sub(before);
    // The window towards the backend and the queue towards the client, each with as much again for what they arrive in.
    let bound = 200 * 2 * (256 + 64) * 1024 + (8 << 20);
    assert!(grown < bound, "{grown} bytes for 200 streams, {bound} are allowed");
    siege.outlived().await;
}

/// It floods and does not read: what it has been sent fills its socket, and no turn of its connection ends any more. A call that waits
/// for one, since the flood may go on with its reset, still hears its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_behind_a_flood_of_a_client_that_never_reads() {
    let siege = Siege::begin("").await;
    let mut deaf = siege.attacker().await;
    let window = 0x3fff_ffff_u32.to_be_bytes();
    deaf.say(&frame(kind::SETTINGS, 0, 0, &[&[0, 4][..], &window].concat())).await.unwrap();
    deaf.say(&frame(kind::WINDOW_UPDATE, 0, 0, &window)).await.unwrap();
    let ask = |number, fields: &[(&str, &str)]| {
        let mut block = request("/attack.Service/Method");
        fields.iter().for_each(|(name, value)| block.extend(field(name.as_bytes(), value.as_bytes())));
        frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(number), &block)
    };
    let much: Vec<u8> = (0..10).flat_map(|number| ask(number, &[("x-do", "say=3000000")])).collect();
    deaf.say(&much).await.unwrap();
    siege.backend.until("the calls", |seen| seen.calls.len() == 11).await.unwrap();
    deaf.has_jammed().await.unwrap();
    let reset = |number| frame(kind::RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
    let flood = (10..50).flat_map(|number| [ask(number, &[]), reset(number)].concat());
    let last = ask(50, &[("x-do", "silent"), ("grpc-timeout", "300m")]);
    deaf.say(&flood.chain(last).collect::<Vec<u8>>()).await.unwrap();
    let late = "weir_calls_total{listener=\"grpc\",cluster=\"echo\",status=\"DEADLINE_EXCEEDED\"}";
    let admin = siege.gateway.admin().unwrap();
    eventually(late, async || Ok(page::metric(admin, late).await?.filter(|count| *count == 1.0))).await.unwrap();
    assert_eq!(siege.backend.seen().calls.len(), 11, "the last call did not wait");
    siege.outlived().await;
}
