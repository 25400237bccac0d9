//! All images that a cluster needs: k3s itself, what k3s starts of its own accord, and what the user wants inside.

use std::time::Duration;

use crate::cluster::{Cluster, Component, ReleaseImages, Role, Source, SystemImages, UnknownRelease};
use crate::host::{Facts, Finding, ImageStore, rules};
use crate::oci::{PinnedImage, Reference};
use crate::plan::{Failure, ImageOnHost};
use crate::prewarm::image_on_host;

use super::pinning::{Resolved, Wish, reference, release_of};
use super::sourcing::Sourced;
use super::{Environment, Stop, check};

/// How long the release's list of images may take: there is a catalogue, and the lock keeps what was found.
const LIST_PATIENCE: Duration = Duration::from_secs(5);

/// What a cluster needs, and where it is to be taken from.
pub(super) struct Needs {
    node: Wish,
    inside: [(Role, Vec<Wish>); 2],
}

impl Needs {
    /// Looks up what the release starts, of that what these settings leave on, and adds the user's own. What the user
    /// should know about it is told.
    ///
    /// `memory` is the server's, in bytes; where it is not known, a profile that goes by it counts as the fullest.
    pub(super) async fn of(
        cluster: &Cluster,
        memory: Option<u64>,
        sourced: &Sourced,
        environment: &Environment,
    ) -> Result<Self, Stop> {
        let (system, findings) = match release_images(cluster, sourced, environment).await? {
            Ok(images) => {
                let mut system = images.started(&cluster.k3s, memory.unwrap_or(u64::MAX));
                let findings = std::mem::take(&mut system.findings);
                (Some(system), findings)
            }
            Err(unknown) => (None, vec![not_placed(&unknown)]),
        };
        check(findings, &environment.events)?;
        let users = &cluster.images;
        let wishes = |role| {
            let named = system.as_ref().map_or_else(|| users.clone(), |system: &SystemImages| system.on(role, users));
            (role, named.into_iter().map(|reference| sourced.wish(&Source::Image(reference))).collect())
        };
        let inside = [Role::Server, Role::Agent].map(wishes);
        Ok(Self { node: sourced.wish(&cluster.k3s.source), inside })
    }

    /// All of them, each once; k3s itself is the first.
    pub(super) fn wishes(&self) -> Vec<Wish> {
        let mut wishes = vec![self.node.clone()];
        for wish in self.inside.iter().flat_map(|(_, wishes)| wishes) {
            if wishes.iter().all(|earlier| earlier.source != wish.source) {
                wishes.push(wish.clone());
            }
        }
        wishes
    }

    /// What a node of this role on this host finds inside, as its own containerd will know it.
    pub(super) fn inside(&self, role: Role, resolved: &Resolved, facts: &Facts) -> Vec<ImageOnHost> {
        let Ok(platform) = facts.platform() else { return Vec::new() };
        let on_node = |image: &PinnedImage| {
            let on_host = image_on_host(image, facts, &platform)?;
            Some(ImageOnHost { store: ImageStore::Containerd, ..on_host })
        };
        let wishes = self.inside.iter().filter(|(of, _)| *of == role).flat_map(|(_, wishes)| wishes);
        wishes.filter_map(|wish| on_node(resolved.of(&wish.source)?)).collect()
    }
}

/// A cluster comes up without them, where its nodes reach the internet.
fn not_placed(unknown: &UnknownRelease) -> Finding {
    let seen = format!("{unknown}: its nodes pull them from the internet themselves");
    rules::IMAGES_UNKNOWN.overall(seen).with_hint(unknown.hint())
}

/// What the release starts: by the bundle, by the lock, by the release's own list, or by the built-in catalogue.
async fn release_images(
    cluster: &Cluster,
    sourced: &Sourced,
    environment: &Environment,
) -> Result<Result<ReleaseImages, UnknownRelease>, Failure> {
    let source = &cluster.k3s.source;
    let locked = sourced.lock().and_then(|lock| Some((lock, lock.get(&source.to_string())?)));
    let node = match locked {
        Some((_, image)) => image.reference.clone(),
        None => reference(&sourced.wish(source), environment).await?,
    };
    let Some(release) = release_of(&node) else {
        return Ok(Err(UnknownRelease::Image(node)));
    };
    let is_other = |image: &Reference| *image != node && !cluster.images.contains(image);
    if let Some((lock, _)) = locked {
        let others = lock.iter().map(|(_, image)| image.reference.clone()).filter(is_other);
        return Ok(Ok(ReleaseImages::listed(&release, others.collect())));
    }
    if let Some(bundle) = sourced.bundle() {
        let held = bundle.images().iter().filter_map(|image| image.reference.clone());
        let parts = held.filter(is_other).filter(|image| Component::of(image).is_some());
        return Ok(Ok(ReleaseImages::listed(&release, parts.collect())));
    }
    let version = release.to_string();
    let list = tokio::time::timeout(LIST_PATIENCE, environment.registry.release_images(&version)).await;
    match list {
        Ok(Ok(list)) => Ok(Ok(ReleaseImages::listed(&release, list))),
        unavailable => {
            tracing::debug!(?unavailable, "the release's own list of images cannot be had");
            Ok(ReleaseImages::catalogued(&release))
        }
    }
}
