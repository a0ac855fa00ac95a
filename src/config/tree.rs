//! YAML text as a tree in which every node knows its place.
//!
//! See docs/decisions/0001-located-yaml.md for why this tree is ours.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::diagnostic::Diagnostic;
use super::env::{Env, expand};
use super::findings::Findings;
use super::place::Place;
use super::scalar::Scalar;
use super::syntax;

/// Deeper than any configuration, and shallow enough for the stack of a thread.
const DEEPEST: usize = 64;

/// Aliases of aliases multiply; what they add up to ends here, far above any honest file.
const MOST_ALIASED_NODES: usize = 1_000_000;

/// A value and its place. Copying one is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// A scalar's own text; for a collection, the key that holds it, or its beginning where no key does.
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A scalar after expansion.
    Scalar {
        text: Rc<str>,
        style: Style,
    },
    Sequence(Rc<[Node]>),
    Mapping(Rc<[Entry]>),
    /// A scalar whose text could not be made out; the reason is among the findings.
    Broken,
}

/// How a scalar is written, as far as its type depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// It has the type that it looks like.
    Plain,
    /// It is text.
    Quoted,
    /// Text with a variable in it, which inside `{}` has to be quoted even where a number is meant: it is text, unless
    /// another type is asked for.
    QuotedVariable,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Rc<str>,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// The scalar type; `None` for a collection.
    pub(crate) fn scalar(&self) -> Option<Scalar> {
        match &self.value {
            Value::Scalar { text, style: Style::Plain } => Some(Scalar::of(text)),
            Value::Scalar { .. } => Some(Scalar::Text),
            Value::Sequence(_) | Value::Mapping(_) | Value::Broken => None,
        }
    }

    /// The scalar type where one is asked for that is not text.
    pub(crate) fn typed_scalar(&self) -> Option<Scalar> {
        match &self.value {
            Value::Scalar { text, style: Style::Plain | Style::QuotedVariable } => Some(Scalar::of(text)),
            _ => self.scalar(),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }

    /// The entries of a mapping; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            Value::Scalar { .. } | Value::Sequence(_) | Value::Broken => &[],
        }
    }

    /// The entry with this key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    /// The text of a scalar entry with this key.
    pub(crate) fn text_of(&self, key: &str) -> Option<&str> {
        match &self.entry(key)?.node.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Sequence(_) | Value::Mapping(_) | Value::Broken => None,
        }
    }

    /// The child under a key, or at an index, with the place of both the key and the value.
    pub(crate) fn step(&self, key: &str) -> Option<(&Node, Place)> {
        if let Value::Sequence(items) = &self.value {
            let item = items.get(key.parse::<usize>().ok()?)?;
            return Some((item, item.place));
        }
        let entry = self.entry(key)?;
        let value = entry.node.place;
        let length = if value.line == entry.place.line && value.column > entry.place.column {
            value.column - entry.place.column + value.length
        } else {
            entry.place.length
        };
        Some((&entry.node, Place { length, ..entry.place }))
    }

    /// Whether a key in it, however deep, is such a one.
    pub(crate) fn has_key(&self, is_such: &dyn Fn(&str) -> bool) -> bool {
        match &self.value {
            Value::Scalar { .. } | Value::Broken => false,
            Value::Sequence(items) => items.iter().any(|item| item.has_key(is_such)),
            Value::Mapping(entries) => entries.iter().any(|entry| is_such(&entry.key) || entry.node.has_key(is_such)),
        }
    }

    fn size(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } | Value::Broken => 1,
            Value::Sequence(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Value::Mapping(entries) => 1 + entries.iter().map(|entry| 1 + entry.node.size()).sum::<usize>(),
        }
    }
}

/// Reads one document. `None` when the text is not YAML; the reason is then among the findings.
pub(crate) fn parse(source: &str, env: Env<'_>, findings: &Findings) -> Option<Node> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut builder = Builder {
        parser: Parser::new_from_str(source),
        lines: source.lines().collect(),
        anchors: HashMap::new(),
        aliased: 0,
        env,
        findings,
    };
    match builder.document() {
        Ok(node) => Some(node),
        Err(Fatal(mut diagnostic)) => {
            if diagnostic.label.is_none() && builder.line(diagnostic.place.line).contains("${") {
                diagnostic.label = Some("inside `{}` and `[]`, a `${NAME}` must stand in quotes".to_owned());
            }
            findings.error(*diagnostic);
            None
        }
    }
}

/// After this the rest of the text cannot be trusted.
struct Fatal(Box<Diagnostic>);

