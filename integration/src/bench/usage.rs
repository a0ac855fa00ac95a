//! What the kernel knows about a process and its children.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Memory counts as settled when it has not changed over this time.
const SETTLED: Duration = Duration::from_millis(600);

/// How long memory may take to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// The change that does not matter, in KiB: allocators and background threads are never wholly still.
const STILL: u64 = 64;

/// CPU time that all threads of the process and its children have used, in seconds.
///
/// # Errors
///
/// When there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanos = 0_u64;
    for process in tree(pid)? {
        for task in tasks(process)? {
            let path = format!("/proc/{process}/task/{task}/schedstat");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            let time = text.split(' ').next().and_then(|time| time.parse::<u64>().ok());
            nanos += time.with_context(|| format!("{path} reads {text}"))?;
        }
    }
    Ok(nanos as f64 / 1e9)
}

/// Resident memory of the process and its children, in KiB.
///
/// # Errors
///
/// When there is no such process.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let mut kib = 0;
    for process in tree(pid)? {
        let path = format!("/proc/{process}/status");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib += number.with_context(|| format!("{path} has no VmRSS"))?;
    }
    Ok(kib)
}

/// Resident memory, in KiB, once it stays what it is.
///
/// # Errors
///
/// When there is no such process, or it never stays the same.
pub fn settled_kib(pid: u32) -> Result<u64> {
    let end = Instant::now() + SETTLE_LIMIT;
    let (mut since, mut last) = (Instant::now(), resident_kib(pid)?);
    while Instant::now() < end {
        sleep(Duration::from_millis(50));
        let now = resident_kib(pid)?;
        if now.abs_diff(last) > STILL {
            (since, last) = (Instant::now(), now);
        } else if since.elapsed() > SETTLED {
            return Ok(now);
        }
    }
    bail!("the memory of process {pid} did not settle in {SETTLE_LIMIT:?}")
}

/// The process and all below it.
///
/// # Errors
///
/// When there is no such process.
pub fn tree(pid: u32) -> Result<Vec<u32>> {
    let mut found = vec![pid];
    let mut seen = 0;
    while let Some(&process) = found.get(seen) {
        for task in tasks(process)? {
            let path = format!("/proc/{process}/task/{task}/children");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        seen += 1;
    }
    Ok(found)
}

fn tasks(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| format!("reading {path}"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}
