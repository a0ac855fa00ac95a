//! The way from the top of the file to a node, for messages that say what a key belongs to.

use std::rc::Rc;

use super::tree::Node;

/// The keys and items that lead to a node. The empty trail is the top of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail(Option<Rc<Link>>);

#[derive(Debug)]
struct Link {
    parent: Trail,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Key(Rc<str>),
    /// An item of the list under the key before it, and the name that the item gives itself.
    Item(Option<String>),
}

impl Trail {
    /// The way to a filter of this name.
    pub(crate) fn filter(name: &str) -> Trail {
        Trail::default().key(&"grpc_filters".into()).step(Step::Item(Some(name.to_owned())))
    }

    pub(crate) fn key(&self, key: &Rc<str>) -> Trail {
        self.step(Step::Key(key.clone()))
    }

    pub(crate) fn item(&self, node: &Node) -> Trail {
        let name = ["name", "id", "ID"].into_iter().find_map(|key| node.text_of(key)).map(str::to_owned);
        self.step(Step::Item(name))
    }

    fn step(&self, step: Step) -> Trail {
        Trail(Some(Rc::new(Link { parent: self.clone(), step })))
    }

    /// The key that holds the node, if a key does.
    pub(crate) fn last_key(&self) -> Option<&str> {
        match &self.0.as_ref()?.step {
            Step::Key(key) => Some(key),
            Step::Item(_) => None,
        }
    }

    /// The keys alone, joined by points: `static_resources.clusters`.
    pub(crate) fn keys(&self) -> String {
        match &self.0 {
            None => String::new(),
            Some(link) => match (&link.step, link.parent.keys()) {
                (Step::Item(_), keys) => keys,
                (Step::Key(key), keys) if keys.is_empty() => key.to_string(),
                (Step::Key(key), keys) => format!("{keys}.{key}"),
            },
        }
    }

    /// In words, with what has a name of its own: ``cluster `orders` ``, `` `http2` of cluster `orders` ``.
    pub(crate) fn describe(&self) -> String {
        let Some(link) = &self.0 else { return "the file".to_owned() };
        if let Some(named) = self.named() {
            return named;
        }
        let own = match &link.step {
            Step::Key(key) => format!("`{key}`"),
            Step::Item(_) => with_article(&singular(link.parent.last_key().unwrap_or("item"))),
        };
        match link.parent.nearest_named() {
            Some(named) => format!("{own} of {named}"),
            None => own,
        }
    }

    fn nearest_named(&self) -> Option<String> {
        self.named().or_else(|| self.0.as_ref()?.parent.nearest_named())
    }

    fn named(&self) -> Option<String> {
        let link = self.0.as_ref()?;
        match &link.step {
            // The one network filter of a listener says less than the listener's own name.
            Step::Item(_) if link.parent.last_key() == Some("filters") => None,
            Step::Item(Some(name)) => Some(format!("{} `{name}`", singular(link.parent.last_key().unwrap_or("item")))),
            Step::Item(None) | Step::Key(_) => None,
        }
    }
}

/// `health_checks` to "health check".
fn singular(key: &str) -> String {
    let words = match key {
        "filters" => "network filters".to_owned(),
        "grpc_filters" => "filters".to_owned(),
        key => key.replace('_', " "),
    };
    words.strip_suffix('s').map_or(words.clone(), str::to_owned)
}

/// "a cluster", "an endpoint".
pub(crate) fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}
