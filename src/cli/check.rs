//! `weir check`.

use std::path::Path;
use std::process::ExitCode;

use super::{counted, load, print, print_notices};
use crate::registry::Registry;

pub(super) fn check(path: &Path, registry: &Registry) -> ExitCode {
    let plan = match load(path, registry) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    print_notices(&plan);
    let routes = plan.listeners.iter().map(|listener| listener.routes.len()).sum();
    print(&format!(
        "{}: ok, {}, {}, {}, {}\n",
        path.display(),
        counted(plan.listeners.len(), "listener"),
        counted(routes, "route"),
        counted(plan.clusters.len(), "cluster"),
        counted(plan.notices.len(), "notice"),
    ))
}
