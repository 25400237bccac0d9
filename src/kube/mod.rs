//! A cluster from outside: its kubeconfig, in files that belong to the user, and its API through a tunnel.
//!
//! The only door to Kubernetes. Nothing here decides anything and nothing waits longer than one request: loops with
//! deadlines are the caller's.

mod api;
mod error;
mod file;
mod kubeconfig;

pub use api::{Api, NodeStatus};
pub use error::Error;
pub use file::{CurrentContext, default_file, merge_into, remove_from};
pub use kubeconfig::{Kubeconfig, entry_name};
