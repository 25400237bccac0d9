//! Where images come from and how they go to hosts: arguments of all commands that bring some.

use std::path::Path;

use clap::{Args, ValueEnum};

use crate::economy::Recompress;
use crate::pipeline::{Place, Sourcing, Travel};
use crate::plan::{Via, Ways};

#[derive(Debug, Args)]
pub(super) struct SourcingArguments {
    /// Take all images from this file or folder (an OCI image layout, docker save), or docker:NAME; no registry is asked
    #[arg(long, value_name = "FILE")]
    bundle: Option<Place>,
    /// Look all images up anew, and write the lock beside the cluster file anew
    #[arg(long)]
    update: bool,
}

impl SourcingArguments {
    /// With the lock of this cluster file.
    pub(super) fn sourcing(&self, cluster_file: Option<&Path>) -> Sourcing {
        Sourcing { bundle: self.bundle.clone(), cluster_file: cluster_file.map(Path::to_path_buf), update: self.update }
    }
}

#[derive(Debug, Args)]
pub(super) struct TravelArguments {
    /// How images come to the hosts' engines: pulled by them through a forwarded port, or loaded through Docker's socket
    #[arg(long, value_enum, default_value_t = ViaArgument::Auto)]
    via: ViaArgument,
    /// Send layers in fewer bytes where that is faster: auto (by measured rates), off, zstd or zstd:LEVEL (Docker 23 or newer)
    #[arg(long, value_name = "HOW", default_value_t = Recompress::Auto)]
    recompress: Recompress,
}

impl TravelArguments {
    pub(super) fn travel(&self) -> Travel {
        Travel { ways: self.via.into(), recompress: self.recompress }
    }
}

/// `--via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ViaArgument {
    /// What each host allows; a pull where it can be had
    Auto,
    /// Only pulls
    Pull,
    /// Only loads
    Load,
}

impl From<ViaArgument> for Ways {
    fn from(argument: ViaArgument) -> Self {
        match argument {
            ViaArgument::Auto => Self::Auto,
            ViaArgument::Pull => Self::Only(Via::Pull),
            ViaArgument::Load => Self::Only(Via::Load),
        }
    }
}
