//! What a filter says it wants to see.

use std::ops::BitOr;

/// The parts of a call that a filter looks at.
///
/// A chain computes the union of its filters' needs once, when it is built. What no filter of a chain needs is never
/// prepared: a chain without [`Needs::REQUEST_MESSAGES`] never joins or copies a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs(u8);

impl Needs {
    /// Nothing at all.
    pub const NONE: Needs = Needs(0);
    /// The request's metadata: [`request`](crate::Filter::request).
    pub const REQUEST: Needs = Needs(1);
    /// The response's metadata: [`response`](crate::Filter::response).
    pub const RESPONSE: Needs = Needs(1 << 1);
    /// The trailers: [`trailers`](crate::Filter::trailers).
    pub const TRAILERS: Needs = Needs(1 << 2);
    /// Whole messages from client to backend: [`message`](crate::Filter::message) with
    /// [`Direction::Request`](crate::Direction::Request).
    pub const REQUEST_MESSAGES: Needs = Needs(1 << 3);
    /// Whole messages from backend to client: [`message`](crate::Filter::message) with
    /// [`Direction::Response`](crate::Direction::Response).
    pub const RESPONSE_MESSAGES: Needs = Needs(1 << 4);
    /// How the call ended: [`finish`](crate::Filter::finish).
    pub const FINISH: Needs = Needs(1 << 5);

    /// True when every part in `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Needs) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when no part is needed.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Needs {
    type Output = Needs;

    fn bitor(self, other: Needs) -> Needs {
        Needs(self.0 | other.0)
    }
}
