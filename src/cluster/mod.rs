//! Clusters: what the user wants, and what a node is on its host.
//!
//! Plain data: the cluster file, releases, roles, the container and the files of a node, what its log means. Nothing
//! here does I/O.

mod catalogue;
mod config;
mod container;
mod diagnosis;
mod file;
pub mod flags;
mod identity;
pub mod names;
mod profile;
mod release;
mod secret;

pub use catalogue::{Component, Origin, ReleaseImages, SystemImages, UnknownRelease};
pub use config::{API_PORT, CONFIG_PATH, NodeSettings, OWNED_FLAGS};
pub use container::{ContainerSpec, NodeFile};
pub use diagnosis::{Cause, Certainty, diagnose, relevant};
pub use file::{Cluster, ClusterName, FileError, K3s, Member, MembersError, NameError, NodeName, Role, Source};
pub use identity::{Identity, IdentityError};
pub use profile::{LEFT_OUT, Profile};
pub use release::{Release, ReleaseError, Selector};
pub use secret::Secret;
