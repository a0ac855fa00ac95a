//! TLS 1.3 from clients: calls on connections that are there, and new connections, which are most of what TLS costs.

use anyhow::{Context, Result};

use super::{Bench, Running, progress_done};
use crate::bench::case::USUAL;
use crate::bench::load::{Job, Work};
use crate::bench::peer::{Kind, Peer};
use crate::bench::results::Row;
use crate::bench::usage;

/// Connections that come up at once.
const ROWS: usize = 10;

/// Connections of a full run.
const CONNECTS: usize = 4_000;

pub(super) fn measure(bench: &mut Bench<'_>, peers: &[Peer]) -> Result<()> {
    let ids = [format!("cpu/tls-{}", USUAL.id), "cpu/tls-new".to_owned(), "cpu/tls-resumed".to_owned()];
    if !ids.iter().any(|id| bench.options.wants(id)) {
        return Ok(());
    }
    let has_log = |peer: &&Peer| matches!(peer.kind, Kind::Weir(weir) if weir.access_log);
    let secured = peers.iter().filter(|peer| !has_log(peer)).filter_map(|peer| peer.secured());
    let start = |peer: Peer| Ok(Running { peer, server: peer.start(bench.bed)? });
    let running: Vec<Running> = secured.map(start).collect::<Result<_>>()?;
    if bench.options.wants(&ids[0]) {
        let mut row = Row::new(ids[0].as_str(), format!("TLS: {}", USUAL.title), "µs of CPU a call");
        for (round, one) in bench.turns(&running) {
            bench.progress(&row.id, round, one.peer.name);
            row.add(one.peer.name, bench.sample(&one.peer, &one.server, &USUAL)?.cpu);
        }
        progress_done();
        bench.keep(row);
    }
    for (id, title, resumed) in
        [(&ids[1], "TLS: a new connection", false), (&ids[2], "TLS: a new connection that resumes a session", true)]
    {
        if bench.options.wants(id) {
            connects(bench, &running, id, title, resumed)?;
        }
    }
    Ok(())
}

fn connects(bench: &mut Bench<'_>, running: &[Running], id: &str, title: &str, resumed: bool) -> Result<()> {
    let of = |group| id.replacen("cpu/", group, 1);
    // In the units of the tables that they stand in: a connection is the work here.
    let mut cpu = Row::new(id, title, "µs of CPU a call");
    let mut busy = Row::new(of("busy/"), title, "% of a core");
    let mut rate = Row::new(of("rate/"), title, "calls/s");
    let count = bench.options.calls(CONNECTS);
    for (round, one) in bench.turns(running) {
        bench.progress(id, round, one.peer.name);
        let work = Work::Connects { count, resumed };
        let job = Job { target: one.server.address, connections: ROWS, tls: true, work };
        let before = usage::cpu_seconds(one.server.process.pid())?;
        let seconds = bench.bed.load(&job).with_context(|| format!("{}, {title}", one.peer.name))?.seconds;
        let used = usage::cpu_seconds(one.server.process.pid())? - before;
        cpu.add(one.peer.name, used / count as f64 * 1e6);
        busy.add(one.peer.name, 100.0 * used / seconds);
        rate.add(one.peer.name, count as f64 / seconds);
    }
    progress_done();
    bench.keep(cpu);
    bench.keep(busy);
    bench.keep(rate);
    Ok(())
}
