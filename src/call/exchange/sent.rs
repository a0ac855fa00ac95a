//! A request on its way to a backend.

use std::rc::Rc;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Request, Version};
use tokio::time::Instant;
use weir_filter::{Code, Needs, Status};

use super::{End, Parties};
use crate::call::deadline;
use crate::call::rejection::Rejection;
use crate::call::retry::PREVIOUS_ATTEMPTS;
use crate::io::{Queue, Queued};
use crate::upstream::{self, Lease};

/// A request that a connection has taken.
pub(crate) struct Sent {
    pub(crate) lease: Lease,
    pub(crate) head: ResponseFuture,
    pub(crate) up: SendStream<Queued>,
    pub(crate) up_queue: Rc<Queue>,
}

impl Sent {
    /// Sends the request's head, and what an earlier attempt sent of its messages.
    pub(crate) fn send(parties: &Parties<'_, '_>, lease: Lease, previous: u32) -> Result<Sent, End> {
        let request = request_head(parties, previous);
        let empty = parties.body.ended && parties.body.replay.chunks().next().is_none();
        let sent = lease.connection.send().send_request(request, empty);
        let (head, up) = match sent {
            Ok(sent) => sent,
            Err(error) => return Err(not_taken(&lease, &error)),
        };
        let mut sent = Sent { lease, head, up, up_queue: Rc::default() };
        sent.send_again(parties);
        Ok(sent)
    }

    /// Sends what an earlier attempt has already sent. It went through the filters then.
    fn send_again(&mut self, parties: &Parties<'_, '_>) {
        let body = &*parties.body;
        let count = body.replay.chunks().count();
        for (at, chunk) in body.replay.chunks().enumerate() {
            // A stream that is closed already says so when its response is awaited.
            self.push(chunk.clone(), body.ended && at + 1 == count);
        }
    }

    /// Hands bytes to h2. False when the stream takes no more.
    pub(crate) fn push(&mut self, bytes: Bytes, end: bool) -> bool {
        self.up.send_data(self.up_queue.push(bytes), end).is_ok()
    }

    /// Has the backend give the request up.
    pub(crate) fn cancel(mut self, is_answered: bool) {
        if is_answered {
            self.up.send_reset(Reason::CANCEL);
        } else {
            upstream::reset(&self.lease, self.head, self.up, Reason::CANCEL);
        }
    }

    /// True when no backend has processed the request, whose stream failed before its response began.
    pub(crate) fn was_not_processed(&self, error: &h2::Error) -> bool {
        match error.is_reset().then(|| error.reason()).flatten() {
            Some(reason) => reason == Reason::REFUSED_STREAM,
            None => self.lease.connection.never_processed(self.up.stream_id().as_u32()),
        }
    }
}

/// What it means that a connection took no request. Nothing of it has left.
fn not_taken(lease: &Lease, error: &h2::Error) -> End {
    match Rejection::of(error) {
        Rejection::Malformed => return malformed("request", error),
        Rejection::Busy => {}
        // It is going away, or has no stream ids left.
        Rejection::Closed => lease.connection.close(),
    }
    tracing::debug!(%error, "a connection took no request");
    End::Unprocessed
}

/// The end of a call whose metadata HTTP/2 does not allow. It came in well-formed: a filter made it so.
pub(super) fn malformed(which: &str, error: &h2::Error) -> End {
    tracing::error!(%error, "a filter made a {which}'s metadata malformed; its call ends with INTERNAL");
    End::Local(Status::new(Code::Internal, format!("a filter made the {which}'s metadata malformed")))
}

/// The request's head for this attempt. `grpc-timeout` becomes what is left: the one change that nobody asked for.
fn request_head(parties: &Parties<'_, '_>, previous: u32) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = parties.call.uri.clone();
    // Without `:authority` (a `host` in its place) h2 wants to know that no scheme was forgotten.
    *request.version_mut() = if parties.call.uri.authority().is_some() { Version::HTTP_2 } else { Version::HTTP_11 };
    let mut metadata = parties.call.metadata.clone();
    if let Some(at) = parties.watch.deadline() {
        deadline::write(&mut metadata, at, Instant::now());
    }
    if parties.chain.needs(Needs::REQUEST_MESSAGES) {
        metadata.remove(CONTENT_LENGTH);
    }
    count_attempts(previous, &mut metadata);
    *request.headers_mut() = metadata;
    request
}

/// Adds attempts to those that somebody else has counted, a client of its own retries or another gateway. The first attempt
/// is not told of (gRFC A6, "Exposed Retry Metadata").
pub(super) fn count_attempts(attempts: u32, metadata: &mut HeaderMap) {
    if attempts > 0 {
        let told = metadata.get(PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        metadata.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(told.unwrap_or(0).saturating_add(attempts)));
    }
}
