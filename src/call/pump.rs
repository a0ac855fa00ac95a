//! One direction of a call: DATA from one side's stream to the other's.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use weir_filter::{Call, Direction, Needs, Status};

use super::held::Held;
use super::inspect::{Inspect, Last};
use super::message::{Follow, TooLarge};
use super::trailers;
use crate::chain::Chain;
use crate::io::{Queue, Queued};

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
    held: Held,
    inspect: Option<Box<Inspect<'a>>>,
    ending: bool,
}

impl<'a> Pump<'a> {
    pub(crate) fn new(chain: &'a Chain, call: &'a Call, direction: Direction, limit: Option<usize>) -> Pump<'a> {
        let needs = match direction {
            Direction::Request => Needs::REQUEST_MESSAGES,
            Direction::Response => Needs::RESPONSE_MESSAGES,
        };
        let inspect = chain.needs(needs).then(|| Box::new(Inspect::new(chain, call, direction)));
        Pump { follow: Follow::new(limit), bytes: 0, held: Held::default(), inspect, ending: false }
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
    ///
    /// What arrives is taken from h2 even while the far side takes nothing: h2 keeps every frame apart, and ends the whole
    /// connection when it keeps too many. The sender's window opens only when the far side's queue has taken the bytes.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut RecvStream,
        sink: &mut SendStream<Queued>,
        queue: &Rc<Queue>,
        sent: impl FnMut(&Bytes),
    ) -> Poll<Pumped> {
        self.poll_into(cx, source, &mut FarSide { sink, queue, sent })
    }

    /// The same to a far side of any kind.
    pub(super) fn poll_into<F: Far>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut RecvStream,
        far: &mut F,
    ) -> Poll<Pumped> {
        if self.inspect.is_some() {
            return self.poll_inspected(cx, source, far);
        }
        loop {
            let chunk = match source.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => chunk,
                Poll::Ready(Some(Err(error))) => {
                    self.held.send_all(source, far);
                    return Poll::Ready(Pumped::SourceFailed(error));
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    return if ready!(self.held.poll_send(source, far, cx)) {
                        Poll::Pending
                    } else {
                        Poll::Ready(Pumped::SinkClosed)
                    };
                }
            };
            if let Some(end) = self.take(chunk, source, far) {
                return Poll::Ready(end);
            }
        }
        if !self.held.send_all(source, far) {
            return Poll::Ready(Pumped::SinkClosed);
        }
        poll_end(cx, source, far)
    }

    /// Takes a chunk that was read before there was a far side.
    pub(crate) fn begin_with(
        &mut self,
        chunk: Bytes,
        source: &mut RecvStream,
        sink: &mut SendStream<Queued>,
        queue: &Rc<Queue>,
        sent: impl FnMut(&Bytes),
    ) -> Option<Pumped> {
        if self.inspect.is_some() {
            self.look_into(&chunk);
            return None;
        }
        self.take(chunk, source, &mut FarSide { sink, queue, sent })
    }

    /// The same with filters in between, which get whole messages. The window of a message that is not whole opens as it
    /// comes; all that waits behind it is within one window.
    fn poll_inspected<F: Far>(&mut self, cx: &mut Context<'_>, source: &mut RecvStream, far: &mut F) -> Poll<Pumped> {
        loop {
            let Some(inspect) = &mut self.inspect else { return Poll::Pending };
            let handed_on = match inspect.poll(cx, source, far) {
                Poll::Ready(Ok(true)) => true,
                Poll::Ready(Ok(false)) => return Poll::Ready(Pumped::SinkClosed),
                Poll::Ready(Err(status)) => return Poll::Ready(Pumped::Rejected(status)),
                Poll::Pending => false,
            };
            if inspect.has_ended() {
                return if handed_on { inspect.finish(cx, source, far) } else { Poll::Pending };
            }
            match source.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.look_into(&chunk),
                Poll::Ready(Some(Err(error))) => inspect.end(Last::Failed(error)),
                Poll::Ready(None) => inspect.end(Last::End),
                Poll::Pending if inspect.send_out(source, far) => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Pumped::SinkClosed),
            }
        }
    }

    /// Gives a chunk to the filters.
    fn look_into(&mut self, chunk: &Bytes) {
        let Some(inspect) = &mut self.inspect else { return };
        self.bytes += chunk.len() as u64;
        match self.follow.pass(chunk) {
            Ok(()) => inspect.push(chunk),
            Err(too_large) => {
                inspect.push(&chunk[..too_large.before.unwrap_or(0)]);
                inspect.end(Last::TooLarge(too_large));
            }
        }
    }

    /// Hands on what is held, whether there is room or not: trailers are to follow it.
    pub(crate) fn flush(&mut self, source: &mut RecvStream, sink: &mut SendStream<Queued>, queue: &Rc<Queue>) {
        let mut far = FarSide { sink, queue, sent: |_: &Bytes| {} };
        // A far side that is closed needs no trailers either.
        match &mut self.inspect {
            Some(inspect) => inspect.flush(source, &mut far),
            None => _ = self.held.send_all(source, &mut far),
        }
    }

    /// Takes a chunk in, and says how the direction ends if it ends with it.
    fn take<F: Far>(&mut self, chunk: Bytes, source: &mut RecvStream, far: &mut F) -> Option<Pumped> {
        let end = source.is_end_stream();
        self.bytes += chunk.len() as u64;
        if self.ending
            && let Some(rest) = self.follow.rest_of_message(&chunk)
        {
            return Some(self.finish_message(chunk.slice(..rest), source, far));
        }
        if let Err(too_large) = self.follow.pass(&chunk) {
            if let Some(before) = too_large.before {
                self.held.push(chunk.slice(..before));
            }
            self.held.send_all(source, far);
            return Some(Pumped::TooLarge(too_large));
        }
        self.held.push(chunk);
        let open = if end { self.held.send_all_and_end(source, far) } else { self.held.send_whole(source, far) };
        match open {
            false => Some(Pumped::SinkClosed),
            true => end.then_some(Pumped::Ended),
        }
    }

    fn finish_message<F: Far>(&mut self, rest: Bytes, source: &mut RecvStream, far: &mut F) -> Pumped {
        if let Err(too_large) = self.follow.pass(&rest) {
            return Pumped::TooLarge(too_large);
        }
        self.held.push(rest);
        if self.held.send_all(source, far) { Pumped::Boundary } else { Pumped::SinkClosed }
    }
}

