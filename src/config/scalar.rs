//! What a plain scalar means: the core schema of YAML 1.2 (section 10.3.2).

/// A plain scalar by its type. `yes`, `on` and `1_000` are text here, as YAML 1.2 has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`, in three spellings each.
    Bool(bool),
    /// Decimal, `0o17` or `0xff`.
    Integer(i128),
    /// With a point or an exponent, `.inf` or `.nan`.
    Float(f64),
    /// Anything else.
    Text,
}

impl Scalar {
    pub(crate) fn of(text: &str) -> Scalar {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
            "true" | "True" | "TRUE" => Scalar::Bool(true),
            "false" | "False" | "FALSE" => Scalar::Bool(false),
            ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
            _ => number(text).unwrap_or(Scalar::Text),
        }
    }
}

fn number(text: &str) -> Option<Scalar> {
    if let Some(digits) = text.strip_prefix("0o") {
        return integer(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return integer(digits, 16);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(Scalar::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Scalar::Integer);
    }
    // Rust's own parser also takes `inf` and `nan`, which are text in YAML.
    let is_decimal = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && unsigned.bytes().any(|byte| byte.is_ascii_digit())
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'));
    is_decimal.then(|| text.parse().ok().map(Scalar::Float)).flatten()
}

fn integer(digits: &str, radix: u32) -> Option<Scalar> {
    let plain = !digits.starts_with(['+', '-']);
    plain.then(|| i128::from_str_radix(digits, radix).ok().map(Scalar::Integer)).flatten()
}

#[cfg(test)]
mod tests {
    use super::Scalar;

    #[test]
    fn plain_scalars_have_the_types_of_the_core_schema() {
        for (text, scalar) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("True", Scalar::Bool(true)),
            ("yes", Scalar::Text),
            ("on", Scalar::Text),
            ("017", Scalar::Integer(17)),
            ("-3", Scalar::Integer(-3)),
            ("0o17", Scalar::Integer(15)),
            ("0xfF", Scalar::Integer(255)),
            ("0x-1", Scalar::Text),
            ("1_000", Scalar::Text),
            ("1.5", Scalar::Float(1.5)),
            ("1e3", Scalar::Float(1000.0)),
            ("-.inf", Scalar::Float(f64::NEG_INFINITY)),
            ("inf", Scalar::Text),
            ("nan", Scalar::Text),
            ("e3", Scalar::Text),
            (".", Scalar::Text),
            ("127.0.0.1", Scalar::Text),
            ("5s", Scalar::Text),
        ] {
            assert_eq!(Scalar::of(text), scalar, "{text:?}");
        }
    }
}
