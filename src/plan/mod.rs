//! What will be done, as a value: printable, comparable, made without touching a host; and what became of it.

mod event;
mod report;
mod step;

pub use event::{Event, Events, Progress};
pub use report::{Failure, Outcome, Report};
pub use step::{
    Action, Delivery, ImageOnHost, Phase, Placement, Plan, PlannedNode, RemovedNode, Share, Step, Via, Ways, spec_hash,
};
