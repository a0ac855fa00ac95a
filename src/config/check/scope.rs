//! What a rule speaks about.

use crate::config::located::At;
use crate::config::place::Place;
use crate::config::trail::with_article;

/// A part of the file, in words and by its place.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) place: Place,
    /// Such as ``cluster `orders` ``.
    pub(super) what: String,
    /// The nearest part with a name of its own.
    named: String,
}

impl Scope {
    pub(super) fn new(place: Place, what: impl Into<String>) -> Scope {
        Scope { place, what: what.into(), named: String::new() }
    }

    /// An item with a name; without one it is an item of its list.
    pub(super) fn item<T>(&self, kind: &str, name: Option<&str>, at: &At<T>) -> Scope {
        match name {
            Some(name) => {
                let what = format!("{kind} `{name}`");
                Scope { place: at.place, named: what.clone(), what }
            }
            None if self.named.is_empty() => Scope { place: at.place, what: with_article(kind), named: String::new() },
            None => Scope {
                place: at.place,
                what: format!("{} of {}", with_article(kind), self.named),
                named: self.named.clone(),
            },
        }
    }

    /// The same part of the file, at another place.
    pub(super) fn at(&self, place: Place) -> Scope {
        Scope { place, ..self.clone() }
    }

    /// What stands under a key.
    pub(super) fn key<T>(&self, key: &str, at: &At<T>) -> Scope {
        let what = if self.named.is_empty() { format!("`{key}`") } else { format!("`{key}` of {}", self.named) };
        Scope { place: at.key, what, named: self.named.clone() }
    }
}
