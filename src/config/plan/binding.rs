//! Where a socket listens.

use std::fmt;
use std::net::SocketAddr;

use crate::socket::Address;

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its address.
    pub address: Address,
    /// What the file of a Unix socket permits, as chmod(2) has it; `None` leaves it to the umask.
    pub mode: Option<u32>,
}

impl From<SocketAddr> for Binding {
    fn from(address: SocketAddr) -> Binding {
        Binding { address: Address::Ip(address), mode: None }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        self.mode.map_or(Ok(()), |mode| write!(f, " (mode {mode:04o})"))
    }
}
