//! What is wrong with a value, before it has a place.

use std::fmt;

use super::diagnostic::Diagnostic;
use super::place::Place;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    message: String,
    label: Option<String>,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), label: None }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn at(self, place: Place) -> Diagnostic {
        Diagnostic::new(place, self.message).maybe_label(self.label)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.label.as_ref().map_or(Ok(()), |label| write!(f, " ({label})"))
    }
}
