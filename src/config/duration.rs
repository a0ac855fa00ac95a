//! Durations as Go writes them: `5s`, `100ms`, `1m30s`, `1.5h`.

use std::time::Duration;

use super::problem::Problem;

/// Longest first, so that `ms` is not read as `m`.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A century. Anything longer is a slip, and would overflow sums with the clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(crate) fn parse(text: &str) -> Result<Duration, Problem> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(Problem::new("the duration is empty"));
    }
    if text.starts_with('-') {
        return Err(Problem::new(format!("the duration `{text}` is negative")));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(
            Problem::new(format!("the duration `{text}` has no unit")).label(format!("did you mean `{text}s`?"))
        );
    }
    let nanos = sum(text).ok_or_else(|| {
        Problem::new(format!("`{text}` is not a duration")).label("write it as `5s`, `100ms` or `1m30s`")
    })?;
    let duration = u64::try_from(nanos).map(Duration::from_nanos).ok().filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| Problem::new(format!("the duration `{text}` is longer than a century")))
}

/// Nanoseconds of every number with its unit, added up.
fn sum(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0)?;
        let (number, tail) = rest.split_at(digits);
        let (unit, size) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        nanos = nanos.checked_add(scaled(number, *size)?)?;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty()).then_some(nanos)
}

/// `1.5` of a unit, in whole nanoseconds.
fn scaled(number: &str, size: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let value = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok().map(u128::from) };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(value(whole)? * size + value(fraction)? * size / scale)
}

/// The duration in the form that [`parse`] reads.
pub(crate) fn show(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos != 0 {
        return if nanos % 1_000_000 == 0 {
            format!("{}ms", duration.as_millis())
        } else {
            format!("{}ns", duration.as_nanos())
        };
    }
    match seconds {
        0 => "0s".to_owned(),
        whole if whole % 3600 == 0 => format!("{}h", whole / 3600),
        whole if whole % 60 == 0 => format!("{}m", whole / 60),
        whole => format!("{whole}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse, show};

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in [
            ("5s", 5_000),
            ("5000ms", 5_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("0", 0),
            ("0s", 0),
            (".5s", 500),
            ("1h1m1s1ms", 3_661_001),
            ("2000000us", 2_000),
            ("1000000µs", 1_000),
        ] {
            assert_eq!(parse(text).ok(), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "5 s", "5x", "-5s", "1.2.3s", ".s", "5s5", "9999999999h", "99999999999999999999s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for text in ["0s", "5s", "90s", "2m", "3h", "1500ms", "1000001ns"] {
            assert_eq!(parse(text).map(show).ok().as_deref(), Some(text));
        }
    }
}
