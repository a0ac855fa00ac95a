//! The access log: one JSON object a line, formatted and written by a thread of its own.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Uri;
use serde::Serialize;
use weir_filter::{Code, Ending};

/// Records that may wait for the writer. Beyond it a record is dropped and counted rather than a call delayed.
const RING: usize = 16_384;

/// What the writer may still take when everything else has ended. Whoever reads a pipe and has stopped to would otherwise
/// keep the process for ever.
const LAST_LINES: Duration = Duration::from_secs(3);

/// What is known of a call when it has ended.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) time: SystemTime,
    pub(crate) listener: Arc<str>,
    pub(crate) peer: SocketAddr,
    pub(crate) uri: Uri,
    pub(crate) route: Option<Arc<str>>,
    pub(crate) cluster: Option<Arc<str>>,
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) status: Code,
    pub(crate) upstream_status: Option<Code>,
    pub(crate) message: Option<String>,
    pub(crate) duration: Duration,
    pub(crate) first_message: Option<Duration>,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) attempts: u32,
    pub(crate) ended_by: Ending,
}

/// The line as it is written. The names are fixed: dashboards hold on to them.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    listener: &'a str,
    peer: SocketAddr,
    method: &'a str,
    authority: Option<&'a str>,
    route: Option<&'a str>,
    cluster: Option<&'a str>,
    endpoint: Option<&'a str>,
    status: &'static str,
    upstream_status: Option<&'static str>,
    message: Option<&'a str>,
    duration_ms: f64,
    first_message_ms: Option<f64>,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    attempts: u32,
    ended_by: &'static str,
}

/// The writer's thread and the way to it.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sender: SyncSender<Entry>,
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
        let out: Box<dyn Write + Send> = match path.to_str() {
            // Opened by path, a stdout that is a socket or a closed terminal's would fail.
            Some("/dev/stdout") => Box::new(io::stdout()),
            Some("/dev/stderr") => Box::new(io::stderr()),
            _ => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        let (sender, receiver) = sync_channel(RING);
        let (ending, ended) = sync_channel(0);
        let writer = std::thread::Builder::new().name("access-log".into()).spawn(move || {
            write(&receiver, out);
            drop(ending);
        })?;
        Ok(AccessLog { sender, writer, ended })
    }

    /// The end that a worker holds.
    pub(crate) fn sender(&self) -> SyncSender<Entry> {
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

fn write(receiver: &Receiver<Entry>, out: Box<dyn Write + Send>) {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    let mut failing = false;
    while let Ok(first) = receiver.recv() {
        let mut result = write_line(&mut out, &first);
        while let Ok(entry) = receiver.try_recv() {
            result = result.and(write_line(&mut out, &entry));
        }
        match result.and_then(|()| out.flush()) {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                tracing::error!(%error, "the access log cannot be written");
                failing = true;
            }
            Err(_) => {}
        }
    }
}

fn write_line(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &entry.line())?;
    out.write_all(b"\n")
}

impl Entry {
    fn line(&self) -> Line<'_> {
        Line {
            time: timestamp(self.time),
            listener: &self.listener,
            peer: self.peer,
            method: self.uri.path(),
            authority: self.uri.authority().map(http::uri::Authority::as_str),
            route: self.route.as_deref(),
            cluster: self.cluster.as_deref(),
            endpoint: self.endpoint.as_deref(),
            status: self.status.name(),
            upstream_status: self.upstream_status.map(Code::name),
            message: self.message.as_deref(),
            duration_ms: millis(self.duration),
            first_message_ms: self.first_message.map(millis),
            messages_in: self.messages_in,
            messages_out: self.messages_out,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            attempts: self.attempts,
            ended_by: self.ended_by.name(),
        }
    }
}

/// Milliseconds with three decimals.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The Gregorian date of a day counted from 1970-01-01, by eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_132_799, "2026-11-19T23:59:59.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
