//! Names that a gateway resolves as a test says. The answers come from a hosts file of the test's own, which stands in the
//! place of the machine's in a mount namespace that the gateway has for itself.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::backend::Backend;
use super::setup::Setup;
use crate::gateway::Gateway;

/// A name for tests that need one.
pub const NAME: &str = "backend.test";

/// As long as every hosts file is: a file that neither grows nor shrinks is replaced by one write, and no look-up finds half.
const HOSTS_LENGTH: usize = 1024;

/// Puts the file that follows in the place of the machine's hosts and becomes the program behind it.
const WITH_HOSTS: &str = r#"mount --bind "$0" /etc/hosts && exec "$@""#;

/// The names that a gateway resolves.
#[derive(Debug)]
pub struct Names {
    folder: tempfile::TempDir,
}

impl Names {
    /// Begins with these lines of a hosts file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn new(lines: &str) -> Result<Names> {
        let names = Names { folder: tempfile::tempdir()? };
        fs::write(names.file(), hosts(lines)?)?;
        Ok(names)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// Replaces the answers.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn set(&self, lines: &str) -> Result<()> {
        let file = fs::OpenOptions::new().write(true).open(self.file())?;
        Ok(file.write_all_at(&hosts(lines)?, 0)?)
    }

    /// The same for addresses of [`NAME`].
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn point_to(&self, addresses: &[SocketAddr]) -> Result<()> {
        self.set(&lines(addresses))
    }

    /// Starts a gateway that resolves these names.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(&self, setup: &Setup, workers: usize) -> Result<Gateway> {
        let file = self.file();
        // Whoever is not root has a user namespace for it, where the machine allows that.
        let as_root = rustix::process::getuid().is_root();
        let own: &[&str] = if as_root { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] };
        let file = file.to_str().context("a path of text")?;
        let program = [&["unshare"], own, &["sh", "-c", WITH_HOSTS, file]].concat();
        Gateway::start_by(&program, &setup.yaml(), &["--workers", &workers.to_string()])
    }
}

/// Lines of a hosts file that give [`NAME`] these addresses.
#[must_use]
pub fn lines(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(|address| format!("{} {NAME}\n", address.ip())).collect()
}

fn hosts(lines: &str) -> Result<Vec<u8>> {
    let mut hosts = format!("127.0.0.1 localhost\n{lines}\n").into_bytes();
    ensure!(hosts.len() <= HOSTS_LENGTH, "too long: {lines}");
    hosts.resize(HOSTS_LENGTH, b'\n');
    Ok(hosts)
}

/// Backends on one port of 127.0.0.1 and its neighbours, as many as asked for.
///
/// # Errors
///
/// When no port is free on all of them.
pub async fn neighbours(count: u8) -> Result<Vec<Backend>> {
    // The port that the first gets may be taken at the next address.
    for _ in 0..20 {
        let mut backends = vec![Backend::start().await?];
        let port = backends[0].address.port();
        for host in 2..=count {
            match Backend::start_on(SocketAddr::from(([127, 0, 0, host], port))).await {
                Ok(backend) => backends.push(backend),
                Err(_) => break,
            }
        }
        if backends.len() == usize::from(count) {
            return Ok(backends);
        }
    }
    bail!("no port is free on {count} addresses")
}
