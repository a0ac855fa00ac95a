//! New connections under TLS, in as many rows as are to come up at once.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Outcome;
use super::tls::Client;

/// The client's preface and SETTINGS (RFC 9113 3.4).
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The type of SETTINGS, and where it stands in a frame.
const SETTINGS: (usize, u8) = (3, 4);

pub(super) async fn run(target: SocketAddr, rows: usize, count: usize, resumed: bool) -> Result<Outcome> {
    let left = Rc::new(Cell::new(count));
    let mut slots = JoinSet::new();
    for _ in 0..rows {
        slots.spawn_local(row(target, left.clone(), resumed));
    }
    while let Some(slot) = slots.join_next().await {
        slot??;
    }
    Ok(Outcome { calls: count, ..Outcome::default() })
}

async fn row(target: SocketAddr, left: Rc<Cell<usize>>, resumed: bool) -> Result<()> {
    let client = Client::new(resumed);
    let mut is_first = true;
    while let Some(less) = left.get().checked_sub(1) {
        left.set(less);
        let socket = TcpStream::connect(target).await?;
        socket.set_nodelay(true)?;
        let mut stream = client.shake_as(socket, !is_first).await?;
        is_first = false;
        stream.write_all(HELLO).await?;
        stream.flush().await?;
        let mut settings = [0; 9];
        // What can be resumed comes before it.
        stream.read_exact(&mut settings).await?;
        ensure!(settings[SETTINGS.0] == SETTINGS.1, "the first frame is {settings:?}");
        stream.shutdown().await?;
    }
    Ok(())
}
