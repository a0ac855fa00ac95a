//! Lines on their way from the workers to the writer: one queue for each worker, of bytes.
//!
//! The mutex of a queue is fought over only where the writer takes what is there, which is a swap of two vectors. The
//! writer is woken where it sleeps, and when a queue has a batch; else a line costs no system call.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use super::entry::Entry;

/// How long the writer rests between two looks while there is something to write. It is what a line may come late.
const REST: Duration = Duration::from_millis(50);

/// Bytes in a queue that end the writer's rest: a write of so many costs little more for its being a write.
const BATCH: usize = 64 * 1024;

/// Bytes in a queue, some 10,000 lines, beyond which a line is dropped rather than a call delayed or memory filled.
const BACKLOG: usize = 4 * 1024 * 1024;

/// Room that a queue keeps once it has been written: what came in one burst need not be held for ever.
const KEPT: usize = 2 * BATCH;

/// The queues, as the writer sees them.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: Mutex<Vec<Arc<Mutex<Queue>>>>,
    state: Mutex<State>,
    changed: Condvar,
    next: Mutex<Next>,
}

/// The file to go on in, until the writer has taken it.
#[derive(Default)]
struct Next(Option<Box<dyn Write + Send>>);

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Next").field(&self.0.is_some()).finish()
    }
}

/// A worker's lines that have not been written.
#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    clock: Clock,
}

/// What the writer should know, and what it waits for.
#[derive(Debug, Default)]
struct State {
    due: Due,
    awaited: Due,
}

/// What there is to do, by its urgency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    #[default]
    Nothing,
    /// A queue is no longer empty.
    Lines,
    /// A queue is long enough to be written now.
    Batch,
    /// Nobody is left to append.
    End,
}

// === impl Queues ===

impl Queues {
    /// Takes what is in a worker's queue, in exchange for an empty vector. False where there is no such queue.
    pub(super) fn take(&self, index: usize, lines: &mut Vec<u8>) -> bool {
        lines.clear();
        lines.shrink_to(KEPT);
        // Not held further: a worker that starts must not wait for the writer.
        let queue = lock(&self.queues).get(index).cloned();
        let Some(queue) = queue else { return false };
        std::mem::swap(&mut lock(&queue).lines, lines);
        true
    }

    /// Has the writer go on in another file, at once.
    pub(super) fn go_on_in(&self, out: Box<dyn Write + Send>) {
        lock(&self.next).0 = Some(out);
        self.announce(Due::Batch);
    }

    /// The file to go on in, where there is one.
    pub(super) fn next_file(&self) -> Option<Box<dyn Write + Send>> {
        lock(&self.next).0.take()
    }

    /// Waits until a queue has a batch, not longer than [`REST`]. True when nobody is left to append.
    pub(super) fn rest(&self) -> bool {
        let state = self.await_from(Due::Batch);
        let waited = self.changed.wait_timeout_while(state, REST, |state| state.due < state.awaited);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        is_end(state)
    }

    /// Waits until a queue has a line. True when nobody is left to append.
    pub(super) fn sleep(&self) -> bool {
        let state = self.await_from(Due::Lines);
        let waited = self.changed.wait_while(state, |state| state.due < state.awaited);
        is_end(waited.unwrap_or_else(PoisonError::into_inner))
    }

    fn await_from(&self, awaited: Due) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        state.awaited = awaited;
        state
    }

    fn announce(&self, due: Due) {
        let mut state = lock(&self.state);
        state.due = state.due.max(due);
        let is_awaited = due >= state.awaited;
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        }
    }
}

/// The look that follows sees all that was announced.
fn is_end(mut state: MutexGuard<'_, State>) -> bool {
    if state.due != Due::End {
        state.due = Due::Nothing;
    }
    state.due == Due::End
}

/// What is behind a lock is whole between any two statements: a panic elsewhere changes nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the writer to end, when the last of those who share it has gone.
struct Open(Arc<Queues>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.announce(Due::End);
    }
}

/// What workers get their end from.
#[derive(Clone)]
pub(crate) struct Sender(Arc<Open>);

impl Sender {
    pub(super) fn new(queues: Arc<Queues>) -> Sender {
        Sender(Arc::new(Open(queues)))
    }

    /// The end of one worker, with a queue of its own.
    pub(crate) fn appender(&self) -> Appender {
        let queue = Arc::default();
        lock(&self.0.0.queues).push(Arc::clone(&queue));
        Appender { queue, open: self.0.clone() }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0.0).finish()
    }
}

/// The end that a worker holds. The writer ends after the last of them.
pub(crate) struct Appender {
    queue: Arc<Mutex<Queue>>,
    open: Arc<Open>,
}

impl Appender {
    /// Appends the line of a call. False where it was dropped, because the writer is behind.
    pub(crate) fn append(&self, entry: &Entry<'_>) -> bool {
        let mut queue = lock(&self.queue);
        let Queue { lines, clock } = &mut *queue;
        let before = lines.len();
        if before >= BACKLOG {
            return false;
        }
        entry.write(lines, clock);
        let after = lines.len();
        drop(queue);
        if before < BATCH && after >= BATCH {
            self.open.0.announce(Due::Batch);
        } else if before == 0 {
            self.open.0.announce(Due::Lines);
        }
        true
    }
}
