//! What is still open at a point of the text: quotes, `{` and `[`.

use crate::config::place::Place;

/// A character that opens something, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) character: char,
    pub(super) place: Place,
}

impl Open {
    fn at(character: char, line: usize, column: usize) -> Open {
        let number = |value: usize| u32::try_from(value + 1).unwrap_or(u32::MAX);
        Open { character, place: Place { line: number(line), column: number(column), length: 1 } }
    }

    pub(super) fn is_quote(self) -> bool {
        matches!(self.character, '"' | '\'')
    }

    /// What closes it.
    pub(super) fn closing(self) -> char {
        match self.character {
            '{' => '}',
            '[' => ']',
            quote => quote,
        }
    }
}

/// The innermost thing that is open at the end of `lines`, as far as a look at single characters can tell: this only
/// words an error that the parser found.
pub(super) fn innermost(lines: &[&str]) -> Option<Open> {
    let mut stack: Vec<Open> = Vec::new();
    let mut block_scalar: Option<usize> = None;
    for (index, line) in lines.iter().enumerate() {
        let indent = line.chars().take_while(|c| *c == ' ').count();
        if block_scalar.is_some_and(|owner| indent > owner || line.trim().is_empty()) {
            continue;
        }
        scan(line, index, &mut stack);
        let header = [" |", " >", " |-", " >-", " |+", " >+"].iter().any(|end| line.trim_end().ends_with(end));
        block_scalar = (stack.is_empty() && header).then_some(indent);
    }
    stack.pop()
}

/// Follows one line. A quote or a bracket opens something only where a value may begin.
fn scan(line: &str, index: usize, stack: &mut Vec<Open>) {
    let mut value_may_begin = true;
    let mut before = ' ';
    let mut characters = line.chars().enumerate().peekable();
    while let Some((column, character)) = characters.next() {
        let open = stack.last().copied();
        let in_flow = open.is_some_and(|open| !open.is_quote());
        match character {
            _ if open.is_some_and(Open::is_quote) => match (open.map(|open| open.character), character) {
                (Some('"'), '\\') => drop(characters.next()),
                // Doubled, it stands for itself.
                (Some('\''), '\'') if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                    characters.next();
                }
                (Some(quote), end) if quote == end => {
                    stack.pop();
                    value_may_begin = false;
                }
                _ => {}
            },
            '#' if before.is_whitespace() => return,
            '"' | '\'' | '{' | '[' if value_may_begin => stack.push(Open::at(character, index, column)),
            '}' | ']' if in_flow => {
                stack.pop();
                value_may_begin = false;
            }
            ',' if in_flow => value_may_begin = true,
            ':' | '-' | '?' => value_may_begin |= characters.peek().is_none_or(|(_, next)| next.is_whitespace()),
            other if other.is_whitespace() => {}
            _ => value_may_begin = false,
        }
        before = character;
    }
}

#[cfg(test)]
mod tests {
    use super::innermost;

    #[test]
    fn what_is_open_is_found_where_it_was_opened() {
        for (text, open) in [
            ("a: {b: c}", None),
            ("a: {b: c", Some(('{', 1, 4))),
            ("a: [b, {c: d}\ne: f", Some(('[', 1, 4))),
            ("a: \"b", Some(('"', 1, 4))),
            ("a: 'it''s'\nb: it's", None),
            ("a: \"\\\"\" # it's {", None),
            ("a: b{c", None),
            ("- 'a", Some(('\'', 1, 3))),
            ("a: |\n  it's {\n  'b\nc: [", Some(('[', 4, 4))),
            ("a: ${B}", None),
        ] {
            let found = innermost(&text.lines().collect::<Vec<_>>());
            assert_eq!(found.map(|one| (one.character, one.place.line, one.place.column)), open, "{text}");
        }
    }
}
