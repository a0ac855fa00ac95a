//! One attempt: a request to a backend, and its response to the client.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use tokio::time::{Instant, Sleep, sleep};
use weir_filter::{Call, Code, Direction, Needs, Status};

use super::client::{Client, Left};
use super::deadline;
use super::message::TooLarge;
use super::pump::{Pump, Pumped};
use super::record::Notes;
use super::rejection::Rejection;
use super::replay::{Claim, Replay};
use super::retry::{PREVIOUS_ATTEMPTS, Retry};
use super::timers::Progress;
use super::watch::{Interrupt, Watch};
use crate::chain::Chain;
use crate::cluster::breaker::Kind;
use crate::config::plan;
use crate::io::{Queue, Queued};
use crate::status;
use crate::upstream::{Lease, Shed};

mod uncommitted;

/// A call that the gateway ends in the middle of a message waits this long for the rest of it: half of what the process waits for
/// its calls' last words.
const REST_OF_MESSAGE: Duration = Duration::from_millis(500);

/// The end of an attempt, and whether the response, as far as the client has it, ends with a message.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) end: End,
    pub(crate) at_boundary: bool,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The backend's end has been handed on. The code is what the client makes of it.
    Complete(Code),
    /// The backend reset the stream.
    Reset(Reason),
    /// The connection to the backend was lost.
    Lost,
    /// No backend has processed the request; it may be sent again.
    Unprocessed,
    /// The backend failed, and the call's policy makes it again after this time.
    Again(Duration),
    /// The gateway ends the call with this status.
    Local(Status),
    /// A circuit breaker is open.
    Shed(Box<Shed>),
    /// Something outside ended the call.
    Interrupted(Interrupt),
}

impl End {
    /// What the client makes of the backend's end; `None` where somebody else ended the call.
    pub(crate) fn told_by_backend(&self) -> Option<Code> {
        match self {
            End::Complete(code) => Some(*code),
            End::Reset(reason) => Some(status::of_reset(*reason)),
            End::Lost => Some(Code::Unavailable),
            End::Unprocessed | End::Again(_) | End::Local(_) | End::Shed(_) | End::Interrupted(_) => None,
        }
    }
}

/// The parts of a call that all of its attempts share.
pub(crate) struct Parties<'a, 'm> {
    pub(crate) listener: &'a plan::Listener,
    pub(crate) chain: &'a Chain,
    pub(crate) call: &'a Call,
    pub(crate) notes: &'m mut Notes,
    pub(crate) client: &'m mut Client,
    pub(crate) body: &'m mut Body<'a>,
    pub(crate) watch: &'m mut Watch,
    /// What makes the call again if it fails; `None` without a policy.
    pub(crate) retry: Option<Box<Retry>>,
}

/// The request's stream from the client, and what was sent of it.
pub(crate) struct Body<'a> {
    stream: &'a mut RecvStream,
    pump: Pump<'a>,
    replay: Replay,
    /// The client has ended sending, and all of it has been handed to an attempt.
    ended: bool,
    /// What the call ends with once the backend has everything that came before.
    refusal: Option<Status>,
}

struct Exchange<'a, 'm, 'p> {
    parties: &'p mut Parties<'a, 'm>,
    lease: Lease,
    stream_id: u32,
    head: ResponseFuture,
    response: Option<RecvStream>,
    http_status: StatusCode,
    up: SendStream<Queued>,
    up_queue: Rc<Queue>,
    to_client: Pump<'a>,
    request_done: bool,
    last_wait: Option<Box<LastWait>>,
}

/// A call that the gateway ends waits for the rest of a message.
struct LastWait {
    why: Interrupt,
    /// `None` where it may take its time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl LastWait {
    fn new(why: Interrupt) -> LastWait {
        LastWait { why, timer: (!why.has_time()).then(|| Box::pin(sleep(REST_OF_MESSAGE))) }
    }
}

/// Makes one attempt on a leased stream.
pub(crate) async fn attempt(parties: &mut Parties<'_, '_>, lease: Lease) -> Attempted {
    parties.notes.attempt(&lease.pool.endpoint.label);
    parties.watch.is_at(&lease.pool);
    let mut exchange = match Exchange::open(parties, lease) {
        Ok(exchange) => exchange,
        Err(end) => return Attempted { end, at_boundary: true },
    };
    let end = poll_fn(|cx| exchange.poll(cx)).await;
    exchange.close(end)
}

