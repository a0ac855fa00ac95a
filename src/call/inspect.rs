//! Whole messages for the filters that asked for them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use weir_filter::{Call, Code, Direction, Status};

use super::held::JOIN;
use super::message::{self, PREFIX, TooLarge};
use super::pump::{Far, Pumped, poll_end, release};
use crate::chain::Chain;

/// The messages of one direction on their way through the filters.
pub(super) struct Inspect<'a> {
    chain: &'a Chain,
    call: &'a Call,
    direction: Direction,
    buffer: BytesMut,
    /// Bytes that were read and for which the sender's window has not opened again.
    unreleased: usize,
    running: Option<Running<'a>>,
    /// Messages that the filters have passed and that travel together.
    out: BytesMut,
    /// Nothing more comes, and why.
    last: Option<Last>,
}

/// Why nothing more comes.
#[derive(Debug)]
pub(super) enum Last {
    /// The sender has ended its direction.
    End,
    /// Its stream failed.
    Failed(h2::Error),
    /// A message is larger than the configuration allows.
    TooLarge(TooLarge),
}

struct Running<'a> {
    flag: u8,
    result: Pin<Box<dyn Future<Output = Result<Bytes, Status>> + 'a>>,
}

impl<'a> Inspect<'a> {
    pub(super) fn new(chain: &'a Chain, call: &'a Call, direction: Direction) -> Inspect<'a> {
        Inspect {
            chain,
            call,
            direction,
            buffer: BytesMut::new(),
            unreleased: 0,
            running: None,
            out: BytesMut::new(),
            last: None,
        }
    }

    /// Takes bytes in, room or not: h2 must not keep them.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
        self.unreleased += chunk.len();
    }

    /// Nothing more comes: what is here goes on whether there is room or not, and nothing must wait behind it.
    pub(super) fn end(&mut self, last: Last) {
        // A client that has left waits for no answer, so that nothing it sent is worth a filter's time.
        if matches!(last, Last::Failed(_)) && self.direction == Direction::Request {
            self.running = None;
            self.buffer.clear();
        }
        self.last = Some(last);
    }

    /// True when nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.last.is_some()
    }

    /// The end of the direction, after every whole message has been handed on.
    pub(super) fn finish<F: Far>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut RecvStream,
        far: &mut F,
    ) -> Poll<Pumped> {
        if !self.send_out(source, far) {
            return Poll::Ready(Pumped::SinkClosed);
        }
        match self.last.take() {
            Some(Last::Failed(error)) => Poll::Ready(Pumped::SourceFailed(error)),
            Some(Last::TooLarge(too_large)) => Poll::Ready(Pumped::TooLarge(too_large)),
            Some(Last::End) | None => {
                // What ends within a message is for the receiver to judge, and not for a filter.
                let rest = self.buffer.split().freeze();
                if !rest.is_empty() && !far.send(rest, false) {
                    return Poll::Ready(Pumped::SinkClosed);
                }
                poll_end(cx, source, far)
            }
        }
    }

    /// Hands on the whole messages that the filters pass without waiting: the status is to follow them.
    pub(super) fn flush<F: Far>(&mut self, source: &mut RecvStream, far: &mut F) {
        self.last.get_or_insert(Last::End);
        // The call ends now, whatever comes of it.
        let _ = self.poll(&mut Context::from_waker(Waker::noop()), source, far);
        self.send_out(source, far);
    }

    /// Runs the filters over every whole message for which there is room. Ready when more bytes are needed; false when the
    /// far side is closed.
    pub(super) fn poll<F: Far>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut RecvStream,
        far: &mut F,
    ) -> Poll<Result<bool, Status>> {
        loop {
            if let Some(running) = &mut self.running {
                let Poll::Ready(result) = running.result.as_mut().poll(cx) else {
                    return if self.send_out(source, far) { Poll::Pending } else { Poll::Ready(Ok(false)) };
                };
                let flag = running.flag;
                self.running = None;
                let message = match result.and_then(|message| framed(flag, message)) {
                    Ok(message) => message,
                    Err(status) => {
                        // What came after a message that was turned down goes nowhere.
                        self.buffer.clear();
                        self.send_out(source, far);
                        return Poll::Ready(Err(status));
                    }
                };
                if !self.pass(message, source, far) {
                    return Poll::Ready(Ok(false));
                }
            }
            let Some((flag, message)) = self.next_size() else {
                // The rest of this message needs the window that its beginning has taken: it may be larger than that.
                self.release(source, self.unreleased);
                return Poll::Ready(Ok(true));
            };
            if self.last.is_none() && far.poll_room(cx).is_pending() {
                return if self.send_out(source, far) { Poll::Pending } else { Poll::Ready(Ok(false)) };
            }
            let message = self.buffer.split_to(message).freeze().slice(PREFIX..);
            let (chain, call, direction) = (self.chain, self.call, self.direction);
            let result = Box::pin(chain.message(call, direction, message, flag & 1 != 0));
            self.running = Some(Running { flag, result });
        }
    }

    /// Flag and size of the message in front, prefix included, when all of it is here.
    fn next_size(&self) -> Option<(u8, usize)> {
        let prefix = self.buffer.first_chunk::<PREFIX>()?;
        let size = PREFIX + message::length(prefix);
        (self.buffer.len() >= size).then_some((prefix[0], size))
    }

    /// Takes a message that the filters have passed. Small ones that come together travel together: a sender of thousands
    /// of tiny messages must not become a flood at the receiver.
    fn pass<F: Far>(&mut self, message: Bytes, source: &mut RecvStream, far: &mut F) -> bool {
        if self.out.len() + message.len() > JOIN && !self.send_out(source, far) {
            return false;
        }
        if message.len() < JOIN {
            self.out.put(message);
            return true;
        }
        self.release_passed(source);
        far.send(message, false)
    }

    /// Sends the messages that travel together, as nothing more comes for now. False when the far side is closed.
    pub(super) fn send_out<F: Far>(&mut self, source: &mut RecvStream, far: &mut F) -> bool {
        if self.out.is_empty() {
            return true;
        }
        self.release_passed(source);
        far.send(self.out.split().freeze(), false)
    }

    fn release_passed(&mut self, source: &mut RecvStream) {
        self.release(source, self.unreleased.saturating_sub(self.buffer.len()));
    }

    fn release(&mut self, source: &mut RecvStream, bytes: usize) {
        if bytes > 0 {
            self.unreleased -= bytes;
            release(source, bytes);
        }
    }
}

