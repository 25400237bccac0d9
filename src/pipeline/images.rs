//! `image resolve` and `image prewarm`.

mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::apply::{Journal, Workshop, apply};
use crate::cluster::{Release, Selector, Source};
use crate::host::{Host, HostName, Severity};
use crate::mirror::{Mirror, Published};
use crate::oci::{Config, Descriptor, Document, Manifest, PinnedImage, Platform, PlatformImage, Reference};
use crate::plan::{Failure, ImageOnHost, Outcome, Plan, Progress, Report, Step};
use crate::probe::Fleet;
use crate::registry::Fetched;
use crate::store::Store;
use crate::{preflight, prewarm as stage, probe, resolve as resolution};

use super::{Environment, Probed, Stop, connect, disconnect};
use upstream::{Upstream, fetch};

/// Where releases of k3s are published.
const REPOSITORY: &str = "docker.io/rancher/k3s";

/// What `image resolve` is asked.
#[derive(Debug)]
pub struct ResolveRequest {
    /// Images and releases.
    pub sources: Vec<Source>,
    /// For which platforms; with no platform and no host, all that an image has.
    pub platforms: BTreeSet<Platform>,
    /// For the platforms of these hosts.
    pub hosts: Vec<Host>,
}

/// What `image prewarm` is asked.
#[derive(Debug)]
pub struct PrewarmRequest {
    /// Images and releases.
    pub sources: Vec<Source>,
    /// Where to.
    pub hosts: Vec<Host>,
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

/// Images that are pinned, and all that is needed to give them to hosts.
pub(super) struct Resolved {
    pub(super) images: Vec<PinnedImage>,
    pub(super) supplies: BTreeMap<String, Supply>,
}

/// What stands behind a pinned image: its documents as they came, and where its layers come from.
pub(super) struct Supply {
    reference: Reference,
    /// The index or the only manifest first, then the manifests of the chosen platforms.
    documents: Vec<(Descriptor, Bytes)>,
    configs: Vec<Bytes>,
    source: Arc<dyn crate::store::Source>,
}

impl Supply {
    fn of(reference: &Reference, top: &Fetched, source: Arc<dyn crate::store::Source>) -> Self {
        let documents = vec![(top.descriptor.clone(), top.bytes.clone())];
        Self { reference: reference.clone(), documents, configs: Vec::new(), source }
    }

