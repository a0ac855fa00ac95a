//! RFC 9113 sections 3 to 5.1.2: beginnings, frame formats, sizes, header blocks.

use weir_integration::peers::raw::{PREFACE, flag, frame, kind};

use super::case::*;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "3.4: the preface, SETTINGS, a request",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[]));
            Expect::Answer(1)
        },
    },
    Case {
        name: "3.4: the first frame of the server is SETTINGS",
        steps: |raw| Expect::Found(raw.begin(&[]).map_err(|error| format!("{error:#}"))),
    },
    Case {
        name: "3.4: a preface that is none",
        steps: |raw| {
            raw.send(b"INVALID CONNECTION PREFACE\r\n\r\n");
            // It may be closed without a word: whoever sent this does not speak HTTP/2.
            Expect::Found(loop {
                match raw.read_frame() {
                    Ok(Some(frame)) if frame.kind == kind::GOAWAY => {
                        break if frame.error() == Some(PROTOCOL_ERROR) { Ok(()) } else { Err(format!("{frame:?}")) };
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(format!("{error:#}")),
                }
            })
        },
    },
    Case {
        name: "3.4: a request before the server's SETTINGS have come",
        steps: |raw| {
            raw.send(PREFACE);
            raw.settings(&[]);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[]));
            Expect::Answer(1)
        },
    },
    Case {
        name: "3.4: PING in the place of the client's SETTINGS",
        steps: |raw| {
            raw.send(PREFACE);
            raw.frame(kind::PING, flag::NONE, 0, &[0; 8]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "4.1: a frame of an unknown type is ignored",
        steps: |raw| {
            begin(raw);
            raw.frame(0xff, 0, 0, &[0; 8]);
            Expect::Alive
        },
    },
    Case {
        name: "4.1: undefined flags are ignored",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PING, 0xfe, 0, &[0; 8]);
            Expect::Alive
        },
    },
    Case {
        name: "4.1: the reserved bit is ignored",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PING, flag::NONE, 0x8000_0000, &[0; 8]);
            Expect::Alive
        },
    },
    Case {
        name: "4.2: DATA of 16,384 bytes is taken",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &call(&[("x-do", "hold")]));
            raw.frame(kind::DATA, flag::NONE, 1, &[0; 16_384]);
            Expect::Alive
        },
    },
    Case {
        name: "4.2: DATA over SETTINGS_MAX_FRAME_SIZE",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::DATA, flag::NONE, 1, &[0; 16_385]);
            Expect::Stream(1, &[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "4.2: HEADERS over SETTINGS_MAX_FRAME_SIZE",
        steps: |raw| {
            begin(raw);
            let long = "x".repeat(16_385);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[("x-long", &long)]));
            Expect::Connection(&[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "4.2: SETTINGS over SETTINGS_MAX_FRAME_SIZE",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::SETTINGS, flag::NONE, 0, &[0; 16_386]);
            Expect::Connection(&[FRAME_SIZE_ERROR])
        },
    },
    Case {
        name: "4.3: a header block that cannot be decoded",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0xff; 8]);
            Expect::Connection(&[COMPRESSION_ERROR])
        },
    },
    Case {
        name: "4.3: PRIORITY within a header block",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_STREAM, 1, &call(&[]));
            raw.frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 0, 255]);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "4.3: HEADERS of another stream within a header block",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_STREAM, 1, &call(&[]));
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &call(&[]));
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.4.1: a connection error is told by GOAWAY",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PING, flag::NONE, 3, &[0; 8]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "5.4.1: after a connection error the connection ends",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::PING, flag::NONE, 0, &[0; 6]);
            Expect::Found(loop {
                match raw.read_frame() {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(format!("{error:#}")),
                }
            })
        },
    },
    Case {
        name: "5.5: a frame of an unknown type on a stream is ignored",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(0x16, 0xff, 1, b"unknown");
            Expect::Alive
        },
    },
    Case {
        name: "5.5: a frame of an unknown type within a header block",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_STREAM, 1, &call(&[]));
            raw.frame(0x16, 0, 0, &[0; 8]);
            raw.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[]);
            Expect::Connection(&[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "7: GOAWAY with an unknown error code",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::GOAWAY, flag::NONE, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]);
            // Whoever goes away may be left: what matters is that it is no error.
            raw.frame(kind::PING, flag::NONE, 0, b"anybody?");
            Expect::Found(loop {
                match raw.read_frame() {
                    Ok(Some(frame)) if frame.kind == kind::PING => break Ok(()),
                    Ok(Some(frame)) if frame.kind == kind::GOAWAY && frame.error() != Some(NO_ERROR) => {
                        break Err(format!("GOAWAY with {:?}", frame.error()));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(format!("{error:#}")),
                }
            })
        },
    },
    Case {
        name: "7: RST_STREAM with an unknown error code",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::RST_STREAM, flag::NONE, 1, &[0, 0, 0, 0xff]);
            Expect::Alive
        },
    },
    Case {
        name: "4.1: frames that come byte by byte",
        steps: |raw| {
            begin(raw);
            for byte in frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call(&[])) {
                raw.send(&[byte]);
            }
            Expect::Answer(1)
        },
    },
];
