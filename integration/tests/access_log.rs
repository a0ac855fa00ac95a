//! The access log: one line a call, whatever became of it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, Failure, Open};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

/// Every field of a line.
const FIELDS: [&str; 23] = [
    "attempts",
    "authority",
    "bytes_in",
    "bytes_out",
    "client_dns",
    "client_subject",
    "client_uri",
    "cluster",
    "duration_ms",
    "ended_by",
    "endpoint",
    "first_message_ms",
    "listener",
    "message",
    "messages_in",
    "messages_out",
    "method",
    "peer",
    "route",
    "status",
    "time",
    "tls_version",
    "upstream_status",
];

/// A gateway that writes its access log to a file, and clients enough for every worker.
struct Logged {
    folder: tempfile::TempDir,
    backend: Backend,
    gateway: Gateway,
    client: Client,
}

impl Logged {
    async fn start(workers: usize) -> Logged {
        let folder = tempfile::tempdir().unwrap();
        let backend = Backend::start().await.unwrap();
        let gone = weir_integration::server::free_address().unwrap();
        let gateway = Setup::new()
            .admin()
            .root(&format!("access_log: {{path: {}}}", folder.path().join("access.log").display()))
            .root("shutdown_config: {timeout: 50ms}")
            .listener("max_receive_message_size: 100")
            .route("prefix: /case.S", "echo")
            .route("prefix: /gone.S", "gone")
            .cluster("echo", "lb_policy: RoundRobin", [backend.address])
            .cluster("gone", "lb_policy: RoundRobin", [gone])
            .start(workers)
            .unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        Logged { folder, backend, gateway, client }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    /// Opens a call that a case is named after, on a connection of its own.
    async fn open(&self, case: &str, script: &str) -> (Client, Open) {
        let client = Client::connect(self.gateway.listener("grpc").unwrap()).await.unwrap();
        let mut open = client.open(&format!("/case.S/{case}"), &[(DO, script)]).await.unwrap();
        open.headers().await.unwrap();
        (client, open)
    }

    /// Makes a call that a case is named after.
    async fn call(&self, case: &str, script: &str) {
        let path = format!("/case.S/{case}");
        self.client.call(&path, &[(DO, script)]).await.unwrap();
    }

    /// Waits for a line about a method.
    async fn line(&self, method: &str) -> Value {
        let path = self.path();
        let found = eventually(method, async || Ok(of_method(&path, method).into_iter().next()));
        found.await.unwrap_or_else(|error| panic!("{error}\n{}", fs::read_to_string(&path).unwrap()))
    }
}

fn lines(path: &Path) -> Vec<Value> {
    // The last line may be half there.
    let text = fs::read_to_string(path).unwrap();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of_method(path: &Path, method: &str) -> Vec<Value> {
    lines(path).into_iter().filter(|line| line["method"] == method).collect()
}

/// The fields that say how a call ended: status, upstream status, who ended it, and the message.
fn ending(line: &Value) -> Value {
    Value::Array(["status", "upstream_status", "ended_by", "message"].map(|field| line[field].clone()).into())
}

/// The fields that count: attempts, messages and bytes in, messages and bytes out.
fn counts(line: &Value) -> Value {
    let fields = ["attempts", "messages_in", "bytes_in", "messages_out", "bytes_out"];
    Value::Array(fields.map(|field| line[field].clone()).into())
}

fn millis(line: &Value, field: &str) -> f64 {
    line[field].as_f64().unwrap_or_else(|| panic!("{field} in {line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn line_has_every_field() {
    let logged = Logged::start(1).await;
    let before = std::time::SystemTime::now();
    logged.call("Echo", "echo").await;
    let line = logged.line("/case.S/Echo").await;
    let fields: Vec<&String> = line.as_object().unwrap().keys().collect();
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, FIELDS);
    for (field, expected) in [
        ("listener", "grpc".to_owned()),
        ("peer", logged.client.address.to_string()),
        ("method", "/case.S/Echo".to_owned()),
        ("authority", "test.local".to_owned()),
        ("route", "/case.S".to_owned()),
        ("cluster", "echo".to_owned()),
        ("endpoint", logged.backend.address.to_string()),
    ] {
        assert_eq!(line[field], expected, "{field}");
    }
    assert_eq!(ending(&line), serde_json::json!(["OK", "OK", "backend", null]));
    assert_eq!(counts(&line), serde_json::json!([1, 1, 8, 1, 8]));
    let (duration, first) = (millis(&line, "duration_ms"), millis(&line, "first_message_ms"));
    assert!(0.0 < first && first <= duration && duration < 60_000.0, "{line}");
    // RFC 3339, in UTC, to the millisecond; and when the call began, not when it ended.
    let time = line["time"].as_str().unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let printed = std::process::Command::new("date").args(["-u", "-d", time, "+%s.%N"]).output().unwrap();
    let seconds: f64 = String::from_utf8(printed.stdout).unwrap().trim().parse().unwrap();
    let began = before.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((seconds - began).abs() < 10.0, "{time} for {began}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ending_has_one_line() {
    for workers in [1, 2] {
        let mut logged = Logged::start(workers).await;
        let mut expected: Vec<(&str, Value)> = Vec::new();
        let mut expect = |case, status, upstream, by, message: &str| {
            let message = if message.is_empty() { Value::Null } else { message.into() };
            expected.push((case, serde_json::json!([status, upstream, by, message])));
        };

        logged.call("Ok", "echo").await;
        expect("/case.S/Ok", "OK", Some("OK"), "backend", "");

        logged.call("Status", "status=5").await;
        expect("/case.S/Status", "NOT_FOUND", Some("NOT_FOUND"), "backend", "from the backend, 100%");

        logged.client.call("/no.S/Route", &[]).await.unwrap();
        expect("/no.S/Route", "UNIMPLEMENTED", None, "gateway", "no route for /no.S/Route");

        logged.client.call("/gone.S/M", &[]).await.unwrap();
        let none = "cluster gone: none of its endpoints could be connected to";
        expect("/gone.S/M", "UNAVAILABLE", None, "gateway", none);

        logged.client.call("/case.S/Deadline", &[(DO, "silent"), ("grpc-timeout", "30m")]).await.unwrap();
        let late = "deadline exceeded at the gateway";
        expect("/case.S/Deadline", "DEADLINE_EXCEEDED", None, "deadline", late);

        logged.call("Reset", "reset=2").await;
        expect("/case.S/Reset", "INTERNAL", Some("INTERNAL"), "backend", "");

        logged.call("Refused", "refuse").await;
        let refused = "refused by the backend, not processed";
        expect("/case.S/Refused", "UNAVAILABLE", None, "backend", refused);

        logged.call("Lost", "lose").await;
        expect("/case.S/Lost", "UNAVAILABLE", None, "backend", "the connection to the backend was lost");

        logged.call("Torn", "tear").await;
        expect("/case.S/Torn", "INTERNAL", None, "backend", "the connection to the backend was lost");

        let (_cancelling, open) = logged.open("Cancel", "hold").await;
        open.cancel();
        logged.line("/case.S/Cancel").await;
        expect("/case.S/Cancel", "CANCELLED", None, "client_cancel", "");

        let (gone, open) = logged.open("Gone", "hold").await;
        drop(gone);
        logged.line("/case.S/Gone").await;
        drop(open);
        expect("/case.S/Gone", "CANCELLED", None, "client_gone", "");

        let (_large, mut open) = logged.open("Large", "echo").await;
        open.message(&[0; 101], true).unwrap();
        open.answer().await.unwrap();
        let large = "a message of 101 bytes is over the limit of 100 bytes (max_receive_message_size)";
        expect("/case.S/Large", "RESOURCE_EXHAUSTED", None, "gateway", large);
        // For the last one, whose end is the gateway's own.
        expect("/case.S/Drain", "UNAVAILABLE", None, "drain", "the gateway is shutting down");

        // Metrics have counted each of them once, too.
        let admin = logged.gateway.admin().unwrap();
        let ended = (expected.len() - 1) as f64;
        eventually("as many calls in the metrics", async || {
            let page = page::get(admin, "/metrics").await?;
            let values = |name: &str| -> f64 {
                let lines = page.body.lines().filter(|line| line.starts_with(&format!("{name}{{")));
                lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
            };
            let counted = (values("weir_calls_total"), values("weir_call_duration_seconds_count"));
            assert!(counted.0 <= ended && counted.1 <= ended, "{}", page.body);
            Ok((counted == (ended, ended) && values("weir_calls_in_flight") == 0.0).then_some(()))
        })
        .await
        .unwrap();

        // The drain's time ends before this call does.
        let (_drained, open) = logged.open("Drain", "hold").await;
        logged.gateway.process.signal("TERM").unwrap();
        assert_eq!(open.answer().await.unwrap().status(), Some(14));
        assert_eq!(logged.gateway.process.wait().unwrap().code(), Some(4));

        for (method, ended) in &expected {
            let found = of_method(&logged.path(), method);
            assert_eq!(found.len(), 1, "{method}, {workers} workers: {found:#?}");
            assert_eq!(ending(&found[0]), *ended, "{method}, {workers} workers");
        }
        assert_eq!(lines(&logged.path()).len(), expected.len(), "and no other line");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_those_of_the_messages_that_passed() {
    let logged = Logged::start(1).await;

    logged.call("Say", "say=10,0,85").await;
    let line = logged.line("/case.S/Say").await;
    assert_eq!((&line["messages_out"], &line["bytes_out"]), (&3.into(), &110.into()), "{line}");

    let (_client, mut open) = logged.open("Stream", "echo").await;
    for size in [0, 1, 99] {
        open.message(&vec![0; size], false).unwrap();
    }
    open.message(&[], true).unwrap();
    open.answer().await.unwrap();
    assert_eq!(counts(&logged.line("/case.S/Stream").await), serde_json::json!([1, 4, 120, 4, 120]));

    logged.client.call("/case.S/Deadline", &[(DO, "silent"), ("grpc-timeout", "40m")]).await.unwrap();
    let line = logged.line("/case.S/Deadline").await;
    assert_eq!(counts(&line), serde_json::json!([1, 1, 8, 0, 0]));
    assert_eq!(line["first_message_ms"], Value::Null);
    assert!(millis(&line, "duration_ms") >= 40.0, "{line}");
    assert_eq!(line["endpoint"], logged.backend.address.to_string());

    logged.client.call("/no.S/Route", &[]).await.unwrap();
    let line = logged.line("/no.S/Route").await;
    assert_eq!(counts(&line)[0], 0);
    for field in ["route", "cluster", "endpoint", "upstream_status", "first_message_ms"] {
        assert_eq!(line[field], Value::Null, "{field}");
    }

    logged.client.call("/gone.S/M", &[]).await.unwrap();
    let line = logged.line("/gone.S/M").await;
    assert_eq!((&line["attempts"], &line["cluster"]), (&0.into(), &"gone".into()));
    assert_eq!(line["endpoint"], Value::Null);

    logged.call("Refused", "refuse").await;
    let line = logged.line("/case.S/Refused").await;
    let attempts = line["attempts"].as_u64().unwrap();
    assert_eq!(
        attempts as usize,
        logged.backend.seen().calls.iter().filter(|one| one.path.ends_with("Refused")).count()
    );
    assert!(attempts > 1, "{line}");
}

/// Several workers append at once: lines stay whole, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_several_workers_are_whole() {
    let mut logged = Logged::start(2).await;
    let port = logged.gateway.listener("grpc").unwrap();
    let (mut clients, here) = (tokio::task::JoinSet::new(), tokio::task::LocalSet::new());
    for client in 0..8 {
        let calls = async move {
            let connection = Client::connect(port).await.unwrap();
            for call in 0..100 {
                connection.call(&format!("/case.S/{client}-{call}"), &[(DO, "echo")]).await.unwrap();
            }
        };
        clients.spawn_local_on(calls, &here);
    }
    here.await;
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    drop(logged.client);
    logged.gateway.process.signal("TERM").unwrap();
    assert_eq!(logged.gateway.process.wait().unwrap().code(), Some(0));
    let lines = lines(&logged.folder.path().join("access.log"));
    for client in 0..8 {
        let prefix = format!("/case.S/{client}-");
        let found =
            lines.iter().filter_map(|line| line["method"].as_str()?.strip_prefix(&prefix)?.parse::<usize>().ok());
        // A connection stays on its worker, whose lines keep their order.
        assert_eq!(found.collect::<Vec<_>>(), (0..100).collect::<Vec<_>>(), "client {client}");
    }
    assert_eq!(lines.len(), 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_is_not_grpc_has_a_line() {
    let logged = Logged::start(1).await;
    let answer = logged.client.call("/case.S/Plain", &[("content-type", "text/plain")]).await.unwrap();
    // The first of two content types counts; both are the client's fault.
    assert!(answer.http == 415 || answer.status().is_some(), "{answer:?}");
    logged.line("/case.S/Plain").await;
    let answer = logged.client.call("/case.S/../Odd", &[]).await.unwrap();
    assert_eq!(answer.status(), Some(12));
    let line = logged.line("/case.S/../Odd").await;
    assert_eq!(ending(&line)[2], "gateway");
}

/// The client did not cancel: h2 reset its stream, as RFC 9113 8.1.1 asks of a body that is longer than was said.
#[tokio::test(flavor = "multi_thread")]
async fn request_that_breaks_http2_was_not_cancelled() {
    let logged = Logged::start(1).await;
    let metadata = [(DO, "hold"), ("content-length", "3")];
    let mut open = logged.client.open("/case.S/Length", &metadata).await.unwrap();
    open.headers().await.unwrap();
    open.message(b"abc", false).unwrap();
    let answer = open.answer().await.unwrap();
    assert_eq!(answer.failure, Some(Failure::Reset(h2::Reason::PROTOCOL_ERROR)), "{answer:?}");
    let line = logged.line("/case.S/Length").await;
    assert_eq!((&line["status"], &line["ended_by"]), (&"INTERNAL".into(), &"gateway".into()), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn file_is_appended_to() {
    let mut logged = Logged::start(1).await;
    logged.call("First", "echo").await;
    logged.gateway.process.signal("TERM").unwrap();
    assert_eq!(logged.gateway.process.wait().unwrap().code(), Some(0));
    let setup = Setup::to([logged.backend.address]);
    let setup = setup.root(&format!("access_log: {{path: {}}}", logged.path().display()));
    let again = setup.start(1).unwrap();
    let client = Client::connect(again.listener("grpc").unwrap()).await.unwrap();
    client.call("/case.S/Second", &[]).await.unwrap();
    logged.line("/case.S/Second").await;
    logged.line("/case.S/First").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_go_to_stdout_and_nothing_else_does() {
    let backend = Backend::start().await.unwrap();
    let yaml = Setup::to([backend.address]).root("access_log: {path: /dev/stdout}").yaml();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weir.yaml");
    fs::write(&config, yaml).unwrap();
    // A file for stdout: the harness would mix it with stderr.
    let out = folder.path().join("stdout");
    let binary = weir_integration::gateway::weir_binary().unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$0\" run --workers 1 -c \"$1\" > \"$2\""]).arg(binary).arg(&config).arg(&out);
    let mut process = weir_integration::process::Process::start("weir", &mut command).unwrap();
    let listening = |line: &str| line.strip_prefix("listening: listener grpc on ").map(str::to_owned);
    let address = process.wait_line("the address", listening).unwrap();
    let client = Client::connect(address.parse().unwrap()).await.unwrap();
    for call in 0..3 {
        client.call(&format!("/case.S/M{call}"), &[]).await.unwrap();
    }
    drop(client);
    process.signal("TERM").unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let methods: Vec<Value> = lines(&out).iter().map(|line| line["method"].clone()).collect();
    assert_eq!(methods, ["/case.S/M0", "/case.S/M1", "/case.S/M2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_there_is_none() {
    let backend = Backend::start().await.unwrap();
    let gateway = Setup::to([backend.address]).start(1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    client.call("/case.S/M", &[]).await.unwrap();
    let mut process = gateway.process;
    process.signal("TERM").unwrap();
    process.wait().unwrap();
    assert!(!process.lines().iter().any(|line| line.contains("case.S")), "{:?}", process.lines());
}

/// A full disk is said once, and costs calls nothing.
#[tokio::test(flavor = "multi_thread")]
async fn lines_that_cannot_be_written_are_an_error_in_the_log_once() {
    let backend = Backend::start().await.unwrap();
    let gateway = Setup::to([backend.address]).root("access_log: {path: /dev/full}").start(1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    let said = |line: &str| line.contains("the access log cannot be written").then(|| line.to_owned());
    client.call("/case.S/M", &[]).await.unwrap();
    let line = gateway.process.wait_line("the error", said).unwrap();
    assert!(line.contains("ERROR") && line.contains("No space left on device"), "{line}");
    for _ in 0..3 {
        assert_eq!(client.call("/case.S/M", &[]).await.unwrap().status(), Some(0));
    }
    drop(client);
    let mut process = gateway.process;
    process.signal("TERM").unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_eq!(process.lines().iter().filter_map(|line| said(line)).count(), 1, "{:?}", process.lines());
}

/// Whoever reads the lines may stop to: calls go on, what does not fit is counted, and the gateway still ends.
#[tokio::test(flavor = "multi_thread")]
async fn reader_that_stalls_holds_up_neither_calls_nor_the_end() {
    let backend = Backend::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opened for both, so that neither end waits for the other; nobody ever reads.
    let _reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let setup = Setup::to([backend.address]).admin().root(&format!("access_log: {{path: {}}}", pipe.display()));
    let gateway = setup.start(1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    // More than the pipe, what the writer has taken, and the 4 MiB that may wait for it.
    let path = format!("/case.S/{}", "M".repeat(8000));
    for _ in 0..700 {
        assert_eq!(client.call(&path, &[]).await.unwrap().status(), Some(0));
    }
    let metrics = page::get(gateway.admin().unwrap(), "/metrics").await.unwrap().body;
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("weir_access_log_dropped_total "));
    assert!(dropped.unwrap().parse::<u64>().unwrap() > 0, "{dropped:?}");
    drop(client);
    let mut process = gateway.process;
    process.signal("TERM").unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let lost = process.lines().into_iter().find(|line| line.contains("access log"));
    assert!(lost.is_some_and(|line| line.contains("not written")), "{:?}", process.lines());
}
