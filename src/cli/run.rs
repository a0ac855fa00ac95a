//! `weir run`.

use std::process::ExitCode;

use super::{EXIT_START, RunArgs, print_notices};
use crate::config::Plan;

/// Serves a plan.
pub(super) fn run(plan: Plan, args: RunArgs) -> ExitCode {
    print_notices(&plan);
    eprintln!("error: {} cannot be served: the data plane is not there yet", args.config.display());
    ExitCode::from(EXIT_START)
}
