//! `weir demo`.

use std::process::ExitCode;

use super::{DemoArgs, EXIT_START};
use crate::registry::Registry;

/// Serves the example.
pub(super) fn demo(registry: &Registry, args: &DemoArgs) -> ExitCode {
    let _ = (registry, args);
    eprintln!("error: the demo is not there yet");
    ExitCode::from(EXIT_START)
}
