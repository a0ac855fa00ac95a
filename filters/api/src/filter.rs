//! The hooks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::call::{Call, Outcome, ResponseHead};
use crate::config::ConfigError;
use crate::needs::Needs;
use crate::status::Status;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the backend.
    Request,
    /// From the backend to the client.
    Response,
}

/// What [`Filter::request`] decides.
///
/// Boxed futures appear only where a filter waits: [`Step::Next`] and [`Step::Reply`] allocate nothing of their own.
pub enum Step<'a> {
    /// On to the next filter.
    Next,
    /// The call ends here with this status; no backend sees it.
    Reply(Status),
    /// Not known yet. The call waits; its deadline goes on, and the future is dropped if the client leaves.
    Wait(Pin<Box<dyn Future<Output = Result<(), Status>> + 'a>>),
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Next => f.write_str("Next"),
            Step::Reply(status) => f.debug_tuple("Reply").field(status).finish(),
            Step::Wait(_) => f.write_str("Wait"),
        }
    }
}

/// What [`Filter::message`] decides.
pub enum MessageStep<'a> {
    /// Pass this message on. Returning the bytes that came in costs nothing.
    Pass(Bytes),
    /// The call ends here with this status.
    Reply(Status),
    /// Not known yet. This direction of the call waits; the other goes on.
    Wait(Pin<Box<dyn Future<Output = Result<Bytes, Status>> + 'a>>),
}

impl fmt::Debug for MessageStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageStep::Pass(bytes) => f.debug_tuple("Pass").field(&bytes.len()).finish(),
            MessageStep::Reply(status) => f.debug_tuple("Reply").field(status).finish(),
            MessageStep::Wait(_) => f.write_str("Wait"),
        }
    }
}

/// One filter of a chain.
///
/// The hooks of one call run in this order, on one thread:
///
/// 1. [`request`](Filter::request), in the order of the chain, before a backend is chosen;
/// 2. [`message`](Filter::message) for every message: requests in the order of the chain, responses in reverse;
/// 3. [`response`](Filter::response), in reverse order, when the backend's metadata arrives;
/// 4. [`trailers`](Filter::trailers), in reverse order. A trailers-only response has no separate trailers: `response`
///    sees it with [`trailers_only`](ResponseHead::trailers_only) set, and this hook is not called;
/// 5. [`finish`](Filter::finish), exactly once for every filter of the chain whose `request` was called, whatever happened.
///
/// A hook that [`needs`](Filter::needs) does not name is never called. A panic in a hook ends that one call with
/// INTERNAL.
pub trait Filter: Send + Sync + fmt::Debug {
    /// The parts of a call that this filter looks at. Asked once, when the chain is built.
    fn needs(&self) -> Needs;

    /// The call has arrived and its route is known.
    fn request<'a>(&'a self, call: &'a mut Call) -> Step<'a> {
        let _ = call;
        Step::Next
    }

    /// A whole message, without the five bytes of its length prefix. `compressed` is the prefix's flag: the bytes are
    /// then in the encoding that `grpc-encoding` names.
    ///
    /// The call is shared from here on, because both directions of a stream may wait at once.
    fn message<'a>(
        &'a self,
        call: &'a Call,
        direction: Direction,
        message: Bytes,
        compressed: bool,
    ) -> MessageStep<'a> {
        let _ = (call, direction, compressed);
        MessageStep::Pass(message)
    }

    /// The response's metadata has arrived.
    ///
    /// # Errors
    ///
    /// A status here replaces the response: the client gets it, and the backend's stream is cancelled.
    fn response(&self, call: &Call, head: ResponseHead<'_>) -> Result<(), Status> {
        let _ = (call, head);
        Ok(())
    }

    /// The trailers have arrived; `grpc-status` and `grpc-message` are among them.
    fn trailers(&self, call: &Call, trailers: &mut HeaderMap) {
        let _ = (call, trailers);
    }

    /// The call is over.
    fn finish(&self, call: &Call, outcome: &Outcome) {
        let _ = (call, outcome);
    }
}

/// A kind of filter: the name that a YAML file uses, and how one is built from its configuration.
pub trait FilterType: Filter + Sized + 'static {
    /// The name in `grpc_filters[].name`, such as `weir.filter.grpc.headers`.
    const NAME: &'static str;

    /// What stands under `config:`. Derive `Deserialize` with `#[serde(deny_unknown_fields)]`, so that a misspelt key
    /// is an error, and give each field a doc comment: it is the description in the JSON Schema. Where `config:` is
    /// missing, an empty mapping is read.
    type Config: DeserializeOwned + JsonSchema;

    /// Builds the filter.
    ///
    /// # Errors
    ///
    /// Every rule that the configuration breaks, not only the first, so that one run shows them all.
    fn build(config: Self::Config) -> Result<Self, Vec<ConfigError>>;
}
