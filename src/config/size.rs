//! Numbers of bytes: `64KiB`, `4MiB`, `1000000`.

use super::problem::Problem;

const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

pub(crate) fn parse(text: &str) -> Result<u64, Problem> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let size = match unit {
        "" => Some(1),
        unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size),
    };
    let Some(size) = size.filter(|_| !number.is_empty()) else {
        return Err(Problem::new(format!("`{text}` is not a size")).label(advice(number, unit)));
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(size));
    bytes.ok_or_else(|| Problem::new(format!("the size `{text}` is too large")))
}

/// `64k`, `64KB` and the like leave open whether 1000 or 1024 is meant.
fn advice(number: &str, unit: &str) -> String {
    let initial = unit.chars().next().map(|c| c.to_ascii_uppercase());
    match initial.filter(|initial| !number.is_empty() && "KMG".contains(*initial)) {
        Some(initial) => format!("did you mean `{number}{initial}iB`?"),
        None => "write it as `64KiB`, `4MiB` or `1000000`".to_owned(),
    }
}

/// The size in the form that [`parse`] reads.
pub(crate) fn show(bytes: u64) -> String {
    for (name, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{name}", bytes / size);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in
            [("0", 0), ("65536", 65536), ("64KiB", 65536), ("4 MiB", 4 << 20), ("1GiB", 1 << 30), ("12B", 12)]
        {
            assert_eq!(parse(text).ok(), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "KiB", "64k", "64KB", "-1", "1.5MiB", "99999999999999999999", "99999999999GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_shown_size_reads_back() {
        for text in ["0", "1000", "64KiB", "32MiB", "2GiB"] {
            assert_eq!(parse(text).map(show).ok().as_deref(), Some(text));
        }
    }
}
