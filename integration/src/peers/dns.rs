//! What names lead to: a DNS server (by dnslib), the files of a system, and backends that differ by their address.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::eventually;
use super::setup::Setup;
use crate::gateway::Gateway;
use crate::process::Process;
use crate::tools;

/// A DNS server on loopback. Dropping it ends it.
#[derive(Debug)]
pub struct DnsServer {
    /// Where it is asked, by UDP and TCP.
    pub address: SocketAddr,
    process: Process,
    folder: tempfile::TempDir,
}

impl DnsServer {
    /// Starts one with this zone; see `integration/scripts/peers/dns_server.py` for what stands in it.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(zone: &str) -> Result<DnsServer> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("zone"), zone)?;
        let mut command = Command::new(tools::python()?);
        command.arg(tools::scripts().join("peers/dns_server.py")).arg(folder.path().join("zone"));
        let process = Process::start("dns_server.py", &mut command)?;
        let port = process.wait_line("its port", |line| line.strip_prefix("port ")?.parse::<u16>().ok())?;
        Ok(DnsServer { address: SocketAddr::from(([127, 0, 0, 1], port)), process, folder })
    }

    /// Replaces the zone. Every question from now on is answered by this one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn set(&self, zone: &str) -> Result<()> {
        let next = self.folder.path().join("next");
        fs::write(&next, zone)?;
        Ok(fs::rename(next, self.folder.path().join("zone"))?)
    }

    /// How often this was asked so far, such as `udp A name.`.
    #[must_use]
    pub fn asked(&self, question: &str) -> usize {
        self.process.lines().iter().filter(|line| *line == question).count()
    }

    /// Waits until this has been asked so often.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub async fn until_asked(&self, question: &str, times: usize) -> Result<()> {
        eventually(question, async || Ok((self.asked(question) >= times).then_some(()))).await
    }

    /// Everything that it was asked so far.
    #[must_use]
    pub fn questions(&self) -> Vec<String> {
        self.process.lines()
    }

    /// A cluster's key that has it asked.
    #[must_use]
    pub fn key(&self) -> String {
        format!("dns_resolvers: [{}]", self.item())
    }

    /// An item of that key.
    #[must_use]
    pub fn item(&self) -> String {
        format!("{{socket_address: {{address: {}, port: {}}}}}", self.address.ip(), self.address.port())
    }
}

/// Puts two files in the place of the machine's and becomes the program behind them.
const WITH_FILES: &str = r#"mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@""#;

/// Starts a gateway that sees these files in the place of the system's, in a mount namespace of its own.
///
/// # Errors
///
/// When it does not come up; the error holds its output.
pub fn start_with(hosts: &Path, resolv_conf: &Path, setup: &Setup, workers: usize) -> Result<Gateway> {
    // Whoever is not root has a user namespace for it, where the machine allows that.
    let as_root = rustix::process::getuid().is_root();
    let own: &[&str] = if as_root { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] };
    let files = [hosts.to_str().context("a path")?, resolv_conf.to_str().context("a path")?];
    let program = [&["unshare"], own, &["sh", "-c", WITH_FILES], &files].concat();
    Gateway::start_by(&program, &setup.yaml(), &["--workers", &workers.to_string()])
}
