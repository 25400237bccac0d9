//! Sessions against a real sshd.

#![allow(clippy::expect_used, clippy::panic, reason = "a test's helpers fail as tests do")]

mod bridges;
mod death;
mod far;
mod forwards;
mod logins;
mod relays;
mod scripts;
mod sshd;
