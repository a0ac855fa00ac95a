//! The check that a port accepts a connection.

use tokio::net::TcpStream;

use crate::cluster::Endpoint;

/// Connects, and closes.
pub(super) async fn ask(endpoint: &Endpoint) -> Result<(), String> {
    TcpStream::connect(endpoint.address).await.map(drop).map_err(|error| error.to_string())
}
