//! One case: what a client sends, and what a server must do.

use std::net::SocketAddr;
use std::time::Duration;

use weir_integration::peers::backend::DO;
use weir_integration::peers::raw::{Frame, Raw, block, flag, kind};

/// How long a server may take. Silence is only waited for where it is wrong.
const PATIENCE: Duration = Duration::from_secs(5);

/// Error codes (RFC 9113 7).
pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const COMPRESSION_ERROR: u32 = 9;

/// What a client sends, and what a server must do.
#[derive(Clone, Copy)]
pub(super) struct Case {
    /// The section of RFC 9113 or 7541, and what is done.
    pub(super) name: &'static str,
    pub(super) steps: fn(&mut Raw) -> Expect,
}

/// What a server must do then.
#[derive(Clone, Debug)]
pub(super) enum Expect {
    /// End the connection: GOAWAY with one of these errors. Just to close it is less than the specification asks, which says
    /// "SHOULD first send a GOAWAY frame" (RFC 9113 5.4.1).
    Connection(&'static [u32]),
    /// Reset the stream with one of these errors. A server may take it for a connection error (RFC 9113 5.4.2).
    Stream(u32, &'static [u32]),
    /// The same, or a response to what is malformed (RFC 9113 8.1.1 allows an HTTP error before the reset).
    Malformed(u32),
    /// Answer the request on this stream: response headers, then its end.
    Answer(u32),
    /// Go on as if nothing had been: a PING is answered.
    Alive,
    /// What the steps found out themselves.
    Found(Result<(), String>),
}

/// What a server has done.
#[derive(Debug)]
pub(super) enum Outcome {
    Right,
    /// The error that it had to find, under another code.
    OtherCode(u32),
    Wrong(String),
}

impl Case {
    /// Runs on a connection of its own.
    pub(super) fn run(&self, address: SocketAddr) -> Outcome {
        match self.ends(address) {
            Ok(None) => Outcome::Right,
            Ok(Some(code)) => Outcome::OtherCode(code),
            Err(why) => Outcome::Wrong(why),
        }
    }

    /// How it ends; with the error code where that is another than the specification names.
    fn ends(&self, address: SocketAddr) -> Result<Option<u32>, String> {
        let mut raw = Raw::connect(address, PATIENCE).map_err(|error| format!("{error:#}"))?;
        let expect = (self.steps)(&mut raw);
        match expect {
            Expect::Found(found) => found.map(|()| None),
            Expect::Connection(codes) => ends(&mut raw, None, codes),
            Expect::Stream(stream, codes) => ends(&mut raw, Some(stream), codes),
            Expect::Malformed(stream) => refused(&mut raw, stream),
            Expect::Answer(stream) => answered(&mut raw, stream).map(|()| None),
            Expect::Alive => alive(&mut raw).map(|()| None),
        }
    }
}

fn next(raw: &mut Raw) -> Result<Option<Frame>, String> {
    raw.read_frame().map_err(|error| format!("{error:#}"))
}

fn ends(raw: &mut Raw, stream: Option<u32>, codes: &[u32]) -> Result<Option<u32>, String> {
    loop {
        match next(raw)? {
            Some(frame) if frame.kind == kind::GOAWAY => return one_of(&frame, codes),
            Some(frame) if frame.kind == kind::RST_STREAM && Some(frame.stream) == stream => {
                return one_of(&frame, codes);
            }
            Some(_) => {}
            None => return Err("the connection was closed without a word".to_owned()),
        }
    }
}

fn one_of(frame: &Frame, codes: &[u32]) -> Result<Option<u32>, String> {
    match frame.error() {
        Some(code) if codes.contains(&code) => Ok(None),
        // A server that goes away in good order has seen no error.
        Some(code) if code != NO_ERROR => Ok(Some(code)),
        code => Err(format!("error {code:?} in a frame of type {}, not of {codes:?}", frame.kind)),
    }
}

/// A malformed request: reset, or answered with an HTTP error.
fn refused(raw: &mut Raw, stream: u32) -> Result<Option<u32>, String> {
    loop {
        match next(raw)? {
            Some(frame) if frame.kind == kind::GOAWAY => return one_of(&frame, &[PROTOCOL_ERROR]),
            Some(frame) if frame.stream == stream && frame.kind == kind::RST_STREAM => {
                return one_of(&frame, &[PROTOCOL_ERROR]);
            }
            // `:status: 400` of the static table (RFC 7541 A): 12.
            Some(frame) if frame.stream == stream && frame.kind == kind::HEADERS => {
                return if frame.payload.first() == Some(&0x8c) {
                    Ok(None)
                } else {
                    Err(format!("it was answered: {:x?}", frame.payload))
                };
            }
            Some(_) => {}
            None => return Err("the connection was closed without a word".to_owned()),
        }
    }
}

fn answered(raw: &mut Raw, stream: u32) -> Result<(), String> {
    let mut begun = false;
    loop {
        match next(raw)? {
            Some(frame) if frame.stream == stream && frame.kind == kind::RST_STREAM => {
                return Err(format!("the stream was reset with {:?}", frame.error()));
            }
            Some(frame) if frame.kind == kind::GOAWAY => return Err(format!("GOAWAY with {:?}", frame.error())),
            Some(frame) if frame.stream == stream => {
                begun |= frame.kind == kind::HEADERS;
                if begun && frame.flags & flag::END_STREAM != 0 {
                    return Ok(());
                }
            }
            Some(_) => {}
            None => return Err("the connection was closed".to_owned()),
        }
    }
}

pub(super) fn alive(raw: &mut Raw) -> Result<(), String> {
    let token = b"are you?";
    raw.frame(kind::PING, flag::NONE, 0, token);
    loop {
        match next(raw)? {
            Some(frame) if frame.kind == kind::PING && frame.flags == flag::ACK && frame.payload == token => {
                return Ok(());
            }
            Some(frame) if frame.kind == kind::GOAWAY => return Err(format!("GOAWAY with {:?}", frame.error())),
            Some(frame) if frame.kind == kind::RST_STREAM => {
                return Err(format!("a stream was reset with {:?}", frame.error()));
            }
            Some(_) => {}
            None => return Err("the connection was closed".to_owned()),
        }
    }
}

/// The fields of a call that a backend answers at once.
pub(super) const CALL: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/conformance.Test/Call"),
    (":authority", "conformance.test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
];

/// The header block of a call with further fields.
pub(super) fn call(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&CALL[..], more].concat())
}

/// The same without the field of this name.
pub(super) fn call_without(name: &str) -> Vec<u8> {
    let fields: Vec<_> = CALL.into_iter().filter(|(known, _)| *known != name).collect();
    block(&fields)
}

/// That of a call that stays open until it is reset: its response has begun, and does not end.
pub(super) fn held() -> Vec<u8> {
    call(&[(DO, "hold")])
}

/// Begins the connection. A server that cannot is found out by what follows.
pub(super) fn begin(raw: &mut Raw) {
    begin_with(raw, &[]);
}

pub(super) fn begin_with(raw: &mut Raw, settings: &[(u16, u32)]) {
    let _ = raw.begin(settings);
}

/// Begins the connection, and a call on stream 1 with these flags beside END_HEADERS.
pub(super) fn open(raw: &mut Raw, flags: u8) {
    begin(raw);
    raw.frame(kind::HEADERS, flag::END_HEADERS | flags, 1, &held());
}
