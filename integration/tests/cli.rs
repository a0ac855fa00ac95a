//! The command line: exit statuses, what goes where, and who beats whom.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use weir_integration::gateway::{Gateway, weir_binary};
use weir_integration::peers::setup::Setup;
use weir_integration::process::Process;

/// A command in an environment that says nothing about Weir.
fn weir(arguments: &[&str]) -> Command {
    let mut command = Command::new(weir_binary().unwrap());
    command.args(arguments);
    for variable in ["WEIR_CONFIG", "WEIR_WORKERS", "WEIR_LOG", "WEIR_UPGRADE_SOCKET"] {
        command.env_remove(variable);
    }
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A folder with one configuration in it.
struct Written {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Written {
    fn new(yaml: &str) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, yaml).unwrap();
        Written { _folder: folder, path }
    }

    fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

/// A configuration that runs; its backend is never asked for anything.
fn plain() -> Setup {
    Setup::to([([127, 0, 0, 1], 1).into()])
}

/// Starts `run` and waits until it serves.
fn running(command: &mut Command) -> Process {
    let process = Process::start("weir", command).unwrap();
    process.wait_line("ready", |line| line.starts_with("ready").then_some(())).unwrap();
    process
}

fn ready_line(process: &Process) -> String {
    process.wait_line("ready", |line| line.starts_with("ready").then(|| line.to_owned())).unwrap()
}

/// Ends a gateway and returns everything that it printed.
fn ended(mut process: Process) -> (Option<i32>, Vec<String>) {
    process.signal("TERM").unwrap();
    let code = process.wait().unwrap().code();
    // The pipes are closed with the process, and read to their end a moment later.
    let _ = process.wait_line("a line that never comes", |_| None::<()>);
    (code, process.lines())
}

#[test]
fn help_and_version_are_what_was_asked_for() {
    let (code, stdout, stderr) = output(&mut weir(&["--version"]));
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert_eq!(stdout, format!("weir {}\n", env!("CARGO_PKG_VERSION")));
    let (code, stdout, stderr) = output(&mut weir(&["--help"]));
    assert_eq!((code, &*stderr), (Some(0), ""));
    for word in ["run", "check", "schema", "demo", "completions", "Exit status:", "Examples:"] {
        assert!(stdout.contains(word), "`{word}` in:\n{stdout}");
    }
    for command in ["run", "check", "schema", "demo", "completions"] {
        let (code, stdout, stderr) = output(&mut weir(&[command, "--help"]));
        assert_eq!((code, &*stderr), (Some(0), ""), "{command}");
        assert!(stdout.contains("Usage: weir"), "{command}: {stdout}");
    }
    let (_, stdout, _) = output(&mut weir(&["run", "--help"]));
    for word in ["--config", "--workers", "--log", "WEIR_CONFIG", "WEIR_WORKERS", "WEIR_LOG"] {
        assert!(stdout.contains(word), "`{word}` in:\n{stdout}");
    }
}

#[test]
fn wrong_usage_is_two() {
    let written = Written::new(&plain().yaml());
    for arguments in [
        &[][..],
        &["serve"],
        &["run"],
        &["run", "--config"],
        &["run", "-c", written.text(), "--no-such-flag"],
        &["run", "-c", written.text(), "--workers", "0"],
        &["run", "-c", written.text(), "--workers", "many"],
        &["run", "-c", written.text(), "--workers", "1025"],
        &["run", "-c", written.text(), "--log", "loud"],
        &["check"],
        &["completions", "no-such-shell"],
    ] {
        let (code, stdout, stderr) = output(&mut weir(arguments));
        assert_eq!((code, &*stdout), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
    let wrong = |variable, value| {
        let (code, _, stderr) = output(weir(&["run", "-c", written.text()]).env(variable, value));
        assert_eq!(code, Some(2), "{variable}={value}: {stderr}");
        assert!(stderr.contains(value), "{variable}={value}: {stderr}");
    };
    wrong("WEIR_WORKERS", "none");
    wrong("WEIR_LOG", "loud");
}

#[test]
fn wrong_configuration_is_one_for_run_and_check_alike() {
    let wrong = plain().yaml().replace("lb_policy: RoundRobin", "lb_polcy: RoundRobin").replace("GRPC", "GRCP");
    let written = Written::new(&wrong);
    let (code, stdout, checked) = output(&mut weir(&["check", "-c", written.text()]));
    assert_eq!((code, &*stdout), (Some(1), ""));
    let (code, stdout, run) = output(&mut weir(&["run", "-c", written.text()]));
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert_eq!(run, checked);
    for word in ["unknown key `lb_polcy`", "did you mean `lb_policy`?", "did you mean `GRPC`?", "2 errors"] {
        assert!(checked.contains(word), "`{word}` in:\n{checked}");
    }

    let (code, stdout, stderr) = output(&mut weir(&["run", "-c", "/no/such/file.yaml"]));
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert!(stderr.contains("/no/such/file.yaml"), "{stderr}");
}

#[test]
fn check_says_that_all_is_well_and_binds_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port: {}", taken.local_addr().unwrap().port());
    let yaml = plain().listener("read_timeout: 5s").yaml().replacen("port: 0", &port, 1);
    let written = Written::new(&yaml);
    let (code, stdout, stderr) = output(&mut weir(&["check", "-c", written.text()]));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, format!("{}: ok, 1 listener, 1 route, 1 cluster, 1 notice\n", written.text()));
    let notice = format!("notice: {}:", written.text());
    assert!(stderr.starts_with(&notice) && stderr.contains("read_timeout"), "{stderr}");
}

#[test]
fn taken_port_is_three_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = format!("port: {}", address.port());
    let listener = plain().yaml().replacen("port: 0", &port, 1);
    // `admin` stands first in the file.
    let admin = plain().admin().yaml().replacen("port: 0", &port, 1);
    let metric = plain().root(&format!("metric: {{enable: true, prometheus_{port}}}")).yaml();
    for (yaml, whose) in [(listener, "listener grpc"), (admin, "admin"), (metric, "metrics")] {
        let written = Written::new(&yaml);
        let (code, stdout, stderr) = output(&mut weir(&["run", "-c", written.text()]));
        assert_eq!((code, &*stdout), (Some(3), ""), "{whose}: {stderr}");
        let line = format!("error: {whose} cannot listen on ");
        let error =
            stderr.lines().find(|found| found.starts_with(&line)).unwrap_or_else(|| panic!("{whose}: {stderr}"));
        assert!(error.contains(&address.port().to_string()), "{error}");
        let serves = |line: &str| line.starts_with("ready") || line.starts_with("listening:");
        assert!(!stderr.lines().any(serves), "{stderr}");
    }
}