/// The end of a stream all of whose DATA has been handed on.
pub(super) fn poll_end<F: Far>(cx: &mut Context<'_>, source: &mut RecvStream, far: &mut F) -> Poll<Pumped> {
    match ready!(source.poll_trailers(cx)) {
        Ok(Some(trailers)) => Poll::Ready(Pumped::Trailers(trailers::cleaned(trailers))),
        Ok(None) if far.send(Bytes::new(), true) => Poll::Ready(Pumped::Ended),
        Ok(None) => Poll::Ready(Pumped::SinkClosed),
        Err(error) => Poll::Ready(Pumped::SourceFailed(error)),
    }
}

/// Opens the sender's window by what has been handed on. The stream may have ended meanwhile, and then has none.
pub(super) fn release(source: &mut RecvStream, bytes: usize) {
    let _ = source.flow_control().release_capacity(bytes);
}

/// Where a direction leads.
pub(super) trait Far {
    fn has_room(&self) -> bool;

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Hands bytes to h2. False when no stream takes more.
    fn send(&mut self, bytes: Bytes, end: bool) -> bool;
}

/// One stream. `sent` is shown each chunk just before it goes there.
struct FarSide<'s, F> {
    sink: &'s mut SendStream<Queued>,
    queue: &'s Rc<Queue>,
    sent: F,
}

impl<F: FnMut(&Bytes)> Far for FarSide<'_, F> {
    fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_room(cx)
    }

    fn send(&mut self, bytes: Bytes, end: bool) -> bool {
        (self.sent)(&bytes);
        self.sink.send_data(self.queue.push(bytes), end).is_ok()
    }
}
