//! The result in documents.

use std::fmt::Write;

use super::{cell, columns};
use crate::bench::results::{Results, Row};

/// What each group is called, in the order of the document.
const GROUPS: [(&str, &str); 9] = [
    ("cpu", "CPU per call, of new connections per connection, in µs (ratio to Envoy)"),
    ("rate", "Calls or connections a second, closed loop; the load and the backend share the other core"),
    ("busy", "How much of its core the proxy used meanwhile, in %"),
    ("latency", "Latency at a fixed rate, open loop, in µs"),
    ("memory", "Resident memory"),
    ("start", "Start-up, in ms"),
    ("syscalls", "System calls per call"),
    ("scaling", "What Weir's cost depends on: CPU per call, in µs"),
    ("check", "The load generator, held against h2load"),
];

/// The short form, for the README.
#[must_use]
pub fn summary(results: &Results) -> String {
    let mut text = String::from("\n![CPU per call beside other proxies](docs/performance.svg)\n\n");
    text.push_str("CPU per call, in µs (in brackets the ratio to Envoy). Every figure, what was measured and how:\n");
    text.push_str("[docs/performance.md](docs/performance.md).\n\n");
    table(&mut text, results, "cpu");
    let _ = writeln!(text, "{}\n", origin(results));
    text
}

/// All of it.
#[must_use]
pub fn whole(results: &Results) -> String {
    let mut text = String::from("\n![CPU per call beside other proxies](performance.svg)\n\n");
    let _ = writeln!(text, "{}\n", origin(results));
    for (group, title) in GROUPS {
        if results.group(group).next().is_some() {
            let _ = writeln!(text, "### {title}\n");
            table(&mut text, results, group);
        }
    }
    for note in &results.notes {
        let _ = writeln!(text, "- {note}");
    }
    text
}

fn table(text: &mut String, results: &Results, group: &str) {
    let rows: Vec<&Row> = results.group(group).collect();
    let Some(first) = rows.first() else { return };
    let head = columns(first, &results.columns);
    let pairs = group == "scaling";
    let mixed = rows.iter().any(|row| row.unit != first.unit);
    let _ = writeln!(text, "| | {} |{}", head.join(" | "), if pairs { " ratio |" } else { "" });
    let _ = writeln!(text, "|---|{}{}", "--:|".repeat(head.len()), if pairs { "--:|" } else { "" });
    for row in rows {
        let unit = if mixed { format!(", {}", row.unit) } else { String::new() };
        let cells: Vec<String> = head.iter().map(|column| cell(results, row, column)).collect();
        let _ = write!(text, "| {}{unit} | {} |", row.title, cells.join(" | "));
        if let (Some(before), Some(after), true) = (row.median("before"), row.median("after"), pairs) {
            let _ = write!(text, " {:.2} |", after / before);
        }
        text.push('\n');
    }
    text.push('\n');
}

fn origin(results: &Results) -> String {
    let machine = &results.machine;
    format!(
        "Measured on {} by `{}`: median of {}, {} with {} cores, {}; {}; commit {}.",
        machine.date,
        machine.command,
        machine.rounds,
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.versions.join(", "),
        machine.commit,
    )
}
