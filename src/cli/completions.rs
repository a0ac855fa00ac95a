//! `weir completions`.

use std::process::ExitCode;

use clap_complete::Shell;

use super::command::{command, own_name};
use super::print;

pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    let name = own_name();
    clap_complete::generate(shell, &mut command(name), name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
