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
    super::progress::end();
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
    let unit = Unit::of(count);
    format!("{} {}", unit.number(count), unit.name)
}

/// How far something is, in the unit of the whole: `0.31 of 1.49 GB`.
pub(super) fn bytes_of(done: u64, total: u64) -> String {
    let unit = Unit::of(total);
    format!("{} of {} {}", unit.number(done), unit.number(total), unit.name)
}

struct Unit {
    /// From here on, so that nothing is rounded to `1000.0 kB`.
    from: u64,
    size: f64,
    digits: usize,
    name: &'static str,
}

/// The largest first.
const UNITS: [Unit; 4] = [
    Unit { from: 999_950_000, size: 1e9, digits: 2, name: "GB" },
    Unit { from: 999_950, size: 1e6, digits: 1, name: "MB" },
    Unit { from: 1_000, size: 1e3, digits: 1, name: "kB" },
    Unit { from: 0, size: 1.0, digits: 0, name: "B" },
];

impl Unit {
    fn of(count: u64) -> &'static Self {
        UNITS.iter().find(|unit| count >= unit.from).unwrap_or(&UNITS[3])
    }

    fn number(&self, count: u64) -> String {
        format!("{:.*}", self.digits, count as f64 / self.size)
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
    super::progress::end();
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
        assert_eq!([0, 999_949, 999_950].map(bytes), ["0 B", "999.9 kB", "1.0 MB"], "never 1000.0 of a unit");
        assert_eq!([999_949_999, 999_950_000].map(bytes), ["999.9 MB", "1.00 GB"], "never 1000.0 of a unit");
    }

    #[test]
    fn a_part_is_told_in_the_unit_of_the_whole() {
        assert_eq!(bytes_of(45_200_000, 124_000_000), "45.2 of 124.0 MB");
        assert_eq!(bytes_of(305_000_000, 1_490_000_000), "0.30 of 1.49 GB");
        assert_eq!(bytes_of(0, 0), "0 of 0 B");
    }
}
