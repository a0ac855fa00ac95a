//! How a filter says what is wrong with its configuration.

use std::fmt;

/// One thing that is wrong with a filter's configuration.
///
/// `path` leads from the filter's `config` to the value at fault, so that Weir can show the line: `["request", "set",
/// "bad key"]`. An empty path means the configuration as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The keys from the filter's `config` down to the value at fault.
    pub path: Vec<String>,
    /// What is wrong, as a phrase without a full stop.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

impl ConfigError {
    /// An error at `path`.
    pub fn new(path: &[&str], message: impl Into<String>) -> ConfigError {
        ConfigError { path: path.iter().map(|key| (*key).to_owned()).collect(), message: message.into(), help: None }
    }

    /// The same error with a word of advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> ConfigError {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.join("."), self.message)
    }
}

impl std::error::Error for ConfigError {}
