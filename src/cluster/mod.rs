//! Clusters: what the user wants, and what a node is on its host.
//!
//! Plain data: the cluster file, releases, roles, the container and the files of a node. Nothing here does I/O.

mod container;
mod secret;

pub use container::{ContainerSpec, NodeFile};
pub use secret::Secret;
