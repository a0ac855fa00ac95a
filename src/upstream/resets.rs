//! Resets that a backend might take for an attack.
//!
//! A stream that is reset before the server has come to look at it is what rapid reset is made of (CVE-2023-44487). Servers count
//! them and end the connection: h2's when more than twenty are in its queue. Here all clients of an endpoint share that connection,
//! and one of them that opens a hundred calls and leaves would end the calls of all others. So only a few such streams are reset in
//! a round trip, and the others wait. Their calls have ended: what waits is a place on the connection.
//!
//! A stream is not such a one once a later one has been answered, since servers look at them in order. A round trip is a pause, and
//! then SETTINGS and their acknowledgement (RFC 9113 6.5.3). The acknowledgement says that the backend reads, not that it has looked
//! at all that it has read: h2's read for as long as there is something, and hand one stream out in between. In the pause there is
//! nothing. PING would tell as much as SETTINGS, but gRPC's servers end a connection on which there are more than a few (gRFC A8).

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::Duration;

use h2::client::ResponseFuture;
use h2::{Reason, SendStream};

use super::connection::Meter;
use super::pool::Lease;
use crate::io::Queued;

/// Resets in a round trip. With a quarter of what h2's servers bear, one would have to look at none for three of them, and read.
const IN_A_ROUND: u32 = 5;

/// Before SETTINGS are sent. The clock's ticks make it one to two of them.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// A backend that has not acknowledged SETTINGS for so long loses a connection that nobody wants any more.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The resets of a connection, of streams that the backend may not have looked at.
#[derive(Default)]
pub(super) struct Resets {
    /// In this round, and the last of their streams.
    sent: Cell<u32>,
    last: Cell<u32>,
    /// What had been acknowledged when SETTINGS were sent to end the round.
    asked: Cell<Option<u32>>,
    /// What the backend had said when they were looked at last.
    seen: Cell<(u32, u32)>,
    waiting: RefCell<Vec<Waiting>>,
    ended: Cell<bool>,
}

/// A stream that nobody wants any more.
struct Waiting {
    up: SendStream<Queued>,
    reason: Reason,
    /// h2 would reset the stream when this is dropped.
    _head: ResponseFuture,
}

/// Resets a stream of which the response has not begun, now or as soon as it can be done without harm to others.
pub(crate) fn reset(lease: &Lease, head: ResponseFuture, mut up: SendStream<Queued>, reason: Reason) {
    let is_over = up.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready();
    let connection = &lease.connection;
    let resets = connection.resets();
    if is_over || resets.take(up.stream_id().as_u32(), connection.meter()) {
        // Where the backend has ended the stream, nothing leaves.
        up.send_reset(reason);
        return;
    }
    lease.pool.metrics.resets_delayed[lease.pool.cluster_now().index].add(1);
    // The lease is given back with the call, and the place on the connection is not free.
    connection.opened();
    resets.waiting.borrow_mut().push(Waiting { up, reason, _head: head });
    connection.wake();
}

impl Resets {
    /// Whether this stream may be reset now.
    fn take(&self, stream: u32, meter: &Meter) -> bool {
        if stream <= meter.answered() || self.ended.get() {
            return true;
        }
        let is_acknowledged = self.asked.get().is_some_and(|before| meter.acknowledged() > before);
        if is_acknowledged || self.last.get() <= meter.answered() {
            self.sent.set(0);
            self.asked.set(None);
        }
        let is_free = self.sent.get() < IN_A_ROUND;
        if is_free {
            self.sent.set(self.sent.get() + 1);
            self.last.set(self.last.get().max(stream));
        }
        is_free
    }

    /// Streams that wait for their reset.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// True when the backend has said something new since the last [`Resets::reset_some`].
    pub(super) fn have_news(&self, meter: &Meter) -> bool {
        self.seen.get() != (meter.answered(), meter.acknowledged())
    }

    /// Resets those that may be, in the order in which they were given up, and returns how many there are.
    pub(super) fn reset_some(&self, meter: &Meter) -> usize {
        self.seen.set((meter.answered(), meter.acknowledged()));
        let is_due = |one: &mut Waiting| self.take(one.up.stream_id().as_u32(), meter);
        self.waiting.borrow_mut().extract_if(.., is_due).map(Waiting::reset).count()
    }

    /// SETTINGS are sent, after which a new round begins.
    pub(super) fn asked(&self, meter: &Meter) {
        self.asked.set(Some(meter.acknowledged()));
    }

    /// Nobody is left on the connection, or it has ended: all may be reset. Returns how many waited.
    pub(super) fn end(&self) -> usize {
        self.ended.set(true);
        self.waiting.take().into_iter().map(Waiting::reset).count()
    }
}

impl Waiting {
    fn reset(mut self) {
        self.up.send_reset(self.reason);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::io::{Frame, FrameMeter};

    #[test]
    fn a_few_are_reset_in_a_round_and_all_that_the_backend_knows() {
        let (resets, meter) = (Resets::default(), Rc::new(Meter::default()));
        let free = |from: u32| (0..100).take_while(|at| resets.take(from + 2 * at, &meter)).count();
        assert_eq!(free(1), 5);
        meter.received(Frame::SettingsAck);
        assert_eq!(free(11), 0, "of SETTINGS that were sent before");
        resets.asked(&meter);
        assert_eq!(free(11), 0);
        meter.received(Frame::SettingsAck);
        assert_eq!(free(11), 5);
        resets.asked(&meter);
        meter.received(Frame::Headers(17));
        assert!(resets.take(17, &meter));
        assert_eq!(free(21), 0, "the last of the round has not been answered");
        meter.received(Frame::Headers(19));
        assert_eq!(free(21), 5);
        meter.received(Frame::SettingsAck);
        assert_eq!(free(31), 0, "SETTINGS that were sent before this round");
        resets.end();
        assert_eq!(free(31), 100);
    }
}
