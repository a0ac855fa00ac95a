//! The access log: one JSON object a line. A worker formats the line of a call that has ended; a thread of its own writes
//! what workers have collected.

mod clock;
mod entry;
mod json;
mod output;
mod queues;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use clock::timestamp;
pub(crate) use entry::Entry;
use output::Output;
use queues::Queues;
pub(crate) use queues::{Appender, Sender};

/// What the writer may still take when everything else has ended. Whoever reads a pipe and has stopped to would otherwise
/// keep the process for ever.
const LAST_LINES: Duration = Duration::from_secs(3);

/// The writer's thread and the way to it.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queues: Arc<Queues>,
    sender: Sender,
    writer: JoinHandle<()>,
    /// Disconnected when the writer has ended.
    ended: Receiver<()>,
}

impl AccessLog {
    /// Opens the file, appending, and starts the writer.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for writing.
    pub(crate) fn open(path: &Path) -> io::Result<AccessLog> {
        AccessLog::start(open(path)?)
    }

    /// Goes on in this file, which may be a new one under the old name: what was appended before is in the old one.
    pub(crate) fn go_on_in(&self, out: Box<dyn Write + Send>) {
        self.queues.go_on_in(out);
    }

    fn start(out: Box<dyn Write + Send>) -> io::Result<AccessLog> {
        let queues = Arc::new(Queues::default());
        let sender = Sender::new(queues.clone());
        let (ending, ended) = sync_channel(0);
        let for_writer = queues.clone();
        let writer = std::thread::Builder::new().name("access-log".into()).spawn(move || {
            write(&for_writer, Output::new(out));
            drop(ending);
        })?;
        Ok(AccessLog { queues, sender, writer, ended })
    }

    /// What workers get their end from.
    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Waits until everything has been written, within reason. The workers must have ended.
    pub(crate) fn close(self) {
        drop(self.sender);
        if self.ended.recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(
                "the last lines of the access log were not written: nobody has taken them for {LAST_LINES:?}"
            );
            return;
        }
        if self.writer.join().is_err() {
            tracing::error!("the access log's writer panicked");
        }
    }
}

/// Opens a file for appending.
///
/// # Errors
///
/// When it cannot be opened for writing.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    Ok(match path.to_str() {
        // Opened by path, a stdout that is a socket or a closed terminal's would fail.
        Some("/dev/stdout") => Box::new(io::stdout()),
        Some("/dev/stderr") => Box::new(io::stderr()),
        _ => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
    })
}

/// Writes until nobody is left to append. While there are lines it rests between two looks, so that what comes meanwhile
/// is written at once; otherwise it sleeps.
fn write(queues: &Queues, mut output: Output) {
    let mut lines = Vec::new();
    let mut is_end = false;
    loop {
        let mut wrote = false;
        // Looked for before the lines: those that were appended earlier are written to the old file, or after it.
        let next = queues.next_file();
        for index in 0.. {
            if !queues.take(index, &mut lines) {
                break;
            }
            wrote |= !lines.is_empty();
            output.write(&lines);
        }
        if let Some(out) = next {
            output.go_on_in(out);
        }
        if is_end {
            return;
        }
        is_end = if wrote { queues.rest() } else { queues.sleep() };
    }
}

#[cfg(test)]
mod tests;
