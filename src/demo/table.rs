//! The demo's calls as a table.

use std::time::Duration;

use super::calls::Report;

const HEADINGS: [&str; 4] = ["kind", "status", "messages", "time"];

/// One line for each call under a heading, and a line below the table for each thing that was wrong.
#[must_use]
pub fn render(reports: &[Report]) -> String {
    let rows: Vec<[String; 4]> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(reports.iter().map(cells)).collect();
    let widths: [usize; 4] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default());
    let lines = rows.iter().map(|row| line(row, &widths));
    let faults = reports.iter().filter_map(|report| {
        let fault = report.fault.as_ref()?;
        Some(format!("wrong: {}: {fault}\n", report.kind))
    });
    lines.chain(faults).collect()
}

fn cells(report: &Report) -> [String; 4] {
    [
        report.kind.to_owned(),
        report.status.name().to_owned(),
        format!("{} out, {} in", report.sent, report.received),
        milliseconds(report.elapsed),
    ]
}

fn line(cells: &[String; 4], widths: &[usize; 4]) -> String {
    let [kind, status, messages, time] = cells;
    let [k, s, m, t] = *widths;
    format!("  {kind:k$}  {status:s$}  {messages:m$}  {time:>t$}\n")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use weir_filter::Code;

    use super::*;

    #[test]
    fn columns_align_and_faults_follow() {
        let right = Report {
            kind: "unary",
            status: Code::Ok,
            sent: 1,
            received: 1,
            elapsed: Duration::from_micros(1_240),
            fault: None,
        };
        let wrong = Report {
            kind: "server stream",
            status: Code::Unavailable,
            sent: 1,
            received: 0,
            elapsed: Duration::from_millis(12),
            fault: Some("ended with UNAVAILABLE: gone".to_owned()),
        };
        let expected = "  \
  kind           status       messages        time
  unary          OK           1 out, 1 in   1.2 ms
  server stream  UNAVAILABLE  1 out, 0 in  12.0 ms
wrong: server stream: ended with UNAVAILABLE: gone
";
        assert_eq!(render(&[right, wrong]), expected);
    }
}