#[test]
fn access_log_that_cannot_be_opened_is_three() {
    let written = Written::new(&plain().root("access_log: {path: /no/such/folder/access.log}").yaml());
    let (code, _, stderr) = output(&mut weir(&["run", "-c", written.text()]));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("error: the access log /no/such/folder/access.log cannot be opened"), "{stderr}");
}

#[test]
fn either_signal_ends_it_well() {
    for signal in ["TERM", "INT"] {
        let mut gateway = plain().start(1).unwrap();
        gateway.process.signal(signal).unwrap();
        assert_eq!(gateway.process.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn start_says_what_listens_where_and_every_notice() {
    let setup = plain().admin().root("metric: {enable: true, prometheus_port: 0}").listener("write_timeout: 5s");
    let written = Written::new(&setup.yaml());
    let out = written.path.with_file_name("stdout");
    let mut process = {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" run --workers 2 -c \"$1\" > \"$2\""]);
        running(shell.arg(weir_binary().unwrap()).arg(&written.path).arg(&out))
    };
    let lines = process.lines();
    let at = |start: &str| {
        let found = lines.iter().position(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no `{start}` in {lines:#?}"))
    };
    let order = [
        at("notice: "),
        at("listening: listener grpc on 127.0.0.1:"),
        at("listening: admin on 127.0.0.1:"),
        at("listening: metrics on 0.0.0.0:"),
        at("ready: 1 route, 1 cluster, 2 workers"),
    ];
    assert!(order.is_sorted(), "{lines:#?}");
    process.signal("TERM").unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_to_string(out).unwrap(), "", "nobody asked for anything on stdout");
}

#[test]
fn workers_flag_beats_the_environment_which_beats_the_file() {
    let written = Written::new(&plain().root("workers: 2").yaml());
    let granted = Written::new(&plain().yaml());
    let cpus = std::thread::available_parallelism().unwrap().get();
    for (config, flag, variable, expected) in [
        (&written, Some("4"), Some("3"), 4),
        (&written, None, Some("3"), 3),
        (&written, None, None, 2),
        (&granted, None, None, cpus),
    ] {
        let mut command = weir(&["run", "-c", config.text()]);
        command.args(flag.map(|flag| ["--workers", flag]).into_iter().flatten());
        command.envs(variable.map(|value| ("WEIR_WORKERS", value)));
        let ready = ready_line(&running(&mut command));
        let workers = if expected == 1 { "1 worker".to_owned() } else { format!("{expected} workers") };
        assert!(ready.ends_with(&format!(", {workers}")), "{flag:?}, {variable:?}: {ready}");
    }
}

#[test]
fn config_flag_beats_the_environment() {
    let one = Written::new(&plain().yaml());
    let two = Written::new(&plain().route("prefix: /a", "echo").yaml());
    for (flag, expected) in [(None, "ready: 1 route,"), (Some(two.text()), "ready: 2 routes,")] {
        let mut command = weir(&["run"]);
        command.env("WEIR_CONFIG", one.text()).args(flag.map(|path| ["--config", path]).into_iter().flatten());
        let ready = ready_line(&running(&mut command));
        assert!(ready.starts_with(expected), "{flag:?}: {ready}");
    }
    let (code, stdout, _) = output(weir(&["check"]).env("WEIR_CONFIG", one.text()));
    assert_eq!((code, stdout.starts_with(one.text())), (Some(0), true), "{stdout}");
}

#[test]
fn log_flag_beats_the_environment_which_beats_the_file() {
    let written = Written::new(&plain().root("log: {level: warn}").yaml());
    let silent = Written::new(&plain().yaml());
    for (config, flag, variable, expected) in [
        (&silent, None, None, true),
        (&written, None, None, false),
        (&written, None, Some("info"), true),
        (&written, Some("off"), Some("info"), false),
        (&written, Some("warn,weir::gateway=info"), None, true),
        (&silent, Some("ERROR"), None, false),
    ] {
        let mut command = weir(&["run", "-c", config.text()]);
        command.args(flag.map(|flag| ["--log", flag]).into_iter().flatten());
        command.envs(variable.map(|value| ("WEIR_LOG", value)));
        let (code, lines) = ended(running(&mut command));
        assert_eq!(code, Some(0));
        // What every end of a gateway logs, at info.
        let told = lines.iter().any(|line| line.contains("drain begins"));
        assert_eq!(told, expected, "{flag:?}, {variable:?}: {lines:#?}");
    }
}

#[test]
fn variables_of_the_environment_stand_in_the_file() {
    let yaml = plain().root("workers: \"${WORKERS_HERE:-3}\"").yaml();
    let ready = |variables: &[(&str, &str)]| {
        let gateway = Gateway::start_in(&yaml, &[], variables.iter().copied()).unwrap();
        ready_line(&gateway.process)
    };
    assert!(ready(&[("WORKERS_HERE", "1")]).ends_with(", 1 worker"));
    assert!(ready(&[]).ends_with(", 3 workers"));
}

#[test]
fn completions_and_schema_go_to_stdout() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, stderr) = output(&mut weir(&["completions", shell]));
        assert_eq!((code, &*stderr), (Some(0), ""), "{shell}");
        assert!(stdout.contains("weir") && stdout.contains("check"), "{shell}");
    }
    let (code, stdout, stderr) = output(&mut weir(&["schema"]));
    assert_eq!((code, &*stderr), (Some(0), ""));
    let schema: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(schema["properties"]["static_resources"].is_object());
}

/// `weir schema | head` is no failure.
#[test]
fn reader_that_has_seen_enough_is_no_failure() {
    let mut command = Command::new("bash");
    command.args(["-c", "\"$0\" schema | true; echo \"${PIPESTATUS[0]}\""]).arg(weir_binary().unwrap());
    let (_, stdout, stderr) = output(&mut command);
    assert_eq!((&*stdout, &*stderr), ("0\n", ""));
}
