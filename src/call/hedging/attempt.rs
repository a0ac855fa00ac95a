//! One of the attempts at a hedged call, until it has an answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use tokio::time::{Sleep, sleep};
use weir_filter::Code;

use super::schedule::Place;
use crate::call::exchange::{Answer, Sent, Then};
use crate::call::retry::Failure;
use crate::call::trailers;
use crate::status;
use crate::upstream::{Lease, Unavailable};

/// An attempt, before its call is committed.
pub(super) struct Attempt<'r> {
    /// Attempts that were begun before it.
    pub(super) previous: u32,
    /// How often no backend has processed it.
    pub(super) unprocessed: u32,
    /// It has been counted as a hedge.
    pub(super) is_counted: bool,
    pub(super) state: State<'r>,
    /// The first attempt has none.
    #[expect(dead_code, reason = "it is given back with the attempt")]
    pub(super) place: Option<Place>,
}

pub(super) enum State<'r> {
    /// It has no stream yet.
    Waiting(Leasing<'r>),
    Open(Box<Open>),
}

/// The search for a stream.
pub(super) type Leasing<'r> = Pin<Box<dyn Future<Output = Result<Lease, Unavailable>> + 'r>>;

/// An attempt that a backend has.
pub(super) struct Open {
    pub(super) sent: Sent,
    response: Option<RecvStream>,
    /// The head of a response that may still be a failure, and how long it is held.
    held: Option<(Parts, Pin<Box<Sleep>>)>,
}

/// What an attempt has come to.
pub(super) enum Came {
    /// A response, or what there will be of it. It is a failure where its end says so.
    Answer(Box<Answer>, Option<Failure>),
    /// No backend has processed the request.
    Unprocessed,
}

impl Attempt<'_> {
    pub(super) fn as_open(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Waiting(_) => None,
        }
    }

    pub(super) fn open(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) => Some(open),
            State::Waiting(_) => None,
        }
    }

    /// The attempt, where a backend has it. Its place in the budget is given back.
    pub(super) fn into_open(self) -> Option<Open> {
        match self.state {
            State::Open(open) => Some(*open),
            State::Waiting(_) => None,
        }
    }
}

impl Open {
    pub(super) fn new(sent: Sent) -> Open {
        Open { sent, response: None, held: None }
    }

    /// Ready when it is known what the attempt comes to. A head alone is not enough where it is held for so long.
    pub(super) fn poll(&mut self, hold: Option<Duration>, cx: &mut Context<'_>) -> Poll<Came> {
        if self.response.is_none() {
            match ready!(Pin::new(&mut self.sent.head).poll(cx)) {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    self.sent.lease.answered(&head.headers);
                    let trailers_only = body.is_end_stream();
                    self.response = Some(body);
                    if let Some(came) = self.judge(head, trailers_only, hold) {
                        return Poll::Ready(came);
                    }
                }
                Err(error) => return Poll::Ready(self.failed(error)),
            }
        }
        self.poll_held(cx)
    }

    /// Gives the attempt up. Where the backend has ended the stream too, nothing leaves.
    pub(super) fn cancel(self) {
        self.sent.cancel(self.response.is_some());
    }

    /// The attempt as far as it has come.
    pub(super) fn so_far(&mut self) -> Box<Answer> {
        self.answer(Then::More)
    }

    fn judge(&mut self, head: Parts, trailers_only: bool, hold: Option<Duration>) -> Option<Came> {
        let told = status::read(&head.headers);
        // Without a gRPC status another HTTP status than 200 is a client's last word, whatever follows.
        let is_error_page = head.status != StatusCode::OK && told.is_none();
        if trailers_only || is_error_page {
            let code = told.unwrap_or_else(|| status::of_http(head.status));
            let failure = Failure::told_by(code, &head.headers);
            let then = if trailers_only { Then::Nothing } else { Then::More };
            return Some(Came::Answer(self.answer_with(Some(head), then), Some(failure)));
        }
        let Some(hold) = hold else { return Some(Came::Answer(self.answer_with(Some(head), Then::More), None)) };
        self.held = Some((head, Box::pin(sleep(hold))));
        None
    }

    /// Looks at what follows a head that is held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        let (Some(response), Some((_, timer))) = (&mut self.response, &mut self.held) else { return Poll::Pending };
        loop {
            match response.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => {}
                Poll::Ready(Some(Ok(chunk))) => return Poll::Ready(self.message(chunk)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.failed(error)),
                Poll::Ready(None) => break,
                Poll::Pending => {
                    ready!(timer.as_mut().poll(cx));
                    return Poll::Ready(Came::Answer(self.answer(Then::More), None));
                }
            }
        }
        Poll::Ready(match ready!(response.poll_trailers(cx)) {
            Ok(trailers) => self.ended(trailers.map(trailers::cleaned)),
            Err(error) => self.failed(error),
        })
    }

    fn message(&mut self, chunk: Bytes) -> Came {
        Came::Answer(self.answer(Then::Message(chunk)), None)
    }

    /// The response ends without a message.
    fn ended(&mut self, trailers: Option<HeaderMap>) -> Came {
        let none = HeaderMap::new();
        let told = trailers.as_ref().unwrap_or(&none);
        // A head that is held has the status 200.
        let code = status::read(told).unwrap_or_else(|| status::of_http(StatusCode::OK));
        let failure = Failure::told_by(code, told);
        // Without trailers the pump comes upon the end again.
        Came::Answer(self.answer(trailers.map_or(Then::More, Then::Trailers)), Some(failure))
    }

    fn failed(&mut self, error: h2::Error) -> Came {
        if self.response.is_none() && self.sent.was_not_processed(&error) {
            return Came::Unprocessed;
        }
        let code = error.reason().filter(|_| error.is_reset()).map_or(Code::Unavailable, status::of_reset);
        Came::Answer(self.answer(Then::Failed(error)), Some(Failure::of(code)))
    }

    fn answer(&mut self, then: Then) -> Box<Answer> {
        let head = self.held.take().map(|(head, _)| head);
        self.answer_with(head, then)
    }

    fn answer_with(&mut self, head: Option<Parts>, then: Then) -> Box<Answer> {
        Box::new(Answer { response: self.response.take(), head, then })
    }
}