    /// As the mirror is given it.
    fn published(&self, image: &PinnedImage) -> Published {
        let blobs = image.platforms.values().flat_map(|image| std::iter::once(&image.config).chain(&image.layers));
        Published {
            reference: self.reference.clone(),
            documents: self.documents.clone(),
            blobs: blobs.cloned().collect(),
            source: self.source.clone(),
        }
    }
}

/// Pins references to digests.
///
/// # Errors
/// The registry's answer, or a host that could not be asked for its platform.
pub async fn resolve(request: ResolveRequest, environment: &Environment) -> Result<Vec<PinnedImage>, Stop> {
    let mut platforms = request.platforms;
    let probed = connect(&request.hosts, environment).await?;
    let mut failures = probed.failures;
    for (host, facts) in &probed.facts {
        match facts.platform() {
            Ok(platform) => drop(platforms.insert(platform)),
            Err(error) => failures.push(Failure::new(&error, None).on(host)),
        }
    }
    disconnect(probed.fleet).await;
    if !failures.is_empty() {
        return Err(Stop::Failures(failures));
    }
    tokio::select! {
        resolved = pin(&request.sources, &platforms, environment) => Ok(resolved?.images),
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    }
}

/// Resolves all sources for all platforms; every failure is told.
pub(super) async fn pin(
    sources: &[Source],
    platforms: &BTreeSet<Platform>,
    environment: &Environment,
) -> Result<Resolved, Stop> {
    let mut resolved = Resolved { images: Vec::new(), supplies: BTreeMap::new() };
    let mut failures = Vec::new();
    for source in sources {
        match pin_one(source, platforms, environment).await {
            Ok((image, supply)) => {
                resolved.supplies.insert(image.reference.on_engine().to_string(), supply);
                resolved.images.push(image);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(resolved) } else { Err(Stop::Failures(failures)) }
}

async fn pin_one(
    source: &Source,
    platforms: &BTreeSet<Platform>,
    environment: &Environment,
) -> Result<(PinnedImage, Supply), Failure> {
    let registry = &environment.registry;
    let reference = reference(source, environment).await?;
    let top = fetch(registry, &reference).await?;
    let mut supply = Supply::of(&reference, &top, Upstream::of(registry, &reference));
    let mut images = BTreeMap::new();
    match &top.document {
        Document::Index(index) => {
            let chosen = resolution::choose(&reference, index, platforms).map_err(|e| Failure::new(&e, None))?;
            for (platform, descriptor) in chosen {
                let fetched = fetch(registry, &reference.by_digest(&descriptor.digest)).await?;
                let Document::Manifest(manifest) = fetched.document.clone() else {
                    return Err(nested(&reference, &platform));
                };
                supply.documents.push((fetched.descriptor.clone(), fetched.bytes));
                let config = config(&reference, &manifest, &mut supply, environment).await?;
                images.insert(platform, one(fetched.descriptor, manifest, config)?);
            }
        }
        Document::Manifest(manifest) => {
            let config = config(&reference, manifest, &mut supply, environment).await?;
            let platforms = resolution::check_single(&reference, &config.platform, platforms);
            let image = one(top.descriptor.clone(), manifest.clone(), config)?;
            let platforms = platforms.map_err(|e| Failure::new(&e, None))?;
            images.extend(platforms.into_iter().map(|platform| (platform, image.clone())));
        }
    }
    Ok((resolution::pin(&reference, &top.descriptor, &top.document, images), supply))
}

/// The config of a manifest; its bytes go to the supply.
async fn config(
    reference: &Reference,
    manifest: &Manifest,
    supply: &mut Supply,
    environment: &Environment,
) -> Result<Config, Failure> {
    let bytes = environment.registry.small_blob(reference, &manifest.config).await;
    let bytes = bytes.map_err(|e| Failure::new(&e, e.hint()))?;
    let config = Config::parse(&bytes).map_err(|e| Failure::new(&e, None))?;
    supply.configs.push(bytes);
    Ok(config)
}

fn one(descriptor: Descriptor, manifest: Manifest, config: Config) -> Result<PlatformImage, Failure> {
    resolution::platform_image(descriptor, manifest, config).map_err(|e| Failure::new(&e, None))
}

fn nested(reference: &Reference, platform: &Platform) -> Failure {
    Failure {
        host: None,
        message: format!("{reference}: the entry for {platform} is an index again, not an image"),
        hint: None,
    }
}

/// The image that a source stands for. A channel is looked up now, so that what is pinned is a release.
async fn reference(source: &Source, environment: &Environment) -> Result<Reference, Failure> {
    let release = match source {
        Source::Image(reference) => return Ok(reference.clone()),
        Source::Release(Selector::Release(release)) => release.clone(),
        Source::Release(Selector::Channel(channel)) => latest(channel, environment).await?,
    };
    let text = format!("{REPOSITORY}:{}", release.tag());
    text.parse().map_err(|e: crate::oci::ReferenceError| Failure::new(&e, None))
}

async fn latest(channel: &str, environment: &Environment) -> Result<Release, Failure> {
    let channels = environment.registry.channels().await.map_err(|e| Failure::new(&e, e.hint()))?;
    let failure = |message: String| {
        let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
        Failure { host: None, message, hint: Some(format!("there are: {}", names.join(", "))) }
    };
    let found = channels.iter().find(|found| found.name == channel);
    let found = found.ok_or_else(|| failure(format!("k3s has no channel {channel}")))?;
    let latest = found.latest.as_deref().ok_or_else(|| failure(format!("channel {channel} names no release now")))?;
    latest.parse().map_err(|e: crate::cluster::ReleaseError| failure(format!("channel {channel}: {e}")))
}

/// Brings images to hosts.
///
/// # Errors
/// Only what concerns all hosts: the registry, the store. What concerns one host is in the report.
pub async fn prewarm(request: PrewarmRequest, environment: &Environment) -> Result<Prewarmed, Stop> {
    let probed = connect(&request.hosts, environment).await?;
    let fleet = probed.fleet.clone();
    let run = prewarm_on(&request, probed, environment);
    let result = tokio::select! {
        result = Box::pin(run) => result,
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    };
    disconnect(fleet).await;
    result
}

async fn prewarm_on(
    request: &PrewarmRequest,
    mut probed: Probed,
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
    let resolved = pin(&request.sources, &platforms, environment).await?;
    let wanted = wanted(&resolved.images, &mut probed, &mut report).await;
    let steps = without_full_disks(stage::steps(&wanted, &probed.facts), &mut probed, &mut report);
    present(&wanted, &probed, &mut report);
    let mut plan = Plan::default();
    plan.push("Prewarm", steps);
    if !request.dry_run && !plan.is_empty() {
        let applied = carry_out(&plan, &probed.fleet, &resolved, &Journal::default(), environment).await?;
        report.outcomes.extend(applied.outcomes);
    }
    Ok(Prewarmed { plan, report, images: resolved.images })
}

/// Carries out a plan whose images come from our own mirror.
pub(super) async fn carry_out(
    plan: &Plan,
    fleet: &Fleet,
    resolved: &Resolved,
    journal: &Journal,
    environment: &Environment,
) -> Result<Report, Failure> {
    let fail = |e: crate::store::Error| Failure::new(&e, e.hint());
    let store = Store::open(&environment.store).map_err(fail)?;
    for supply in resolved.supplies.values() {
        for bytes in supply.documents.iter().map(|(_, bytes)| bytes).chain(&supply.configs) {
            store.write(bytes.clone()).await.map_err(fail)?;
        }
        if let Some((root, _)) = supply.documents.first() {
            store.record(&supply.reference, root).await.map_err(fail)?;
        }
    }
    let mirror = Mirror::start(store).map_err(|e| Failure::new(&e, None))?;
    let published = resolved.images.iter().filter_map(|image| {
        let name = image.reference.on_engine().to_string();
        let published = resolved.supplies.get(&name)?.published(image);
        Some((name, published))
    });
    let supplies = published.collect();
    let workshop = Workshop { fleet, mirror: Some(&mirror), supplies: &supplies, events: &environment.events, journal };
    Ok(apply(plan, &workshop).await)
}

/// A host that nothing can be done with.
pub(super) fn refused(host: HostName, failure: Failure) -> Option<Outcome> {
    let (status, subject) = ("failed".to_string(), "host".to_string());
    Some(Outcome { host, subject, status, bytes: 0, milliseconds: 0, failure: Some(failure) })
}

/// Hosts that preflight refuses leave the run; the others go on.
fn drop_refused(probed: &mut Probed, report: &mut Report) {
    let findings = probed.facts.iter().flat_map(|(host, facts)| preflight::host_findings(host, facts));
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
            (Ok(held), Some(facts)) => facts.images = held,
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
        report.outcomes.extend(held.map(|image| Outcome {
            host: host.clone(),
            subject: image.reference.familiar(),
            status: "present".into(),
            bytes: 0,
            milliseconds: 0,
            failure: None,
        }));
    }
}

/// Tells how an image was resolved, for logs.
pub(super) fn tell(images: &[PinnedImage], environment: &Environment) {
    for image in images {
        let digest = image.digest().map(|digest| digest.short().to_string()).unwrap_or_default();
        let what = format!("{} is {digest}", image.reference.familiar());
        environment.events.overall(Progress::Done { what });
    }
}
