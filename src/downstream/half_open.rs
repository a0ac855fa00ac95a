//! How long a client may take over one frame, or over one header block.
//!
//! h2 has no such timer. Between HEADERS and END_HEADERS no other frame may come (RFC 9113 4.3), so that a block that never
//! ends holds up all calls of its connection, and memory with them.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// The timer of the frame that has begun and not ended, if there is one.
#[derive(Debug)]
pub(super) struct HalfOpen {
    limit: Duration,
    begun: Option<Box<Begun>>,
}

#[derive(Debug)]
struct Begun {
    number: u32,
    timer: Pin<Box<Sleep>>,
}

impl HalfOpen {
    pub(super) fn new(limit: Duration) -> HalfOpen {
        HalfOpen { limit, begun: None }
    }

    /// True when this frame took longer than it may, and it was the client's doing. It is to be asked in every turn.
    pub(super) fn is_over(&mut self, half_open: Option<(u32, bool)>, cx: &mut Context<'_>) -> bool {
        let Some((number, starved)) = half_open else {
            if self.begun.is_some() {
                self.begun = None;
            }
            return false;
        };
        if self.begun.as_ref().is_none_or(|begun| begun.number != number) {
            self.begun = Some(Box::new(Begun { number, timer: Box::pin(sleep(self.limit)) }));
        }
        let over = self.begun.as_mut().is_some_and(|begun| begun.timer.as_mut().poll(cx).is_ready());
        over && starved
    }
}
