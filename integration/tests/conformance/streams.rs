//! RFC 9113 section 5: the states of streams, their identifiers, their number, dependencies.

use weir_integration::peers::raw::{Raw, flag, kind};

use super::case::*;

/// A call on stream 1 that the client has ended, and whose response goes on.
fn half_closed(raw: &mut Raw) {
    open(raw, flag::END_STREAM);
}

/// A call on stream 1 that the client has reset.
fn reset(raw: &mut Raw) {
    open(raw, flag::NONE);
    raw.frame(kind::RST_STREAM, flag::NONE, 1, &[0, 0, 0, 8]);
}

/// A call on stream 1 that has ended on both sides.
fn closed(raw: &mut Raw) {
    begin(raw);
    raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[]));
    let _ = raw.until(|frame| frame.stream == 1 && frame.kind == kind::HEADERS && frame.flags & flag::END_STREAM != 0);
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "5.1: DATA on an idle stream",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"test");
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1: RST_STREAM on an idle stream",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::RST_STREAM, flag::NONE, 1, &[0, 0, 0, 8]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1: WINDOW_UPDATE on an idle stream",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0, 0, 0, 100]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1: CONTINUATION on an idle stream",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &call(&[]));
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1: PRIORITY on an idle stream is allowed",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 0, 255]);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[]));
            Expect::Answer(1)
        },
    },
    Case {
        name: "5.1: DATA after the end of the request",
        steps: |raw| {
            half_closed(raw);
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"test");
            Expect::Stream(1, &[STREAM_CLOSED])
        },
    },
    Case {
        name: "5.1: HEADERS after the end of the request",
        steps: |raw| {
            half_closed(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[]));
            Expect::Stream(1, &[STREAM_CLOSED])
        },
    },
    Case {
        name: "5.1: CONTINUATION after the end of the request",
        steps: |raw| {
            half_closed(raw);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &call(&[]));
            Expect::Stream(1, &[STREAM_CLOSED, PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1: WINDOW_UPDATE after the end of the request is allowed",
        steps: |raw| {
            half_closed(raw);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0, 0, 0, 1]);
            Expect::Alive
        },
    },
    Case {
        name: "5.1: PRIORITY after the end of the request is allowed",
        steps: |raw| {
            half_closed(raw);
            raw.frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 0, 255]);
            Expect::Alive
        },
    },
    Case {
        name: "5.1: RST_STREAM after the end of the request is allowed",
        steps: |raw| {
            half_closed(raw);
            raw.frame(kind::RST_STREAM, flag::NONE, 1, &[0, 0, 0, 8]);
            Expect::Alive
        },
    },
    Case {
        name: "5.1: DATA after RST_STREAM",
        steps: |raw| {
            reset(raw);
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"test");
            Expect::Stream(1, &[STREAM_CLOSED])
        },
    },
    Case {
        name: "5.1: HEADERS after RST_STREAM",
        steps: |raw| {
            reset(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[]));
            Expect::Stream(1, &[STREAM_CLOSED])
        },
    },
    Case {
        name: "5.1: CONTINUATION after RST_STREAM",
        steps: |raw| {
            reset(raw);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &call(&[]));
            Expect::Stream(1, &[STREAM_CLOSED, PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1: DATA on a stream that has ended",
        steps: |raw| {
            closed(raw);
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"test");
            Expect::Stream(1, &[STREAM_CLOSED])
        },
    },
    Case {
        name: "5.1: HEADERS on a stream that has ended",
        steps: |raw| {
            closed(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[]));
            Expect::Connection(&[STREAM_CLOSED, PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1: CONTINUATION on a stream that has ended",
        steps: |raw| {
            closed(raw);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &call(&[]));
            Expect::Connection(&[STREAM_CLOSED, PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1: PRIORITY on a stream that has ended is allowed",
        steps: |raw| {
            closed(raw);
            raw.frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 0, 255]);
            Expect::Alive
        },
    },
    Case {
        name: "5.1: WINDOW_UPDATE on a stream that has ended is ignored",
        steps: |raw| {
            closed(raw);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0, 0, 0, 1]);
            Expect::Alive
        },
    },
    Case {
        name: "5.1: RST_STREAM on a stream that has ended is ignored",
        steps: |raw| {
            closed(raw);
            raw.frame(kind::RST_STREAM, flag::NONE, 1, &[0, 0, 0, 8]);
            Expect::Alive
        },
    },
    Case {
        name: "5.1.1: a stream with an even number",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 2, &call(&[]));
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.1.1: a stream with a number below the last",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 5, &call(&[]));
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &call(&[]));
            Expect::Connection(&[PROTOCOL_ERROR, STREAM_CLOSED])
        },
    },
    Case {
        name: "5.1.1: numbers may be left out",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1001, &call(&[]));
            Expect::Answer(1001)
        },
    },
    Case {
        name: "5.1.2: more streams than SETTINGS_MAX_CONCURRENT_STREAMS",
        steps: |raw| {
            begin(raw);
            // The default of the listener is 1,000.
            for stream in 0..1001 {
                raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream * 2 + 1, &held());
            }
            Expect::Stream(2001, &[PROTOCOL_ERROR, REFUSED_STREAM])
        },
    },
    Case {
        name: "5.3: HEADERS whose stream depends on itself",
        steps: |raw| {
            begin(raw);
            let mut payload = vec![0, 0, 0, 1, 255];
            payload.extend(call(&[]));
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY, 1, &payload);
            // RFC 9113 5.3.2 has done away with dependencies; RFC 7540 5.3.1 makes this one an error. Both will do.
            Expect::Found(match answer_or_reset(raw, 1) {
                Some(PROTOCOL_ERROR) | None => Ok(()),
                Some(code) => Err(format!("error {code}")),
            })
        },
    },
    Case {
        name: "5.3: PRIORITY whose stream depends on itself",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 1, 255]);
            raw.frame(kind::PING, flag::NONE, 0, b"anybody?");
            Expect::Found(match answer_or_reset(raw, 1) {
                Some(PROTOCOL_ERROR) | None => Ok(()),
                Some(code) => Err(format!("error {code}")),
            })
        },
    },
];

/// The error of the stream or the connection; `None` when the stream's response begins or a PING is answered.
fn answer_or_reset(raw: &mut Raw, stream: u32) -> Option<u32> {
    let frame = raw
        .until(|frame| {
            matches!(frame.kind, kind::GOAWAY | kind::PING)
                || frame.stream == stream && matches!(frame.kind, kind::HEADERS | kind::RST_STREAM)
        })
        .ok()?;
    frame.error()
}
