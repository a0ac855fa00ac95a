//! What a figure must carry to mean anything: the machine, the versions, the command and the day.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::tools::output;

/// Where and with what a run was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many cores there are.
    pub cores: usize,
    /// The kernel's version.
    pub kernel: String,
    /// The day, in UTC.
    pub date: String,
    /// The command.
    pub command: String,
    /// The commit that was measured.
    pub commit: String,
    /// Who took part, with versions.
    pub versions: Vec<String>,
    /// How often each figure was measured.
    pub rounds: usize,
    /// Whether something was left out or cut short: such a run is not published.
    pub partial: bool,
}

impl Machine {
    /// Looks at the machine that this runs on.
    ///
    /// # Errors
    ///
    /// When the kernel or git does not say.
    pub fn look(versions: Vec<String>, rounds: usize, partial: bool) -> Result<Machine> {
        Ok(Machine {
            processor: processor()?,
            cores: std::thread::available_parallelism()?.get(),
            kernel: output(Command::new("uname").arg("-sr"))?.trim().to_owned(),
            date: output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?.trim().to_owned(),
            command: command(),
            commit: commit()?,
            versions,
            rounds,
            partial,
        })
    }
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": ")).context("/proc/cpuinfo names no model")?;
    Ok(name.1.to_owned())
}

/// How to run the same again. Paths of this machine are of no use to anybody else.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let line = "cargo bench -p weir-integration --bench compare";
    if arguments.is_empty() { line.to_owned() } else { format!("{line} -- {}", arguments.join(" ")) }
}

fn commit() -> Result<String> {
    let git = |arguments: &[&str]| output(Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(if changed { format!("{commit}, with changes") } else { commit })
}
