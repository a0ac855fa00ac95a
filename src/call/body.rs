//! The request's stream from the client.

use h2::RecvStream;
use weir_filter::Status;

use super::pump::Pump;
use super::replay::{Claim, Replay};

/// The request's stream from the client, and what was sent of it.
pub(crate) struct Body<'a> {
    pub(super) stream: &'a mut RecvStream,
    pub(super) pump: Pump<'a>,
    pub(super) replay: Replay,
    /// The client has ended sending, and all of it has been handed to an attempt.
    pub(super) ended: bool,
    /// What the call ends with once the backend has everything that came before.
    pub(super) refusal: Option<Status>,
}

impl<'a> Body<'a> {
    pub(crate) fn new(stream: &'a mut RecvStream, pump: Pump<'a>, claim: Option<Box<Claim>>) -> Body<'a> {
        let ended = stream.is_end_stream();
        Body { stream, pump, replay: Replay::new(claim), ended, refusal: None }
    }

    /// True while another attempt could send all that was sent so far.
    pub(crate) fn can_be_sent_again(&self) -> bool {
        self.replay.is_whole()
    }

    /// Messages and bytes of DATA so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.pump.follow.messages(), self.pump.bytes)
    }
}
