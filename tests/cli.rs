//! The command line as a script sees it: exit status, stdout and stderr.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a command came to.
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

fn weir(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in ["WEIR_CONFIG", "WEIR_WORKERS", "WEIR_LOG", "WEIR_UPGRADE_SOCKET"] {
        command.env_remove(name);
    }
    let output = command.envs(environment.iter().copied()).output().unwrap();
    Outcome {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn wrong(name: &str) -> String {
    PathBuf::from("tests/wrong").join(name).display().to_string()
}

#[test]
fn check_says_on_stdout_what_a_right_file_holds() {
    let outcome = weir(&["check", "-c", "conf/minimal.yaml"], &[]);
    assert_eq!(outcome.status, 0);
    assert_eq!(outcome.stdout, "conf/minimal.yaml: ok, 1 listener, 1 route, 1 cluster, 0 notices\n");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_file_that_is_written_for_weir_hears_nothing_of_pixiu() {
    for file in ["conf/health.yaml", "conf/full.yaml"] {
        let outcome = weir(&["check", "-c", file], &[]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{file}");
        assert!(outcome.stdout.ends_with(", 0 notices\n"), "{}", outcome.stdout);
    }
}

#[test]
fn check_prints_notices_on_stderr() {
    let outcome = weir(&["check", "--config", "conf/pixiu.yaml"], &[]);
    assert_eq!(outcome.status, 0);
    assert!(outcome.stdout.ends_with(", 7 notices\n"), "{}", outcome.stdout);
    assert_eq!(outcome.stderr.lines().count(), 7, "{}", outcome.stderr);
    assert!(outcome.stderr.lines().all(|line| line.starts_with("notice: conf/pixiu.yaml:")), "{}", outcome.stderr);
}

/// What is not verified is told, at start-up too; where nothing could be verified, nothing starts.
#[test]
fn tls_verifies_or_says_that_it_does_not() {
    let outcome = weir(&["check", "-c", "conf/tls.yaml"], &[("WEIR_TLS", "tests/tls")]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.ends_with(", 2 notices\n"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains(": `insecure_skip_verify`: cluster `lab` believes any"), "{}", outcome.stderr);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.yaml");
    let minimal = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/minimal.yaml")).unwrap();
    std::fs::write(&file, minimal.replace("lb_policy:", "tls: {}\n      lb_policy:")).unwrap();
    let file = file.display().to_string();
    let authorities = [("SSL_CERT_FILE", "tests/tls/ca.pem")];
    assert_eq!(weir(&["check", "-c", &file], &authorities).status, 0);
    for command in ["check", "run"] {
        let outcome = weir(&[command, "-c", &file], &[("SSL_CERT_FILE", "no/such.pem"), ("SSL_CERT_DIR", "no/such")]);
        assert_eq!(outcome.status, 1);
        assert!(outcome.stderr.contains("error: this system has no CA certificates"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("name the backends' CA certificates in `ca_file`"), "{}", outcome.stderr);
    }
}

#[test]
fn a_wrong_file_is_status_1_and_its_errors_go_to_stderr() {
    for command in ["check", "run"] {
        let outcome = weir(&[command, "-c", &wrong("unknown_key_cluster.yaml")], &[]);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (1, ""), "{command}");
        let stderr = outcome.stderr;
        assert!(stderr.starts_with("error: unknown key `lb_polcy` in cluster `orders`\n"), "{stderr}");
        assert!(stderr.ends_with("\ntests/wrong/unknown_key_cluster.yaml: 1 error\n"), "{stderr}");
    }
}

#[test]
fn a_file_that_is_not_there_is_status_1() {
    let outcome = weir(&["check", "-c", "no/such.yaml"], &[]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("the configuration cannot be read"), "{}", outcome.stderr);
}

#[test]
fn wrong_usage_is_status_2() {
    for arguments in [
        &["serve"][..],
        &[],
        &["check"],
        &["check", "-c"],
        &["check", "-c", "a", "-c", "b"],
        &["run", "-c", "conf/minimal.yaml", "--workers", "0"],
        &["run", "-c", "conf/minimal.yaml", "--workers", "many"],
        &["run", "-c", "conf/minimal.yaml", "--workers", "1025"],
        &["run", "-c", "conf/minimal.yaml", "--workers", "-1"],
        &["run", "-c", "conf/minimal.yaml", "--log", "loud"],
        &["completions", "tcsh"],
        &["schema", "more"],
    ] {
        let outcome = weir(arguments, &[]);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_environment_stands_in_for_a_flag() {
    let outcome = weir(&["check"], &[("WEIR_CONFIG", "conf/minimal.yaml")]);
    assert_eq!(outcome.status, 0);
    let outcome = weir(&["check", "-c", "conf/health.yaml"], &[("WEIR_CONFIG", "no/such.yaml")]);
    assert_eq!(outcome.status, 0, "the flag beats the environment: {}", outcome.stderr);
    for (name, value) in [("WEIR_WORKERS", "0"), ("WEIR_LOG", "loud")] {
        let outcome = weir(&["run", "-c", "conf/minimal.yaml"], &[(name, value)]);
        assert_eq!(outcome.status, 2, "{name}={value}");
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let nothing = [("WEIR_LOG", ""), ("WEIR_WORKERS", ""), ("WEIR_CONFIG", "")];
    let outcome = weir(&["run", "-c", "no/such.yaml"], &nothing);
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    let outcome = weir(&["check"], &nothing);
    assert_eq!(outcome.status, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("or set WEIR_CONFIG"), "{}", outcome.stderr);
}

#[test]
fn an_error_names_the_variable_or_the_flag_that_it_comes_from() {
    for (name, value) in [("WEIR_WORKERS", "0"), ("WEIR_LOG", "loud")] {
        let stderr = weir(&["run", "-c", "conf/minimal.yaml"], &[(name, value)]).stderr;
        let said = format!("error: invalid value '{value}' for 'the environment variable {name}': ");
        assert!(stderr.starts_with(&said), "{stderr}");
    }
    let stderr = weir(&["run", "-c", "conf/minimal.yaml", "--log", "quiet"], &[("WEIR_LOG", "loud")]).stderr;
    assert!(stderr.starts_with("error: invalid value 'quiet' for '--log <LEVEL>': "), "{stderr}");
}

#[test]
fn a_binary_of_ones_own_speaks_of_itself_by_its_name() {
    let own = |argument: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.arg0("/opt/acme/acme-gateway").args(argument).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(own(&["--version"]), format!("acme-gateway (Weir {})\n", env!("CARGO_PKG_VERSION")));
    let help = own(&["--help"]);
    assert!(help.contains("  acme-gateway run -c gateway.yaml  ") && !help.contains("  weir "), "{help}");
    assert!(own(&["completions", "fish"]).contains("complete -c acme-gateway "));
}

/// The words of `ready: ...` about workers, of a gateway that is ended then.
fn workers_of(arguments: &[&str], environment: &[(&str, &str)], config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    std::fs::write(&path, config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("run")
        .arg("-c")
        .arg(&path)
        .args(arguments)
        .env_remove("WEIR_WORKERS")
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let ready = lines.into_iter().find(|line| line.starts_with("ready: "));
    child.kill().unwrap();
    child.wait().unwrap();
    ready.unwrap().rsplit(", ").next().unwrap().to_owned()
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let minimal = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/minimal.yaml")).unwrap();
    let config = format!("workers: 2\n{}", minimal.replace("port: 8881", "port: 0"));
    assert_eq!(workers_of(&[], &[], &config), "2 workers");
    assert_eq!(workers_of(&[], &[("WEIR_WORKERS", "3")], &config), "3 workers");
    assert_eq!(workers_of(&["--workers", "1"], &[("WEIR_WORKERS", "3")], &config), "1 worker");
}

#[test]
fn the_file_reads_the_environment() {
    let outcome = weir(&["check", "-c", "conf/full.yaml"], &[("PORT", "70000")]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.starts_with("error: `port` is out of range: 70000\n"), "{}", outcome.stderr);
}

#[test]
fn version_help_schema_and_completions_go_to_stdout() {
    let version = weir(&["--version"], &[]);
    assert_eq!((version.status, version.stdout), (0, format!("weir {}\n", env!("CARGO_PKG_VERSION"))));

    let help = weir(&["--help"], &[]);
    assert_eq!((help.status, help.stderr.as_str()), (0, ""));
    for command in ["run", "check", "schema", "demo", "completions", "Examples:", "Exit status:"] {
        assert!(help.stdout.contains(command), "{command}");
    }
    for command in ["run", "check", "schema", "demo", "completions"] {
        assert_eq!(weir(&[command, "--help"], &[]).status, 0, "{command}");
    }

    let schema = weir(&["schema"], &[]);
    assert_eq!(schema.status, 0);
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).unwrap();
    assert_eq!(schema["title"], "Weir configuration");

    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = weir(&["completions", shell], &[]);
        assert_eq!(script.status, 0, "{shell}");
        assert!(script.stdout.contains("weir"), "{shell}");
    }
}
