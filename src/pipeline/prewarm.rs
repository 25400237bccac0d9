//! `image prewarm`: images onto hosts, and into the nodes that will stand there.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use crate::apply::Journal;
use crate::cluster::names::is_holder_of;
use crate::cluster::{Cluster, ClusterName, Member, Source};
use crate::host::{Host, HostName, Severity};
use crate::oci::{PinnedImage, ReferenceError};
use crate::plan::{Action, Failure, ImageOnHost, Outcome, Plan, Report, Step};
use crate::provision::{Images, NodeImages};
use crate::{preflight, prewarm as stage, probe, provision};

use super::carry::{Cargo, carry_out};
use super::compression::Compressing;
use super::needs::Needs;
use super::pinning::{Resolved, Wish, pin};
use super::sourcing::{Place, Sourced, Sourcing, open};
use super::{Environment, Probed, Stop, Travel, connect, disconnect};

/// Something to bring to hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// An image, a release or a channel.
    Named(Source),
    /// All images of an archive.
    In(Place),
}

impl FromStr for Pick {
    type Err = ReferenceError;

    /// `docker:NAME`; a path, which begins with `.` or `/` or ends as archives do; else a name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_path = text.starts_with(['.', '/'])
            || [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|ending| text.ends_with(ending));
        match text.starts_with("docker:") || is_path {
            true => text.parse().map(Self::In),
            false => text.parse().map(Self::Named),
        }
    }
}

