//! Timestamps: RFC 3339 in UTC with milliseconds.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::json;

/// Writes timestamps, and remembers what it wrote for the last second: thousands of calls begin in the same one.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Since 1970.
    second: Option<u64>,
    text: Vec<u8>,
}

impl Clock {
    /// Appends the time.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.set(since.as_secs());
        }
        out.extend_from_slice(&self.text);
        let millis = u64::from(since.subsec_millis());
        out.extend_from_slice(&[json::digit(millis / 100), json::digit(millis / 10), json::digit(millis), b'Z']);
    }

    fn set(&mut self, second: u64) {
        let (days, rest) = (second / 86_400, second % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, past) = (rest / 3600, rest / 60 % 60, rest % 60);
        self.text.clear();
        // A vector takes all that is written.
        let _ = write!(self.text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{past:02}.");
        self.second = Some(second);
    }
}

/// A time as text.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let mut text = Vec::new();
    Clock::default().write(&mut text, time);
    String::from_utf8_lossy(&text).into_owned()
}

/// The Gregorian date of a day counted from 1970-01-01, by eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_gregorian() {
        let mut clock = Clock::default();
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_000, "2000-02-28T23:59:59.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_132_799_000, "2026-11-19T23:59:59.000Z"),
            (1_795_132_799_987, "2026-11-19T23:59:59.987Z"),
            (1_795_132_800_006, "2026-11-20T00:00:00.006Z"),
            (1_795_132_799_050, "2026-11-19T23:59:59.050Z"),
        ] {
            let mut out = Vec::new();
            clock.write(&mut out, UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
