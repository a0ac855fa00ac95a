//! Rules for `log.level`, which the command line shares.

use tracing_subscriber::EnvFilter;

use super::Checker;
use crate::config::file::Log;
use crate::config::located::At;
use crate::config::problem::Problem;
use crate::config::suggest::did_you_mean;

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];

impl Checker<'_, '_> {
    pub(super) fn log_level(&self, field: Option<&At<Log>>) -> Option<String> {
        let level = field?.value.as_ref()?.level.as_ref()?;
        match log_filter(level.value.as_ref()?) {
            Ok(filter) => Some(filter),
            Err(problem) => {
                self.error(problem.at(level.place));
                None
            }
        }
    }
}

/// The filter in the form that `tracing` reads.
///
/// A word without `=` must be a level: `tracing` would take a misspelt one for the name of a module, and log nothing
/// else.
pub(crate) fn log_filter(text: &str) -> Result<String, Problem> {
    for part in text.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim().to_ascii_lowercase();
        if !LEVELS.contains(&level.as_str()) {
            let label = did_you_mean(&level, LEVELS).unwrap_or_else(|| format!("one of {}", LEVELS.join(", ")));
            return Err(Problem::new(format!("`{level}` is not a log level")).label(label));
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Problem::new(format!("`{text}` is not a log filter: {error}"))),
    }
}
