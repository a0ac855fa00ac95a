//! What a run found out, as people read it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::results::{Results, Row};

pub mod markdown;
pub mod svg;
pub mod terminal;

/// The mark where a generated block begins.
const BEGIN: &str = "<!-- benchmark -->";

/// The mark where it ends.
const END: &str = "<!-- end -->";

/// The column that the others are compared with.
pub const REFERENCE: &str = "Envoy";

/// Puts the result into README.md, docs/performance.md and docs/performance.svg.
///
/// # Errors
///
/// When it is not the result of a whole run, or a file cannot be written or has no place for it.
pub fn publish(results: &Results) -> Result<()> {
    ensure!(!results.machine.partial, "only a whole run of this tree's own build is published");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    replace(&root.join("README.md"), &markdown::summary(results))?;
    replace(&root.join("docs/performance.md"), &markdown::whole(results))?;
    let chart = root.join("docs/performance.svg");
    fs::write(&chart, svg::chart(results)).with_context(|| format!("writing {}", chart.display()))
}

fn replace(path: &PathBuf, block: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let text = replaced(&text, block).with_context(|| format!("{} has no {BEGIN} with {END} below", path.display()))?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn replaced(text: &str, block: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

/// A figure with three digits that count.
fn figure(value: f64) -> String {
    if !value.is_finite() {
        "-".to_owned()
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// The share of its core, in percent, from which on a proxy counts as the limit of a closed loop.
const SATURATED: f64 = 90.0;

/// What a cell says: the median; for CPU, with its ratio to the reference; for a rate that the load was the limit of, that
/// it could be more.
fn cell(results: &Results, row: &Row, column: &str) -> String {
    let Some(median) = row.median(column) else { return "-".to_owned() };
    match row.group() {
        "cpu" if column != REFERENCE => match row.median(REFERENCE) {
            Some(reference) => format!("{} ({:.2})", figure(median), median / reference),
            None => figure(median),
        },
        "rate" if !saturated(results, row, column) => format!("≥ {}", figure(median)),
        _ => figure(median),
    }
}

fn saturated(results: &Results, rate: &Row, column: &str) -> bool {
    let busy = rate.id.replacen("rate/", "busy/", 1);
    results.row(&busy).and_then(|row| row.median(column)).is_some_and(|busy| busy >= SATURATED)
}

/// The columns that a row has, in the order of the result; of rows with columns of their own, those.
fn columns<'a>(row: &'a Row, all: &'a [String]) -> Vec<&'a str> {
    let shared: Vec<&str> = all.iter().map(String::as_str).filter(|column| row.cells.contains_key(*column)).collect();
    if shared.is_empty() { row.cells.keys().rev().map(String::as_str).collect() } else { shared }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_the_place_of_the_one_before() {
        let text = "a\n<!-- benchmark -->\nold\n<!-- end -->\nb\n";
        assert_eq!(replaced(text, "new\n").as_deref(), Some("a\n<!-- benchmark -->\nnew\n<!-- end -->\nb\n"));
        assert_eq!(replaced("no mark", "new"), None);
    }
}
