//! What is wrong with a configuration, as a person reads it.

use std::fmt;

use super::place::Place;

/// Longer lines are shown as a window around the caret; a configuration in one line of JSON would fill the screen.
const WIDEST_LINE: usize = 140;

/// One error: what is wrong, where, and what else in the file belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, as a phrase without a full stop.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What stands behind the caret: advice, or what was found.
    pub label: Option<String>,
    /// The other place of a contradiction, and what is there.
    pub other: Option<(Place, String)>,
}

impl Diagnostic {
    /// An error at `place`.
    pub fn new(place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), place, label: None, other: None }
    }

    /// The same, with these words behind the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// The same, with these words behind the caret if there are any.
    #[must_use]
    pub fn maybe_label(mut self, label: Option<String>) -> Diagnostic {
        self.label = label.or(self.label);
        self
    }

    /// The same, with a second place if there is one.
    #[must_use]
    pub(crate) fn maybe_other(mut self, place: Option<Place>, label: impl Into<String>) -> Diagnostic {
        self.other = place.map(|place| (place, label.into())).or(self.other);
        self
    }

    /// The same, with a second place that contradicts the first.
    #[must_use]
    pub fn other(mut self, place: Place, label: impl Into<String>) -> Diagnostic {
        self.other = Some((place, label.into()));
        self
    }
}

/// All that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    file: String,
    source: String,
    list: Vec<Diagnostic>,
    /// What the errors add up to.
    closing: Option<&'static str>,
}

impl Diagnostics {
    /// Sorts the errors by place and drops those that say the same twice (an alias is read wherever it is used).
    pub(crate) fn new(file: &str, source: &str, mut list: Vec<Diagnostic>) -> Diagnostics {
        list.sort_by(|a, b| (a.place, &a.message).cmp(&(b.place, &b.message)));
        list.dedup();
        Diagnostics { file: file.to_owned(), source: source.to_owned(), list, closing: None }
    }

    /// The same, with a last word about all of them.
    pub(crate) fn closing(self, closing: Option<&'static str>) -> Diagnostics {
        Diagnostics { closing, ..self }
    }

    /// The file's name as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Each error in a line, with its place.
    #[must_use]
    pub fn one_liners(&self) -> Vec<String> {
        let line = |one: &Diagnostic| {
            let place =
                if one.place.line == 0 { String::new() } else { format!(":{}:{}", one.place.line, one.place.column) };
            let label = one.label.as_deref().map_or(String::new(), |label| format!(" ({})", printable(label)));
            format!("{}{place}: {}{label}", self.file, printable(&one.message))
        };
        self.list.iter().map(line).collect()
    }

    /// The errors, in the order of their lines. Never empty.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.source.lines().collect();
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            block(f, &self.file, &lines, diagnostic)?;
        }
        self.closing.map_or(Ok(()), |closing| writeln!(f, "\nnote: {closing}"))
    }
}

fn block(f: &mut fmt::Formatter<'_>, file: &str, lines: &[&str], diagnostic: &Diagnostic) -> fmt::Result {
    writeln!(f, "error: {}", printable(&diagnostic.message))?;
    let widest = diagnostic.other.as_ref().map_or(0, |(place, _)| place.line).max(diagnostic.place.line);
    let gutter = widest.to_string().len();
    excerpt(f, file, lines, gutter, diagnostic.place, diagnostic.label.as_deref())?;
    if let Some((place, label)) = &diagnostic.other {
        excerpt(f, file, lines, gutter, *place, Some(label))?;
    }
    Ok(())
}

/// The arrow, the line and the caret of one place.
fn excerpt(
    f: &mut fmt::Formatter<'_>,
    file: &str,
    lines: &[&str],
    gutter: usize,
    place: Place,
    label: Option<&str>,
) -> fmt::Result {
    let Some(line) = place.line.checked_sub(1).and_then(|index| lines.get(index as usize)) else {
        writeln!(f, "{:gutter$}--> {file}", "")?;
        return label.map_or(Ok(()), |label| writeln!(f, "{:gutter$} = {}", "", printable(label)));
    };
    let start = place.column.saturating_sub(1) as usize;
    let (text, start) = window(line, start);
    let carets = "^".repeat((place.length.max(1) as usize).min(text.chars().count().saturating_sub(start).max(1)));
    let label = label.map_or(String::new(), |label| format!(" {}", printable(label)));
    writeln!(f, "{:gutter$}--> {file}:{}:{}", "", place.line, place.column)?;
    writeln!(f, "{:gutter$} |", "")?;
    writeln!(f, "{:gutter$} | {text}", place.line)?;
    writeln!(f, "{:gutter$} | {:start$}{carets}{label}", "", "")
}

/// The part of a line that is shown, and where the caret stands in it.
fn window(line: &str, start: usize) -> (String, usize) {
    let characters: Vec<char> = line.chars().map(visible).collect();
    if characters.len() <= WIDEST_LINE {
        return (characters.into_iter().collect(), start);
    }
    let from = start.saturating_sub(WIDEST_LINE / 2).min(characters.len() - WIDEST_LINE);
    let to = from + WIDEST_LINE;
    let before = if from > 0 { "..." } else { "" };
    let after = if to < characters.len() { "..." } else { "" };
    let shown: String = characters[from..to].iter().collect();
    (format!("{before}{shown}{after}"), start.saturating_sub(from) + before.len())
}

/// A file is not to be trusted with the terminal: control characters are shown as a mark, a tab as a space.
fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        other if other.is_control() => '\u{fffd}',
        other => other,
    }
}

fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}
