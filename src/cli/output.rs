//! What is printed: tables and JSON on stdout, failures with their hints on stderr.

use std::io::Write;

use serde::Serialize;

use super::exit::Exit;
use super::settings::Format;
use crate::host::Finding;
use crate::pipeline::Stop;
use crate::plan::{Failure, Report};

/// Prints data as JSON or YAML; for a table, `table` is asked.
pub(super) fn data(format: Format, value: &impl Serialize, table: impl FnOnce() -> String) {
    let text = match format {
        Format::Table => table(),
        Format::Json => serde_json::to_string_pretty(value).unwrap_or_default() + "\n",
        Format::Yaml => serde_saphyr::to_string(value).unwrap_or_default(),
    };
    print(&text);
}

/// Prints to stdout. A reader that has gone (`| head`) is no error.
pub(super) fn print(text: &str) {
    let mut stdout = anstream::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Rows under a heading, columns padded to their widest entry.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&heading).chain(rows).collect();
    let widest = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..heading.len()).map(|column| widest(column).unwrap_or(0)).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    all.iter().map(line).collect()
}

/// Bytes for people, in the units of links and disks (powers of ten).
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

/// Tells why a command stopped.
pub(super) fn stop(stop: Stop) -> Exit {
    match stop {
        Stop::Failures(list) => failures(&list, Exit::Failed),
        Stop::Findings(list) => findings(&list),
        Stop::Interrupted(list) => failures(&list, Exit::Interrupted),
    }
}

/// Tells failures, and passes the exit on.
pub(super) fn failures(list: &[Failure], exit: Exit) -> Exit {
    list.iter().for_each(|failure| complain(&format!("error: {failure}")));
    exit
}

fn findings(list: &[Finding]) -> Exit {
    list.iter().for_each(|finding| complain(&finding.to_string()));
    complain("nothing was changed");
    Exit::Refused
}

fn complain(text: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

/// The exit that a report deserves, after its failures are told.
pub(super) fn report(report: &Report) -> Exit {
    let failed: Vec<Failure> = report.failures().cloned().collect();
    match (failed.len(), report.outcomes.len()) {
        (0, _) => Exit::Done,
        (failed_count, all) if failed_count < all => failures(&failed, Exit::Partial),
        _ => failures(&failed, Exit::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_entry() {
        let rows = vec![vec!["pi1".into(), "ready".into()], vec!["a-long-name".into(), "x".into()]];
        assert_eq!(table(&["HOST", "STATE"], &rows), "HOST         STATE\npi1          ready\na-long-name  x\n");
    }

    #[test]
    fn sizes_are_in_powers_of_ten() {
        assert_eq!([999, 1_500, 92_600_000, 1_250_000_000].map(bytes), ["999 B", "1.5 kB", "92.6 MB", "1.25 GB"]);
    }
}
