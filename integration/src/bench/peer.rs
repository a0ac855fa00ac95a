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
    /// Whether clients speak TLS to it.
    pub tls: bool,
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
    Peer::new("Weir", Kind::Weir(Weir::USUAL)),
    Peer::new("Weir, access log", Kind::Weir(Weir { access_log: true, ..Weir::USUAL })),
    Peer::new("Envoy", Kind::Envoy),
    Peer::new("HAProxy", Kind::Haproxy),
    Peer::new("nginx", Kind::Nginx),
    Peer::new("TCP splice", Kind::Splice),
];

impl Peer {
    /// One to which clients speak without TLS.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind) -> Peer {
        Peer { name, kind, tls: false }
    }

    /// The same with TLS; `None` where it has none.
    #[must_use]
    pub fn secured(self) -> Option<Peer> {
        match self.kind {
            Kind::Splice => None,
            Kind::Weir(weir) => Some(Peer { kind: Kind::Weir(Weir { tls: true, ..weir }), tls: true, ..self }),
            Kind::Envoy | Kind::Haproxy | Kind::Nginx => Some(Peer { tls: true, ..self }),
        }
    }

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
            Kind::Envoy => envoy::command(bed, address, self.tls),
            Kind::Haproxy => haproxy::command(bed, address, self.tls),
            Kind::Nginx => nginx::command(bed, address, self.tls),
            Kind::Splice => {
                let (address, backend) = (address.to_string(), bed.backend.to_string());
                role::command(Some(bed.proxy_core), &["splice", &address, &backend])
            }
        }
    }
}