impl<'a> Body<'a> {
    pub(crate) fn new(stream: &'a mut RecvStream, pump: Pump<'a>, claim: Option<Box<Claim>>) -> Body<'a> {
        let ended = stream.is_end_stream();
        Body { stream, pump, replay: Replay::new(claim), ended, refusal: None }
    }

    /// True while another attempt could send all that was sent so far.
    pub(crate) fn can_be_sent_again(&self) -> bool {
        self.replay.is_whole()
    }

    /// Messages and bytes of DATA so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.pump.follow.messages(), self.pump.bytes)
    }
}

impl<'a, 'm, 'p> Exchange<'a, 'm, 'p> {
    /// Sends the request's head, and what an earlier attempt sent of its messages.
    fn open(parties: &'p mut Parties<'a, 'm>, lease: Lease) -> Result<Exchange<'a, 'm, 'p>, End> {
        let request = request_head(parties);
        let empty = parties.body.ended && parties.body.replay.chunks().next().is_none();
        let sent = lease.connection.send().send_request(request, empty);
        let (head, up) = match sent {
            Ok(sent) => sent,
            Err(error) => return Err(not_taken(&lease, &error)),
        };
        let (chain, call, listener) = (parties.chain, parties.call, parties.listener);
        let mut exchange = Exchange {
            stream_id: head.stream_id().as_u32(),
            parties,
            lease,
            head,
            response: None,
            http_status: StatusCode::OK,
            up,
            up_queue: Rc::default(),
            to_client: Pump::new(chain, call, Direction::Response, listener.max_send_message_size),
            request_done: empty,
            last_wait: None,
        };
        exchange.send_again();
        Ok(exchange)
    }

    /// Sends what an earlier attempt has already sent. It went through the filters then.
    fn send_again(&mut self) {
        let body = &self.parties.body;
        let count = body.replay.chunks().count();
        for (at, chunk) in body.replay.chunks().enumerate() {
            let end = body.ended && at + 1 == count;
            // A stream that is closed already says so when its response is awaited.
            let _ = self.up.send_data(self.up_queue.push(chunk.clone()), end);
        }
        self.request_done |= body.ended;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let end = self.poll_both(cx);
        self.note_kind();
        end
    }

    /// A circuit breaker wants to know calls from streams.
    fn note_kind(&self) {
        if let Some(place) = self.lease.place.as_ref().filter(|place| place.kind() == Kind::Unary)
            && (self.parties.body.pump.follow.messages() > 1 || self.to_client.follow.messages() > 1)
        {
            place.is_stream(self.parties.call.method());
        }
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(end) = self.poll_response(cx) {
            return Poll::Ready(end);
        }
        if !self.request_done
            && let Poll::Ready(end) = self.poll_request(cx)
        {
            return Poll::Ready(end);
        }
        if self.parties.retry.is_some()
            && let Poll::Ready(end) = self.poll_timeout(cx)
        {
            return Poll::Ready(end);
        }
        let Parties { watch, client, body, .. } = &mut *self.parties;
        watch.moved(|| Progress {
            bytes: body.pump.bytes + self.to_client.bytes,
            messages: body.pump.follow.messages().max(self.to_client.follow.messages()),
            has_begun: client.has_begun(),
        });
        let interrupt = ready!(watch.poll_in_attempt(client, cx));
        if interrupt.is_the_gateways() && !self.to_client.at_boundary() {
            self.to_client.end_at_boundary();
            ready!(self.poll_last_wait(interrupt, cx));
        }
        Poll::Ready(End::Interrupted(interrupt))
    }

    /// Ready when the rest of the message that is under way has had its time. What has time may be overtaken by what has not.
    fn poll_last_wait(&mut self, why: Interrupt, cx: &mut Context<'_>) -> Poll<()> {
        let wait = match &mut self.last_wait {
            Some(wait) if wait.why == why || wait.timer.is_some() => wait,
            none => none.insert(Box::new(LastWait::new(why))),
        };
        match &mut wait.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.parties.body.refusal.is_none()
            && let Some(end) = ready!(self.poll_pump(cx))
        {
            return Poll::Ready(end);
        }
        let Some(refusal) = &self.parties.body.refusal else { return Poll::Pending };
        // The reset that follows takes what h2 still holds of the stream.
        ready!(self.up_queue.poll_empty(cx));
        Poll::Ready(End::Local(refusal.clone()))
    }

    /// Ready when no more of the request will be sent.
    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let body = &mut *self.parties.body;
        let Body { stream, pump, replay, .. } = body;
        let pumped = ready!(pump.poll(cx, stream, &mut self.up, &self.up_queue, |chunk| replay.keep(chunk)));
        match pumped {
            Pumped::Ended => body.ended = true,
            // Metadata after the messages is no part of gRPC's requests; it passes all the same, and a request that has
            // it is not sent twice.
            Pumped::Trailers(trailers) => {
                body.ended = true;
                body.replay.end();
                let _ = self.up.send_trailers(trailers);
            }
            // The response says why; and a request is never asked to end.
            Pumped::SinkClosed | Pumped::Boundary => {}
            Pumped::SourceFailed(error) => {
                return Poll::Ready(Some(End::Interrupted(Interrupt::Left(Left::from(&error)))));
            }
            Pumped::TooLarge(too_large) => {
                body.refusal = Some(too_large.status("max_receive_message_size"));
                return Poll::Ready(None);
            }
            Pumped::Rejected(status) => {
                body.refusal = Some(status);
                return Poll::Ready(None);
            }
        }
        self.request_done = true;
        Poll::Ready(None)
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.response.is_none() {
            match ready!(Pin::new(&mut self.head).poll(cx)) {
                Ok(response) => {
                    if let Some(end) = self.begin_response(response) {
                        return Poll::Ready(end);
                    }
                }
                Err(error) => return Poll::Ready(self.failed(&error)),
            }
        }
        if self.parties.retry.as_ref().is_some_and(|retry| retry.is_holding())
            && let Some(end) = ready!(self.poll_held(cx))
        {
            return Poll::Ready(end);
        }
        let (Some(response), Some((sink, queue))) = (&mut self.response, self.parties.client.sink()) else {
            return Poll::Ready(self.client_left(cx));
        };
        let notes = &mut *self.parties.notes;
        let pumped = ready!(self.to_client.poll(cx, response, sink, queue, |_| notes.message_sent()));
        Poll::Ready(self.ended(pumped, cx))
    }

