//! What will be done, as a value: printable, comparable, made without touching a host; and what became of it.

mod event;
mod report;
mod step;

pub use event::{Event, Events, Progress};
pub use report::{Failure, Outcome, Report};
pub use step::{Action, ImageOnHost, Phase, Plan, PlannedNode, RemovedNode, Step, spec_hash};
