//! Plan → Events → Report: carries out exactly the steps that a plan names.
//!
//! Phases follow each other, hosts work side by side, and a host that fails leaves the others going until the phase is
//! over. What was made on the way is written down first, so that a failed or interrupted run can take it back.

mod image;
mod inside;
mod journal;
mod mend;
mod meter;
mod network;
mod node;
mod packing;
mod ready;
mod sending;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::host::HostName;
use crate::mirror::{Mirror, Published};
use crate::oci::Digest;
use crate::plan::{Action, Events, Failure, ImageOnHost, Outcome, Phase, Plan, Progress, Report, Step};
use crate::probe::{Connection, Fleet};
use crate::store::Store;

use meter::Meter;

pub use journal::Journal;
pub use mend::mend_hosts;
pub use packing::pack;
pub use ready::{Awaited, AwaitedNode, Settled, settle};

/// What steps need besides themselves.
pub struct Workshop<'a> {
    /// The hosts.
    pub fleet: &'a Fleet,
    /// What images are taken from; `None` where no step brings any.
    pub goods: Option<&'a Goods<'a>>,
    /// Where progress goes.
    pub events: &'a Events,
    /// What was made in this run.
    pub journal: &'a Journal,
}

/// What images are taken from.
pub struct Goods<'a> {
    /// Where hosts pull from.
    pub mirror: &'a Mirror,
    /// Where blobs are.
    pub store: &'a Store,
    /// What the mirror can give, by canonical reference.
    pub supplies: &'a BTreeMap<String, Published>,
    /// The same images in other forms, by the digests of their manifests.
    pub variants: &'a BTreeMap<Digest, Published>,
}

/// What came of a plan.
pub struct Applied {
    /// Step by step.
    pub report: Report,
    /// Bytes per second to the hosts that were sent enough to tell.
    pub rates: BTreeMap<HostName, f64>,
}

impl<'a> Workshop<'a> {
    fn goods(&self) -> Result<&'a Goods<'a>, Failure> {
        self.goods.ok_or_else(|| missing("images"))
    }
}

impl Goods<'_> {
    fn supply(&self, image: &ImageOnHost) -> Result<&Published, Failure> {
        let supply = self.supplies.get(&image.reference.to_string());
        supply.ok_or_else(|| missing(&format!("a supply of {}", image.reference)))
    }
}

/// A plan was given that its workshop cannot carry out.
fn missing(what: &str) -> Failure {
    Failure { host: None, message: format!("the plan needs {what}, and there is none"), hint: None }
}

/// What a step that worked says of itself.
struct Worked {
    subject: String,
    status: &'static str,
    bytes: u64,
}

/// Carries out a plan. A phase with a failure is the last one.
pub async fn apply(plan: &Plan, workshop: &Workshop<'_>) -> Applied {
    let mut report = Report::default();
    let by_host = by_host(plan.steps());
    let meters: BTreeMap<_, _> =
        by_host.into_iter().map(|(host, steps)| (host, Meter::new(workshop.events, host, &steps))).collect();
    for phase in &plan.phases {
        report.outcomes.extend(run_phase(phase, workshop, &meters).await);
        if report.failures().next().is_some() {
            break;
        }
    }
    let measured = meters.into_iter().filter_map(|(host, meter)| Some((host.clone(), meter.rate()?)));
    Applied { report, rates: measured.collect() }
}

fn by_host<'a>(steps: impl Iterator<Item = &'a Step>) -> BTreeMap<&'a HostName, Vec<&'a Step>> {
    let mut by_host: BTreeMap<&HostName, Vec<&Step>> = BTreeMap::new();
    for step in steps {
        by_host.entry(&step.host).or_default().push(step);
    }
    by_host
}

async fn run_phase(phase: &Phase, workshop: &Workshop<'_>, meters: &BTreeMap<&HostName, Meter<'_>>) -> Vec<Outcome> {
    let hosts = by_host(phase.steps.iter()).into_iter();
    let hosts = hosts.filter_map(|(host, steps)| Some(run_host(host, steps, workshop, meters.get(host)?)));
    join_all(hosts).await.into_iter().flatten().collect()
}

