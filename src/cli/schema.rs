//! `weir schema`.

use std::process::ExitCode;

use super::print;
use crate::config;
use crate::registry::Registry;

pub(super) fn schema(registry: &Registry) -> ExitCode {
    print(&format!("{:#}\n", config::schema(registry)))
}
