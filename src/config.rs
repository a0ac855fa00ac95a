//! Configuration: the file, its check, and the plan that comes of it.
//!
//! ```text
//! text -> tree (nodes with places) -> file (serde, mirrors the YAML) -> check (rules) -> plan (what runs)
//! ```
//!
//! Every error of a file is found in one run, each with its place; see [`Diagnostics`].

use std::path::Path;

use crate::registry::Registry;

mod check;
mod diagnostic;
pub mod diff;
mod dump;
mod duration;
mod env;
mod file;
pub(crate) mod findings;
mod located;
mod place;
pub mod plan;
mod problem;
pub(crate) mod read;
mod scalar;
mod schema;
mod shape;
pub(crate) mod size;
mod suggest;
mod syntax;
pub(crate) mod trail;
pub(crate) mod tree;
mod unknown;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use env::Env;
pub use place::Place;
pub use plan::Plan;
pub use schema::schema;

use findings::Findings;
use read::{Held, Reader};
use trail::Trail;

/// Keys that a bootstrap of Envoy has and a configuration of Pixiu has not.
const ENVOY: [&str; 4] = ["typed_config", "@type", "load_assignment", "virtual_hosts"];

const ENVOY_CLOSING: &str =
    "this looks like an Envoy bootstrap; Weir reads Pixiu's form: see conf/ and docs/coming-from-envoy.md";

/// Reads and checks a file.
///
/// # Errors
///
/// Everything that is wrong with it, or that it cannot be read.
pub fn load(path: &Path, registry: &Registry, env: Env<'_>) -> Result<Plan, Diagnostics> {
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => load_text(text, &name, registry, env),
            Err(error) => Err(not_utf8(&bytes, error.valid_up_to(), &name)),
        },
        Err(error) => {
            let message = format!("the configuration cannot be read: {error}");
            Err(Diagnostics::new(&name, "", vec![Diagnostic::new(Place::FILE, message)]))
        }
    }
}

/// What to say of a file that is text up to `valid` and no further.
fn not_utf8(bytes: &[u8], valid: usize, name: &str) -> Diagnostics {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let error = Diagnostic::new(Place::FILE, "the file is UTF-16").label("save it as UTF-8");
        return Diagnostics::new(name, "", vec![error]);
    }
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    let line = number(before.matches('\n').count());
    let column = number(before.rsplit('\n').next().map_or(0, |text| text.chars().count()));
    let error = Diagnostic::new(Place { line, column, length: 1 }, "the file is not UTF-8");
    let error = error.label(format!("the byte 0x{:02X}; save the file as UTF-8", bytes[valid]));
    Diagnostics::new(name, &String::from_utf8_lossy(bytes), vec![error])
}

/// Reads and checks a text, as if it came from a file of this name.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn load_text(text: &str, name: &str, registry: &Registry, env: Env<'_>) -> Result<Plan, Diagnostics> {
    let findings = Findings::new(name);
    let root = tree::parse(text, env, &findings);
    let plan = root.as_ref().and_then(|root| {
        let reader = Reader::new(&findings);
        let file = reader.read(&Held { node: root, trail: Trail::default() })?;
        Some(check::plan(&file, root.place, &reader, registry))
    });
    let (errors, notices) = findings.into_parts();
    match plan {
        Some(plan) if errors.is_empty() => Ok(Plan { notices, ..plan }),
        _ => {
            let is_envoy = root.is_some_and(|root| root.has_key(&|key| ENVOY.contains(&key)));
            Err(Diagnostics::new(name, text, errors).closing(is_envoy.then_some(ENVOY_CLOSING)))
        }
    }
}

/// The filter for logs in the form that `tracing` reads, if `text` is one.
///
/// # Errors
///
/// Why it is not, in one line.
pub fn log_filter(text: &str) -> Result<String, String> {
    check::log_filter(text).map_err(|problem| problem.to_string())
}

/// The environment of this process.
#[must_use]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
