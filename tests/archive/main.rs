//! Archives: written and read again, by k3arm and by others, whole and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod hostile;
mod images;
mod others;
mod reading;
mod tars;
mod writing;

#[path = "../supply/mod.rs"]
mod supply;
