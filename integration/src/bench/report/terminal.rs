//! The result on a terminal.

use std::fmt::Write;

use super::{cell, columns, figure};
use crate::bench::results::{Results, Row};

/// One row, as it is done.
#[must_use]
pub fn line(results: &Results, row: &Row) -> String {
    let cells: Vec<String> = columns(row, &results.columns)
        .into_iter()
        .map(|column| format!("{column} {}", cell(results, row, column)))
        .collect();
    format!("{:<28} {} [{}]", row.id, cells.join(" · "), row.unit)
}

/// Everything, in tables.
#[must_use]
pub fn tables(results: &Results) -> String {
    let mut text = String::new();
    let mut groups: Vec<&str> = results.rows.iter().map(Row::group).collect();
    groups.dedup();
    let mut seen: Vec<&str> = Vec::new();
    for group in groups {
        if seen.contains(&group) {
            continue;
        }
        seen.push(group);
        let rows: Vec<&Row> = results.group(group).collect();
        let head = columns(rows[0], &results.columns);
        let _ = write!(text, "{:<58}", format!("{group}, {}", rows[0].unit));
        for column in &head {
            let _ = write!(text, "{column:>17}");
        }
        text.push('\n');
        for row in rows {
            let _ = write!(text, "  {:<56}", row.title);
            for column in &head {
                let _ = write!(text, "{:>17}", cell(results, row, column));
            }
            if let (Some(before), Some(after)) = (row.median("before"), row.median("after")) {
                let _ = write!(text, "  x{}", figure(after / before));
            }
            text.push('\n');
        }
        text.push('\n');
    }
    let machine = &results.machine;
    let _ = writeln!(text, "{}; {} cores, {}", machine.processor, machine.cores, machine.kernel);
    let _ = writeln!(text, "{}; commit {}; {}", machine.versions.join(", "), machine.commit, machine.date);
    let _ = writeln!(text, "{}; median of {}", machine.command, machine.rounds);
    if machine.partial {
        text.push_str("PART of a run, or cut short: these figures are not for publication\n");
    }
    text
}
