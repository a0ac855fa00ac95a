//! What all measurements share: two cores, the backend, and the programs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, getrlimit};
use tempfile::TempDir;

use super::load::{Job, Outcome};
use super::role;
use crate::certificates::{Authority, Certificate};
use crate::process::{Process, raise_file_limit};
use crate::tools::{self, debian};

/// 10,000 streams are 10,000 connections to the backend for a proxy that puts one call on each, with two ends in one
/// process.
const FILES: u64 = 20_000;

/// The machine, set up.
#[derive(Debug)]
pub struct Bed {
    /// The core that proxies run on.
    pub proxy_core: usize,
    /// The core that the load and the backend share.
    pub load_core: usize,
    /// Where the backend listens.
    pub backend: SocketAddr,
    /// The `weir` to measure.
    pub weir: PathBuf,
    /// How many files a process may have open.
    pub files: u64,
    /// What peers show under TLS.
    pub certificate: Certificate,
    /// The same with its key, in one file.
    pub certificate_with_key: PathBuf,
    folder: TempDir,
    _authority: Authority,
    _backend: Process,
}

impl Bed {
    /// Starts the backend, for measurements of this `weir`.
    ///
    /// # Errors
    ///
    /// When the machine has less than two cores, or too few files may be open.
    pub fn new(weir: PathBuf) -> Result<Bed> {
        let cores = std::thread::available_parallelism()?.get();
        ensure!(cores >= 2, "the benchmark needs two cores, one for the proxy and one for all else: there is one");
        debian::install(&["util-linux", "nghttp2-client"])?;
        raise_file_limit(FILES)?;
        let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES);
        let (proxy_core, load_core) = (0, 1);
        let mut command = role::command(Some(load_core), &["backend"])?;
        let process = Process::start("the backend", &mut command)?;
        let backend = role::address(&process)?;
        let folder = tempfile::Builder::new().prefix("weir-bench").tempdir()?;
        let authority = Authority::new()?;
        let certificate = authority.issue(&["localhost"])?;
        let certificate_with_key = folder.path().join("both.pem");
        fs::write(
            &certificate_with_key,
            fs::read_to_string(&certificate.cert)? + &fs::read_to_string(&certificate.key)?,
        )?;
        Ok(Bed {
            proxy_core,
            load_core,
            backend,
            weir,
            files,
            certificate,
            certificate_with_key,
            folder,
            _authority: authority,
            _backend: process,
        })
    }

    /// Writes a file for a proxy, in a folder that lives as long as this.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The folder for what proxies write.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command that runs on these cores only.
    pub fn pinned(cores: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(cores).arg(program);
        command
    }

    /// Runs a load to its end.
    ///
    /// # Errors
    ///
    /// When a call does not come back as it should.
    pub fn load(&self, job: &Job) -> Result<Outcome> {
        let mut command = role::command(Some(self.load_core), &["load", &serde_json::to_string(job)?])?;
        let output = tools::output(&mut command)?;
        let line = output.lines().last().context("the load printed nothing")?;
        serde_json::from_str(line).with_context(|| format!("the load printed {line}"))
    }

    /// Starts a load that holds connections and calls open until it is dropped, and waits until it does.
    ///
    /// # Errors
    ///
    /// When they do not all come to be open.
    pub fn hold(&self, job: &Job) -> Result<Process> {
        let mut command = role::command(Some(self.load_core), &["load", &serde_json::to_string(job)?])?;
        let process = Process::start("the load", &mut command)?;
        process.wait_line("held", |line| (line == "held").then_some(()))?;
        Ok(process)
    }

    /// Runs `h2load` with calls of `size` bytes, and checks that as many bytes came back.
    ///
    /// # Errors
    ///
    /// When a call failed.
    pub fn h2load(&self, target: SocketAddr, shape: H2load) -> Result<Outcome> {
        let H2load { connections, streams, calls, size } = shape;
        let body = self.folder.path().join(format!("{size}-bytes"));
        fs::write(&body, super::load::call::Shape::Unary { size }.frame())?;
        let mut command = Bed::pinned(&self.load_core.to_string(), "h2load");
        command.args(["-t1", "-w20", "-W24", "-H", "content-type: application/grpc", "-H", "te: trailers"]);
        command.args(["-c", &connections.to_string(), "-m", &streams.to_string(), "-n", &calls.to_string()]);
        command.arg("-d").arg(&body).arg(format!("http://{target}/bench.Echo/Unary"));
        let output = tools::output(&mut command)?;
        let data = format!("({}) data", calls * size);
        if !output.contains(&format!("{calls} succeeded")) || !output.contains(&data) {
            bail!("h2load: not every call succeeded, or not all bytes came back:\n{output}");
        }
        let rate = output.split_once(" req/s").and_then(|(before, _)| before.rsplit(' ').next()?.parse::<f64>().ok());
        let rate = rate.with_context(|| format!("h2load names no rate:\n{output}"))?;
        Ok(Outcome { calls, seconds: calls as f64 / rate, latencies: Vec::new() })
    }
}

/// What `h2load` is to do: unary calls, closed loop.
#[derive(Clone, Copy, Debug)]
pub struct H2load {
    /// Connections.
    pub connections: usize,
    /// Calls at once on each.
    pub streams: usize,
    /// Calls in all.
    pub calls: usize,
    /// Bytes of a message on the wire.
    pub size: usize,
}
