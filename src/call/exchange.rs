//! One attempt: a request to a backend, and its response to the client.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};
use tokio::time::{Sleep, sleep};
use weir_filter::{Call, Code, Direction, Needs, Status};

use super::body::Body;
use super::client::{Client, Left};
use super::message::TooLarge;
use super::pump::{Pump, Pumped};
use super::record::Notes;
use super::rejection::Rejection;
use super::retry::Retry;
use super::timers::Progress;
use super::watch::{Interrupt, Watch};
use crate::chain::Chain;
use crate::cluster::breaker::Kind;
use crate::config::plan;
use crate::status;
use crate::upstream::{Lease, Shed};

mod sent;
mod uncommitted;
mod winner;

pub(crate) use sent::Sent;
use sent::{count_attempts, malformed};
pub(crate) use winner::{Answer, Then, go_on};

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

struct Exchange<'a, 'm, 'p> {
    parties: &'p mut Parties<'a, 'm>,
    sent: Sent,
    response: Option<RecvStream>,
    http_status: StatusCode,
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

impl<'a, 'm, 'p> Exchange<'a, 'm, 'p> {
    fn open(parties: &'p mut Parties<'a, 'm>, lease: Lease) -> Result<Exchange<'a, 'm, 'p>, End> {
        let previous = parties.retry.as_ref().map_or(0, |retry| retry.previous());
        let sent = Sent::send(parties, lease, previous)?;
        Ok(Exchange::of(parties, sent))
    }

    /// Goes on with a request that has been sent as far as it has come.
    fn of(parties: &'p mut Parties<'a, 'm>, sent: Sent) -> Exchange<'a, 'm, 'p> {
        let (chain, call, listener) = (parties.chain, parties.call, parties.listener);
        Exchange {
            request_done: parties.body.ended,
            parties,
            sent,
            response: None,
            http_status: StatusCode::OK,
            to_client: Pump::new(chain, call, Direction::Response, listener.max_send_message_size),
            last_wait: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let end = self.poll_both(cx);
        self.note_kind();
        end
    }

    /// A circuit breaker wants to know calls from streams.
    fn note_kind(&self) {
        if let Some(place) = self.sent.lease.place().filter(|place| place.kind() == Kind::Unary)
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
        ready!(self.sent.up_queue.poll_empty(cx));
        Poll::Ready(End::Local(refusal.clone()))
    }

    /// Ready when no more of the request will be sent.
    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let body = &mut *self.parties.body;
        let Body { stream, pump, replay, .. } = body;
        let pumped = ready!(pump.poll(cx, stream, &mut self.sent.up, &self.sent.up_queue, |chunk| replay.keep(chunk)));
        match pumped {
            Pumped::Ended => body.ended = true,
            // Metadata after the messages is no part of gRPC's requests; it passes all the same, and a request that has
            // it is not sent twice.
            Pumped::Trailers(trailers) => {
                body.ended = true;
                body.replay.end();
                let _ = self.sent.up.send_trailers(trailers);
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
            match ready!(Pin::new(&mut self.sent.head).poll(cx)) {
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
        self.sent.lease.answered(&head.headers);
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
        if !begun && self.sent.was_not_processed(error) {
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
            End::Complete(_) if !self.request_done || self.sent.up_queue.bytes() > 0 => {
                self.sent.up.send_reset(Reason::NO_ERROR);
            }
            End::Local(_) | End::Interrupted(_) => {
                self.hand_on_messages();
                self.sent.cancel(self.response.is_some());
            }
            // Where the backend has ended the stream too, nothing leaves.
            End::Again(_) => self.sent.cancel(self.response.is_some()),
            _ => {}
        }
        Attempted { end, at_boundary: self.to_client.at_boundary() }
    }
}

impl TooLarge {
    pub(crate) fn status(&self, key: &str) -> Status {
        let text = format!("a message of {} bytes is over the limit of {} bytes ({key})", self.size, self.limit);
        Status::new(Code::ResourceExhausted, text)
    }
}
