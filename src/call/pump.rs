//! One direction of a call: DATA from one side's stream to the other's.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use weir_filter::{Call, Direction, Needs, Status};

use super::message::{self, Follow, PREFIX, TooLarge};
use crate::chain::Chain;
use crate::io::{Queue, Queued};

/// Small chunks that wait together travel together, up to this size: HTTP/2's smallest maximum frame (RFC 9113 4.2). A
/// sender of thousands of tiny frames must not become a flood at the receiver.
const JOIN: usize = 16 * 1024;

/// How a direction came to its end.
#[derive(Debug)]
pub(crate) enum Pumped {
    /// END_STREAM was sent with the last DATA.
    Ended,
    /// Everything was sent but these trailers.
    Trailers(HeaderMap),
    /// What was sent ends with a message, as [`Pump::end_at_boundary`] asked.
    Boundary,
    /// The side that is read from failed.
    SourceFailed(h2::Error),
    /// The side that is written to takes no more.
    SinkClosed,
    /// A message is larger than the configuration allows.
    TooLarge(TooLarge),
    /// A filter ended the call.
    Rejected(Status),
}

/// The state of one direction.
pub(crate) struct Pump<'a> {
    pub(crate) follow: Follow,
    /// Bytes of DATA that were read.
    pub(crate) bytes: u64,
    joined: Joined,
    inspect: Option<Box<Inspect<'a>>>,
    ending: bool,
}

#[derive(Default)]
struct Joined {
    first: Bytes,
    buffer: BytesMut,
}

/// Whole messages for the filters that asked for them.
struct Inspect<'a> {
    chain: &'a Chain,
    call: &'a Call,
    direction: Direction,
    buffer: BytesMut,
    running: Option<Running<'a>>,
}

struct Running<'a> {
    flag: u8,
    result: Pin<Box<dyn Future<Output = Result<Bytes, Status>> + 'a>>,
}

impl<'a> Pump<'a> {
    pub(crate) fn new(chain: &'a Chain, call: &'a Call, direction: Direction, limit: Option<usize>) -> Pump<'a> {
        let needs = match direction {
            Direction::Request => Needs::REQUEST_MESSAGES,
            Direction::Response => Needs::RESPONSE_MESSAGES,
        };
        let inspect = chain
            .needs(needs)
            .then(|| Box::new(Inspect { chain, call, direction, buffer: BytesMut::new(), running: None }));
        Pump { follow: Follow::new(limit), bytes: 0, joined: Joined::default(), inspect, ending: false }
    }

    /// True when what was sent ends with a message. Filters hand on whole ones only.
    pub(crate) fn at_boundary(&self) -> bool {
        self.inspect.is_some() || self.follow.at_boundary()
    }

    /// Goes on only to the end of the message that has begun.
    pub(crate) fn end_at_boundary(&mut self) {
        self.ending = true;
    }

    /// Moves what can be moved. `sent` is shown each chunk just before it goes to the far side.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut RecvStream,
        sink: &mut SendStream<Queued>,
        queue: &Rc<Queue>,
        mut sent: impl FnMut(&Bytes),
    ) -> Poll<Pumped> {
        let mut send = |chunk: Bytes, end: bool| {
            sent(&chunk);
            sink.send_data(queue.push(chunk), end).is_ok()
        };
        loop {
            if let Some(inspect) = &mut self.inspect {
                match inspect.poll(cx, &mut send) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) => return Poll::Ready(Pumped::SinkClosed),
                    Poll::Ready(Err(status)) => return Poll::Ready(Pumped::Rejected(status)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            // What is joined was read while there was room; it leaves before anything waits.
            if self.joined.is_empty() {
                ready!(queue.poll_room(cx));
            }
            let chunk = match source.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => chunk,
                Poll::Ready(Some(Err(error))) => {
                    self.joined.flush(&mut send);
                    return Poll::Ready(Pumped::SourceFailed(error));
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    return if self.joined.flush(&mut send) { Poll::Pending } else { Poll::Ready(Pumped::SinkClosed) };
                }
            };
            let end = source.is_end_stream();
            // The stream may have ended meanwhile, and then has no window to open.
            let _ = source.flow_control().release_capacity(chunk.len());
            self.bytes += chunk.len() as u64;
            if self.ending
                && let Some(rest) = self.follow.rest_of_message(&chunk)
            {
                return Poll::Ready(self.finish_message(chunk.slice(..rest), &mut send));
            }
            if let Err(too_large) = self.follow.pass(&chunk) {
                if let Some(before) = too_large.before {
                    self.joined.push(chunk.slice(..before), &mut send);
                }
                self.joined.flush(&mut send);
                return Poll::Ready(Pumped::TooLarge(too_large));
            }
            let open = match &mut self.inspect {
                Some(inspect) => {
                    inspect.buffer.extend_from_slice(&chunk);
                    true
                }
                None if end => {
                    let last = self.joined.finish(chunk, &mut send);
                    return Poll::Ready(if send(last, true) { Pumped::Ended } else { Pumped::SinkClosed });
                }
                None => self.joined.push(chunk, &mut send),
            };
            if !open {
                return Poll::Ready(Pumped::SinkClosed);
            }
        }
        if !self.joined.flush(&mut send) {
            return Poll::Ready(Pumped::SinkClosed);
        }
        match ready!(source.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Pumped::Trailers(trailers)),
            Ok(None) if send(Bytes::new(), true) => Poll::Ready(Pumped::Ended),
            Ok(None) => Poll::Ready(Pumped::SinkClosed),
            Err(error) => Poll::Ready(Pumped::SourceFailed(error)),
        }
    }
}

