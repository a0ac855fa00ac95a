//! How far a gateway is on its way out, for whoever asks.

use std::time::Duration;

use tokio::sync::watch::{Receiver, Sender};
use tokio::time::Instant;

/// How far a gateway is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It takes calls.
    #[default]
    Serving,
    /// It has asked its clients to leave, and stays.
    Drained {
        /// Since then.
        since: Instant,
    },
    /// It ends.
    Leaving,
}

/// The stage of a gateway. It is asked for from the admin listener, and followed by [`attend`](super::attend).
#[derive(Debug, Default)]
pub(crate) struct Stages(Sender<Stage>);

/// The process ends: a drain is not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLate;

impl Stages {
    pub(crate) fn get(&self) -> Stage {
        *self.0.borrow()
    }

    /// True from the moment when clients should no longer come.
    pub(crate) fn is_draining(&self) -> bool {
        self.get() != Stage::Serving
    }

    /// Told of every change.
    pub(super) fn follow(&self) -> Receiver<Stage> {
        self.0.subscribe()
    }

    /// Begins a drain that can be taken back. One that has begun goes on.
    pub(crate) fn drain(&self) {
        self.0.send_if_modified(|stage| {
            let begins = *stage == Stage::Serving;
            if begins {
                *stage = Stage::Drained { since: Instant::now() };
            }
            begins
        });
    }

    /// Takes a drain back.
    ///
    /// # Errors
    ///
    /// When the process ends.
    pub(crate) fn undrain(&self) -> Result<(), TooLate> {
        if self.get() == Stage::Leaving {
            return Err(TooLate);
        }
        self.0.send_if_modified(|stage| std::mem::take(stage) != Stage::Serving);
        Ok(())
    }

    /// Begins the drain at the end of the process. Returns for how long clients have known that they should not come.
    pub(crate) fn leave(&self) -> Duration {
        match self.0.send_replace(Stage::Leaving) {
            Stage::Drained { since } => since.elapsed(),
            Stage::Serving | Stage::Leaving => Duration::ZERO,
        }
    }
}

impl Stage {
    /// Its number in `weir_drain_state`.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Stage::Serving => 0,
            Stage::Drained { .. } => 1,
            Stage::Leaving => 2,
        }
    }
}
