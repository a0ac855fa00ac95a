//! The proxies that are compared, each as its users would run it for gRPC on one core.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};

use super::bed::Bed;
use super::role;
use crate::server::Server;

mod envoy;
mod haproxy;
mod nginx;
pub mod weir;

use weir::Weir;

/// A proxy to measure.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its column.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// What a peer is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// This project's gateway.
    Weir(Weir),
    /// Envoy, one worker.
    Envoy,
    /// HAProxy, one thread.
    Haproxy,
    /// nginx, one worker process.
    Nginx,
    /// A copy of bytes: the floor.
    Splice,
}

/// The columns of the comparison, in their order.
pub const PEERS: [Peer; 6] = [
    Peer { name: "Weir", kind: Kind::Weir(Weir::USUAL) },
    Peer { name: "Weir, access log", kind: Kind::Weir(Weir { access_log: true, ..Weir::USUAL }) },
    Peer { name: "Envoy", kind: Kind::Envoy },
    Peer { name: "HAProxy", kind: Kind::Haproxy },
    Peer { name: "nginx", kind: Kind::Nginx },
    Peer { name: "TCP splice", kind: Kind::Splice },
];

impl Peer {
    /// The name on the command line.
    #[must_use]
    pub fn id(&self) -> String {
        self.name.to_lowercase().replace(", ", "-").replace(' ', "-")
    }

    /// Installs what the peer needs.
    ///
    /// # Errors
    ///
    /// When it cannot be had.
    pub fn install(&self) -> Result<()> {
        match self.kind {
            Kind::Weir(_) | Kind::Splice => Ok(()),
            Kind::Envoy => envoy::program().map(drop),
            Kind::Haproxy => haproxy::install(),
            Kind::Nginx => nginx::install(),
        }
    }

    /// Name and version, as it says them itself.
    ///
    /// # Errors
    ///
    /// When it does not say.
    pub fn version(&self, bed: &Bed) -> Result<String> {
        match self.kind {
            Kind::Weir(_) => weir::version(bed),
            Kind::Splice => Ok("tokio's copy_bidirectional".into()),
            Kind::Envoy => envoy::version(),
            Kind::Haproxy => haproxy::version(),
            Kind::Nginx => nginx::version(),
        }
    }

    /// Starts it, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(&self, bed: &Bed) -> Result<Server> {
        let command = |address: SocketAddr| self.command(bed, address);
        Server::start(self.name, command).with_context(|| format!("starting {}", self.name))
    }

    /// The command that starts it on this address.
    ///
    /// # Errors
    ///
    /// When its configuration cannot be written.
    pub fn command(&self, bed: &Bed, address: SocketAddr) -> Result<Command> {
        match &self.kind {
            Kind::Weir(weir) => weir.command(bed, address),
            Kind::Envoy => envoy::command(bed, address),
            Kind::Haproxy => haproxy::command(bed, address),
            Kind::Nginx => nginx::command(bed, address),
            Kind::Splice => {
                let (address, backend) = (address.to_string(), bed.backend.to_string());
                role::command(Some(bed.proxy_core), &["splice", &address, &backend])
            }
        }
    }
}