    /// What the end of the response means for the call. Inlined, since a call without a policy comes here from one place only.
    #[inline(always)]
    fn ended(&mut self, pumped: Pumped, cx: &mut Context<'_>) -> End {
        match pumped {
            // Without trailers a client goes by the HTTP status.
            Pumped::Ended => End::Complete(status::of_http(self.http_status)),
            Pumped::Trailers(trailers) => self.end_response(trailers),
            Pumped::Boundary => End::Interrupted(self.last_wait.as_ref().map_or(Interrupt::Cut, |wait| wait.why)),
            Pumped::SourceFailed(error) => self.failed(&error),
            Pumped::SinkClosed => self.client_left(cx),
            Pumped::TooLarge(too_large) => End::Local(too_large.status("max_send_message_size")),
            Pumped::Rejected(status) => End::Local(status),
        }
    }

    /// The client's stream takes no more: it has left.
    fn client_left(&mut self, cx: &mut Context<'_>) -> End {
        End::Interrupted(match self.parties.client.poll_left(cx) {
            Poll::Ready(left) => Interrupt::Left(left),
            Poll::Pending => Interrupt::Left(Left::Gone),
        })
    }

    fn begin_response(&mut self, response: Response<RecvStream>) -> Option<End> {
        let (head, body) = response.into_parts();
        let trailers_only = body.is_end_stream();
        self.response = Some(body);
        if self.parties.retry.is_some() {
            self.judge_head(head, trailers_only)
        } else {
            self.hand_on_head(head, trailers_only)
        }
    }

    /// Hands the response's head on, and the end of the call where that is all. No other attempt can follow.
    /// Inlined for the same reason as [`Exchange::ended`].
    #[inline(always)]
    fn hand_on_head(&mut self, mut head: Parts, trailers_only: bool) -> Option<End> {
        self.parties.body.replay.end();
        if let Some(retry) = &mut self.parties.retry {
            retry.commit();
            count_attempts(retry.previous(), &mut head.headers);
        }
        if trailers_only || head.status != StatusCode::OK {
            self.parties.notes.heard(&head.headers);
        }
        let chain = self.parties.chain;
        if chain.needs(Needs::RESPONSE)
            && let Err(status) =
                chain.response(self.parties.call, head.status.as_u16(), &mut head.headers, trailers_only)
        {
            return Some(End::Local(status));
        }
        if chain.needs(Needs::RESPONSE_MESSAGES) {
            head.headers.remove(CONTENT_LENGTH);
        }
        self.http_status = head.status;
        let seen = || status::read(&head.headers).unwrap_or_else(|| status::of_http(head.status));
        let ended = trailers_only.then(|| End::Complete(seen()));
        let mut answer = Response::new(());
        *answer.status_mut() = head.status;
        *answer.headers_mut() = head.headers;
        match self.parties.client.send_head(answer, trailers_only) {
            Err(error) if Rejection::of(&error) == Rejection::Malformed => Some(malformed("response", &error)),
            // The client has left: how, is asked where its stream is needed next.
            Err(_) => None,
            Ok(()) => ended,
        }
    }

