//! Third-party servers, which want to be told their port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{PATIENCE, Process};

/// Another program may take a free port between our look and the server's bind.
const ATTEMPTS: usize = 5;

/// How often to knock until the server accepts.
const KNOCK_INTERVAL: Duration = Duration::from_millis(10);

/// A running server on a port of its own. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Process,
    /// Where it accepts connections.
    pub address: SocketAddr,
}

impl Server {
    /// Starts the server that `command` makes for an address, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// When it ends, or does not accept within [`PATIENCE`], on several ports in turn; the error holds its output.
    pub fn start(name: &str, mut command: impl FnMut(SocketAddr) -> Result<Command>) -> Result<Server> {
        let mut attempts = 0;
        loop {
            let address = free_address()?;
            let mut server = Server { process: Process::start(name, &mut command(address)?)?, address };
            attempts += 1;
            match server.wait_accepting() {
                Ok(()) => return Ok(server),
                Err(error) if attempts == ATTEMPTS => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn wait_accepting(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !self.process.has_ended()? {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(KNOCK_INTERVAL);
        }
        bail!("no server came up on {}; its output:\n{}", self.address, self.process.lines().join("\n"))
    }
}

/// A loopback address whose port nobody uses at the moment.
///
/// # Errors
///
/// When the kernel gives none.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
