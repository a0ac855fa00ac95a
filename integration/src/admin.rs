//! What an operator reads from a gateway: its admin pages, its metrics, its memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::gateway::Gateway;
use crate::process::PATIENCE;

/// How often to look at a metric that a test waits for.
const LOOK: Duration = Duration::from_millis(10);

/// Fetches an admin page: its HTTP status and its body.
///
/// # Errors
///
/// When the admin listener does not answer in HTTP.
pub fn page(admin: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect(admin).with_context(|| format!("connecting to the admin listener {admin}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    match socket.read_to_string(&mut answer) {
        // A gateway that has ended may cut the connection short.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => return Err(error.into()),
        _ => {}
    }
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no HTTP: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no HTTP status: {head:?}"))?, body.to_owned()))
}

impl Gateway {
    /// The value of a metric, labels included, such as `weir_calls_in_flight{cluster="a"}`; 0 where it is not shown.
    ///
    /// # Errors
    ///
    /// When the gateway has no admin listener, or it does not answer.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let (_, page) = page(self.admin()?, "/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(Ok(0.0), |value| value.trim().parse().with_context(|| format!("{name} is `{value}`")))
    }

    /// Waits until a metric is as `enough` wants it, and returns it.
    ///
    /// # Errors
    ///
    /// When [`PATIENCE`] ends first.
    pub async fn wait_metric(&self, name: &str, mut enough: impl FnMut(f64) -> bool) -> Result<f64> {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name)?;
            if enough(value) {
                return Ok(value);
            }
            if Instant::now() > end {
                bail!("{name} stays at {value}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Resident memory of the process, in bytes.
    ///
    /// # Errors
    ///
    /// When the process has ended, or this is not Linux.
    pub fn resident_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        Ok(kib.context("no VmRSS in /proc")? * 1024)
    }
}