/// The steps of one host, in order; the first failure ends them.
async fn run_host(host: &HostName, steps: Vec<&Step>, workshop: &Workshop<'_>, meter: &Meter<'_>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let Some(connection) = workshop.fleet.get(host) else { return outcomes };
    for step in steps {
        let began = Instant::now();
        let result = tokio::select! {
            result = run_step(&step.action, connection, workshop, meter) => result,
            failure = lost(connection) => Err(failure),
        };
        let result = match result {
            Err(failure) => Err(deeper(failure, connection).await),
            worked => worked,
        };
        let failed = result.is_err();
        meter.step_done(step);
        outcomes.push(outcome(host, &step.action, began, result, workshop.events));
        if failed {
            break;
        }
    }
    outcomes
}

async fn run_step(
    action: &Action,
    connection: &Connection,
    workshop: &Workshop<'_>,
    meter: &Meter<'_>,
) -> Result<Worked, Failure> {
    match action {
        Action::Prewarm(delivery) => image::prewarm(delivery, connection, workshop, meter).await,
        Action::CreateNode(node) => node::create(node, connection, workshop, meter).await,
        Action::PlaceImages(placement) => inside::place_ahead(placement, connection, workshop, meter).await,
        Action::KeepImages { container, images } => inside::keep(container, images, connection, workshop).await,
        Action::StartNode { container, node } => node::start(container, node, connection).await,
        Action::StopNode { container, name } => node::stop(container, name, connection, workshop.events).await,
        Action::RemoveNode(node) => node::remove(node, connection).await,
        Action::Mend(mend) => mend::mend(mend, &connection.session).await,
        Action::ClearNetwork { image } => network::clear(image, connection).await,
    }
}

fn outcome(
    host: &HostName,
    action: &Action,
    began: Instant,
    result: Result<Worked, Failure>,
    events: &Events,
) -> Outcome {
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let outcome = |subject: String, status: &str, bytes, failure| Outcome {
        host: host.clone(),
        subject,
        status: status.into(),
        bytes,
        milliseconds,
        failure,
    };
    match result {
        Ok(worked) => {
            events.on(host, Progress::Done { what: format!("{} {}", worked.subject, worked.status) });
            outcome(worked.subject, worked.status, worked.bytes, None)
        }
        Err(failure) => {
            events.on(host, Progress::Failed { why: failure.message.clone() });
            outcome(subject(action), "failed", 0, Some(failure))
        }
    }
}

/// What a step is about, for the report of its failure.
fn subject(action: &Action) -> String {
    match action {
        Action::Prewarm(delivery) => delivery.image.reference.familiar(),
        Action::CreateNode(node) => node.node.to_string(),
        Action::PlaceImages(placement) => placement.name.clone(),
        Action::KeepImages { container, .. } => container.clone(),
        Action::StartNode { node, .. } => node.to_string(),
        Action::StopNode { name, .. } => name.clone(),
        Action::RemoveNode(node) => node.name.clone(),
        Action::Mend(mend) => mend.to_string(),
        Action::ClearNetwork { .. } => "network".into(),
    }
}

/// Ends when the connection to a host does.
async fn lost(connection: &Connection) -> Failure {
    let error = connection.session.closed().await;
    Failure::new(&error, error.hint()).on(&connection.host.name)
}

/// What lies below a failure: where the connection has died with it, that is the cause.
async fn deeper(failure: Failure, connection: &Connection) -> Failure {
    tokio::time::timeout(Duration::from_millis(500), lost(connection)).await.unwrap_or(failure)
}

/// An engine's error, told as a failure of its host.
fn failure(connection: &Connection, error: &crate::docker::Error) -> Failure {
    Failure::new(error, error.hint()).on(&connection.host.name)
}
