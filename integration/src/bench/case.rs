//! The cases that are compared.

use super::load::call::Shape;

/// A closed loop of calls.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name on the command line and in the result.
    pub id: &'static str,
    /// Its name for readers.
    pub title: &'static str,
    /// Connections.
    pub connections: usize,
    /// Calls at once on each.
    pub streams: usize,
    /// Calls of a full run: about a second's work for the slowest.
    pub calls: usize,
    /// What a call is.
    pub shape: Shape,
}

/// The case that latency, system calls and scaling are measured with.
pub const USUAL: Case = Case {
    id: "unary-100b-10x10",
    title: "unary 100 B, 10 connections x 10 calls",
    connections: 10,
    streams: 10,
    calls: 60_000,
    shape: Shape::Unary { size: 100 },
};

/// All of them, without TLS.
pub const CASES: [Case; 8] = [
    USUAL,
    Case {
        id: "unary-100b-10x100",
        title: "unary 100 B, 10 x 100",
        connections: 10,
        streams: 100,
        calls: 80_000,
        shape: Shape::Unary { size: 100 },
    },
    Case {
        id: "unary-100b-100x1",
        title: "unary 100 B, 100 x 1",
        connections: 100,
        streams: 1,
        calls: 40_000,
        shape: Shape::Unary { size: 100 },
    },
    Case {
        id: "unary-1k-10x10",
        title: "unary 1 KiB, 10 x 10",
        connections: 10,
        streams: 10,
        calls: 40_000,
        shape: Shape::Unary { size: 1024 },
    },
    Case {
        id: "unary-64k-10x10",
        title: "unary 64 KiB each way, 10 x 10",
        connections: 10,
        streams: 10,
        calls: 5_000,
        shape: Shape::Unary { size: 64 * 1024 },
    },
    Case {
        id: "stream-100x100b",
        title: "server stream of 100 x 100 B, 10 x 10",
        connections: 10,
        streams: 10,
        calls: 6_000,
        shape: Shape::Stream { messages: 100, size: 100 },
    },
    Case {
        id: "ping-pong-100x100b",
        title: "bidi stream, 100 B there and back 100 times, 10 x 10",
        connections: 10,
        streams: 10,
        calls: 600,
        shape: Shape::PingPong { messages: 100, size: 100 },
    },
    Case {
        id: "one-at-a-time",
        title: "one call of 100 B at a time",
        connections: 1,
        streams: 1,
        calls: 10_000,
        shape: Shape::Unary { size: 100 },
    },
];
