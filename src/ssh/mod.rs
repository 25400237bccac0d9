//! One SSH session a host: scripts, forwards, and the news that the connection has died.
//!
//! The user's own `ssh` program makes the connection, so that their config file, agent, jump hosts, certificates and
//! known_hosts all apply; k3arm never sees a key and never asks a question. One master process holds the connection;
//! scripts and forwards are channels in it, asked for over its control socket.
//!
//! ```text
//! Session ── control socket ──► ssh (master) ══ one TCP connection ══► sshd ─► sh, docker.sock, 127.0.0.1:6443
//!    └────── leash: a pipe ───► watchdog         (ends the master when the pipe closes, whatever ends k3arm)
//! ```
//!
//! Where sshd forbids forwards, connections to the host's sockets and ports go through exec channels instead, carried by
//! a program that the host has (`bridge`, `relay`); the caller need not know. Nothing replaces a reverse forward.
//!
//! A host that was cut off may hold a dead session for hours; the next one to it ends what is left of ours (`lost`).
//!
//! An unknown or changed host key is refused, always: [`Error::hint`] has the command that shows and accepts it. Nothing
//! here knows what the scripts do or what speaks through the forwards.

mod branch;
mod bridge;
mod carry;
mod channels;
mod classify;
mod control;
mod error;
mod forward;
mod frames;
mod lost;
mod master;
mod near;
mod relay;
mod reverse;
mod run;
mod session;
mod tail;
mod target;
mod trunk;

pub use error::{Error, Forward, Refusal};
pub use run::{Limits, Output};
pub use session::{Options, Session};
