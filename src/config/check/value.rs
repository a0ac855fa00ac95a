//! Rules for single values.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::value;
use crate::config::located::At;
use crate::config::{duration, size};

impl Checker<'_, '_> {
    /// The field, or an error that it is missing.
    pub(super) fn required<'f, T>(&self, field: Option<&'f At<T>>, key: &str, scope: &Scope) -> Option<&'f At<T>> {
        if field.is_none() && !self.findings.is_guessed(scope.place, key) {
            self.error(Diagnostic::new(scope.place, format!("missing key `{key}` in {}", scope.what)));
        }
        field
    }

    /// A text that is not empty.
    pub(super) fn text<'f>(&self, field: &'f At<String>, key: &str) -> Option<&'f str> {
        let text = field.value.as_deref()?;
        if text.trim().is_empty() {
            self.error(Diagnostic::new(field.place, format!("`{key}` is empty")));
            return None;
        }
        Some(text)
    }

    /// A number in a range; the default where the field is missing or wrong.
    pub(super) fn number<N: TryFrom<u64>>(
        &self,
        field: Option<&At<u64>>,
        key: &str,
        range: RangeInclusive<u64>,
        default: N,
    ) -> N {
        let number = field.and_then(|field| self.in_range(field, key, range));
        number.and_then(|number| N::try_from(number).ok()).unwrap_or(default)
    }

    /// The number if it is in the range, and an error otherwise.
    pub(super) fn in_range(&self, field: &At<u64>, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let number = field.value?;
        if range.contains(&number) {
            return Some(number);
        }
        let message = format!("`{key}` is out of range: {number}");
        let label = format!("from {} to {}", range.start(), range.end());
        self.error(Diagnostic::new(field.place, message).label(label));
        None
    }

    /// A duration that may be zero.
    pub(super) fn duration(&self, field: Option<&At<value::Duration>>) -> Option<Duration> {
        let field = field?;
        match duration::parse(&field.value.as_ref()?.0) {
            Ok(duration) => Some(duration),
            Err(problem) => {
                self.error(problem.at(field.place));
                None
            }
        }
    }

    /// A duration that may not be zero.
    pub(super) fn positive(&self, field: Option<&At<value::Duration>>, key: &str) -> Option<Duration> {
        let duration = self.duration(field)?;
        if duration.is_zero() {
            let place = field?.place;
            self.error(Diagnostic::new(place, format!("`{key}` must be longer than zero")));
            return None;
        }
        Some(duration)
    }

    /// A number of bytes in a range.
    pub(super) fn size(
        &self,
        field: Option<&At<value::Size>>,
        key: &str,
        range: RangeInclusive<u64>,
        why: &str,
    ) -> Option<u64> {
        let field = field?;
        let bytes = match size::parse(&field.value.as_ref()?.0) {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.error(problem.at(field.place));
                return None;
            }
        };
        if range.contains(&bytes) {
            return Some(bytes);
        }
        let message = format!("`{key}` is out of range: {}", size::show(bytes));
        let label = format!("from {} to {} bytes{why}", range.start(), range.end());
        self.error(Diagnostic::new(field.place, message).label(label));
        None
    }
}
