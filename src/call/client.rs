//! The client's side of one stream: what is sent to it, and whether it still listens.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use weir_filter::Peer;

use crate::drain::{Listening, Signal};
use crate::io::{Queue, Queued, Turns};
use crate::tls::Session;

/// How a client left a call before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It reset the stream.
    Cancelled,
    /// Its connection is gone.
    Gone,
    /// It broke HTTP/2, and h2 reset the stream for it with this code.
    Broke(Reason),
}

/// What the calls of a connection share with its task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) peer: Peer,
    /// `None` in plaintext.
    tls: Option<Rc<Session>>,
    /// What backends are told of the client, where they are told anything of clients.
    identity: Option<Box<Forwarded>>,
    turns: Rc<Turns>,
    open: Cell<usize>,
    /// `max_connection_age` and its grace are over; `None` where that never happens.
    expired: Option<Rc<Signal>>,
}

/// The header that says who a client is; `None` takes away what the client itself says.
pub(crate) type Forwarded = (HeaderName, Option<HeaderValue>);

impl Shared {
    pub(crate) fn new(
        peer: Peer,
        tls: Option<Rc<Session>>,
        identity: Option<Box<Forwarded>>,
        turns: Rc<Turns>,
        expires: bool,
    ) -> Shared {
        let expired = expires.then(Rc::default);
        Shared { peer, tls, identity, turns, open: Cell::new(0), expired }
    }

    /// The connection is too old for its calls: they end.
    pub(crate) fn expire(&self) {
        self.expired.iter().for_each(|expired| expired.raise());
    }

    /// Calls of the connection that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }
}

/// A stream towards a client. Dropping it before its end resets the stream.
pub(crate) struct Client {
    shared: Rc<Shared>,
    respond: SendResponse<Queued>,
    stream: Option<SendStream<Queued>>,
    queue: Rc<Queue>,
    /// Streams were reset in the turn in which this one appeared.
    may_have_left: bool,
    /// And more of what the client has sent is to be read in the next turn.
    may_leave: bool,
    /// The connection's clean turns when the head was handed to h2.
    head_turn: u64,
}

impl Client {
    pub(crate) fn new(
        shared: Rc<Shared>,
        respond: SendResponse<Queued>,
        may_have_left: bool,
        may_leave: bool,
    ) -> Client {
        shared.open.set(shared.open.get() + 1);
        Client { shared, respond, stream: None, queue: Rc::default(), may_have_left, may_leave, head_turn: 0 }
    }

    /// Where the client's connection came from.
    pub(crate) fn peer(&self) -> Peer {
        self.shared.peer
    }

    /// Hears when its connection is too old for its calls; `None` where it never is.
    pub(crate) fn expiry(&self) -> Option<Listening> {
        self.shared.expired.as_ref().map(Signal::listen)
    }

    /// What is known of its connection under TLS.
    pub(crate) fn session(&self) -> Option<Rc<Session>> {
        self.shared.tls.clone()
    }

    /// Says in a request who the client is, in the place of what it says of itself.
    pub(crate) fn identify(&self, metadata: &mut HeaderMap) {
        match self.shared.identity.as_deref() {
            None => {}
            Some((header, Some(value))) => drop(metadata.insert(header, value.clone())),
            Some((header, None)) => drop(metadata.remove(header)),
        }
    }

    /// How the client has left in the turn in which it came: a flood of such calls is not handed on to a backend, which would
    /// punish the connection that the calls of others share.
    pub(crate) fn left_at_once(&mut self) -> Option<Left> {
        if !self.may_have_left {
            return None;
        }
        match self.poll_left(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(left) => Some(left),
            Poll::Pending => None,
        }
    }

    /// The turn after that, where it may tell more: a flood does not end with what one turn reads. It may not come for as long as
    /// the client reads nothing.
    pub(crate) fn another_turn(&self) -> Option<impl Future<Output = ()> + use<>> {
        let turns = self.may_leave.then(|| self.shared.turns.clone())?;
        let since = turns.now();
        Some(poll_fn(move |cx| turns.poll_passed(since, cx)))
    }

    /// Ready when the client has left.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        let reset = match &mut self.stream {
            None => self.respond.poll_reset(cx),
            Some(stream) => stream.poll_reset(cx),
        };
        Poll::Ready(match ready!(reset) {
            Ok(_) => Left::Cancelled,
            Err(error) => Left::from(&error),
        })
    }

    /// True when response headers have been sent.
    pub(crate) fn has_begun(&self) -> bool {
        self.stream.is_some()
    }

    /// Sends the head, which is also the end in a trailers-only response.
    ///
    /// # Errors
    ///
    /// When the client has left, or the head is malformed; nothing has been sent then.
    pub(crate) fn send_head(&mut self, head: Response<()>, end: bool) -> Result<(), h2::Error> {
        self.head_turn = self.shared.turns.now();
        self.stream = Some(self.respond.send_response(head, end)?);
        Ok(())
    }

    /// The stream for DATA, with what counts it; `None` before the head.
    pub(crate) fn sink(&mut self) -> Option<(&mut SendStream<Queued>, &Rc<Queue>)> {
        self.stream.as_mut().map(|stream| (stream, &self.queue))
    }

    /// Ends the response.
    pub(crate) fn send_trailers(&mut self, trailers: HeaderMap) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.send_trailers(trailers);
        }
    }

    /// Resets the stream at once: what h2 still holds of it is lost.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    /// Bytes that were sent and that h2 still holds.
    pub(crate) fn held(&self) -> usize {
        self.queue.bytes()
    }

    /// Ready when all that was sent has left h2: a reset then takes nothing from the client. Flow control may hold that
    /// back for as long as the client does not read.
    pub(crate) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.queue.poll_empty(cx));
        self.shared.turns.poll_passed(self.head_turn, cx)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
        self.shared.open.set(self.shared.open.get() - 1);
    }
}

impl Left {
    /// Who reset the stream. [`Client::poll_left`] cannot tell, but the request's stream can, once all that came before has
    /// been taken. Where the request has ended it cannot either, and then the client is taken at its word.
    pub(crate) fn told_by(self, request: &mut RecvStream) -> Left {
        let mut cx = Context::from_waker(Waker::noop());
        if self != Left::Cancelled {
            return self;
        }
        loop {
            match request.poll_data(&mut cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Left::from(&error),
                Poll::Ready(None) | Poll::Pending => return self,
            }
        }
    }
}

impl From<&h2::Error> for Left {
    fn from(error: &h2::Error) -> Left {
        match error.reason().filter(|_| error.is_reset()) {
            Some(_) if error.is_remote() => Left::Cancelled,
            Some(reason) => Left::Broke(reason),
            None => Left::Gone,
        }
    }
}