    fn end_response(&mut self, mut trailers: HeaderMap) -> End {
        self.parties.notes.heard(&trailers);
        let chain = self.parties.chain;
        if chain.needs(Needs::TRAILERS)
            && let Err(status) = chain.trailers(self.parties.call, &mut trailers)
        {
            return End::Local(status);
        }
        let seen = status::read(&trailers).unwrap_or_else(|| status::of_http(self.http_status));
        self.parties.client.send_trailers(trailers);
        End::Complete(seen)
    }

    /// What the failure of the backend's stream means for the call.
    fn failed(&mut self, error: &h2::Error) -> End {
        let begun = self.response.is_some();
        let reset = error.is_reset().then(|| error.reason()).flatten();
        if !begun && (reset == Some(Reason::REFUSED_STREAM) || self.never_processed(reset)) {
            return End::Unprocessed;
        }
        self.parties.notes.upstream_status = reset.map(status::of_reset);
        if self.parties.retry.is_some()
            && let Some(end) = self.again_or_commit(reset.map_or(Code::Unavailable, status::of_reset))
        {
            return end;
        }
        match reset {
            Some(reason) => End::Reset(reason),
            None => End::Lost,
        }
    }

    fn never_processed(&self, reset: Option<Reason>) -> bool {
        reset.is_none() && self.lease.connection.never_processed(self.stream_id)
    }

    /// Messages that came before the end reach the client before its status, also where it has been slow to take them.
    fn hand_on_messages(&mut self) {
        if self.to_client.at_boundary()
            && let (Some(response), Some((sink, queue))) = (&mut self.response, self.parties.client.sink())
        {
            self.to_client.flush(response, sink, queue);
        }
    }

    /// Leaves the backend's stream as the end asks for, and notes what passed.
    fn close(mut self, end: End) -> Attempted {
        self.parties.notes.messages_out += self.to_client.follow.messages();
        self.parties.notes.bytes_out += self.to_client.bytes;
        match end {
            // The backend needs no more of the request (RFC 9113 8.1). What h2 holds behind the backend's window counts
            // as not sent: h2 would keep the stream open for it, and the backend's limit of streams with it.
            End::Complete(_) if !self.request_done || self.up_queue.bytes() > 0 => {
                self.up.send_reset(Reason::NO_ERROR);
            }
            End::Local(_) | End::Interrupted(_) => {
                self.hand_on_messages();
                self.up.send_reset(Reason::CANCEL);
            }
            // Where the backend has ended the stream too, nothing leaves.
            End::Again(_) => self.up.send_reset(Reason::CANCEL),
            _ => {}
        }
        Attempted { end, at_boundary: self.to_client.at_boundary() }
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
fn malformed(which: &str, error: &h2::Error) -> End {
    tracing::error!(%error, "a filter made a {which}'s metadata malformed; its call ends with INTERNAL");
    End::Local(Status::new(Code::Internal, format!("a filter made the {which}'s metadata malformed")))
}

/// The request's head for this attempt. `grpc-timeout` becomes what is left: the one change that nobody asked for.
fn request_head(parties: &Parties<'_, '_>) -> Request<()> {
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
    if let Some(retry) = &parties.retry {
        count_attempts(retry.previous(), &mut metadata);
    }
    *request.headers_mut() = metadata;
    request
}

/// Adds attempts to those that somebody else has counted, a client of its own retries or another gateway. The first attempt
/// is not told of (gRFC A6, "Exposed Retry Metadata").
fn count_attempts(attempts: u32, metadata: &mut HeaderMap) {
    if attempts > 0 {
        let told = metadata.get(PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        metadata.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(told.unwrap_or(0).saturating_add(attempts)));
    }
}

impl TooLarge {
    fn status(&self, key: &str) -> Status {
        let text = format!("a message of {} bytes is over the limit of {} bytes ({key})", self.size, self.limit);
        Status::new(Code::ResourceExhausted, text)
    }
}
