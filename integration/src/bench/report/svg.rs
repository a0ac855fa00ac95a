//! The chart: CPU per call of each case, as a ratio to Envoy's.

use std::fmt::Write;

use super::{REFERENCE, figure};
use crate::bench::results::Results;

/// Width of the picture, in pixels.
const WIDTH: f64 = 760.0;

/// Where bars begin.
const LEFT: f64 = 120.0;

/// Length of a bar of ratio 1.
const UNIT: f64 = 300.0;

/// The longest bar that is drawn whole, as a ratio.
const LONGEST: f64 = 1.75;

/// Height of a bar, with its gap.
const BAR: f64 = 16.0;

/// Height of a case's title, with its gap.
const TITLE: f64 = 30.0;

/// Colours by column, in the order of the columns.
const COLOURS: [&str; 6] = ["#0b7a75", "#5fb3ae", "#b13e8b", "#3f63b5", "#5a8f29", "#9a9a9a"];

/// The chart, as a file.
#[must_use]
pub fn chart(results: &Results) -> String {
    let (mut body, mut y) = (String::new(), 44.0);
    for row in results.group("cpu") {
        let Some(reference) = row.median(REFERENCE) else { continue };
        y += TITLE;
        let _ = writeln!(body, r#"<text class="t" x="8" y="{:.0}">{}</text>"#, y - 8.0, escaped(&row.title));
        for (index, column) in results.columns.iter().enumerate() {
            let Some(median) = row.median(column) else { continue };
            bar(&mut body, y, column, COLOURS[index % COLOURS.len()], median, median / reference);
            y += BAR;
        }
    }
    let (height, machine) = (y + 36.0, &results.machine);
    let source = format!("{}; {}; median of {}", machine.date, machine.processor, machine.rounds);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="CPU per call, as a ratio to Envoy">
<style>
text {{ font: 12px system-ui, sans-serif; fill: #1f2328; }}
.h {{ font-size: 16px; font-weight: 600; }} .t {{ font-weight: 600; }} .s {{ fill: #656d76; }} .axis {{ stroke: #8c959f; stroke-dasharray: 3 3; }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3; }} .s {{ fill: #8d96a0; }} }}
</style>
<text class="h" x="8" y="24">CPU per call, Envoy = 1 (shorter is better)</text>
<text class="s" x="8" y="42">in brackets: µs of CPU; each proxy on one core, the same backend</text>
<line class="axis" x1="{x}" x2="{x}" y1="52" y2="{end}"/>
{body}<text class="s" x="8" y="{foot}">{source}</text>
</svg>
"##,
        x = LEFT + UNIT,
        end = y,
        foot = height - 12.0,
        source = escaped(&source),
    )
}

fn bar(body: &mut String, y: f64, column: &str, colour: &str, median: f64, ratio: f64) {
    let length = ratio.min(LONGEST) * UNIT;
    // A bar that is cut ends open, and its number says the rest.
    let cut = if ratio > LONGEST { " …" } else { "" };
    let _ = writeln!(
        body,
        r#"<text class="s" x="{label:.0}" y="{base:.0}" text-anchor="end">{column}</text><rect x="{LEFT}" y="{y:.0}" width="{length:.1}" height="{bar}" rx="2" fill="{colour}"/><text x="{after:.0}" y="{base:.0}">{ratio:.2}{cut} ({figure})</text>"#,
        label = LEFT - 6.0,
        base = y + BAR - 5.0,
        bar = BAR - 3.0,
        after = LEFT + length + 6.0,
        column = escaped(column),
        figure = figure(median),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
