//! An attempt before its response goes to the client: what it fails with may still be tried again.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use weir_filter::{Code, Status};

use super::{End, Exchange};
use crate::call::retry::{Circumstances, Failure};
use crate::call::trailers;
use crate::status;

impl Exchange<'_, '_, '_> {
    /// Takes a response's head: hands it on, holds it back, or gives the attempt up.
    pub(super) fn judge_head(&mut self, head: Parts, trailers_only: bool) -> Option<End> {
        let told = status::read(&head.headers);
        // Without a gRPC status another HTTP status than 200 is a client's last word, whatever follows.
        let is_error_page = head.status != StatusCode::OK && told.is_none();
        if trailers_only || is_error_page {
            let code = told.unwrap_or_else(|| status::of_http(head.status));
            self.parties.notes.heard(&head.headers);
            let failure = Failure::told_by(code, &head.headers);
            return self.again(failure).or_else(|| self.commit(head, trailers_only));
        }
        // A client that still sends may wait for these headers first.
        let may_hold = self.parties.body.ended && self.parties.body.can_be_sent_again();
        match &mut self.parties.retry {
            Some(retry) if may_hold && !retry.policy.hold_headers.is_zero() => {
                retry.hold(head);
                None
            }
            _ => self.commit(head, false),
        }
    }

    /// Looks at what follows a head that is held. Ready when the head has been handed on, or the attempt has ended.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let Some(response) = &mut self.response else { return Poll::Ready(None) };
        loop {
            match response.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => {}
                Poll::Ready(Some(Ok(chunk))) => return Poll::Ready(self.begin_with(chunk, cx)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(self.failed(&error))),
                Poll::Ready(None) => break,
                Poll::Pending => {
                    if let Some(retry) = &mut self.parties.retry {
                        ready!(retry.poll_held(cx));
                    }
                    return Poll::Ready(self.hand_on_held());
                }
            }
        }
        Poll::Ready(match ready!(response.poll_trailers(cx)) {
            Ok(trailers) => self.end_held(trailers.map(trailers::cleaned)),
            Err(error) => Some(self.failed(&error)),
        })
    }

    /// The response ends without a message.
    fn end_held(&mut self, trailers: Option<HeaderMap>) -> Option<End> {
        let none = HeaderMap::new();
        let told = trailers.as_ref().unwrap_or(&none);
        // A head that is held has the status 200.
        let code = status::read(told).unwrap_or_else(|| status::of_http(StatusCode::OK));
        self.parties.notes.heard(told);
        let end = self.again(Failure::told_by(code, told)).or_else(|| self.hand_on_held());
        // Without trailers the pump comes upon the end again.
        end.or_else(|| trailers.map(|trailers| self.end_response(trailers)))
    }

    /// The first message begins: the head goes before it.
    pub(super) fn begin_with(&mut self, chunk: Bytes, cx: &mut Context<'_>) -> Option<End> {
        if let Some(end) = self.hand_on_held() {
            return Some(end);
        }
        let (Some(response), Some((sink, queue))) = (&mut self.response, self.parties.client.sink()) else {
            return Some(self.client_left(cx));
        };
        let notes = &mut *self.parties.notes;
        let pumped = self.to_client.begin_with(chunk, response, sink, queue, |_| notes.message_sent());
        pumped.map(|pumped| self.ended(pumped, cx))
    }

    /// Hands on a head that has been judged.
    #[inline(never)]
    pub(super) fn commit(&mut self, head: Parts, trailers_only: bool) -> Option<End> {
        self.hand_on_head(head, trailers_only)
    }

    /// Hands on the head that is held, if there is one.
    pub(super) fn hand_on_held(&mut self) -> Option<End> {
        let head = self.parties.retry.as_mut()?.let_go()?;
        self.commit(head, false)
    }

    /// The end of an attempt that is to be made again; `None` where it is not.
    pub(super) fn again(&mut self, failure: Failure) -> Option<End> {
        let circumstances = self.parties.circumstances();
        self.parties.retry.as_mut()?.grant(failure, circumstances).map(End::Again)
    }

    /// The same for a failure that the client hears of by itself; what is held goes before it.
    pub(super) fn again_or_commit(&mut self, code: Code) -> Option<End> {
        self.again(Failure::of(code)).or_else(|| self.hand_on_held())
    }

    /// Ready when the attempt has had the time that its policy gives it. A request that is still being sent, or that is
    /// too large to be sent again, is not cut.
    pub(super) fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Some(retry) = &mut self.parties.retry else { return Poll::Pending };
        if !self.request_done || !self.parties.body.can_be_sent_again() {
            return Poll::Pending;
        }
        let time = ready!(retry.poll_timeout(cx));
        let text = format!("cluster {}: no answer within {time:?} (per_attempt_timeout)", retry.cluster.plan.name);
        let failure = Failure { timed_out: true, ..Failure::of(Code::Unavailable) };
        Poll::Ready(self.again(failure).unwrap_or_else(|| End::Local(Status::new(Code::Unavailable, text))))
    }
}

impl super::Parties<'_, '_> {
    pub(crate) fn circumstances(&self) -> Circumstances {
        Circumstances { is_whole: self.body.can_be_sent_again(), deadline: self.watch.deadline() }
    }
}
