//! Whole messages for the filters that asked for them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use weir_filter::{Call, Code, Direction, Status};

use super::held::JOIN;
use super::message::{self, PREFIX, TooLarge};
use super::pump::{FarSide, Pumped, poll_end, release};
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
    pub(super) fn finish<F: FnMut(&Bytes)>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut RecvStream,
        far: &mut FarSide<'_, F>,
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
    pub(super) fn flush<F: FnMut(&Bytes)>(&mut self, source: &mut RecvStream, far: &mut FarSide<'_, F>) {
        self.last.get_or_insert(Last::End);
        // The call ends now, whatever comes of it.
        let _ = self.poll(&mut Context::from_waker(Waker::noop()), source, far);
        self.send_out(source, far);
    }

    /// Runs the filters over every whole message for which there is room. Ready when more bytes are needed; false when the
    /// far side is closed.
    pub(super) fn poll<F: FnMut(&Bytes)>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut RecvStream,
        far: &mut FarSide<'_, F>,
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
    fn pass<F: FnMut(&Bytes)>(&mut self, message: Bytes, source: &mut RecvStream, far: &mut FarSide<'_, F>) -> bool {
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
    pub(super) fn send_out<F: FnMut(&Bytes)>(&mut self, source: &mut RecvStream, far: &mut FarSide<'_, F>) -> bool {
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
