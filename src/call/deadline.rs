//! `grpc-timeout` (gRPC over HTTP/2, "Timeout"): read, enforced, and handed on as what is left.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The largest number that a timeout may have: eight digits.
const MAX: u128 = 99_999_999;

/// When the client stops waiting; `None` without a timeout, and with one that is malformed: the backend judges it.
pub(crate) fn read(metadata: &HeaderMap, arrived: Instant) -> Option<Instant> {
    let mut values = metadata.get_all(GRPC_TIMEOUT).iter();
    let timeout = parse(values.next()?.as_bytes())?;
    if values.next().is_some() {
        return None;
    }
    arrived.checked_add(timeout)
}

/// Replaces the timeout with what is left of it.
pub(crate) fn write(metadata: &mut HeaderMap, deadline: Instant, now: Instant) {
    metadata.insert(GRPC_TIMEOUT, format(deadline.saturating_duration_since(now)));
}

fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The finest unit in which the time fits eight digits, rounded up: a backend never gives up before the gateway does.
fn format(left: Duration) -> HeaderValue {
    let (number, unit) = [(1, 'n'), (1_000, 'u'), (1_000_000, 'm'), (1_000_000_000, 'S'), (60_000_000_000, 'M')]
        .into_iter()
        .map(|(nanos, unit)| (left.as_nanos().div_ceil(nanos), unit))
        .find(|(number, _)| *number <= MAX)
        .unwrap_or((left.as_nanos().div_ceil(3_600_000_000_000).min(MAX), 'H'));
    let mut text = String::with_capacity(9);
    // Writing to a String cannot fail.
    let _ = write!(text, "{number}{unit}");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn malformed_sets_none() {
        for text in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", " 1S", "1 S", "+1S"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn writes_the_finest_unit_that_fits() {
        for (left, expected) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666667M"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_secs(99_999_999 * 3600), "99999999H"),
        ] {
            assert_eq!(format(left).to_str().expect("ascii"), expected);
        }
    }
}
