//! Closed loops: CPU per call, and calls a second.

use anyhow::{Context, Result};

use super::{Bench, Running, progress_done, unary_size};
use crate::bench::bed::H2load;
use crate::bench::case::{CASES, USUAL};
use crate::bench::results::Row;
use crate::bench::usage;

pub(super) fn measure(bench: &mut Bench<'_>, running: &[Running]) -> Result<()> {
    for case in CASES {
        let id = format!("cpu/{}", case.id);
        if !bench.options.wants(&id) {
            continue;
        }
        let mut cpu = Row::new(id.as_str(), case.title, "µs of CPU a call");
        let mut rate = Row::new(format!("rate/{}", case.id), case.title, "calls/s");
        let mut busy = Row::new(format!("busy/{}", case.id), case.title, "% of a core");
        for (round, one) in bench.turns(running) {
            bench.progress(&id, round, one.peer.name);
            let sample = bench.sample(&one.peer, &one.server, &case)?;
            cpu.add(one.peer.name, sample.cpu);
            rate.add(one.peer.name, sample.rate);
            busy.add(one.peer.name, sample.busy);
        }
        progress_done();
        bench.keep(cpu);
        bench.keep(busy);
        bench.keep(rate);
    }
    Ok(())
}

/// Holds our load against `h2load`: what they measure of the same proxy must not differ by much.
pub(super) fn check(bench: &mut Bench<'_>, running: &[Running]) -> Result<()> {
    let (id, size) = ("check/h2load", unary_size(USUAL.shape).context("the usual case is unary")?);
    let Some(one) = running.first().filter(|_| bench.options.wants(id)) else { return Ok(()) };
    let mut cpu = Row::new(id, format!("{}, {}", one.peer.name, USUAL.title), "µs of CPU a call");
    let mut rate = Row::new("check/h2load-rate", format!("{}, {}", one.peer.name, USUAL.title), "calls/s");
    let calls = bench.options.calls(USUAL.calls);
    for round in 0..bench.options.rounds() {
        bench.progress(id, round, one.peer.name);
        let ours = bench.sample(&one.peer, &one.server, &USUAL)?;
        cpu.add("our load", ours.cpu);
        rate.add("our load", ours.rate);
        let before = usage::cpu_seconds(one.server.process.pid())?;
        let shape = H2load { connections: USUAL.connections, streams: USUAL.streams, calls, size };
        let outcome = bench.bed.h2load(one.server.address, shape)?;
        let used = usage::cpu_seconds(one.server.process.pid())? - before;
        cpu.add("h2load", used / calls as f64 * 1e6);
        rate.add("h2load", calls as f64 / outcome.seconds);
    }
    progress_done();
    bench.keep(cpu);
    bench.keep(rate);
    Ok(())
}
