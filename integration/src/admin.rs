//! What an operator reads from a gateway: its admin pages, its metrics, its memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::gateway::Gateway;
use crate::process::PATIENCE;

/// How often to look at a metric that a test waits for.
const LOOK: Duration = Duration::from_millis(10);

/// How long a gateway is watched that should be at rest.
const REST: Duration = Duration::from_millis(500);

/// Fetches an admin page: its HTTP status and its body.
///
/// # Errors
///
/// When the admin listener does not answer in HTTP.
pub fn page(admin: SocketAddr, path: &str) -> Result<(u16, String)> {
    ask(admin, "GET", path)
}

/// The same with POST, and nothing in it.
///
/// # Errors
///
/// When the admin listener does not answer in HTTP.
pub fn post(admin: SocketAddr, path: &str) -> Result<(u16, String)> {
    ask(admin, "POST", path)
}

fn ask(admin: SocketAddr, method: &str, path: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect(admin).with_context(|| format!("connecting to the admin listener {admin}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(socket, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
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

    /// CPU time that the process has used, in all of its threads. Its resolution is a hundredth of a second.
    ///
    /// # Errors
    ///
    /// When the process has ended, or this is not Linux.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid()))?;
        // After the name, which may hold anything: user and system time are the 14th and the 15th field.
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc")?;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Fails if a gateway that has nothing to do is busy.
    ///
    /// # Errors
    ///
    /// When it uses a tenth of a core or more.
    pub async fn expect_at_rest(&self) -> Result<()> {
        let before = self.cpu_time()?;
        tokio::time::sleep(REST).await;
        let used = self.cpu_time()?.saturating_sub(before);
        anyhow::ensure!(used < REST / 10, "{used:?} of CPU in {REST:?} in which nothing happened");
        Ok(())
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
