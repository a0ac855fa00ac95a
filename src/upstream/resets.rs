//! Resets that a backend might take for an attack.
//!
//! A stream that is reset before the server has come to look at it is what rapid reset is made of (CVE-2023-44487). Servers count
//! them and end the connection: h2's when more than twenty are in its queue. Here all clients of an endpoint share that connection,
//! and one of them that opens a hundred calls and leaves would end the calls of all others. So only a few such streams are reset in
//! a round trip, and the others wait.
//!
//! A stream is not such a one once a later one has been answered, since servers look at them in order. A round trip is a pause, and
//! then SETTINGS and their acknowledgement (RFC 9113 6.5.3). The acknowledgement says that the backend reads, not that it has looked
//! at all that it has read: h2's read for as long as there is something, and hand one stream out in between. In the pause there is
//! nothing. PING would tell as much as SETTINGS, but gRPC's servers end a connection on which there are more than a few (gRFC A8).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use h2::client::ResponseFuture;
use h2::{Reason, SendStream};

use super::connection::Meter;
use super::pool::Lease;
use crate::io::Queued;

/// Resets in a round trip. With a quarter of what h2's servers bear, one would have to look at none for three of them, and read.
const IN_A_ROUND: u32 = 5;

/// Between two rounds. The clock's ticks make it one to two of them.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// The resets of a connection, of streams that the backend may not have looked at.
#[derive(Default)]
pub(super) struct Resets {
    /// In this round, and the last of their streams.
    sent: Cell<u32>,
    last: Cell<u32>,
    /// What had been acknowledged when the round began.
    round: Cell<u32>,
    waiting: RefCell<VecDeque<Waiting>>,
    ended: Cell<bool>,
}

/// A stream that nobody wants any more. It keeps its place on the connection until it is reset: the backend still has it.
struct Waiting {
    up: SendStream<Queued>,
    reason: Reason,
    /// h2 would reset the stream when this is dropped.
    _head: ResponseFuture,
    _lease: Lease,
}

/// Resets a stream of which the response has not begun, now or as soon as it can be done without harm to others.
pub(crate) fn reset(lease: Lease, head: ResponseFuture, mut up: SendStream<Queued>, reason: Reason) {
    let connection = lease.connection.clone();
    let resets = connection.resets();
    if resets.take(up.stream_id().as_u32(), connection.meter()) {
        up.send_reset(reason);
        return;
    }
    lease.pool.metrics.resets_delayed[lease.pool.cluster_now().index].add(1);
    resets.waiting.borrow_mut().push_back(Waiting { up, reason, _head: head, _lease: lease });
    connection.wake();
}

impl Resets {
    /// Whether this stream may be reset now.
    fn take(&self, stream: u32, meter: &Meter) -> bool {
        if stream <= meter.answered() || self.ended.get() {
            return true;
        }
        let round = meter.acknowledged();
        if self.round.replace(round) != round || self.last.get() <= meter.answered() {
            self.sent.set(0);
        }
        let is_free = self.sent.get() < IN_A_ROUND;
        if is_free {
            self.sent.set(self.sent.get() + 1);
            self.last.set(self.last.get().max(stream));
        }
        is_free
    }

    /// True when a stream waits for its reset.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Resets those that may be, in the order in which they were given up. False when there are none.
    pub(super) fn reset_some(&self, meter: &Meter) -> bool {
        let is_due = |one: &mut Waiting| self.take(one.up.stream_id().as_u32(), meter);
        // What is dropped with one looks at the connection.
        let next = || self.waiting.borrow_mut().pop_front_if(is_due);
        std::iter::from_fn(next).map(|mut one| one.up.send_reset(one.reason)).count() > 0
    }

    /// The connection has ended, and with it all of its streams.
    pub(super) fn end(&self) {
        self.ended.set(true);
        drop(self.waiting.take());
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
        assert_eq!(free(11), 5);
        meter.received(Frame::Headers(17));
        assert!(resets.take(17, &meter));
        assert_eq!(free(21), 0, "the last of the round has not been answered");
        meter.received(Frame::Headers(19));
        assert_eq!(free(21), 5);
        resets.end();
        assert_eq!(free(31), 100);
    }
}
