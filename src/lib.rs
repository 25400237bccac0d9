//! k3arm turns ARM machines that run nothing but sshd and Docker into a Kubernetes cluster.
//!
//! Three stages, each useful alone: **resolve** a tag to the exact image for each host's platform, **prewarm** the hosts
//! with it, **create** the cluster. The modules below are in layer order: a module uses only those above it, and a
//! test (`tests/layers.rs`) holds the table of who may use whom.
//!
//! ```text
//! argv → Request → probe → Facts → resolve → Lock → preflight → Findings → prewarm → provision → Plan
//!      → --dry-run prints it | apply → Events → progress | Report → exit code
//! ```

// Nouns: plain data, no I/O.
pub mod cluster;
pub mod host;
pub mod oci;
pub mod plan;

// Stages: pure functions from nouns to nouns.
pub mod economy;
pub mod preflight;
pub mod prewarm;
pub mod provision;
pub mod resolve;

// Effects: each the only door to its protocol.
pub mod apply;
pub mod archive;
pub mod docker;
mod files;
pub mod kube;
pub mod lockfile;
pub mod mirror;
pub mod probe;
pub mod recompress;
pub mod records;
pub mod registry;
pub mod ssh;
pub mod store;

// The edge.
pub mod cli;
pub mod pipeline;
