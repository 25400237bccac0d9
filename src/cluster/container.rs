//! The container that is a node.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Secret;

/// A node's container, as the engine is asked for it: privileged, on the host's network, restarted unless stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerSpec {
    /// `k3arm-<cluster>-<node>`.
    pub name: String,
    /// The image's ID on that engine, never a tag.
    pub image: String,
    /// PID 1 and its arguments.
    pub entrypoint: Vec<String>,
    /// Arguments after the entrypoint's.
    pub command: Vec<String>,
    /// Environment; never a secret.
    pub environment: BTreeMap<String, String>,
    /// Labels; never a secret.
    pub labels: BTreeMap<String, String>,
    /// Named volumes by the path they are mounted at. They are made together with the container and carry
    /// [`Self::labels`] too.
    pub volumes: BTreeMap<String, String>,
    /// Bytes of memory that it may have with all that it runs; `None` is all that there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Host paths mounted read-only at the same path.
    pub read_only_binds: Vec<String>,
}

/// A file that a node must find inside its volumes before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeFile {
    /// Absolute path in the container.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: Secret,
}
