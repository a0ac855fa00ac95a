//! The filters that a configuration may name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use weir_filter::{ConfigError, Filter, FilterType};

use crate::config::findings::Findings;
use crate::config::read::{Held, Reader};
use crate::config::trail::Trail;
use crate::config::tree::Node;
use crate::config::{Diagnostic, Place};

/// The terminal data plane: it stands last in a chain, and is not a filter.
pub(crate) const PROXY: &str = "dgp.filter.grpc.proxy";

/// Filter names and how each filter is built.
#[derive(Default)]
pub struct Registry {
    factories: BTreeMap<&'static str, Factory>,
}

/// How one kind of filter is built from its node, and what may stand there.
struct Factory {
    build: fn(&Findings, &Node, Trail) -> Option<Arc<dyn Filter>>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Registry {
    /// A registry without any filter.
    #[must_use]
    pub fn new() -> Registry {
        Registry::default()
    }

    /// The filters that come with Weir.
    #[must_use]
    pub fn builtin() -> Registry {
        let mut registry = Registry::new();
        registry.register::<weir_filter_headers::Headers>();
        registry
    }

    /// Adds a kind of filter under its name.
    ///
    /// # Panics
    ///
    /// When the name is taken: two filters of one name are a mistake in the program, and no configuration can choose
    /// between them.
    pub fn register<F: FilterType>(&mut self) -> &mut Registry {
        let factory = Factory { build: build::<F>, schema: <F::Config as JsonSchema>::json_schema };
        let taken = F::NAME == PROXY || self.factories.insert(F::NAME, factory).is_some();
        assert!(!taken, "the filter name `{}` is taken", F::NAME);
        self
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.factories.keys().copied()
    }

    /// Builds the filter of this name; `None` when there is none of this name, or when its configuration is wrong,
    /// which is then among the findings.
    pub(crate) fn build(&self, name: &str, findings: &Findings, node: &Node, trail: Trail) -> Option<Arc<dyn Filter>> {
        (self.factories.get(name)?.build)(findings, node, trail)
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.factories.contains_key(name)
    }

    /// The schema of each filter's configuration.
    pub(crate) fn schemas(&self, generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        self.factories.iter().map(|(name, factory)| (*name, (factory.schema)(generator))).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

fn build<F: FilterType>(findings: &Findings, node: &Node, trail: Trail) -> Option<Arc<dyn Filter>> {
    let config = Reader::new(findings).read_stranger::<F::Config>(&Held { node, trail })?;
    match F::build(config) {
        Ok(filter) => Some(Arc::new(filter)),
        Err(errors) => {
            for error in errors {
                findings.error(located(error, node));
            }
            None
        }
    }
}

/// The error at the place that its path leads to, as far as the file has it.
fn located(error: ConfigError, node: &Node) -> Diagnostic {
    let mut place = node.place;
    let mut at = node;
    for key in &error.path {
        let Some((next, found)) = at.step(key) else { break };
        (at, place) = (next, found);
    }
    let place = if place == Place::default() { node.place } else { place };
    Diagnostic::new(place, error.message).maybe_label(error.help)
}
