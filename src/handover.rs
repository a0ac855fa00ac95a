//! Listening sockets that come from elsewhere: from a service manager, or from the process that this one takes over from.
//!
//! Between two processes it goes over a Unix socket, in lines; docs/decisions/0031-handover.md says why so.
//!
//! 1. The new process connects. The old one sends an [`Offer`] and its listening sockets with it (SCM_RIGHTS).
//! 2. The new process starts. Both accept from the same sockets then, and no connection is refused.
//! 3. The new process serves, and says [`READY`]. The old one says [`GO`] and drains.
//!
//! Whatever goes wrong before the third step, the old process has lost nothing and goes on serving.

mod activation;
mod predecessor;
mod sockets;
mod successor;

use std::io;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::socket::Address;
pub(crate) use activation::passed;
pub(crate) use predecessor::Predecessor;
use sockets::Source;
pub(crate) use sockets::{Kept, Sockets};
pub(crate) use successor::{Offering, Successor};

/// What the lines mean. Two versions of Weir that do not agree on it do not take over from each other.
const VERSION: u32 = 1;

/// The new process serves.
const READY: &[u8] = b"ready\n";

/// The old process drains.
const GO: &[u8] = b"go\n";

/// Far above any number of sockets that one message can carry.
const LONGEST_OFFER: usize = 256 * 1024;

/// What the old process has, one description for each socket that comes with it.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    version: u32,
    pid: u32,
    sockets: Vec<Described>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Described {
    /// `listener NAME`, `admin` or `metrics`.
    what: String,
    /// The address in the configuration, whose port may be 0.
    address: Address,
    /// It is a Unix socket, whose file the process takes away that serves there last.
    #[serde(default)]
    has_file: bool,
}

/// Whoever takes the sockets gets every client's calls, and whoever gives them may be anybody: both must be of one user, or root.
fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let (peer, own) = (stream.peer_cred()?.uid(), geteuid().as_raw());
    if peer == own || peer == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the other process is of user {peer}, not of {own}")))
}
