//! RFC 9113 section 8: requests, well-formed and malformed.

use weir_integration::peers::raw::{Raw, block, flag, kind};

use super::case::*;

/// A request of this header block, which is malformed.
fn malformed(raw: &mut Raw, block: &[u8]) -> Expect {
    begin(raw);
    raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, block);
    Expect::Malformed(1)
}

/// A call with this field in front of those of a call.
fn before(field: (&str, &str)) -> Vec<u8> {
    block(&[&[field][..], &CALL].concat())
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "8.1: a request with trailers",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &call(&[]));
            raw.frame(kind::DATA, flag::NONE, 1, b"\0\0\0\0\x04test");
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&[("x-test", "ok")]));
            Expect::Answer(1)
        },
    },
    Case {
        name: "8.1: a second HEADERS frame that does not end the request",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::DATA, flag::NONE, 1, b"\0\0\0\0\x04test");
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[("x-test", "ok")]));
            Expect::Stream(1, &[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "8.1: GET and HEAD are answered",
        steps: |raw| {
            begin(raw);
            let get = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")]);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &get);
            let head = block(&[(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")]);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &head);
            Expect::Answer(3)
        },
    },
    Case { name: "8.2.1: an upper-case name", steps: |raw| malformed(raw, &call(&[("X-Test", "ok")])) },
    Case { name: "8.2.1: a name with a space", steps: |raw| malformed(raw, &call(&[("x test", "ok")])) },
    Case { name: "8.2.1: a name with a colon in it", steps: |raw| malformed(raw, &call(&[("x:test", "ok")])) },
    Case { name: "8.2.1: an empty name", steps: |raw| malformed(raw, &call(&[("", "ok")])) },
    Case { name: "8.2.1: a value with a line feed", steps: |raw| malformed(raw, &call(&[("x-test", "a\nb")])) },
    Case { name: "8.2.1: a value with a carriage return", steps: |raw| malformed(raw, &call(&[("x-test", "a\rb")])) },
    Case { name: "8.2.1: a value with a zero byte", steps: |raw| malformed(raw, &call(&[("x-test", "a\0b")])) },
    Case { name: "8.2.2: connection", steps: |raw| malformed(raw, &call(&[("connection", "keep-alive")])) },
    Case { name: "8.2.2: keep-alive", steps: |raw| malformed(raw, &call(&[("keep-alive", "timeout=5")])) },
    Case { name: "8.2.2: proxy-connection", steps: |raw| malformed(raw, &call(&[("proxy-connection", "keep-alive")])) },
    Case { name: "8.2.2: transfer-encoding", steps: |raw| malformed(raw, &call(&[("transfer-encoding", "chunked")])) },
    Case { name: "8.2.2: upgrade", steps: |raw| malformed(raw, &call(&[("upgrade", "h2c")])) },
    Case {
        name: "8.2.2: te other than trailers",
        steps: |raw| malformed(raw, &block(&[&CALL[..4], &[("te", "trailers, deflate")], &CALL[5..]].concat())),
    },
    Case { name: "8.3: an unknown pseudo-header", steps: |raw| malformed(raw, &before((":test", "ok"))) },
    Case { name: "8.3: a pseudo-header of responses", steps: |raw| malformed(raw, &before((":status", "200"))) },
    Case {
        name: "8.3: a pseudo-header in trailers",
        steps: |raw| {
            open(raw, flag::NONE);
            raw.frame(kind::DATA, flag::NONE, 1, b"\0\0\0\0\x04test");
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&[(":method", "POST")]));
            Expect::Stream(1, &[PROTOCOL_ERROR])
        },
    },
    Case { name: "8.3: a pseudo-header after a field", steps: |raw| malformed(raw, &before(("x-test", "ok"))) },
    Case {
        name: "8.3.1: an empty :path",
        steps: |raw| {
            let fields = [&CALL[..2], &[(":path", "")], &CALL[3..]].concat();
            malformed(raw, &block(&fields))
        },
    },
    Case { name: "8.3.1: no :method", steps: |raw| malformed(raw, &call_without(":method")) },
    Case { name: "8.3.1: no :scheme", steps: |raw| malformed(raw, &call_without(":scheme")) },
    Case { name: "8.3.1: no :path", steps: |raw| malformed(raw, &call_without(":path")) },
    Case {
        name: "8.3.1: no :authority is allowed",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call_without(":authority"));
            Expect::Answer(1)
        },
    },
    Case { name: "8.3.1: :method twice", steps: |raw| malformed(raw, &before((":method", "POST"))) },
    Case { name: "8.3.1: :scheme twice", steps: |raw| malformed(raw, &before((":scheme", "http"))) },
    Case { name: "8.3.1: :path twice", steps: |raw| malformed(raw, &before((":path", "/conformance.Test/Call"))) },
    Case { name: "8.3.1: :authority twice", steps: |raw| malformed(raw, &before((":authority", "conformance.test"))) },
    Case {
        name: "8.1.1: content-length of more than there is",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &call(&[("content-length", "10"), ("x-do", "hold")]));
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"\0\0\0\0\x04test");
            Expect::Stream(1, &[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "8.1.1: content-length of less than there is, in several frames",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS, 1, &call(&[("content-length", "8"), ("x-do", "hold")]));
            raw.frame(kind::DATA, flag::NONE, 1, b"\0\0\0\0\x04");
            raw.frame(kind::DATA, flag::END_STREAM, 1, b"test");
            Expect::Stream(1, &[PROTOCOL_ERROR])
        },
    },
    Case {
        name: "8.1.1: content-length without a body",
        steps: |raw| malformed(raw, &call(&[("content-length", "1"), ("x-do", "hold")])),
    },
];
