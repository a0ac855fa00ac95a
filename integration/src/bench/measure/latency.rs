//! Latency at a fixed rate, the same for every peer: a third of what Envoy can do in the usual case.

use anyhow::{Context, Result};

use super::{Bench, Running, progress_done};
use crate::bench::case::USUAL;
use crate::bench::load::{Job, Work};
use crate::bench::results::Row;

/// How long calls are sent, in seconds.
const SECONDS: f64 = 4.0;

pub(super) fn measure(bench: &mut Bench<'_>, running: &[Running]) -> Result<()> {
    if !bench.options.wants("latency/p50") && !bench.options.wants("latency/p99") {
        return Ok(());
    }
    let rate = rate(bench, running)?;
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a count of calls")]
    let calls = bench.options.calls((rate * SECONDS) as usize);
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    let title = |name| format!("{name} of a unary call of 100 B at {rate} calls/s on 10 connections");
    let mut rows = quantiles.map(|(name, _)| Row::new(format!("latency/{name}"), title(name), "µs"));
    for (round, one) in bench.turns(running) {
        bench.progress("latency", round, one.peer.name);
        let work = Work::Open { rate, calls, shape: USUAL.shape };
        let job = Job { target: one.server.address, connections: USUAL.connections, tls: false, work };
        let outcome = bench.bed.load(&job).with_context(|| format!("{} at {rate} calls/s", one.peer.name))?;
        for ((_, share), row) in quantiles.iter().zip(&mut rows) {
            row.add(one.peer.name, outcome.quantile(*share));
        }
    }
    progress_done();
    rows.into_iter().for_each(|row| bench.keep(row));
    Ok(())
}

/// A third of the saturation of Envoy; where it is left out, of the slowest that takes part.
fn rate(bench: &Bench<'_>, running: &[Running]) -> Result<f64> {
    let mut slowest = f64::INFINITY;
    for one in running {
        let measured = bench.results.row(&format!("rate/{}", USUAL.id)).and_then(|row| row.median(one.peer.name));
        let rate = match measured {
            Some(rate) => rate,
            None => bench.sample(&one.peer, &one.server, &USUAL)?.rate,
        };
        if one.peer.name == "Envoy" {
            slowest = rate;
            break;
        }
        slowest = slowest.min(rate);
    }
    Ok((slowest / 300.0).round().max(1.0) * 100.0)
}
