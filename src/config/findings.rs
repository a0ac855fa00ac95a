//! What reading and checking a file brings to light, gathered while both go on.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use super::diagnostic::Diagnostic;
use super::place::Place;
use super::plan::Notice;

/// The errors and notices so far. Whoever finds one records it and goes on, so that one run shows them all.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    file: String,
    errors: RefCell<Vec<Diagnostic>>,
    notices: RefCell<Vec<(Place, String)>>,
    /// What a file that comes from Pixiu is told besides.
    differences: RefCell<Vec<(Place, String)>>,
    comes_from_pixiu: Cell<bool>,
    /// Keys that a misspelt one was taken for, by the place of their mapping.
    guessed: RefCell<HashSet<(Place, String)>>,
}

impl Findings {
    pub(crate) fn new(file: &str) -> Findings {
        Findings { file: file.to_owned(), ..Findings::default() }
    }

    pub(crate) fn error(&self, diagnostic: Diagnostic) {
        self.errors.borrow_mut().push(diagnostic);
    }

    pub(crate) fn notice(&self, place: Place, text: impl Into<String>) {
        self.notices.borrow_mut().push((place, text.into()));
    }

    /// A notice that a key means another thing than in Pixiu. Only a file that shows Pixiu's hand gets it: whoever has
    /// written theirs for Weir expects nothing else.
    pub(crate) fn difference(&self, place: Place, text: impl Into<String>) {
        self.differences.borrow_mut().push((place, text.into()));
    }

    /// The file has a key that only Pixiu knows how to use.
    pub(crate) fn comes_from_pixiu(&self) {
        self.comes_from_pixiu.set(true);
    }

    /// A misspelt key of the mapping at `place` is taken for `key`: that it is missing needs no error of its own.
    pub(crate) fn guess(&self, place: Place, key: &str) {
        self.guessed.borrow_mut().insert((place, key.to_owned()));
    }

    pub(crate) fn is_guessed(&self, place: Place, key: &str) -> bool {
        self.guessed.borrow().contains(&(place, key.to_owned()))
    }

    pub(crate) fn into_parts(self) -> (Vec<Diagnostic>, Vec<Notice>) {
        let mut notices = self.notices.into_inner();
        if self.comes_from_pixiu.get() {
            notices.extend(self.differences.into_inner());
        }
        notices.sort();
        notices.dedup();
        let located = |(place, text): (Place, String)| Notice {
            place: format!("{}:{}:{}", self.file, place.line, place.column),
            text,
        };
        (self.errors.into_inner(), notices.into_iter().map(located).collect())
    }
}
