//! One direction of a call: DATA from one side's stream to the other's.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use weir_filter::{Call, Direction, Needs, Status};

use super::held::Held;
use super::message::{self, Follow, PREFIX, TooLarge};
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
        let mut far = FarSide { sink, queue, sent };
        loop {
            if let Some(inspect) = &mut self.inspect {
                match ready!(inspect.poll(cx, &mut far)) {
                    Ok(true) => ready!(queue.poll_room(cx)),
                    Ok(false) => return Poll::Ready(Pumped::SinkClosed),
                    Err(status) => return Poll::Ready(Pumped::Rejected(status)),
                }
            }
            let chunk = match source.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => chunk,
                Poll::Ready(Some(Err(error))) => {
                    self.held.send_all(source, &mut far);
                    return Poll::Ready(Pumped::SourceFailed(error));
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    return if ready!(self.held.poll_send(source, &mut far, cx)) {
                        Poll::Pending
                    } else {
                        Poll::Ready(Pumped::SinkClosed)
                    };
                }
            };
            if let Some(end) = self.take(chunk, source, &mut far) {
                return Poll::Ready(end);
            }
        }
        if !self.held.send_all(source, &mut far) {
            return Poll::Ready(Pumped::SinkClosed);
        }
        match ready!(source.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Pumped::Trailers(trailers)),
            Ok(None) if far.send(Bytes::new(), true) => Poll::Ready(Pumped::Ended),
            Ok(None) => Poll::Ready(Pumped::SinkClosed),
            Err(error) => Poll::Ready(Pumped::SourceFailed(error)),
        }
    }

    /// Hands on what is held, whether there is room or not: trailers are to follow it.
    pub(crate) fn flush(&mut self, source: &mut RecvStream, sink: &mut SendStream<Queued>, queue: &Rc<Queue>) {
        // A far side that is closed needs no trailers either.
        self.held.send_all(source, &mut FarSide { sink, queue, sent: |_: &Bytes| {} });
    }

    /// Takes a chunk in, and says how the direction ends if it ends with it.
    fn take<F: FnMut(&Bytes)>(
        &mut self,
        chunk: Bytes,
        source: &mut RecvStream,
        far: &mut FarSide<'_, F>,
    ) -> Option<Pumped> {
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
        if let Some(inspect) = &mut self.inspect {
            inspect.buffer.extend_from_slice(&chunk);
            release(source, chunk.len());
            return None;
        }
        self.held.push(chunk);
        let open = if end { self.held.send_all_and_end(source, far) } else { self.held.send_whole(source, far) };
        match open {
            false => Some(Pumped::SinkClosed),
            true => end.then_some(Pumped::Ended),
        }
    }

    fn finish_message<F: FnMut(&Bytes)>(
        &mut self,
        rest: Bytes,
        source: &mut RecvStream,
        far: &mut FarSide<'_, F>,
    ) -> Pumped {
        if let Err(too_large) = self.follow.pass(&rest) {
            return Pumped::TooLarge(too_large);
        }
        self.held.push(rest);
        if self.held.send_all(source, far) { Pumped::Boundary } else { Pumped::SinkClosed }
    }
}

/// Opens the sender's window by what has been handed on. The stream may have ended meanwhile, and then has none.
pub(super) fn release(source: &mut RecvStream, bytes: usize) {
    let _ = source.flow_control().release_capacity(bytes);
}

/// Where a direction leads.
pub(super) struct FarSide<'s, F> {
    sink: &'s mut SendStream<Queued>,
    queue: &'s Rc<Queue>,
    sent: F,
}

impl<F: FnMut(&Bytes)> FarSide<'_, F> {
    pub(super) fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_room(cx)
    }

    /// Hands bytes to h2. False when the stream takes no more.
    pub(super) fn send(&mut self, bytes: Bytes, end: bool) -> bool {
        (self.sent)(&bytes);
        self.sink.send_data(self.queue.push(bytes), end).is_ok()
    }
}

// === impl Inspect ===

impl Inspect<'_> {
    /// Runs the filters over every whole message in the buffer. Ready when more bytes are needed.
    fn poll<F: FnMut(&Bytes)>(&mut self, cx: &mut Context<'_>, far: &mut FarSide<'_, F>) -> Poll<Result<bool, Status>> {
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
                if !far.send(framed.freeze(), false) {
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