impl From<Diagnostic> for Fatal {
    fn from(diagnostic: Diagnostic) -> Fatal {
        Fatal(Box::new(diagnostic))
    }
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    lines: Vec<&'a str>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    env: Env<'a>,
    findings: &'a Findings,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fatal> {
        match self.parser.next_event() {
            Some(event) => event.map_err(|error| self.explained(&error)),
            None => Err(Diagnostic::new(Place::FILE, "not valid YAML: the text ends too early").into()),
        }
    }

    fn explained(&self, error: &ScanError) -> Fatal {
        syntax::explain(&self.lines, at(*error.marker(), 1), error.info()).into()
    }

    fn document(&mut self) -> Result<Node, Fatal> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_none() => {}
                _ if root.is_some() => {
                    let error = Diagnostic::new(self.place(span), "a second document in one file");
                    return Err(error.label("Weir reads one configuration from a file").into());
                }
                event => root = Some(self.node(event, span, None, 0)?),
            }
        }
        root.ok_or_else(|| Diagnostic::new(Place::FILE, "the configuration is empty").into())
    }

    /// `owner` is the key that holds the node.
    fn node(&mut self, event: Event<'a>, span: Span, owner: Option<Place>, depth: usize) -> Result<Node, Fatal> {
        if depth > DEEPEST {
            return Err(Diagnostic::new(self.place(span), format!("nested deeper than {DEEPEST} levels")).into());
        }
        let (value, anchor, place) = match event {
            Event::Alias(id) => return self.alias(id, span),
            Event::Scalar(text, style, anchor, tag) => {
                let own = if text.is_empty() && style == ScalarStyle::Plain { owner } else { None };
                let place = own.unwrap_or_else(|| self.place(span));
                (self.scalar(&text, style, tag.as_deref(), place), anchor, place)
            }
            Event::SequenceStart(anchor, _) => {
                (Value::Sequence(self.items(depth)?.into()), anchor, owner.unwrap_or_else(|| self.place(span)))
            }
            Event::MappingStart(anchor, _) => {
                let entries = self.mapping(depth)?;
                let begins = entries.first().map_or_else(|| self.place(span), |entry| entry.place);
                (Value::Mapping(entries.into()), anchor, owner.unwrap_or(begins))
            }
            _ => return Err(Diagnostic::new(self.place(span), "not valid YAML").into()),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Fatal> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(Diagnostic::new(self.place(span), "an alias inside the value that it stands for").into());
        };
        self.aliased += node.size();
        if self.aliased > MOST_ALIASED_NODES {
            let message = format!("aliases that add up to more than {MOST_ALIASED_NODES} values");
            return Err(Diagnostic::new(self.place(span), message).into());
        }
        Ok(node.clone())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Value {
        let plain = match tag {
            None => style == ScalarStyle::Plain,
            Some(tag) if tag.is_yaml_core_schema() => tag.suffix != "str",
            Some(tag) => {
                self.findings.error(Diagnostic::new(place, format!("the tag `{tag}` has no meaning here")));
                return Value::Broken;
            }
        };
        match expand(text, self.env) {
            Ok(None) => Value::Scalar { text: text.into(), style: if plain { Style::Plain } else { Style::Quoted } },
            // A variable that is empty must not pass for a key that was left out.
            Ok(Some(expanded)) => {
                let plain = plain && Scalar::of(&expanded) != Scalar::Null;
                let style = if plain { Style::Plain } else { Style::QuotedVariable };
                Value::Scalar { text: expanded.into(), style }
            }
            Err(error) => {
                let place = self.find(&error.reference, place);
                self.findings.error(Diagnostic::new(place, error.message).label(error.help));
                Value::Broken
            }
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event, span, None, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<Entry>, Fatal> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut first: HashMap<Rc<str>, Place> = HashMap::new();
        let mut merges = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.key(event, span, depth)?;
            let place = self.place(span);
            let (event, span) = self.next()?;
            let node = self.node(event, span, Some(place), depth + 1)?;
            let Some(key) = key else { continue };
            if is_merge {
                merges.push((place, node));
                continue;
            }
            if let Some(earlier) = first.insert(key.clone(), place) {
                first.insert(key.clone(), earlier);
                let error = Diagnostic::new(place, format!("the key `{key}` stands twice in one mapping"));
                self.findings.error(error.label("again here").other(earlier, "first here"));
                continue;
            }
            entries.push(Entry { key, place, node });
        }
        for (place, node) in merges {
            self.merge(&mut entries, place, &node);
        }
        Ok(entries)
    }

    fn key(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Option<Rc<str>>, Fatal> {
        let node = self.node(event, span, None, depth + 1)?;
        match node.value {
            Value::Scalar { text, .. } if !text.is_empty() => Ok(Some(text)),
            _ => {
                self.findings.error(Diagnostic::new(self.place(span), "a key must be a word"));
                Ok(None)
            }
        }
    }

    /// `<<`: what the mapping does not say itself comes from the merged ones, the first of them winning.
    fn merge(&self, entries: &mut Vec<Entry>, place: Place, node: &Node) {
        let sources = match &node.value {
            Value::Mapping(_) => std::slice::from_ref(node),
            Value::Sequence(items) => items,
            Value::Scalar { .. } | Value::Broken => &[],
        };
        let is_mapping = |source: &Node| matches!(source.value, Value::Mapping(_));
        if sources.is_empty() || !sources.iter().all(is_mapping) {
            let error = Diagnostic::new(place, "`<<` merges a mapping, or a list of mappings");
            return self.findings.error(error.label("name one, as in `<<: *anchor`"));
        }
        for entry in sources.iter().flat_map(Node::entries) {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry.clone());
            }
        }
    }

    fn place(&self, span: Span) -> Place {
        let start = at(span.start, 0);
        let end = if span.end.line() == span.start.line() {
            span.end.col()
        } else {
            self.line(start.line).trim_end().chars().count()
        };
        Place { length: u32::try_from(end.saturating_sub(span.start.col())).unwrap_or(u32::MAX), ..start }
    }

    fn line(&self, line: u32) -> &'a str {
        self.lines.get(line.saturating_sub(1) as usize).copied().unwrap_or_default()
    }

    /// Where `part` stands inside the scalar at `place`; the scalar itself when its lines hide it.
    fn find(&self, part: &str, place: Place) -> Place {
        let skipped = place.column.saturating_sub(1) as usize;
        let line: String = self.line(place.line).chars().skip(skipped).collect();
        match line.find(part) {
            Some(bytes) => Place {
                column: place.column + u32::try_from(line[..bytes].chars().count()).unwrap_or(0),
                length: u32::try_from(part.chars().count()).unwrap_or(1),
                ..place
            },
            None => place,
        }
    }
}

fn at(marker: Marker, length: u32) -> Place {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Place { line: number(marker.line()).max(1), column: number(marker.col()) + 1, length }
}
