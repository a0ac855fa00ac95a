//! RFC 9113 section 6: each type of frame, and the windows.

use weir_integration::peers::raw::{Raw, flag, kind};

use super::case::*;

/// SETTINGS (RFC 9113 6.5.2).
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// A call of which the backend sends one message of 100 bytes: 105 bytes of DATA.
fn speaking(raw: &mut Raw) {
    raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[("x-do", "say=100")]));
}

/// The bytes of DATA of the next so many frames of DATA on stream 1.
fn data(raw: &mut Raw, frames: usize) -> Result<Vec<usize>, String> {
    (0..frames)
        .map(|_| {
            let frame = raw.until(|frame| frame.kind == kind::DATA && frame.stream == 1);
            frame.map(|frame| frame.payload.len()).map_err(|error| format!("{error:#}"))
        })
        .collect()
}

fn is(found: Result<Vec<usize>, String>, expected: &[usize]) -> Expect {
    Expect::Found(match found {
        Ok(found) if found == expected => Ok(()),
        other => Err(format!("DATA of {other:?}")),
    })
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "6.1: DATA",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &call(&[]));
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"\0\0\0\0\x04test");
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.1: several DATA frames",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &call(&[]));
            raw.frame(kind::DATA, flag::NONE, 1, b"\0\0\0\0\x04te");
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"st");
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.1: DATA with padding",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &call(&[]));
            raw.frame(kind::DATA, flag::END_STREAM | flag::PADDED, 1, b"\x06\0\0\0\0\x04test\0\0\0\0\0\0");
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.1: DATA that is empty",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &call(&[]));
            raw.frame(kind::DATA, flag::END_STREAM, 1, &[]);
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.1: DATA on stream 0",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::DATA, flag::NONE, 0, b"test");
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.1: DATA on a stream that is not open",
        steps: |raw| {
            open(raw, flag::END_STREAM);
            raw.frame(kind::DATA, flag::NONE, 1, b"test");
            Expect::Stream(1, &[STREAM_CLOSED])
        },
    },
    Case {
        name: "6.1: DATA with more padding than payload",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::DATA, flag::END_STREAM | flag::PADDED, 1, b"\x64test");
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.2: HEADERS with padding",
        steps: |raw| {
            begin(raw);
            let payload = [&[4][..], &call(&[]), &[0; 4]].concat();
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM | flag::PADDED, 1, &payload);
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.2: HEADERS with a priority",
        steps: |raw| {
            begin(raw);
            let payload = [&[0, 0, 0, 0, 255][..], &call(&[])].concat();
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY, 1, &payload);
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.2: HEADERS with a priority and padding",
        steps: |raw| {
            begin(raw);
            let payload = [&[2, 0x80, 0, 0, 7, 0][..], &call(&[]), &[0; 2]].concat();
            let flags = flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY | flag::PADDED;
            raw.frame(kind::HEADERS, flags, 1, &payload);
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.2: HEADERS without END_HEADERS, and a PRIORITY",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_STREAM, 1, &call(&[]));
            raw.frame(kind::PRIORITY, flag::NONE, 3, &[0, 0, 0, 0, 255]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.2: HEADERS without END_HEADERS, and DATA",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::NONE, 1, &call(&[]));
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"test");
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.2: HEADERS on stream 0",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 0, &call(&[]));
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.2: HEADERS with more padding than payload",
        steps: |raw| {
            begin(raw);
            let payload = [&[255][..], &call(&[])[..20]].concat();
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM | flag::PADDED, 1, &payload);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.3: PRIORITY of weight 1",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 0, 0]);
            Expect::Alive
        },
    },
    Case {
        name: "6.3: PRIORITY that depends on another stream, exclusively",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::PRIORITY, flag::NONE, 1, &[0x80, 0, 0, 9, 255]);
            Expect::Alive
        },
    },
    Case {
        name: "6.3: PRIORITY on stream 0",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PRIORITY, flag::NONE, 0, &[0, 0, 0, 0, 255]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.3: PRIORITY of another length",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 0]);
            Expect::Stream(1, &[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "6.4: RST_STREAM on an open stream",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::RST_STREAM, flag::NONE, 1, &[0, 0, 0, 8]);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &call(&[]));
            Expect::Answer(3)
        },
    },
    Case {
        name: "6.4: RST_STREAM on stream 0",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::RST_STREAM, flag::NONE, 0, &[0, 0, 0, 8]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.4: RST_STREAM on a stream that was never opened",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::RST_STREAM, flag::NONE, 7, &[0, 0, 0, 8]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.4: RST_STREAM of another length",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::RST_STREAM, flag::NONE, 1, &[0, 0, 0]);
            Expect::Connection(&[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "6.5: SETTINGS are acknowledged",
        steps: |raw| {
            begin(raw);
            raw.settings(&[(1, 4096)]);
            // The first acknowledges those of the beginning.
            let mut both = || -> Result<(), String> {
                for _ in 0..2 {
                    raw.until(|frame| frame.kind == kind::SETTINGS && frame.flags == flag::ACK)
                        .map_err(|error| format!("{error:#}"))?;
                }
                Ok(())
            };
            Expect::Found(both())
        },
    },
    Case {
        name: "6.5: SETTINGS that acknowledge with a payload",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]);
            Expect::Connection(&[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "6.5: SETTINGS on a stream",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::SETTINGS, flag::NONE, 1, &[0, 3, 0, 0, 0, 100]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.5: SETTINGS of another length",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::SETTINGS, flag::NONE, 0, &[0, 3, 0]);
            Expect::Connection(&[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "6.5.2: SETTINGS_ENABLE_PUSH of 2",
        steps: |raw| {
            begin(raw);
            raw.settings(&[(ENABLE_PUSH, 2)]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.5.2: SETTINGS_INITIAL_WINDOW_SIZE over 2^31 - 1",
        steps: |raw| {
            begin(raw);
            raw.settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]);
            Expect::Connection(&[FLOW_CONTROL_ERROR])
        },
    },
    Case {
        name: "6.5.2: SETTINGS_MAX_FRAME_SIZE below 16,384",
        steps: |raw| {
            begin(raw);
            raw.settings(&[(MAX_FRAME_SIZE, 16_383)]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.5.2: SETTINGS_MAX_FRAME_SIZE over 2^24 - 1",
        steps: |raw| {
            begin(raw);
            raw.settings(&[(MAX_FRAME_SIZE, 1 << 24)]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.5.2: an unknown setting is ignored",
        steps: |raw| {
            begin(raw);
            raw.settings(&[(0xff, 1)]);
            Expect::Alive
        },
    },
    Case {
        name: "6.5.3: of several values of a setting the last holds",
        steps: |raw| {
            begin_with(raw, &[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]);
            speaking(raw);
            is(data(raw, 1), &[1])
        },
    },
    Case {
        name: "6.6: PUSH_PROMISE from a client",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[&[0, 0, 0, 2][..], &call(&[])].concat());
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.7: PING is answered with what it says",
        steps: |raw| {
            begin(raw);
            Expect::Alive
        },
    },
    Case {
        name: "6.7: PING that is an answer is not answered",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PING, flag::ACK, 0, b"unasked!");
            raw.frame(kind::PING, flag::NONE, 0, b"question");
            let first = raw.until(|frame| frame.kind == kind::PING);
            Expect::Found(match first {
                Ok(frame) if frame.payload == b"question" => Ok(()),
                other => Err(format!("{other:?}")),
            })
        },
    },
    Case {
        name: "6.7: PING on a stream",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::PING, flag::NONE, 1, &[0; 8]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.7: PING of another length",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PING, flag::NONE, 0, &[0; 7]);
            Expect::Connection(&[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "6.8: GOAWAY",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::GOAWAY, flag::NONE, 0, &[0; 8]);
            // The call that is open goes on.
            Expect::Alive
        },
    },
    Case {
        name: "6.8: GOAWAY on a stream",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::GOAWAY, flag::NONE, 1, &[0; 8]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.9: WINDOW_UPDATE of the connection",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 0, &[0, 0, 0, 1]);
            Expect::Alive
        },
    },
    Case {
        name: "6.9: WINDOW_UPDATE of a stream",
        steps: |raw| {
            begin_with(raw, &[(INITIAL_WINDOW_SIZE, 0)]);
            speaking(raw);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0, 0, 0, 7]);
            is(data(raw, 1), &[7])
        },
    },
    Case {
        name: "6.9: WINDOW_UPDATE of the connection by nothing",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 0, &[0; 4]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.9: WINDOW_UPDATE of a stream by nothing",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0; 4]);
            Expect::Stream(1, &[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.9: WINDOW_UPDATE of another length",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 0, &[0, 0, 1]);
            Expect::Connection(&[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "6.9.1: no more DATA than the window",
        steps: |raw| {
            begin_with(raw, &[(INITIAL_WINDOW_SIZE, 1)]);
            speaking(raw);
            is(data(raw, 1), &[1])
        },
    },
    Case {
        name: "6.9.1: the connection's window over 2^31 - 1",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 0, &[0x7f, 0xff, 0xff, 0xff]);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 0, &[0x7f, 0xff, 0xff, 0xff]);
            Expect::Connection(&[FLOW_CONTROL_ERROR])
        },
    },
    Case {
        name: "6.9.1: a stream's window over 2^31 - 1",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0x7f, 0xff, 0xff, 0xff]);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0x7f, 0xff, 0xff, 0xff]);
            Expect::Stream(1, &[FLOW_CONTROL_ERROR])
        },
    },
    Case {
        name: "6.9.2: SETTINGS_INITIAL_WINDOW_SIZE changes the windows of open streams",
        steps: |raw| {
            begin_with(raw, &[(INITIAL_WINDOW_SIZE, 0)]);
            speaking(raw);
            raw.settings(&[(INITIAL_WINDOW_SIZE, 1)]);
            is(data(raw, 1), &[1])
        },
    },
    Case {
        name: "6.9.2: a window may become negative",
        steps: |raw| {
            begin_with(raw, &[(INITIAL_WINDOW_SIZE, 3)]);
            speaking(raw);
            let first = data(raw, 1);
            raw.settings(&[(INITIAL_WINDOW_SIZE, 2)]);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0, 0, 0, 2]);
            let then = data(raw, 1);
            is(first.and_then(|first| Ok([first, then?].concat())), &[3, 1])
        },
    },
    Case {
        name: "6.9.2: SETTINGS_INITIAL_WINDOW_SIZE that lets a stream's window overflow",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::WINDOW_UPDATE, flag::NONE, 1, &[0x7f, 0, 0, 0]);
            raw.settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
            Expect::Connection(&[FLOW_CONTROL_ERROR])
        },
    },
    Case {
        name: "6.10: a CONTINUATION",
        steps: |raw| {
            begin(raw);
            let block = call(&[]);
            raw.frame(kind::HEADERS, flag::END_STREAM, 1, &block[..9]);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[9..]);
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.10: several CONTINUATION frames",
        steps: |raw| {
            begin(raw);
            let block = call(&[]);
            raw.frame(kind::HEADERS, flag::END_STREAM, 1, &block[..9]);
            raw.frame(kind::CONTINUATION, flag::NONE, 1, &block[9..20]);
            raw.frame(kind::CONTINUATION, flag::NONE, 1, &[]);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[20..]);
            Expect::Answer(1)
        },
    },
    Case {
        name: "6.10: DATA between CONTINUATION frames",
        steps: |raw| {
            begin(raw);
            let block = call(&[]);
            raw.frame(kind::HEADERS, flag::NONE, 1, &block[..9]);
            raw.frame(kind::CONTINUATION, flag::NONE, 1, &block[9..20]);
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"test");
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.10: CONTINUATION on stream 0",
        steps: |raw| {
            begin(raw);
            let block = call(&[]);
            raw.frame(kind::HEADERS, flag::END_STREAM, 1, &block[..9]);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 0, &block[9..]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.10: CONTINUATION after the end of a header block",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &call(&[]));
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.10: CONTINUATION after a CONTINUATION that ended its header block",
        steps: |raw| {
            begin(raw);
            let block = held();
            raw.frame(kind::HEADERS, flag::NONE, 1, &block[..9]);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[9..]);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "6.10: CONTINUATION after DATA",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::DATA, flag::NONE, 1, b"test");
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &call(&[]));
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
];
