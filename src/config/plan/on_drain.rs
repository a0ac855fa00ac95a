//! What a drain does to streams, as it runs.

use std::time::Duration;

/// What a drain does to the streams of a route. Calls that may be unary are waited for in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnDrain {
    /// When they end.
    pub policy: DrainPolicy,
    /// What a client is told by `grpc-retry-pushback-ms` (gRFC A6).
    pub pushback: Duration,
}

/// When a drain ends streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainPolicy {
    /// Not at all.
    #[default]
    Wait,
    /// Each at the first boundary of its messages after a moment of its own in this time.
    EndAtMessageBoundary(Duration),
    /// After this time, in the middle of a message if need be.
    Cut(Duration),
}

impl DrainPolicy {
    /// As the file has them.
    pub const NAMES: [&'static str; 3] = ["wait", "end_at_message_boundary", "cut"];

    /// As the file has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DrainPolicy::Wait => Self::NAMES[0],
            DrainPolicy::EndAtMessageBoundary(_) => Self::NAMES[1],
            DrainPolicy::Cut(_) => Self::NAMES[2],
        }
    }
}
