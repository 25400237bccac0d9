//! Hosts: how they are reached, what is known of them, what is wrong with them.
//!
//! Plain data and parsers of what hosts print; nothing here connects to anything.

mod destination;
mod disk;
mod facts;
mod finding;
mod machine;
mod mend;
mod reach;
pub mod rules;
mod said;
mod system;

pub use destination::{Destination, DestinationError, Host, HostName, SshDestination};
pub use disk::{DiskFacts, Medium, disk_script, parse_disk};
use facts::Link;
pub use facts::{
    CgroupVersion, EngineFacts, EngineSocket, Facts, HolderFacts, ImagePlace, ImageStore, Listener, MachineFacts,
    NodeFacts, NodeState, Unsupported,
};
pub use finding::{Finding, Severity};
pub use machine::{machine_script, parse_machine};
pub use mend::Mend;
pub use reach::{Answer, Reach, Target, parse_reach, reach_script};
pub use rules::Rule;
pub use said::ParseError;
pub use system::{Board, Iptables, ModuleState, Swap, System};
