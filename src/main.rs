//! The `weir` command, with the filters that come with it.

use std::process::ExitCode;

use weir::registry::Registry;

fn main() -> ExitCode {
    weir::run(Registry::builtin())
}
