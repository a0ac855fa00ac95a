//! What a person reads when the text is not YAML.
//!
//! The parser names the rule of its grammar that failed, at the point where it noticed. What a person did wrong stands
//! mostly before that, often on another line: the lines around the point tell which of the usual slips it was.

use super::diagnostic::Diagnostic;
use super::place::Place;

mod line;
mod open;

use line::Line;
use open::Open;

/// The parser's complaint in words for the one who wrote the file. `mark` is where the parser was.
pub(super) fn explain(lines: &[&str], mark: Place, complaint: &str) -> Diagnostic {
    let text = Text::new(lines, mark);
    text.tab(complaint)
        .or_else(|| text.unknown_anchor(complaint))
        .or_else(|| text.closed_too_often(complaint))
        .or_else(|| text.unclosed(complaint))
        .or_else(|| text.reserved(complaint))
        .or_else(|| text.missing_colon(complaint))
        .or_else(|| text.indentation(complaint))
        .unwrap_or_else(|| Diagnostic::new(text.last_place(mark), format!("not valid YAML: {complaint}")))
}

/// The text around the point at which the parser gave up.
struct Text<'t> {
    lines: &'t [&'t str],
    mark: Place,
    /// The line at the mark, if it holds anything.
    here: Option<Line<'t>>,
    /// The nearest line above that holds anything.
    above: Option<Line<'t>>,
}

