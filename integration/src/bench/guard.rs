//! The guard: instructions per call, held against the values that are kept in `integration/benches/guard.json`.
//!
//! Instructions and not time, because they are the same on a machine that is busy. Each figure is the difference between
//! a long and a short run, so that what start and end cost falls out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use super::bed::Bed;
use super::case::CASES;
use super::load::{Job, Work};
use super::peer::weir::Weir;
use crate::binary;
use crate::server::Server;
use crate::tools::debian;

/// By how much a call may cost more than what is kept, in percent.
const ALLOWED: u64 = 5;

/// How often each case is counted; the median counts. How much of a stream is there when the gateway looks depends on the
/// machine after all.
const ROUNDS: usize = 5;

/// What is counted.
struct Guarded {
    /// Its name in guard.json.
    name: &'static str,
    /// The case whose calls are made.
    case: &'static str,
    /// Calls of the short run and of the long one.
    calls: (usize, usize),
    access_log: bool,
}

const GUARDED: [Guarded; 4] = [
    Guarded { name: "unary-100b-10x10", case: "unary-100b-10x10", calls: (2_000, 12_000), access_log: false },
    Guarded { name: "unary-100b-10x10-logged", case: "unary-100b-10x10", calls: (2_000, 12_000), access_log: true },
    Guarded { name: "unary-1k-10x10", case: "unary-1k-10x10", calls: (2_000, 12_000), access_log: false },
    Guarded { name: "stream-100x100b", case: "stream-100x100b", calls: (200, 1_200), access_log: false },
];

/// Counts the instructions that the release build of weir needs for a call, and fails when they are more than 5 % above
/// what integration/benches/guard.json says.
#[derive(Clone, Debug, Parser)]
#[command(name = "guard")]
struct Options {
    /// Writes what was counted into guard.json, instead of comparing
    #[arg(long)]
    bless: bool,
    /// The `weir` to count, instead of the one that this workspace's release build makes
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
    /// A folder that gets callgrind's profiles of the long runs, for callgrind_annotate
    #[arg(long, value_name = "FOLDER")]
    profiles: Option<PathBuf>,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Instructions per call, by case.
type Kept = BTreeMap<String, u64>;

/// Counts, and compares or keeps.
///
/// # Errors
///
/// When a call has become dearer, or nothing can be counted.
pub fn run() -> Result<()> {
    let options = Options::parse();
    debian::install(&["valgrind"])?;
    let weir = match &options.weir {
        Some(path) => path.canonicalize()?,
        None => binary::released()?,
    };
    let bed = Bed::new(weir)?;
    let mut counted = Kept::new();
    for guarded in &GUARDED {
        let (short, long) = guarded.calls;
        let calls = u64::try_from(long - short)?;
        let mut differences = Vec::new();
        for _ in 0..ROUNDS {
            let few = count(&bed, guarded, short, None)?;
            let many = count(&bed, guarded, long, options.profiles.as_deref())?;
            differences.push(many.saturating_sub(few) / calls);
        }
        differences.sort_unstable();
        println!("{}: {differences:?}", guarded.name);
        counted.insert(guarded.name.to_owned(), differences[ROUNDS / 2]);
    }
    if options.bless {
        return keep(&counted);
    }
    compare(&counted, &kept()?)
}

/// The instructions of a gateway that starts, passes so many calls, and ends.
fn count(bed: &Bed, guarded: &Guarded, calls: usize, profiles: Option<&Path>) -> Result<u64> {
    let case = CASES.iter().find(|case| case.id == guarded.case).context("the guarded cases are among all cases")?;
    let profile = profiles.unwrap_or(bed.folder()).join(format!("callgrind.{}.out", guarded.name));
    let gateway = Weir { access_log: guarded.access_log, ..Weir::USUAL };
    let command = |address: SocketAddr| {
        let config = bed.file("guard.yaml", &gateway.config(bed, address))?;
        let mut command = Command::new("valgrind");
        command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", profile.display()));
        command.arg(&bed.weir).arg("run").arg("-c").arg(config).args(["--workers", "1"]);
        Ok(command)
    };
    let mut server = Server::start("weir under callgrind", command)?;
    let work = Work::Closed { streams: case.streams, calls, shape: case.shape };
    bed.load(&Job { target: server.address, connections: case.connections, tls: false, work })?;
    server.process.signal("TERM")?;
    let status = server.process.wait()?;
    let lines = server.process.lines();
    ensure!(status.success(), "weir ended with {status}:\n{}", lines.join("\n"));
    let count = lines.iter().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.with_context(|| format!("callgrind printed no count:\n{}", lines.join("\n")))
}

fn compare(counted: &Kept, kept: &Kept) -> Result<()> {
    let mut dearer = Vec::new();
    for (case, now) in counted {
        let before = kept.get(case).with_context(|| format!("nothing is kept for {case}: run with --bless"))?;
        let change = 100.0 * (*now as f64 / *before as f64 - 1.0);
        let line = format!("{case}: {now} instructions a call, {change:+.1} % of {before}");
        println!("{line}");
        if 100 * now > (100 + ALLOWED) * before {
            dearer.push(line);
        } else if 100 * now < (100 - ALLOWED) * before {
            println!("  cheaper by more than {ALLOWED} %: keep it with --bless, or the next {ALLOWED} % are free");
        }
    }
    if !dearer.is_empty() {
        bail!(
            "calls have become dearer by more than {ALLOWED} %:\n{}\nwhere it is meant, run with --bless and say why in the commit",
            dearer.join("\n")
        );
    }
    Ok(())
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/guard.json")
}

fn kept() -> Result<Kept> {
    let text = std::fs::read_to_string(path()).context("reading integration/benches/guard.json")?;
    serde_json::from_str(&text).context("reading integration/benches/guard.json")
}

fn keep(counted: &Kept) -> Result<()> {
    std::fs::write(path(), serde_json::to_string_pretty(counted)? + "\n")?;
    println!("kept in integration/benches/guard.json: {counted:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_percent_are_allowed_and_no_more() {
        let of = |count| Kept::from([("unary".to_owned(), count)]);
        assert!(compare(&of(105), &of(100)).is_ok());
        assert!(compare(&of(50), &of(100)).is_ok());
        let error = compare(&of(106), &of(100)).expect_err("six percent more");
        assert!(error.to_string().contains("106 instructions a call, +6.0 % of 100"), "{error}");
        assert!(compare(&of(1), &Kept::new()).is_err());
    }
}
