//! Clusters: what the user wants, and what a node is on its host.
//!
//! Plain data: the cluster file, releases, roles, the container and the files of a node, what its log means. Nothing
//! here does I/O.

mod catalogue;
mod config;
mod container;
mod definition;
mod diagnosis;
mod file;
pub mod flags;
mod identity;
mod name;
pub mod names;
mod profile;
mod quantity;
mod release;
mod secret;
mod source;

pub use catalogue::{Component, Origin, ReleaseImages, SystemImages, UnknownRelease, missed};
pub use config::{API_PORT, CONFIG_PATH, NodeSettings, OWNED_FLAGS};
pub use container::{ContainerSpec, NodeFile};
pub use definition::{Cluster, K3s, Member, MembersError, Role};
pub use diagnosis::{Cause, Certainty, diagnose, relevant};
pub use file::{Fault, FileError, schema};
pub use identity::{Identity, IdentityError};
pub use name::{ClusterName, NameError, NodeName};
pub use profile::Profile;
pub use quantity::{Quantity, QuantityError};
pub use release::{Release, ReleaseError, Selector};
pub use secret::Secret;
pub use source::Source;
