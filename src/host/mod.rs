//! Hosts: how they are reached, what is known of them, what is wrong with them.
//!
//! Plain data and parsers of what hosts print; nothing here connects to anything.

mod destination;
mod facts;
mod finding;
mod machine;

pub use destination::{Destination, DestinationError, Host, HostName, SshDestination};
pub use facts::{
    CgroupVersion, EngineFacts, EngineSocket, Facts, HolderFacts, ImageStore, Listener, MachineFacts, NodeFacts,
    NodeState, Unsupported,
};
pub use finding::{Finding, Severity};
pub use machine::{ParseError, disk_script, machine_script, parse_disk, parse_machine};
