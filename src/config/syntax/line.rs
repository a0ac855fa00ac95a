//! One line of a text that may not be YAML.

use crate::config::place::Place;

/// A line, and how it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'t> {
    index: usize,
    text: &'t str,
}

/// A key that runs into what stands behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slip {
    pub(super) place: Place,
    /// The line as it should be.
    pub(super) meant: String,
}

impl<'t> Line<'t> {
    pub(super) fn new(index: usize, text: &'t str) -> Line<'t> {
        Line { index, text }
    }

    pub(super) fn number(&self) -> u32 {
        u32::try_from(self.index + 1).unwrap_or(u32::MAX)
    }

    /// Neither blank nor a comment.
    pub(super) fn holds_something(&self) -> bool {
        let text = self.text.trim();
        !text.is_empty() && !text.starts_with('#')
    }

    /// The spaces in front.
    pub(super) fn indent(&self) -> usize {
        self.text.chars().take_while(|c| *c == ' ').count()
    }

    /// Where the first key stands: behind the spaces and the `- ` of list items.
    pub(super) fn content_column(&self) -> usize {
        self.text.len() - self.content_and_comment().len()
    }

    fn content_and_comment(&self) -> &'t str {
        let mut rest = self.text.trim_start();
        while let Some(inner) = rest.strip_prefix("- ") {
            rest = inner.trim_start();
        }
        rest
    }

    fn content(&self) -> &'t str {
        let text = self.content_and_comment();
        text.find(" #").map_or(text, |comment| &text[..comment]).trim_end()
    }

    /// Whether it begins with `- `.
    pub(super) fn is_item(&self) -> bool {
        self.text.trim_start().starts_with("- ")
    }

    /// Whether it begins with a key and its colon.
    pub(super) fn is_entry(&self) -> bool {
        let text = self.content();
        text.contains(": ") || text.ends_with(':')
    }

    /// Whether it is a key with a value behind it.
    pub(super) fn has_value(&self) -> bool {
        self.content().contains(": ")
    }

    /// All of it but the indentation.
    pub(super) fn whole(&self) -> Place {
        let skipped = self.text.chars().take_while(|c| c.is_whitespace()).count();
        self.place(skipped, self.text.trim().chars().count())
    }

    /// A tab in front of the first key.
    pub(super) fn tab(&self) -> Option<Place> {
        let front = self.text.chars().take_while(|c| matches!(c, ' ' | '\t' | '-'));
        let blank = !self.holds_something();
        front.enumerate().find(|(_, c)| *c == '\t' && !blank).map(|(column, _)| self.place(column, 1))
    }

    /// The key of a line such as `name orders`, `name:orders` or `name`.
    pub(super) fn without_colon(&self) -> Option<Slip> {
        let text = self.content();
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let key = &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())];
        let rest = &text[key.len()..];
        let slips = rest.is_empty() || rest.starts_with([' ', ':', '=']);
        if self.is_entry() || !slips || !key.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let value = rest.trim_start_matches([' ', ':', '=']);
        let meant = if value.is_empty() { format!("{key}:") } else { format!("{key}: {value}") };
        let skipped = self.text[..self.content_column()].chars().count();
        Some(Slip { place: self.place(skipped, key.chars().count()), meant })
    }

    fn place(&self, skipped: usize, length: usize) -> Place {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Place { line: self.number(), column: number(skipped + 1), length: number(length) }
    }
}
