//! Rules for a route's path.

use crate::config::plan::{Pattern, Rest, Segment};
use crate::config::problem::Problem;

/// `prefix`: whole segments, and anything after them.
pub(super) fn prefix(text: &str) -> Result<Pattern, Problem> {
    let text = text.strip_suffix("**").filter(|text| text.ends_with('/')).unwrap_or(text);
    Ok(Pattern { segments: segments(text)?, rest: Rest::Any })
}

/// `path`: whole segments, and after a trailing `**` at least one more.
pub(super) fn path(text: &str) -> Result<Pattern, Problem> {
    match text.strip_suffix("**").filter(|text| text.is_empty() || text.ends_with('/')) {
        Some(text) => Ok(Pattern { segments: segments(text)?, rest: Rest::Some }),
        None => Ok(Pattern { segments: segments(text)?, rest: Rest::Nothing }),
    }
}

/// A missing `/` in front is added and one at the end means nothing, as in Pixiu.
fn segments(text: &str) -> Result<Vec<Segment>, Problem> {
    let text = text.strip_prefix('/').unwrap_or(text);
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() { Ok(Vec::new()) } else { text.split('/').map(segment).collect() }
}

fn segment(text: &str) -> Result<Segment, Problem> {
    match text {
        "" => Err(Problem::new("a path with an empty segment").label("no call has `//` in its path")),
        "*" => Ok(Segment::Any),
        "**" => Err(Problem::new("`**` stands for the rest of a path").label("it can only be the last segment")),
        ":" => Err(Problem::new("`:` without a name").label("write `:name`, or `*`")),
        text if text.starts_with(':') => Ok(Segment::Any),
        text if text.contains('*') => {
            Err(Problem::new(format!("`*` inside the segment `{text}`")).label("`*` stands for one whole segment"))
        }
        text => match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
            Some(odd) => Err(Problem::new(format!("the segment `{text}` has {odd:?} in it"))
                .label("the path of a gRPC call has none")),
            None => Ok(Segment::Literal(text.to_owned())),
        },
    }
}

/// A path of gRPC has two segments, `/package.Service/Method`.
pub(super) fn can_match_grpc(pattern: &Pattern) -> bool {
    let segments = pattern.segments.len();
    match pattern.rest {
        Rest::Nothing => segments == 2,
        Rest::Any => segments <= 2,
        Rest::Some => segments <= 1,
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Rest, Segment, can_match_grpc, path, prefix};

    fn pattern(literals: &[&str], rest: Rest) -> Pattern {
        let segment = |text: &&str| match *text {
            "*" => Segment::Any,
            text => Segment::Literal(text.to_owned()),
        };
        Pattern { segments: literals.iter().map(segment).collect(), rest }
    }

    #[test]
    fn a_prefix_is_whole_segments() {
        for (text, literals) in [
            ("/", &[][..]),
            ("", &[]),
            ("/a", &["a"]),
            ("a", &["a"]),
            ("/a/", &["a"]),
            ("/a/**", &["a"]),
            ("/a/b", &["a", "b"]),
            ("/:service/Get", &["*", "Get"]),
        ] {
            assert_eq!(prefix(text).ok(), Some(pattern(literals, Rest::Any)), "{text}");
        }
    }

    #[test]
    fn a_path_is_the_whole_of_it() {
        for (text, literals, rest) in [
            ("/a.B/Get", &["a.B", "Get"][..], Rest::Nothing),
            ("a.B/Get", &["a.B", "Get"], Rest::Nothing),
            ("/a.B/*", &["a.B", "*"], Rest::Nothing),
            ("/a.B/:method", &["a.B", "*"], Rest::Nothing),
            ("/a.B/**", &["a.B"], Rest::Some),
            ("/**", &[], Rest::Some),
        ] {
            assert_eq!(path(text).ok(), Some(pattern(literals, rest)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["/a//b", "/a/**/b", "/:/b", "/a*/b", "/a b/c", "/a?b/c", "/a/b**"] {
            assert!(path(text).is_err(), "{text}");
            assert!(prefix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_paths_of_two_segments_are_grpc() {
        for (text, can) in
            [("/a/b", true), ("/a", false), ("/a/b/c", false), ("/a/**", true), ("/a/b/**", false), ("/**", true)]
        {
            assert_eq!(path(text).map(|pattern| can_match_grpc(&pattern)).ok(), Some(can), "{text}");
        }
        assert_eq!(prefix("/a/b").map(|pattern| can_match_grpc(&pattern)).ok(), Some(true));
    }
}
