//! `${NAME}` and `${NAME:-default}` inside a scalar.

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a scalar could not be expanded. `offset` counts the bytes before the `${` at fault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpandError {
    pub(crate) offset: usize,
    pub(crate) reference: String,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Replaces the references in `text`. `None` when there are none.
///
/// A default stands in for a variable that is not set or empty, as in a shell; `$${` is a literal `${`.
pub(crate) fn expand(text: &str, env: Env<'_>) -> Result<Option<String>, ExpandError> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(literal) = before.strip_suffix('$') {
            expanded.push_str(literal);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let offset = text.len() - reference.len();
        let (value, length) = resolve(reference, offset, env)?;
        expanded.push_str(&value);
        rest = &reference[length..];
    }
    expanded.push_str(rest);
    Ok(Some(expanded))
}

/// The value of the reference that `text` begins with, and its length in bytes.
fn resolve(text: &str, offset: usize, env: Env<'_>) -> Result<(String, usize), ExpandError> {
    let error = |reference: &str, message: String, help: String| ExpandError {
        offset,
        reference: reference.to_owned(),
        message,
        help,
    };
    let Some(end) = text.find('}') else {
        let help = "close it with `}`, or write `$${` for a literal `${`".to_owned();
        return Err(error("${", "`${` without `}`".to_owned(), help));
    };
    let reference = &text[..=end];
    let inner = &text[2..end];
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        let help = "write `${NAME}` or `${NAME:-default}`, or `$${` for a literal `${`".to_owned();
        return Err(error(reference, format!("`{reference}` names no environment variable"), help));
    }
    let value = match (env(name), default) {
        (Some(value), None) => value,
        (Some(value), Some(_)) if !value.is_empty() => value,
        (_, Some(default)) => default.to_owned(),
        (None, None) => {
            let help = format!("set it, or give a default: `${{{name}:-...}}`");
            return Err(error(reference, format!("the environment variable `{name}` is not set"), help));
        }
    };
    Ok((value, end + 1))
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::expand;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_become_their_values() {
        for (text, expanded) in [
            ("plain", None),
            ("$HOST", None),
            ("${HOST}", Some("10.0.0.1")),
            ("a-${HOST}-b", Some("a-10.0.0.1-b")),
            ("${HOST}${HOST}", Some("10.0.0.110.0.0.1")),
            ("${NO:-8080}", Some("8080")),
            ("${HOST:-x}", Some("10.0.0.1")),
            ("${EMPTY:-x}", Some("x")),
            ("${EMPTY}", Some("")),
            ("${NO:-}", Some("")),
            ("$${HOST}", Some("${HOST}")),
            ("$${HOST} ${HOST}", Some("${HOST} 10.0.0.1")),
        ] {
            assert_eq!(expand(text, &env), Ok(expanded.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn a_reference_that_cannot_be_resolved_is_an_error_at_its_place() {
        for (text, offset, message) in [
            ("x ${NO}", 2, "the environment variable `NO` is not set"),
            ("${HOST} ${NO", 8, "`${` without `}`"),
            ("${}", 0, "`${}` names no environment variable"),
            ("${a-b}", 0, "`${a-b}` names no environment variable"),
            ("${1}", 0, "`${1}` names no environment variable"),
        ] {
            let error = expand(text, &env).expect_err(text);
            assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
        }
    }
}
