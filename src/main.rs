//! The `weir` command, with the filters that come with it.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use weir::registry::Registry;

/// Every twelfth instruction of a call less than with the system's: docs/decisions/0019-mimalloc.md.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    weir::run(Registry::builtin())
}
