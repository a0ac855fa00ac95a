//! An attempt that began beside others and now is the call's own: it goes on like any other.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::response::Parts;

use super::{Attempted, End, Exchange, Parties, Sent};

/// What has come of a response before it goes to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Option<RecvStream>,
    /// The head; `None` where there is none yet.
    pub(crate) head: Option<Parts>,
    pub(crate) then: Then,
}

/// What has come after the head.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing so far.
    More,
    /// Nothing will: the head is all.
    Nothing,
    /// The first bytes of the messages.
    Message(Bytes),
    /// The end, without a message.
    Trailers(HeaderMap),
    /// The stream failed.
    Failed(h2::Error),
}

impl Answer {
    /// True when the connection was lost.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(&self.then, Then::Failed(error) if !error.is_reset())
    }
}

/// Hands on what has come of the response, and serves the call to its end.
pub(crate) async fn go_on(parties: &mut Parties<'_, '_>, sent: Sent, answer: Box<Answer>) -> Attempted {
    parties.watch.is_at(&sent.lease.pool);
    let mut exchange = Exchange::of(parties, sent);
    let mut answer = Some(answer);
    let end = poll_fn(|cx| match answer.take().and_then(|answer| exchange.begin(*answer, cx)) {
        Some(end) => Poll::Ready(end),
        None => exchange.poll(cx),
    })
    .await;
    exchange.close(end)
}

impl Exchange<'_, '_, '_> {
    fn begin(&mut self, answer: Answer, cx: &mut Context<'_>) -> Option<End> {
        let Answer { response, head, then } = answer;
        self.response = response;
        let trailers_only = matches!(then, Then::Nothing);
        let end = head.and_then(|head| self.commit(head, trailers_only));
        end.or_else(|| match then {
            Then::More | Then::Nothing => None,
            Then::Message(chunk) => self.begin_with(chunk, cx),
            Then::Trailers(trailers) => Some(self.end_response(trailers)),
            Then::Failed(error) => Some(self.failed(&error)),
        })
    }
}
