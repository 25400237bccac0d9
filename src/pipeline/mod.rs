//! The only place that knows the order of the stages: probe, resolve, preflight, prewarm, provision, apply.
//!
//! Each function here is one command's course from a request to an outcome; it prints nothing and never ends the program.

mod bundle;
mod carry;
mod check;
mod cluster;
mod compression;
mod create;
mod interrupt;
mod inventory;
mod needs;
mod origin;
mod pinning;
mod prepare;
mod prewarm;
mod resolve;
mod sourcing;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use futures_util::future::join_all;

use crate::cluster::Cluster;
use crate::economy::Recompress;
use crate::host::{Facts, Finding, Host, HostName, MachineFacts, Severity};
use crate::oci::Platform;
use crate::plan::{Events, Failure, Progress, Ways};
use crate::probe::{Closed, Connection, Fleet, reach};
use crate::records::Records;
use crate::{registry, ssh};

pub use bundle::{BundleRequest, Bundled, bundle};
pub use check::{CheckRequest, Checked, CheckedHost, check_hosts, list_hosts};
pub use cluster::{ClusterStatus, DeleteRequest, Deleted, NodeRow, delete, kubeconfig, list, remove_kubeconfig};
pub use create::{CreateRequest, Created, create};
pub use interrupt::Interrupt;
pub use inventory::{ListedImage, PruneReport, PruneRequest, image_list, prune};
pub use prepare::{PrepareRequest, Prepared, prepare};
pub use prewarm::{Pick, PrewarmRequest, Prewarmed, prewarm};
pub use resolve::{ResolveRequest, resolve};
pub use sourcing::{Place, Sourcing};
pub use versions::{Offer, versions};

/// What every command needs of its surroundings.
#[derive(Debug, Clone)]
pub struct Environment {
    /// How hosts are reached.
    pub ssh: ssh::Options,
    /// Registries.
    pub registry: registry::Client,
    /// Where blobs are kept.
    pub store: PathBuf,
    /// Which hosts clusters were made on.
    pub records: Records,
    /// Where progress goes.
    pub events: Events,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

/// How images go to hosts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Travel {
    /// By which ways.
    pub ways: Ways,
    /// In which form their layers.
    pub recompress: Recompress,
}

/// Why a command did not reach its end.
#[derive(Debug)]
pub enum Stop {
    /// Preflight found what must be mended first; nothing was changed.
    Findings(Vec<Finding>),
    /// Something failed.
    Failures(Vec<Failure>),
    /// The user interrupted it; what it had made is taken back, except for what is listed.
    Interrupted(Vec<Failure>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failures(vec![failure])
    }
}

/// A host that answers; or what it is, and why its engine cannot be used.
type Opened = Result<(Connection, Facts), (MachineFacts, Finding)>;

/// Hosts that answered, and what became of the others.
#[derive(Debug, Default)]
struct Probed {
    fleet: Fleet,
    facts: BTreeMap<HostName, Facts>,
    /// Hosts whose engine cannot be used, and what stands in the way.
    closed: BTreeMap<HostName, (MachineFacts, Finding)>,
    failures: Vec<Failure>,
}

impl Probed {
    fn add(&mut self, host: &HostName, opened: Opened) {
        match opened {
            Ok((connection, facts)) => {
                self.fleet.insert(host.clone(), connection);
                self.facts.insert(host.clone(), facts);
            }
            Err(closed) => drop(self.closed.insert(host.clone(), closed)),
        }
    }

    /// The platforms of all hosts; the failures where some of them could not be asked or cannot be served.
    fn platforms(&self) -> Result<BTreeSet<Platform>, Vec<Failure>> {
        let mut failures = self.failures.clone();
        let mut platforms = BTreeSet::new();
        for (host, facts) in &self.facts {
            match facts.platform() {
                Ok(platform) => drop(platforms.insert(platform)),
                Err(error) => failures.push(Failure::new(&error, None).on(host)),
            }
        }
        if failures.is_empty() { Ok(platforms) } else { Err(failures) }
    }

    /// Bytes of memory of a cluster's server, where it has answered.
    fn server_memory(&self, cluster: &Cluster) -> Option<u64> {
        let server = cluster.server()?;
        Some(server.memory_of(self.facts.get(&server.host.name)?.machine.memory_total))
    }
}

/// Connects to all hosts at once; an interrupt ends it. An engine that cannot be used is a failure.
async fn connect(hosts: &[Host], environment: &Environment) -> Result<Probed, Stop> {
    let mut probed = meet(hosts, environment).await?;
    let closed = std::mem::take(&mut probed.closed);
    probed.failures.extend(closed.into_values().map(|(_, finding)| finding.into()));
    Ok(probed)
}

/// Connects to all hosts at once; an interrupt ends it.
async fn meet(hosts: &[Host], environment: &Environment) -> Result<Probed, Stop> {
    let one = async |host: &Host| {
        environment.events.on(&host.name, Progress::Started { what: "connecting".into() });
        let failed = |why: &str| environment.events.on(&host.name, Progress::Failed { why: why.into() });
        let reached = reach(host, &environment.ssh).await.inspect_err(|failure| failed(&failure.message))?;
        match reached.open().await {
            Ok(opened) => Ok(Ok(opened)),
            Err(closed) => {
                let Closed { reached, finding } = *closed;
                failed(&finding.message);
                reached.session.close().await;
                Ok(Err((reached.machine, finding)))
            }
        }
    };
    let mut probed = Probed::default();
    let results = tokio::select! {
        results = join_all(hosts.iter().map(one)) => results,
        () = environment.interrupt.raised() => return Err(Stop::Interrupted(Vec::new())),
    };
    for (host, result) in hosts.iter().zip(results) {
        match result {
            Ok(opened) => probed.add(&host.name, opened),
            Err(failure) => probed.failures.push(failure),
        }
    }
    Ok(probed)
}

/// Ends every session properly, so that no forward is left on a host.
async fn disconnect(fleet: Fleet) {
    join_all(fleet.into_values().map(|connection| connection.session.close())).await;
}

/// Tells warnings and notes; refusals stop the run.
fn check(findings: Vec<Finding>, events: &Events) -> Result<(), Stop> {
    let (refused, told): (Vec<Finding>, Vec<Finding>) =
        findings.into_iter().partition(|finding| finding.severity == Severity::Refuse);
    for finding in told {
        events.overall(Progress::Warning { what: finding.to_string() });
    }
    if refused.is_empty() { Ok(()) } else { Err(Stop::Findings(refused)) }
}