/// What `image prewarm` is asked.
#[derive(Debug)]
pub struct PrewarmRequest {
    /// Images, releases, archives.
    pub picks: Vec<Pick>,
    /// A cluster whose images are wanted on its hosts, besides.
    pub cluster: Option<Cluster>,
    /// Where to, without a cluster.
    pub hosts: Vec<Host>,
    /// Where images come from.
    pub sourcing: Sourcing,
    /// How they go.
    pub travel: Travel,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What came of a prewarm.
#[derive(Debug)]
pub struct Prewarmed {
    /// What was, or would be, done.
    pub plan: Plan,
    /// What became of it, host by host.
    pub report: Report,
    /// The references and their digests.
    pub images: Vec<PinnedImage>,
}

/// Brings images to hosts.
///
/// # Errors
/// Only what concerns all hosts: the registry, the store. What concerns one host is in the report.
pub async fn prewarm(request: PrewarmRequest, environment: &Environment) -> Result<Prewarmed, Stop> {
    let members = request.cluster.iter().flat_map(|cluster| &cluster.members);
    let hosts: Vec<Host> = request.hosts.iter().chain(members.map(|member| &member.host)).cloned().collect();
    let probed = connect(&hosts, environment).await?;
    let fleet = probed.fleet.clone();
    let journal = Journal::default();
    let run = prewarm_on(&request, probed, &journal, environment);
    let result = tokio::select! {
        result = Box::pin(run) => result,
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    };
    // Holders that are not full; images that are pulled stay.
    let left = journal.roll_back(&fleet).await;
    disconnect(fleet).await;
    match result {
        Err(Stop::Interrupted(_)) => Err(Stop::Interrupted(left)),
        other => other,
    }
}

async fn prewarm_on(
    request: &PrewarmRequest,
    mut probed: Probed,
    journal: &Journal,
    environment: &Environment,
) -> Result<Prewarmed, Stop> {
    let mut report = Report::default();
    let failed = std::mem::take(&mut probed.failures);
    report.outcomes.extend(failed.into_iter().filter_map(|failure| refused(failure.host.clone()?, failure)));
    drop_refused(&mut probed, &mut report);
    if probed.facts.is_empty() {
        return Ok(Prewarmed { plan: Plan::default(), report, images: Vec::new() });
    }
    let platforms = probed.facts.values().filter_map(|facts| facts.platform().ok()).collect();
    let sourced = Sourced::open(&request.sourcing, environment).await?;
    let needs = match &request.cluster {
        Some(cluster) => Some(Needs::of(cluster, probed.server_memory(cluster), &sourced, environment).await?),
        None => None,
    };
    let picked = picked(request, &sourced, environment).await?;
    let for_engines = picked.len() + usize::from(needs.is_some());
    let mut of_cluster = needs.iter().flat_map(Needs::wishes);
    let node = of_cluster.next();
    let wishes: Vec<Wish> = node.into_iter().chain(picked).chain(of_cluster).collect();
    let resolved = pin(&wishes, &platforms, sourced.lock(), environment).await?;
    let wanted = wanted(&resolved.images[..for_engines], &mut probed, &mut report).await;
    let mut steps = steps(&wanted, request.travel.ways, &mut probed, &mut report);
    if let (Some(cluster), Some(needs)) = (&request.cluster, &needs) {
        let images = node_images(cluster, &wanted, (needs, &resolved), &probed);
        steps.extend(provision::placements(cluster, &images, &probed.facts));
    }
    let mut steps = without_full_disks(steps, &mut probed, &mut report);
    let compressing = Compressing {
        wish: request.travel.recompress,
        resolved: &resolved,
        probed: &probed,
        dry_run: request.dry_run,
        environment,
    };
    let variants = compressing.settle(&mut steps).await?;
    present(&wanted, &probed, &mut report);
    report.outcomes.extend(request.cluster.iter().flat_map(|cluster| waiting(&cluster.name, &steps, &probed)));
    let mut plan = Plan::default();
    plan.push("Prewarm", steps);
    if !request.dry_run {
        sourced.keep(&resolved, environment)?;
    }
    if !request.dry_run && !plan.is_empty() {
        let cargo = Cargo { resolved: &resolved, variants: &variants };
        let applied = carry_out(&plan, &probed.fleet, cargo, journal, environment).await?;
        report.outcomes.extend(applied.outcomes);
    }
    Ok(Prewarmed { plan, report, images: resolved.images })
}

/// What the user named: images as such, and all those of archives.
async fn picked(request: &PrewarmRequest, sourced: &Sourced, environment: &Environment) -> Result<Vec<Wish>, Failure> {
    let everything = request.picks.is_empty() && request.cluster.is_none();
    let bundle = request.sourcing.bundle.iter().filter(|_| everything).cloned().map(Pick::In);
    let mut wishes = Vec::new();
    for pick in request.picks.iter().cloned().chain(bundle) {
        match pick {
            Pick::Named(source) => wishes.push(sourced.wish(&source)),
            Pick::In(place) => {
                let archive = Arc::new(open(&place, environment).await?);
                wishes.extend(Wish::all_of(&archive)?);
            }
        }
    }
    Ok(wishes)
}

/// A host that nothing can be done with.
pub(super) fn refused(host: HostName, failure: Failure) -> Option<Outcome> {
    let (status, subject) = ("failed".to_string(), "host".to_string());
    Some(Outcome { host, subject, status, bytes: 0, milliseconds: 0, failure: Some(failure) })
}

/// Hosts that preflight refuses leave the run; the others go on.
fn drop_refused(probed: &mut Probed, report: &mut Report) {
    let findings = probed.facts.iter().flat_map(|(host, facts)| preflight::image_findings(host, facts));
    let findings: Vec<_> = findings.filter(|finding| finding.severity == Severity::Refuse).collect();
    drop_hosts(findings, probed, report);
}

fn drop_hosts(findings: Vec<crate::host::Finding>, probed: &mut Probed, report: &mut Report) {
    for finding in findings {
        let Some(host) = finding.host else { continue };
        probed.facts.remove(&host);
        let failure = Failure { host: Some(host.clone()), message: finding.message, hint: Some(finding.hint) };
        report.outcomes.extend(refused(host, failure));
    }
}

/// What has to be done; hosts that cannot take images the way the user wants leave the run.
fn steps(
    wanted: &BTreeMap<HostName, Vec<ImageOnHost>>,
    ways: crate::plan::Ways,
    probed: &mut Probed,
    report: &mut Report,
) -> Vec<Step> {
    if let Err(findings) = stage::steps(wanted, &probed.facts, ways) {
        drop_hosts(findings, probed, report);
    }
    stage::steps(wanted, &probed.facts, ways).unwrap_or_default()
}

fn without_full_disks(steps: Vec<Step>, probed: &mut Probed, report: &mut Report) -> Vec<Step> {
    drop_hosts(stage::findings(&steps, &probed.facts), probed, report);
    steps.into_iter().filter(|step| probed.facts.contains_key(&step.host)).collect()
}

/// What every host is to hold; its facts then say what of it the engine holds already.
pub(super) async fn wanted(
    images: &[PinnedImage],
    probed: &mut Probed,
    report: &mut Report,
) -> BTreeMap<HostName, Vec<ImageOnHost>> {
    let wanted = stage::wanted(images, &probed.facts);
    let ask = async |(host, images): (&HostName, &Vec<ImageOnHost>)| {
        let connection = probed.fleet.get(host)?;
        Some((host.clone(), probe::images(connection, images).await))
    };
    let answers = futures_util::future::join_all(wanted.iter().map(ask)).await;
    for (host, answer) in answers.into_iter().flatten() {
        match (answer, probed.facts.get_mut(&host)) {
            (Ok(held), Some(facts)) => held.into_facts(facts),
            (Err(failure), _) => {
                probed.facts.remove(&host);
                report.outcomes.extend(refused(host, failure));
            }
            _ => {}
        }
    }
    wanted
}

/// Images that are there already, for the report.
fn present(wanted: &BTreeMap<HostName, Vec<ImageOnHost>>, probed: &Probed, report: &mut Report) {
    for (host, images) in wanted {
        let Some(facts) = probed.facts.get(host) else { continue };
        let held = images.iter().filter(|image| stage::is_present(image, facts));
        report.outcomes.extend(held.map(|image| there(host, image.reference.familiar())));
    }
}

/// Images that wait for their nodes already, for the report: holders of this cluster that no step takes away.
fn waiting(cluster: &ClusterName, steps: &[Step], probed: &Probed) -> Vec<Outcome> {
    let is_removed = |host: &HostName, name: &str| {
        let removes = |action: &Action| matches!(action, Action::RemoveNode(removed) if removed.name == name);
        steps.iter().any(|step| step.host == *host && removes(&step.action))
    };
    let holders = probed.facts.iter().flat_map(|(host, facts)| facts.holders.iter().map(move |holder| (host, holder)));
    let left = holders.filter(|(host, holder)| is_holder_of(holder, cluster) && !is_removed(host, &holder.name));
    left.map(|(host, holder)| there(host, holder.name.clone())).collect()
}

fn there(host: &HostName, subject: String) -> Outcome {
    Outcome { host: host.clone(), subject, status: "present".into(), bytes: 0, milliseconds: 0, failure: None }
}

/// What every host's node is made of, and what it finds inside.
pub(super) fn node_images(
    cluster: &Cluster,
    on_hosts: &BTreeMap<HostName, Vec<ImageOnHost>>,
    (needs, resolved): (&Needs, &Resolved),
    probed: &Probed,
) -> Images {
    let of_host = |member: &Member| {
        let host = &member.host.name;
        let node = on_hosts.get(host)?.first()?.clone();
        let inside = needs.inside(member.role, resolved, probed.facts.get(host)?);
        Some((host.clone(), NodeImages { node, inside }))
    };
    cluster.members.iter().filter_map(of_host).collect()
}
