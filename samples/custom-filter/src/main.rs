//! A gateway with one filter of its own, beside those that come with Weir.

use std::process::ExitCode;

use weir::registry::Registry;

mod tenant;

fn main() -> ExitCode {
    let mut registry = Registry::builtin();
    registry.register::<tenant::Tenant>();
    weir::run(registry)
}
