//! What Weir's cost depends on: pairs of configurations that differ in one thing, measured in turns.

use anyhow::Result;

use super::{Bench, progress_done};
use crate::bench::case::USUAL;
use crate::bench::load::{Job, Work};
use crate::bench::peer::weir::Weir;
use crate::bench::peer::{Kind, Peer};
use crate::bench::results::Row;

/// The column of what Weir costs as it is.
pub const BEFORE: &str = "before";

/// The column of what it costs with more of something.
pub const AFTER: &str = "after";

/// Connections that carry open calls.
const CARRIERS: usize = 100;

/// One thing that there is more of.
struct Change {
    id: &'static str,
    title: &'static str,
    weir: Weir,
    /// Open idle calls on each of [`CARRIERS`] connections, before and after.
    held: [usize; 2],
}

const CHANGES: [Change; 4] = [
    Change {
        id: "scaling/routes",
        title: "10,000 routes instead of 100",
        weir: Weir { routes: 10_000, ..Weir::USUAL },
        held: [0, 0],
    },
    Change {
        id: "scaling/filters",
        title: "ten more filters that look at headers",
        weir: Weir { filters: 12, ..Weir::USUAL },
        held: [0, 0],
    },
    Change {
        id: "scaling/workers",
        title: "two workers on two cores instead of one on one",
        weir: Weir { workers: 2, ..Weir::USUAL },
        held: [0, 0],
    },
    Change { id: "scaling/open-streams", title: "10,000 open calls instead of 100", weir: Weir::USUAL, held: [1, 100] },
];

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    for change in CHANGES.iter().filter(|change| bench.options.wants(change.id)) {
        let mut row = Row::new(change.id, change.title, "µs of CPU a call");
        let start = |name, weir, held| -> Result<_> {
            let peer = Peer::new(name, Kind::Weir(weir));
            let server = peer.start(bench.bed)?;
            let work = Work::Held { called: false, streams: held };
            let job = Job { target: server.address, connections: CARRIERS, tls: false, work };
            let load = if held > 0 { Some(bench.bed.hold(&job)?) } else { None };
            Ok((peer, server, load))
        };
        let pair = [start(BEFORE, Weir::USUAL, change.held[0])?, start(AFTER, change.weir, change.held[1])?];
        for (round, (peer, server, _)) in bench.turns(&pair) {
            bench.progress(change.id, round, peer.name);
            row.add(peer.name, bench.sample(peer, server, &USUAL)?.cpu);
        }
        progress_done();
        drop(pair);
        bench.keep(row);
    }
    Ok(())
}
