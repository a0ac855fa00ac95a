//! Start-up: from the start of the process to the first call that came back.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::LocalSet;

use super::{Bench, progress_done};
use crate::bench::case::USUAL;
use crate::bench::load::call::{Connection, Prepared};
use crate::bench::peer::Peer;
use crate::bench::results::Row;
use crate::process::{PATIENCE, Process};
use crate::server::free_address;

/// How often to knock. It bounds the resolution.
const KNOCK_INTERVAL: Duration = Duration::from_micros(500);

pub(super) fn measure(bench: &mut Bench<'_>, peers: &[Peer]) -> Result<()> {
    let id = "start/first-call";
    if !bench.options.wants(id) {
        return Ok(());
    }
    let mut row = Row::new(id, "from start to the first call", "ms");
    for (round, peer) in bench.turns(peers) {
        bench.progress(id, round, peer.name);
        let address = free_address()?;
        let mut command = peer.command(bench.bed, address)?;
        let began = Instant::now();
        let _process = Process::start(peer.name, &mut command)?;
        first_call(peer, address)?;
        row.add(peer.name, began.elapsed().as_secs_f64() * 1e3);
    }
    progress_done();
    bench.keep(row);
    Ok(())
}

fn first_call(peer: &Peer, address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let prepared = Prepared::new(USUAL.shape);
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if std::net::TcpStream::connect(address).is_ok() {
            let call = async { Connection::open(address, false).await?.call(&prepared).await };
            return LocalSet::new().block_on(&runtime, call);
        }
        sleep(KNOCK_INTERVAL);
    }
    bail!("{} did not come up on {address}", peer.name)
}
