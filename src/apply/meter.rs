//! How much of all that a host will be sent has been sent.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::host::HostName;
use crate::plan::{Events, Progress, Step};

/// One host's count over all the steps of a phase, so that its progress does not begin anew with every image.
pub(super) struct Meter<'a> {
    events: &'a Events,
    host: &'a HostName,
    total: u64,
    /// Bytes of the steps that are done.
    before: AtomicU64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(events: &'a Events, host: &'a HostName, steps: &[&Step]) -> Self {
        let total = steps.iter().fold(0_u64, |sum, step| sum.saturating_add(step.action.travelling_bytes()));
        let meter = Self { events, host, total, before: AtomicU64::new(0) };
        if total > 0 {
            meter.show(0);
        }
        meter
    }

    /// Tells how much of the present step has been sent.
    pub(super) fn show(&self, of_step: u64) {
        let done = self.before.load(Ordering::Relaxed).saturating_add(of_step).min(self.total);
        self.events.on(self.host, Progress::Bytes { done, total: self.total });
    }

    /// A step is done: what was planned for it counts, whatever had to be repeated or was not asked for.
    pub(super) fn step_done(&self, step: &Step) {
        self.before.fetch_add(step.action.travelling_bytes(), Ordering::Relaxed);
        if step.action.travelling_bytes() > 0 {
            self.show(0);
        }
    }
}
