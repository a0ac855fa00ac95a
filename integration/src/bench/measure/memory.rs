//! Resident memory: at rest, and what connections and open calls add. Each figure comes from a process of its own, which
//! has done nothing else.

use anyhow::{Context, Result};

use super::{Bench, progress_done};
use crate::bench::load::{Job, Work};
use crate::bench::peer::{Kind, Peer};
use crate::bench::results::Row;
use crate::bench::usage;

/// Connections that wait.
const CONNECTIONS: usize = 1_000;

/// Connections that carry open calls.
const CARRIERS: usize = 100;

/// Open calls on each.
const STREAMS: usize = 100;

pub(super) fn measure(bench: &mut Bench<'_>, peers: &[Peer]) -> Result<()> {
    let ids = ["memory/base", "memory/idle-connection", "memory/called-connection", "memory/open-stream"];
    if !ids.iter().any(|id| bench.options.wants(id)) {
        return Ok(());
    }
    let titles = [
        ("at rest".to_owned(), "MiB"),
        (format!("a connection without calls, of {CONNECTIONS}"), "KiB"),
        (format!("a connection after its first call, of {CONNECTIONS}"), "KiB"),
        (format!("a call that is open and idle, of {}", CARRIERS * STREAMS), "KiB"),
    ];
    let mut rows = [0, 1, 2, 3].map(|index| Row::new(ids[index], titles[index].0.as_str(), titles[index].1));
    // The splice is the floor of CPU only: its memory is what buffers it was given.
    let proxies: Vec<Peer> = peers.iter().filter(|peer| !matches!(peer.kind, Kind::Splice)).copied().collect();
    for (round, peer) in bench.turns(&proxies) {
        bench.progress("memory", round, peer.name);
        let (base, idle) = grown(bench, peer, CONNECTIONS, false, 0)?;
        let (_, called) = grown(bench, peer, CONNECTIONS, true, 0)?;
        let (_, open) = grown(bench, peer, CARRIERS, true, STREAMS)?;
        let (idle, called) = (idle / CONNECTIONS as f64, called / CONNECTIONS as f64);
        let stream = (open - called * CARRIERS as f64) / (CARRIERS * STREAMS) as f64;
        for (row, figure) in rows.iter_mut().zip([base / 1024.0, idle, called, stream]) {
            row.add(peer.name, figure);
        }
    }
    progress_done();
    rows.into_iter().for_each(|row| bench.keep(row));
    Ok(())
}

/// Resident memory of a fresh process, in KiB, and by how much it grows with what is held.
fn grown(bench: &Bench<'_>, peer: &Peer, connections: usize, called: bool, streams: usize) -> Result<(f64, f64)> {
    let server = peer.start(bench.bed)?;
    let before = usage::settled_kib(server.process.pid())?;
    let job = Job { target: server.address, connections, tls: false, work: Work::Held { called, streams } };
    let what = || format!("{} with {connections} connections, {streams} open calls on each", peer.name);
    let held = bench.bed.hold(&job).with_context(what)?;
    let after = usage::settled_kib(server.process.pid())?;
    drop(held);
    Ok((before as f64, after as f64 - before as f64))
}