impl Pump<'_> {
    fn finish_message(&mut self, rest: Bytes, send: &mut impl FnMut(Bytes, bool) -> bool) -> Pumped {
        match self.follow.pass(&rest) {
            Ok(()) if self.joined.push(rest, send) && self.joined.flush(send) => Pumped::Boundary,
            Ok(()) => Pumped::SinkClosed,
            Err(too_large) => Pumped::TooLarge(too_large),
        }
    }
}

// === impl Joined ===

impl Joined {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.buffer.is_empty()
    }

    /// Adds a chunk, and sends what it does not fit with. False when the far side is closed. An empty chunk vanishes:
    /// h2 ends a connection that carries many empty frames.
    fn push(&mut self, chunk: Bytes, send: &mut impl FnMut(Bytes, bool) -> bool) -> bool {
        if chunk.is_empty() {
            return true;
        }
        if self.is_empty() {
            self.first = chunk;
            return true;
        }
        if self.first.len() + self.buffer.len() + chunk.len() > JOIN {
            let open = self.flush(send);
            self.first = chunk;
            return open;
        }
        if self.buffer.is_empty() {
            self.buffer.reserve(JOIN);
            self.buffer.put(std::mem::take(&mut self.first));
        }
        self.buffer.put(chunk);
        true
    }

    /// The last chunk, joined with what waits if both fit.
    fn finish(&mut self, chunk: Bytes, send: &mut impl FnMut(Bytes, bool) -> bool) -> Bytes {
        self.push(chunk, send);
        self.take()
    }

    fn flush(&mut self, send: &mut impl FnMut(Bytes, bool) -> bool) -> bool {
        self.is_empty() || send(self.take(), false)
    }

    fn take(&mut self) -> Bytes {
        if self.buffer.is_empty() { std::mem::take(&mut self.first) } else { self.buffer.split().freeze() }
    }
}

// === impl Inspect ===

impl Inspect<'_> {
    /// Runs the filters over every whole message in the buffer. Ready when more bytes are needed.
    fn poll(&mut self, cx: &mut Context<'_>, send: &mut impl FnMut(Bytes, bool) -> bool) -> Poll<Result<bool, Status>> {
        loop {
            if let Some(running) = &mut self.running {
                let message = match ready!(running.result.as_mut().poll(cx)) {
                    Ok(message) => message,
                    Err(status) => return Poll::Ready(Err(status)),
                };
                let Ok(length) = u32::try_from(message.len()) else {
                    let text = "a filter made a message of 4 GiB or more";
                    return Poll::Ready(Err(Status::new(weir_filter::Code::Internal, text)));
                };
                let mut framed = BytesMut::with_capacity(PREFIX + message.len());
                framed.put_u8(running.flag);
                framed.put_u32(length);
                framed.put(message);
                self.running = None;
                if !send(framed.freeze(), false) {
                    return Poll::Ready(Ok(false));
                }
            }
            let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Poll::Ready(Ok(true)) };
            let (flag, length) = (prefix[0], message::length(prefix));
            if self.buffer.len() < PREFIX + length {
                return Poll::Ready(Ok(true));
            }
            let message = self.buffer.split_to(PREFIX + length).freeze().slice(PREFIX..);
            let (chain, call, direction) = (self.chain, self.call, self.direction);
            let result = Box::pin(chain.message(call, direction, message, flag & 1 != 0));
            self.running = Some(Running { flag, result });
        }
    }
}
