//! Sessions against a real sshd.

#![allow(clippy::expect_used, clippy::panic, reason = "a test's helpers fail as tests do")]

mod death;
mod forwards;
mod logins;
mod scripts;
mod sshd;