/// A message with its prefix.
fn framed(flag: u8, message: Bytes) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len())
        .map_err(|_| Status::new(Code::Internal, "a filter made a message of 4 GiB or more"))?;
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(flag);
    framed.put_u32(length);
    framed.put(message);
    Ok(framed.freeze())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use h2::{Reason, SendStream};
    use http::{Request, Response};
    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::timeout;
    use weir_filter::{Filter, MessageStep, Needs};

    use super::*;
    use crate::call::pump::Pump;
    use crate::config::plan::NamedFilter;
    use crate::io::{Queue, Queued};

    /// Ends the call at a message that begins with `!`, and turns the others' letters into capitals.
    #[derive(Debug)]
    struct Loud;

    impl Filter for Loud {
        fn needs(&self) -> Needs {
            Needs::RESPONSE_MESSAGES
        }

        fn message<'a>(&'a self, _: &'a Call, _: Direction, message: Bytes, _: bool) -> MessageStep<'a> {
            if message.starts_with(b"!") {
                return MessageStep::Reply(Status::new(Code::Aborted, "turned down"));
            }
            MessageStep::Pass(message.to_ascii_uppercase().into())
        }
    }

    fn chain() -> Chain {
        Chain::new(&[NamedFilter { name: "loud".into(), filter: Arc::new(Loud), config: "".into() }])
    }

    fn call() -> Call {
        Call {
            uri: "http://a/b.C/D".parse().expect("a URI"),
            metadata: http::HeaderMap::new(),
            peer: weir_filter::Peer::Ip(([127, 0, 0, 1], 40_000).into()),
            extensions: http::Extensions::new(),
        }
    }

    /// A response's two ends. Whoever reads it opens no window.
    async fn response() -> (SendStream<Queued>, RecvStream) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (client, server) = (h2::client::Builder::new(), h2::server::Builder::new());
        let (client, server) = tokio::join!(client.handshake::<_, Bytes>(near), server.handshake::<_, Queued>(far));
        let ((mut send, connection), mut server) = (client.expect("a client"), server.expect("a server"));
        spawn_local(connection);
        let request = Request::post("http://a/b.C/D").body(()).expect("a request");
        let (head, _) = send.send_request(request, true).expect("a stream");
        let (_, mut respond) = server.accept().await.expect("a request").expect("a request");
        let stream = respond.send_response(Response::new(()), false).expect("a response");
        spawn_local(async move { while server.accept().await.is_some() {} });
        (stream, head.await.expect("a response").into_body())
    }

    fn message(letter: u8, size: usize) -> Bytes {
        framed(0, vec![letter; size].into()).expect("small")
    }

    /// The way of a backend's bytes to a client that reads nothing. Returns how it ended, and how many bytes the client has
    /// or may still get.
    async fn pumped(limit: Option<usize>, wire: &[Bytes], reset: Option<Reason>) -> (Pumped, usize) {
        let (mut backend, mut source) = response().await;
        let (mut sink, _client) = response().await;
        let (chain, call, queue) = (chain(), call(), Rc::new(Queue::default()));
        let mut pump = Pump::new(&chain, &call, Direction::Response, limit);
        let written = Rc::new(Queue::default());
        for bytes in wire {
            backend.send_data(written.push(bytes.clone()), false).expect("an open stream");
        }
        let backend = spawn_local(async move {
            // A reset takes what h2 still holds.
            poll_fn(|cx| written.poll_empty(cx)).await;
            if let Some(reason) = reset {
                backend.send_reset(reason);
            }
            backend
        });
        let mut sent = 0;
        let end = poll_fn(|cx| pump.poll(cx, &mut source, &mut sink, &queue, |chunk| sent += chunk.len()));
        let end = timeout(Duration::from_secs(10), end).await.expect("an end");
        drop(backend);
        (end, sent)
    }

    #[tokio::test]
    async fn a_reset_is_seen_while_the_far_side_has_no_room() {
        LocalSet::new()
            .run_until(async {
                let wire = vec![message(b'a', 9_995); 15];
                let (end, sent) = pumped(None, &wire, Some(Reason::INTERNAL_ERROR)).await;
                assert!(matches!(&end, Pumped::SourceFailed(error) if error.is_remote()), "{end:?}");
                assert_eq!(sent, 150_000, "every message that came before");
            })
            .await;
    }

    #[tokio::test]
    async fn messages_before_one_that_is_too_large_pass_the_filters() {
        LocalSet::new()
            .run_until(async {
                let wire: Bytes = [message(b'a', 3), message(b'b', 4), message(b'c', 11)].concat().into();
                let (end, sent) = pumped(Some(10), &[wire], None).await;
                assert!(matches!(end, Pumped::TooLarge(_)), "{end:?}");
                assert_eq!(sent, 8 + 9);
            })
            .await;
    }

    #[tokio::test]
    async fn nothing_passes_after_a_message_that_was_turned_down() {
        LocalSet::new()
            .run_until(async {
                let wire: Bytes = [message(b'a', 3), message(b'!', 4), message(b'c', 5)].concat().into();
                let (end, sent) = pumped(None, &[wire], None).await;
                assert!(matches!(end, Pumped::Rejected(_)), "{end:?}");
                assert_eq!(sent, 8);
            })
            .await;
    }
}
