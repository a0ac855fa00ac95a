//! The floor: a proxy that knows nothing but bytes, one connection to the backend for each from a client.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

/// Read buffer of each direction, in bytes: what a socket usually takes at once.
const BUFFER: usize = 64 * 1024;

/// Serves on this address until the process ends.
///
/// # Errors
///
/// When the address is taken.
pub async fn serve(address: SocketAddr, backend: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // The load looks at every call: a connection that breaks is seen there.
            let _ = splice(client, backend).await;
        });
    }
}

async fn splice(mut client: TcpStream, backend: SocketAddr) -> Result<()> {
    let mut server = TcpStream::connect(backend).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
    Ok(())
}
