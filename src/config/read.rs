//! A serde deserializer over the located tree.
//!
//! It differs from others in what it does with errors: an unknown key is recorded and passed over, and an
//! [`At`](super::located::At) field that cannot be read is recorded and left empty, so that the reading goes on.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::findings::Findings;
use super::located::Raw;
use super::place::Place;
use super::trail::Trail;
use super::tree::{Entry, Node};
use super::unknown;

mod access;
mod error;
mod node;

use error::ReadError;
use node::NodeReader;

/// Reads typed values from nodes, and records what is wrong with them.
#[derive(Debug)]
pub(crate) struct Reader<'n> {
    findings: &'n Findings,
    /// What [`Raw`] numbers stand for.
    held: RefCell<Vec<Held<'n>>>,
    /// Entries that could not be read and are passed over in the next attempt; see [`Reader::read_stranger`].
    skipped: RefCell<HashSet<Place>>,
    collecting: Cell<bool>,
    /// Set once the entry at fault is among the skipped, so that those around it stay.
    attributed: Cell<bool>,
}

/// A node, and how one comes to it.
#[derive(Clone, Debug)]
pub(crate) struct Held<'n> {
    pub(crate) node: &'n Node,
    pub(crate) trail: Trail,
}

impl<'n> Reader<'n> {
    pub(crate) fn new(findings: &'n Findings) -> Reader<'n> {
        let (held, skipped) = (RefCell::default(), RefCell::default());
        Reader { findings, held, skipped, collecting: Cell::new(false), attributed: Cell::new(false) }
    }

    /// Reads a type of ours, in which every field is an [`At`](super::located::At).
    pub(crate) fn read<T: DeserializeOwned>(&self, held: &Held<'n>) -> Option<T> {
        self.attempt(held).map_err(|error| self.record(error)).ok()
    }

    /// Reads a type that somebody else wrote, whose first bad field ends the reading: reads again without that field,
    /// until nothing new comes to light.
    pub(crate) fn read_stranger<T: DeserializeOwned>(&self, held: &Held<'n>) -> Option<T> {
        self.collecting.set(true);
        let mut failed = false;
        let value = loop {
            let known = self.skipped.borrow().len();
            self.attributed.set(false);
            match self.attempt(held) {
                Ok(value) => break Some(value),
                Err(error) => self.record(error),
            }
            failed = true;
            if self.skipped.borrow().len() == known {
                break None;
            }
        };
        self.collecting.set(false);
        self.skipped.borrow_mut().clear();
        value.filter(|_| !failed)
    }

    fn attempt<T: DeserializeOwned>(&self, held: &Held<'n>) -> Result<T, ReadError> {
        T::deserialize(NodeReader { node: held.node, key: held.node.place, trail: held.trail.clone(), reader: self })
    }

    /// What a [`Raw`] stands for.
    pub(crate) fn held(&self, raw: Raw) -> Option<Held<'n>> {
        self.held.borrow().get(raw.0).cloned()
    }

    fn hold(&self, held: Held<'n>) -> u64 {
        let mut all = self.held.borrow_mut();
        all.push(held);
        (all.len() - 1) as u64
    }

    fn record(&self, error: ReadError) {
        if let ReadError::Placed(diagnostic) = error {
            self.findings.error(*diagnostic);
        }
    }

    fn unknown_key(&self, entry: &Entry, mapping: Place, trail: &Trail, known: &[&'static str]) {
        if let Some(meant) = unknown::stands_for(&entry.key, trail, known) {
            self.findings.guess(mapping, meant);
        }
        self.findings.error(unknown::diagnose(&entry.key, entry.place, trail, known));
    }

    fn skip(&self, place: Place) {
        if self.collecting.get() && !self.attributed.replace(true) {
            self.skipped.borrow_mut().insert(place);
        }
    }

    fn is_skipped(&self, place: Place) -> bool {
        self.collecting.get() && self.skipped.borrow().contains(&place)
    }

    pub(crate) fn findings(&self) -> &'n Findings {
        self.findings
    }
}