impl<'t> Text<'t> {
    fn new(lines: &'t [&'t str], mark: Place) -> Text<'t> {
        let index = mark.line.saturating_sub(1) as usize;
        let line = |index: usize| Line::new(index, lines.get(index).copied().unwrap_or_default());
        Text {
            lines,
            mark,
            here: Some(line(index)).filter(Line::holds_something),
            above: (0..index.min(lines.len())).rev().map(line).find(Line::holds_something),
        }
    }

    /// The mark, or the end of the text when the mark is behind it.
    fn last_place(&self, mark: Place) -> Place {
        match (&self.here, &self.above) {
            (None, Some(above)) => above.whole(),
            _ => mark,
        }
    }

    fn tab(&self, complaint: &str) -> Option<Diagnostic> {
        let lines = || self.lines.iter().enumerate().map(|(index, text)| Line::new(index, text));
        let mut tabs = lines().filter_map(|line| line.tab());
        let place = if complaint.contains("tab") {
            let nearest = tabs.clone().rfind(|place| place.line <= self.mark.line);
            nearest.or_else(|| tabs.next())?
        } else {
            self.above.as_ref().and_then(Line::tab).or_else(|| self.here.as_ref().and_then(Line::tab))?
        };
        Some(Diagnostic::new(place, "a tab in the indentation").label("a tab; YAML is indented with spaces"))
    }

    fn unknown_anchor(&self, complaint: &str) -> Option<Diagnostic> {
        let error = Diagnostic::new(self.mark, "an alias without its anchor");
        complaint.contains("unknown anchor").then(|| error.label("no `&` of this name stands above"))
    }

    fn unclosed(&self, complaint: &str) -> Option<Diagnostic> {
        if complaint.contains("invalid trailing content") {
            return self.closed_too_late();
        }
        let before = self.lines.get(..self.mark.line as usize).unwrap_or(self.lines);
        if let Some(quote) = open::innermost(before).filter(|open| open.is_quote()) {
            let message = format!("a `{}` that is not closed", quote.character);
            return Some(Diagnostic::new(quote.place, message).label("opened here"));
        }
        let bracket = self.open_bracket()?;
        self.wrong_closing(bracket).or_else(|| self.never_closed(bracket)).or_else(|| {
            let message = format!("a `,` or a `{}` is missing before this", bracket.closing());
            let inside = format!("inside this `{}`", bracket.character);
            let misses_comma = complaint.contains("expected ','");
            misses_comma.then(|| Diagnostic::new(self.mark, message).other(bracket.place, inside))
        })
    }

    /// The innermost bracket that is open at the mark.
    fn open_bracket(&self) -> Option<Open> {
        let (above, at_mark) = (self.mark.line.saturating_sub(1) as usize, self.line_at_mark());
        let mut before: Vec<&str> = self.lines.iter().take(above).copied().collect();
        let end = at_mark.char_indices().nth(self.mark.column.saturating_sub(1) as usize);
        before.push(end.map_or(at_mark, |(end, _)| &at_mark[..end]));
        open::innermost(&before)
    }

    fn line_at_mark(&self) -> &'t str {
        self.lines.get(self.mark.line.saturating_sub(1) as usize).copied().unwrap_or_default()
    }

    fn character_at_mark(&self) -> Option<char> {
        self.line_at_mark().chars().nth(self.mark.column.saturating_sub(1) as usize)
    }

    fn wrong_closing(&self, bracket: Open) -> Option<Diagnostic> {
        let closing = self.character_at_mark().filter(|c| matches!(c, '}' | ']') && *c != bracket.closing())?;
        let error = Diagnostic::new(self.mark, format!("a `{closing}` where a `{}` must stand", bracket.closing()));
        Some(error.other(bracket.place, "opened here"))
    }

    fn never_closed(&self, bracket: Open) -> Option<Diagnostic> {
        if !self.is_below(bracket.place) {
            return None;
        }
        let error = Diagnostic::new(bracket.place, format!("a `{}` that is not closed", bracket.character));
        let error = error.label(format!("opened here; `{}` is missing", bracket.closing()));
        Some(match &self.here {
            Some(here) => error.other(here.whole(), "still inside it"),
            None => error,
        })
    }

    /// `@`, `%` and a backtick have no meaning in YAML so far.
    fn reserved(&self, complaint: &str) -> Option<Diagnostic> {
        let character = self.character_at_mark().filter(|_| complaint.contains("unexpected character"))?;
        let error = Diagnostic::new(self.mark, format!("a value that begins with `{character}`"));
        Some(error.label("such text stands in quotes"))
    }

    fn closed_too_often(&self, complaint: &str) -> Option<Diagnostic> {
        let error = || Diagnostic::new(self.mark, "a bracket that closes nothing");
        complaint.contains("misplaced bracket").then(|| error().label("nothing is open here"))
    }

    /// Whether the mark is on a line that `opened` cannot reach: one that is not indented further than its own.
    fn is_below(&self, opened: Place) -> bool {
        let indent = |line: &str| Line::new(0, line).indent();
        let own = self.lines.get(opened.line as usize - 1).map_or(0, |line| indent(line));
        self.here.as_ref().is_none_or(|here| here.number() > opened.line && here.indent() <= own)
    }

    /// A quote that was left open runs on to the next quote, far below.
    fn closed_too_late(&self) -> Option<Diagnostic> {
        let before = self.lines.get(..self.mark.line.saturating_sub(1) as usize)?;
        match open::innermost(before).filter(|open| open.is_quote()) {
            Some(Open { character, place }) => {
                let error = Diagnostic::new(place, format!("a `{character}` that is not closed"));
                Some(error.label("opened here").other(self.mark, "the text goes on to here"))
            }
            None => {
                let error = Diagnostic::new(self.mark, "something behind the closing quote");
                Some(error.label("nothing may follow the text in quotes"))
            }
        }
    }

    fn missing_colon(&self, complaint: &str) -> Option<Diagnostic> {
        let above = self.above.as_ref().and_then(Line::without_colon);
        let above_goes_on = || match (&self.above, &self.here) {
            (Some(above), Some(here)) => here.indent() >= above.content_column() && here.is_entry(),
            _ => false,
        };
        let here = || self.here.as_ref().filter(|here| !here.is_item()).and_then(Line::without_colon);
        let slip = match complaint {
            _ if complaint.contains("simple key expect") => above.or_else(here),
            _ if complaint.contains("mapping values are not allowed") => above.filter(|_| above_goes_on()),
            _ if complaint.contains("did not find expected key") => here(),
            _ => None,
        }?;
        let error = Diagnostic::new(slip.place, "a colon and a space are missing after the key");
        let cut_off = self.here.is_none() && self.mark.line as usize >= self.lines.len();
        Some(error.label(if cut_off {
            format!("write `{}`, if the file is not cut off here", slip.meant)
        } else {
            format!("write `{}`", slip.meant)
        }))
    }

    fn indentation(&self, complaint: &str) -> Option<Diagnostic> {
        let here = self.here.as_ref()?;
        if complaint.contains("expected '-' indicator") {
            if self.above.is_some_and(|above| (above.indent() + 1..above.content_column()).contains(&here.indent())) {
                return Some(self.fits_nowhere(here));
            }
            let error = Diagnostic::new(here.whole(), "a key in the middle of a list");
            let error = error.label("an item begins with `- `; its further keys stand under its first one");
            let item = self.above.filter(Line::is_item).map(|above| above.whole());
            return Some(error.maybe_other(item, "the item above it"));
        }
        if complaint.contains("block sequence entries are not allowed") {
            let error = Diagnostic::new(here.whole(), "a list item where a key must stand");
            return Some(error.label("items stand under the key that holds the list"));
        }
        if complaint.contains("mapping values are not allowed") {
            return Some(self.value_too_much(here));
        }
        if complaint.contains("did not find expected key") && here.is_item() {
            let error = Diagnostic::new(here.whole(), "a list item among keys");
            return Some(error.label("the keys above it are no item: begin them with `- ` too, or leave it out here"));
        }
        if complaint.contains("did not find expected key") || complaint.contains("expected <document start>") {
            return Some(self.fits_nowhere(here));
        }
        None
    }

    /// A `:` where a value is running: of a key too far to the right, or in the value itself.
    fn value_too_much(&self, here: &Line<'_>) -> Diagnostic {
        match &self.above {
            Some(above) if here.indent() > above.content_column() && above.has_value() => {
                let error = Diagnostic::new(here.whole(), "a key that is indented too far");
                let label = columns(here, above);
                error.label(label).other(above.whole(), "this key has its value already")
            }
            _ => {
                let error = Diagnostic::new(self.mark, "a second `:` in one line");
                error.label("text with a colon and a space in it stands in quotes")
            }
        }
    }

    /// The indentation is that of no key above.
    fn fits_nowhere(&self, here: &Line<'_>) -> Diagnostic {
        let error = Diagnostic::new(here.whole(), "the indentation fits no key above");
        match &self.above {
            Some(above) if above.content_column() != here.indent() => {
                error.label(columns(here, above)).other(above.whole(), "the key above it")
            }
            _ => error,
        }
    }
}

fn columns(here: &Line<'_>, above: &Line<'_>) -> String {
    format!("it begins in column {}, the key above it in column {}", here.indent() + 1, above.content_column() + 1)
}
