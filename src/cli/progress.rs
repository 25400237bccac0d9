//! Progress on stderr: bars on a terminal, plain lines elsewhere, JSON events beside JSON data.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::settings::Format;
use crate::host::HostName;
use crate::plan::{Event, Events, Progress};

/// Plain lines tell bytes no more often than this.
const QUIET: Duration = Duration::from_secs(5);

/// The sink for this terminal, or the lack of one.
pub(super) fn events(format: Format) -> Events {
    if format == Format::Json {
        return Events::to(|event| {
            let line = serde_json::to_string(&event).unwrap_or_default();
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        });
    }
    if std::io::stderr().is_terminal() {
        let bars = Mutex::new(Bars::default());
        return Events::to(move |event| bars.lock().unwrap_or_else(PoisonError::into_inner).show(event));
    }
    let lines = Mutex::new(Lines::default());
    Events::to(move |event| lines.lock().unwrap_or_else(PoisonError::into_inner).show(&event))
}

/// One bar a host; what is done scrolls away above them.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    hosts: BTreeMap<Option<HostName>, ProgressBar>,
}

impl Bars {
    fn show(&mut self, event: Event) {
        let label = event.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
        match event.progress {
            Progress::Started { what } => self.bar(event.host).set_message(what),
            Progress::Bytes { done, total } => {
                let bar = self.bar(event.host);
                bar.set_style(style("{prefix:.bold} {msg} [{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
                bar.set_length(total);
                bar.set_position(done);
            }
            Progress::Done { what } => self.end(&event.host, &format!("{label}{what}")),
            Progress::Failed { why } => self.end(&event.host, &format!("{label}failed: {why}")),
            Progress::Warning { what } => drop(self.all.println(format!("{label}{what}"))),
        }
    }

    fn bar(&mut self, host: Option<HostName>) -> &ProgressBar {
        let all = &self.all;
        self.hosts.entry(host.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new_spinner());
            bar.set_style(style("{prefix:.bold} {spinner} {msg} {elapsed:.dim}"));
            bar.set_prefix(host.map(|host| host.to_string()).unwrap_or_default());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        })
    }

    fn end(&mut self, host: &Option<HostName>, line: &str) {
        let _ = self.all.println(line);
        if let Some(bar) = self.hosts.remove(host) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.hosts.values().for_each(ProgressBar::finish_and_clear);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A line for everything that begins or ends, and for bytes now and then.
#[derive(Default)]
struct Lines {
    told: BTreeMap<Option<HostName>, Instant>,
}

impl Lines {
    fn show(&mut self, event: &Event) {
        let label = event.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
        let text = match &event.progress {
            Progress::Started { what } => {
                self.told.insert(event.host.clone(), Instant::now());
                what.clone()
            }
            Progress::Bytes { done, total } => {
                let last = self.told.entry(event.host.clone()).or_insert_with(Instant::now);
                if last.elapsed() < QUIET {
                    return;
                }
                *last = Instant::now();
                format!("{} of {}", super::output::bytes(*done), super::output::bytes(*total))
            }
            Progress::Done { what } | Progress::Warning { what } => what.clone(),
            Progress::Failed { why } => format!("failed: {why}"),
        };
        let _ = writeln!(std::io::stderr().lock(), "{label}{text}");
    }
}
