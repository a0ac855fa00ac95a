//! The error that travels through serde until a node gives it a place.

use std::fmt::{self, Display};

use serde::de::{Error, Expected, Unexpected};

use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::suggest::did_you_mean;

/// Why something could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// Not yet placed: a message and what stands behind the caret.
    Bare(String, Option<String>),
    /// A key that the struct needs.
    MissingKey(&'static str),
    /// Placed.
    Placed(Box<Diagnostic>),
    /// Follows from an error that was recorded before.
    Silent,
}

impl ReadError {
    /// The same error with a place, unless it has one. `what` describes the node, for a missing key.
    pub(crate) fn at(self, place: Place, what: impl FnOnce() -> String) -> ReadError {
        let diagnostic = match self {
            ReadError::Bare(message, label) => Diagnostic::new(place, message).maybe_label(label),
            ReadError::MissingKey(key) => Diagnostic::new(place, format!("missing key `{key}` in {}", what())),
            placed @ (ReadError::Placed(_) | ReadError::Silent) => return placed,
        };
        ReadError::Placed(Box::new(diagnostic))
    }
}

impl std::error::Error for ReadError {}

impl Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Bare(message, _) => f.write_str(message),
            ReadError::MissingKey(key) => write!(f, "missing key `{key}`"),
            ReadError::Placed(diagnostic) => f.write_str(&diagnostic.message),
            ReadError::Silent => f.write_str("reported before"),
        }
    }
}

impl Error for ReadError {
    fn custom<T: Display>(message: T) -> ReadError {
        ReadError::Bare(message.to_string(), None)
    }

    /// Only types that hide their fields come here; for others the keys are known before they are read.
    fn unknown_field(key: &str, expected: &'static [&'static str]) -> ReadError {
        let label = did_you_mean(key, expected.iter().copied()).unwrap_or_else(|| one_of(expected));
        ReadError::Bare(format!("unknown key `{key}`"), Some(label))
    }

    fn missing_field(field: &'static str) -> ReadError {
        ReadError::MissingKey(field)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> ReadError {
        let label = did_you_mean(variant, expected.iter().copied()).unwrap_or_else(|| one_of(expected));
        ReadError::Bare(format!("`{variant}` is not a value that is known here"), Some(label))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> ReadError {
        ReadError::Bare(format!("expected {expected}, found {}", found(unexpected)), None)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> ReadError {
        ReadError::invalid_type(unexpected, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> ReadError {
        ReadError::Bare(format!("expected {expected}, found {length} values"), None)
    }
}

fn found(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(value) => format!("`{value}`"),
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// "one of `a`, `b`, `c`", as the words behind a caret.
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => "nothing is allowed here".to_owned(),
        [only] => format!("it must be {only}"),
        _ => format!("one of {}", quoted.join(", ")),
    }
}
