//! The way of lines from several workers to what takes them, well and badly.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, UNIX_EPOCH};

use weir_filter::{Code, Ending, Peer};

use super::*;

/// What the writer writes to: each write waits for what it is to come to.
struct Gate {
    writes: SyncSender<Vec<u8>>,
    results: Receiver<io::Result<usize>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.writes.send(bytes.to_vec());
        self.results.recv().unwrap_or(Ok(usize::MAX)).map(|most| most.min(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other end of a [`Gate`].
struct Gatekeeper {
    writes: Receiver<Vec<u8>>,
    results: Sender<io::Result<usize>>,
}

impl Gatekeeper {
    /// The next write, as text. What it comes to is open.
    fn write(&self) -> String {
        let bytes = self.writes.recv_timeout(Duration::from_secs(20)).expect("a write");
        String::from_utf8(bytes).expect("text")
    }

    fn let_pass(&self, result: io::Result<usize>) {
        self.results.send(result).expect("a writer");
    }
}

fn gated() -> (AccessLog, Gatekeeper) {
    let (writes, written) = sync_channel(1_000);
    #[expect(clippy::disallowed_methods, reason = "holds as many results as the test gives")]
    let (results, passed) = channel();
    let log = AccessLog::start(Box::new(Gate { writes, results: passed })).expect("a writer");
    (log, Gatekeeper { writes: written, results })
}

/// The entry of a call that tells nothing but its method.
fn entry(method: &str) -> Entry<'_> {
    Entry {
        time: UNIX_EPOCH,
        listener: "grpc",
        peer: Peer::Ip(([127, 0, 0, 1], 80).into()),
        method,
        authority: None,
        route: None,
        cluster: None,
        endpoint: None,
        status: Code::Ok,
        upstream_status: None,
        message: None,
        duration: Duration::ZERO,
        first_message: None,
        messages_in: 0,
        messages_out: 0,
        bytes_in: 0,
        bytes_out: 0,
        attempts: 0,
        ended_by: Ending::Backend,
        tls: None,
    }
}

/// The methods that whole lines tell of.
fn methods(text: &str) -> Vec<String> {
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let method = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["method"].clone();
    text.lines().map(|line| method(line).as_str().expect("a method").to_owned()).collect()
}

#[test]
fn lines_that_wait_leave_together_and_in_order() {
    let (log, gate) = gated();
    let (one, two) = (log.sender().appender(), log.sender().appender());
    assert!(one.append(&entry("/first")));
    assert_eq!(methods(&gate.write()), ["/first"]);
    // The writer is in that write until it may pass.
    for call in 0..100 {
        assert!(one.append(&entry(&format!("/one/{call}"))));
        assert!(two.append(&entry(&format!("/two/{call}"))));
    }
    let after = |name: &str| (0..100).map(|call| format!("/{name}/{call}")).collect::<Vec<_>>();
    gate.let_pass(Ok(usize::MAX));
    gate.let_pass(Ok(usize::MAX));
    let mut rest = [methods(&gate.write()), methods(&gate.write())];
    rest.sort();
    assert_eq!(rest, [after("one"), after("two")]);
    gate.let_pass(Ok(usize::MAX));
    drop((one, two));
    log.close();
}

#[test]
fn what_is_behind_by_more_than_the_backlog_is_dropped() {
    let (log, gate) = gated();
    let appender = log.sender().appender();
    assert!(appender.append(&entry("/first")));
    gate.write();
    let long = "m".repeat(64 * 1024);
    let taken = (0..1_000).take_while(|_| appender.append(&entry(&long))).count();
    assert_eq!(taken, 64, "4 MiB, in lines of 64 KiB");
    assert!(!appender.append(&entry("/dropped")));
    // Once the writer has taken what waits there is room again.
    gate.let_pass(Ok(usize::MAX));
    assert_eq!(methods(&gate.write()).len(), taken);
    assert!(appender.append(&entry("/last")));
    gate.let_pass(Ok(usize::MAX));
    assert_eq!(methods(&gate.write()), ["/last"]);
    gate.let_pass(Ok(usize::MAX));
    drop(appender);
    log.close();
}

#[test]
fn end_writes_what_waits() {
    let (log, gate) = gated();
    let appender = log.sender().appender();
    assert!(appender.append(&entry("/first")));
    gate.write();
    assert!(appender.append(&entry("/last")));
    drop(appender);
    gate.let_pass(Ok(usize::MAX));
    gate.let_pass(Ok(usize::MAX));
    log.close();
    assert_eq!(methods(&gate.write()), ["/last"]);
}

#[test]
fn line_that_was_torn_by_an_error_is_ended_first() {
    let (log, gate) = gated();
    let appender = log.sender().appender();
    assert!(appender.append(&entry("/first")));
    gate.write();
    for method in ["/torn", "/lost"] {
        assert!(appender.append(&entry(method)));
    }
    gate.let_pass(Ok(usize::MAX));
    let mut file = gate.write();
    assert_eq!(methods(&file), ["/torn", "/lost"]);
    // Ten bytes, and the disk is full.
    gate.let_pass(Ok(10));
    gate.write();
    gate.let_pass(Err(io::ErrorKind::StorageFull.into()));
    file.truncate(10);
    assert!(appender.append(&entry("/after")));
    for _ in 0..2 {
        file += &gate.write();
        gate.let_pass(Ok(usize::MAX));
    }
    assert_eq!(methods(&file), ["/torn", "/after"]);
    drop(appender);
    log.close();
}
