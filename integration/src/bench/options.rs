//! The command line of the comparison.

use std::path::PathBuf;

use clap::Parser;

use super::peer::{PEERS, Peer};

/// Measures Weir and other gRPC proxies side by side, in front of the same backend.
///
/// Proxies run on core 0, the load and the backend on core 1. Every byte and every status that comes back is looked at:
/// a call that fails ends the run. The result is written to target/bench/compare.json.
#[derive(Clone, Debug, Parser)]
#[command(name = "compare")]
pub struct Options {
    /// A twentieth of the calls, and one round: it shows that all works, not how fast it is
    #[arg(long)]
    pub quick: bool,
    /// Only rows whose id contains this, such as `cpu/`, `latency/`, `memory/`, `unary-100b-10x10`; may be repeated
    #[arg(long = "case", value_name = "ID")]
    pub cases: Vec<String>,
    /// Only these columns, such as `weir` or `haproxy`; may be repeated
    #[arg(long = "peer", value_name = "NAME", value_parser = peer)]
    pub peers: Vec<Peer>,
    /// How often each figure is measured, in turns; the median counts. Default: 3
    #[arg(long)]
    pub rounds: Option<usize>,
    /// The `weir` to measure, instead of the one that this workspace's release build makes
    #[arg(long, value_name = "FILE")]
    pub weir: Option<PathBuf>,
    /// Writes the result into README.md, docs/performance.md and docs/performance.svg
    #[arg(long)]
    pub publish: bool,
    /// Measures nothing: shows, and with --publish publishes, a result that an earlier run has written
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Whether the run leaves something out, or measures another program than this tree's.
    #[must_use]
    pub fn partial(&self) -> bool {
        let few = self.rounds() < 3;
        self.quick || few || !self.cases.is_empty() || !self.peers.is_empty() || self.weir.is_some()
    }

    /// How often each figure is measured.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// How many calls a case makes that makes so many in a full run.
    #[must_use]
    pub fn calls(&self, full: usize) -> usize {
        if self.quick { (full / 20).max(20) } else { full }
    }

    /// Whether a row is asked for.
    #[must_use]
    pub fn wants(&self, row: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|case| row.contains(case))
    }

    /// The columns that are asked for.
    #[must_use]
    pub fn columns(&self) -> Vec<Peer> {
        if self.peers.is_empty() { PEERS.to_vec() } else { self.peers.clone() }
    }
}

fn peer(name: &str) -> Result<Peer, String> {
    let known = || PEERS.map(|peer| peer.id()).join(", ");
    PEERS.into_iter().find(|peer| peer.id() == name).ok_or_else(|| format!("there are {}", known()))
}
