//! System calls per call, counted by strace. Outside the timed runs: whoever is traced is slow.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Bench, Running, progress_done};
use crate::bench::case::{CASES, Case, USUAL};
use crate::bench::results::Row;
use crate::bench::usage;
use crate::process::Process;
use crate::tools::debian;

/// Calls while strace counts.
const CALLS: usize = 5_000;

/// Cases that it counts in.
const COUNTED: [&str; 2] = [USUAL.id, "unary-1k-10x10"];

pub(super) fn measure(bench: &mut Bench<'_>, running: &[Running]) -> Result<()> {
    for case in CASES.iter().filter(|case| COUNTED.contains(&case.id)) {
        let id = format!("syscalls/{}", case.id);
        if !bench.options.wants(&id) {
            continue;
        }
        debian::install(&["strace"])?;
        let mut row = Row::new(id.as_str(), case.title, "system calls a call");
        for (round, one) in bench.turns(running) {
            bench.progress(&id, round, one.peer.name);
            row.add(one.peer.name, count(bench, one, case)?);
        }
        progress_done();
        bench.keep(row);
    }
    Ok(())
}

fn count(bench: &Bench<'_>, one: &Running, case: &Case) -> Result<f64> {
    let calls = bench.options.calls(CALLS);
    let report = bench.bed.folder().join("strace.txt");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&report);
    let processes = usage::tree(one.server.process.pid())?;
    for process in &processes {
        command.arg("-p").arg(process.to_string());
    }
    let mut strace = Process::start("strace", &mut command)?;
    for process in &processes {
        let attached = format!("Process {process} attached");
        strace.wait_line(&attached, |line| line.contains(&attached).then_some(()))?;
    }
    bench.load(&one.peer, &one.server, case, calls)?;
    strace.signal("INT")?;
    strace.wait()?;
    let text = std::fs::read_to_string(&report).context("strace wrote no report")?;
    Ok(total(&text).with_context(|| format!("strace wrote\n{text}"))? / calls as f64)
}

/// The count in strace's last line: `100.00 SECONDS MICROSECONDS COUNT [ERRORS] total`.
fn total(report: &str) -> Option<f64> {
    let line = report.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_is_found() {
        let report = "% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 50.00    0.000002           1         2           read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000004           0        77         1 total
";
        assert_eq!(super::total(report), Some(77.0));
        assert_eq!(super::total("nothing"), None);
    }
}
