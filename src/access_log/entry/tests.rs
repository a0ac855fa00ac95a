//! A line is held against what serde_json makes of the same entry.

use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::*;

/// The line, as serde_json is told of it.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    listener: &'a str,
    peer: String,
    method: &'a str,
    authority: Option<&'a str>,
    route: Option<&'a str>,
    cluster: Option<&'a str>,
    endpoint: Option<&'a str>,
    status: &'static str,
    upstream_status: Option<&'static str>,
    message: Option<&'a str>,
    duration_ms: f64,
    first_message_ms: Option<f64>,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    attempts: u32,
    ended_by: &'static str,
    tls_version: Option<&'static str>,
    client_subject: Option<&'a str>,
    client_uri: Option<&'a str>,
    client_dns: Option<&'a str>,
}

fn by_serde_json(entry: &Entry<'_>) -> String {
    let mut time = Vec::new();
    Clock::default().write(&mut time, entry.time);
    let line = Line {
        time: String::from_utf8(time).expect("text"),
        listener: entry.listener,
        peer: entry.peer.to_string(),
        method: entry.method,
        authority: entry.authority,
        route: entry.route,
        cluster: entry.cluster,
        endpoint: entry.endpoint,
        status: entry.status.name(),
        upstream_status: entry.upstream_status.map(Code::name),
        message: entry.message,
        duration_ms: millis(entry.duration),
        first_message_ms: entry.first_message.map(millis),
        messages_in: entry.messages_in,
        messages_out: entry.messages_out,
        bytes_in: entry.bytes_in,
        bytes_out: entry.bytes_out,
        attempts: entry.attempts,
        ended_by: entry.ended_by.name(),
        tls_version: None,
        client_subject: None,
        client_uri: None,
        client_dns: None,
    };
    serde_json::to_string(&line).expect("a line") + "\n"
}

/// Milliseconds with three decimals.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn written(entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    entry.write(&mut out, &mut Clock::default());
    String::from_utf8(out).expect("text")
}

fn plain() -> Entry<'static> {
    Entry {
        time: UNIX_EPOCH + Duration::from_millis(1_795_132_799_987),
        listener: "grpc",
        peer: Peer::Ip(([127, 0, 0, 1], 49_528).into()),
        method: "/weir.demo.v1.Echo/Unary",
        authority: Some("orders.example.com"),
        route: Some("echo"),
        cluster: Some("echo"),
        endpoint: Some("127.0.0.1:50051"),
        status: Code::Ok,
        upstream_status: Some(Code::Ok),
        message: None,
        duration: Duration::from_micros(732),
        first_message: Some(Duration::from_micros(699)),
        messages_in: 1,
        messages_out: 1,
        bytes_in: 12,
        bytes_out: 14,
        attempts: 1,
        ended_by: Ending::Backend,
        tls: None,
    }
}

/// A generator of pseudo-random numbers (xorshift64), the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Mostly plain, with what needs an escape and what must have none at any place.
    fn text(&mut self) -> String {
        let odd = ['"', '\\', '/', '\u{8}', '\t', '\n', '\u{c}', '\r', '\u{7f}', 'é', '€', '🦀', '\u{2028}', '\0'];
        let oddness = 1 + self.below(12);
        let one = |dice: &mut Dice| match dice.below(oddness) {
            0 => odd[dice.below(odd.len() as u64) as usize],
            1 => char::from(dice.below(128) as u8),
            2 => char::from_u32(dice.below(0x3000) as u32).expect("below the surrogates"),
            _ => char::from(b'a' + dice.below(26) as u8),
        };
        (0..self.below(40)).map(|_| one(self)).collect()
    }

    fn optional(&mut self) -> Option<String> {
        (self.below(4) > 0).then(|| self.text())
    }

    fn number(&mut self) -> u64 {
        let bits = self.below(64);
        self.below(u64::MAX) >> bits
    }

    fn duration(&mut self) -> Duration {
        // A tie between two microseconds goes either way in floating point, and so does what is near one in years.
        let nanos = self.number() >> 14;
        Duration::from_nanos(if nanos % 1000 == 500 { nanos + 1 } else { nanos })
    }

    fn peer(&mut self) -> Peer {
        let port = self.below(65_536) as u16;
        match self.below(4) {
            0 => Peer::Unix { user: self.number() as u32, process: Some(self.below(1 << 22) as i32) },
            1 => {
                let ip = std::net::Ipv6Addr::from_bits(u128::from(self.number()) << self.below(65));
                SocketAddr::from((ip, port)).into()
            }
            _ => SocketAddr::from((std::net::Ipv4Addr::from_bits(self.number() as u32), port)).into(),
        }
    }
}

#[test]
fn line_is_the_one_of_serde_json() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let endings = [Ending::Backend, Ending::Gateway, Ending::ClientCancel, Ending::ClientGone, Ending::EndpointRemoved];
    for _ in 0..20_000 {
        let (listener, method) = (dice.text(), dice.text());
        let [authority, route, cluster, endpoint, message] = [(); 5].map(|()| dice.optional());
        let code = |dice: &mut Dice| Code::from_number(dice.below(17) as u8).expect("a code");
        let entry = Entry {
            time: UNIX_EPOCH + Duration::from_millis(dice.below(1 << 42)),
            listener: &listener,
            peer: dice.peer(),
            method: &method,
            authority: authority.as_deref(),
            route: route.as_deref(),
            cluster: cluster.as_deref(),
            endpoint: endpoint.as_deref(),
            status: code(&mut dice),
            upstream_status: (dice.below(2) == 0).then(|| code(&mut dice)),
            message: message.as_deref(),
            duration: dice.duration(),
            first_message: (dice.below(2) == 0).then(|| dice.duration()),
            messages_in: dice.number(),
            messages_out: dice.number(),
            bytes_in: dice.number(),
            bytes_out: dice.number(),
            attempts: dice.number() as u32,
            ended_by: endings[dice.below(endings.len() as u64) as usize],
            tls: None,
        };
        assert_eq!(written(&entry), by_serde_json(&entry));
    }
}

#[test]
fn every_byte_of_a_string_is_the_one_of_serde_json_at_every_place() {
    for odd in (0..=0xff_u8).map(char::from) {
        for place in 0..17 {
            let text = format!("{}{odd}{}", "a".repeat(place), "z".repeat(16 - place));
            let entry = Entry { message: Some(&text), ..plain() };
            assert_eq!(written(&entry), by_serde_json(&entry));
        }
    }
}

#[test]
fn every_duration_is_the_one_of_serde_json() {
    let edges = [0, 1, 499, 501, 999_499, 999_501, 9_999_501, 3_600_000_000_000, 999_999_999_999_999, 1 << 56];
    let thousandths = (0..2_000).map(|micros| micros * 1_000);
    for nanos in edges.into_iter().chain(thousandths) {
        let entry = Entry { duration: Duration::from_nanos(nanos), ..plain() };
        assert_eq!(written(&entry), by_serde_json(&entry));
    }
}

#[test]
fn scope_of_an_address_is_the_one_of_serde_json() {
    let scoped = std::net::SocketAddrV6::new("fe80::1".parse().expect("an address"), 50_051, 0, 2);
    let entry = Entry { peer: Peer::Ip(scoped.into()), ..plain() };
    assert_eq!(written(&entry), by_serde_json(&entry));
    assert!(written(&entry).contains(r#""peer":"[fe80::1%2]:50051""#));
}
