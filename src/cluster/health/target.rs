//! Where a check connects to, and how: as calls do, with the cluster's TLS where it has some.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cluster::{Cluster, Endpoint};
use crate::socket::{Address, Stream};
use crate::tls::Connector;

/// One endpoint, as a check sees it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    address: Address,
    tls: Option<Connector>,
    server_name: Option<ServerName<'static>>,
}

/// What a check speaks on.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

impl Target {
    pub(super) fn new(cluster: &Cluster, endpoint: &Endpoint) -> Target {
        let tls = cluster.plan.tls.as_ref().map(|tls| tls.connector.clone());
        Target { address: endpoint.address.clone(), tls, server_name: endpoint.server_name.clone() }
    }

    /// An address without TLS.
    #[cfg(test)]
    pub(super) fn plain(address: Address) -> Target {
        Target { address, tls: None, server_name: None }
    }

    /// What requests name, where the configuration names nothing: the address, or what gRPC's own clients say at a Unix
    /// socket.
    pub(super) fn authority<'l>(&self, label: &'l str) -> &'l str {
        if self.address.ip().is_some() { label } else { "localhost" }
    }

    /// True where the connection is one of TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects, the handshake of TLS included. Where that does not come about, says why.
    pub(super) async fn connect(&self) -> Result<Box<dyn Socket>, String> {
        let socket = Stream::connect(&self.address).await.map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else { return Ok(Box::new(socket)) };
        let stream = tls.connect(socket, self.server_name.as_ref()).await;
        stream.map(|stream| Box::new(stream) as Box<dyn Socket>).map_err(|failure| format!("TLS: {failure}"))
    }
}
