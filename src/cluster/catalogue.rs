//! The images that k3s starts of its own accord, and which of them a cluster's nodes need to come up with no internet.
//!
//! A release says them in its own list; where that cannot be reached, `images/catalogue.yaml` knows them for a release of the
//! same line. A line that is not in it is an error, never a guess.
//!
//! Which node needs which: **every node that runs pods gets all images that the cluster starts.** Pause and the load balancer
//! run on each of them; DNS, Traefik, the storage provisioner, the metrics server and helm's jobs are single pods that the
//! scheduler puts anywhere and moves when a node fails; busybox runs wherever somebody's volume is made. Taints keep most of
//! them away from a node, but they are the user's to change at any time, and then there is no internet to fetch from. A server
//! with `disable-agent` runs no pods and gets nothing.

mod parts;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{K3s, Release, Role};
use crate::host::{Finding, rules};
use crate::oci::Reference;
use parts::Parts;

pub use parts::Component;

/// What k3arm knows by itself.
const CATALOGUE: &str = include_str!("../../images/catalogue.yaml");

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    /// By major and minor version: `1.36`.
    releases: BTreeMap<String, Line>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Line {
    read_from: Release,
    images: BTreeMap<Component, Reference>,
}

/// What a cluster's user does without, where the profile or its flags leave parts of k3s out.
pub fn missed(k3s: &K3s, server_memory: u64) -> Vec<&'static str> {
    Parts::of(k3s, server_memory).missed()
}

/// All images that a release of k3s may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseImages {
    release: Release,
    images: Vec<Reference>,
    origin: Origin,
}

/// Who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The release's own list.
    List,
    /// k3arm's catalogue, which has it from this release of the same line.
    Catalogue(Release),
}

/// Nobody knows which images a k3s starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownRelease {
    /// The release's list was not to be had, and its line is not in the catalogue.
    #[error("k3arm does not know which images k3s {release} starts: its catalogue has {known}")]
    Line {
        /// Which release.
        release: Release,
        /// The lines of the catalogue, for people.
        known: String,
    },
    /// The tag of the node image is no release.
    #[error("k3arm cannot tell which images {0} starts: its tag is no k3s release")]
    Image(Reference),
}

impl UnknownRelease {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Line { .. } => {
                "let this machine reach github.com, where the release's list is, or name the images under images: in the cluster file"
            }
            Self::Image(_) => {
                "name the images under images: in the cluster file (k3s publishes them as k3s-images.txt)"
            }
        }
    }
}

/// What the nodes of one cluster start of their own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemImages {
    images: Vec<Reference>,
    server_runs_pods: bool,
    /// What the user should know about them.
    pub findings: Vec<Finding>,
}

impl ReleaseImages {
    /// As the release's own list has them.
    pub fn listed(release: &Release, images: Vec<Reference>) -> Self {
        Self { release: release.clone(), images, origin: Origin::List }
    }

    /// As k3arm's catalogue has them for the release's line.
    ///
    /// # Errors
    /// The line is not in it.
    pub fn catalogued(release: &Release) -> Result<Self, UnknownRelease> {
        // A test reads it.
        let catalogue: Catalogue = serde_saphyr::from_str(CATALOGUE).unwrap_or_default();
        let (major, minor) = release.minor();
        let Some(line) = catalogue.releases.get(&format!("{major}.{minor}")) else {
            let known = catalogue.releases.into_keys().collect::<Vec<_>>().join(", ");
            return Err(UnknownRelease::Line { release: release.clone(), known });
        };
        let images = line.images.values().cloned().collect();
        Ok(Self { release: release.clone(), images, origin: Origin::Catalogue(line.read_from.clone()) })
    }

    /// Who says so.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Those that a cluster with these settings starts, under the names by which it asks for them. `server_memory` is that of
    /// the server's host in bytes; the profile depends on it.
    pub fn started(&self, k3s: &K3s, server_memory: u64) -> SystemImages {
        let parts = Parts::of(k3s, server_memory);
        let mut system =
            SystemImages { images: Vec::new(), server_runs_pods: parts.server_runs_pods, findings: self.findings() };
        let mut left = Vec::new();
        for image in &self.images {
            match Component::of(image) {
                Some(component) if parts.renamed(component).is_some() || !parts.starts(component) => {}
                // A part that k3s got after this k3arm. A cluster with all parts starts it; on a small machine every megabyte
                // counts, and what it needs to come up is known.
                None if !parts.has_all => left.push(image.familiar()),
                _ => system.take(parts.named(image), "system-default-registry"),
            }
        }
        for component in Component::ALL.into_iter().filter(|component| parts.starts(*component)) {
            if let Some((flag, image)) = parts.renamed(component) {
                system.take(image.parse::<Reference>().map_err(|error| error.to_string()), flag);
            }
        }
        system.findings.extend(left_out(&left));
        if parts.renamed(Component::Pause).is_none() && !self.has(Component::Pause) {
            system.findings.push(no_pause(&self.release));
        }
        system
    }

    fn has(&self, component: Component) -> bool {
        self.images.iter().any(|image| Component::of(image) == Some(component))
    }

    fn findings(&self) -> Vec<Finding> {
        match &self.origin {
            Origin::Catalogue(other) if *other != self.release => {
                let release = &self.release;
                let seen = format!("the list of images of k3s {release} cannot be had, those of {other} are taken");
                vec![rules::IMAGES_OF_ANOTHER.overall(seen)]
            }
            _ => Vec::new(),
        }
    }
}

impl SystemImages {
    /// What a node of this role needs: the cluster's own images and the user's, each name once. Where both name an image, the
    /// user's reference counts, which may have a digest.
    pub fn on(&self, role: Role, users: &[Reference]) -> Vec<Reference> {
        if role == Role::Server && !self.server_runs_pods {
            return Vec::new();
        }
        let named: BTreeMap<Reference, &Reference> =
            self.images.iter().chain(users).map(|image| (image.on_engine(), image)).collect();
        named.into_values().cloned().collect()
    }

    fn take(&mut self, image: Result<Reference, String>, flag: &str) {
        match image {
            Ok(image) => self.images.push(image),
            // One flag spoils all names: it is told once.
            Err(_)
                if self
                    .findings
                    .iter()
                    .any(|told| told.code == rules::IMAGE_FLAG.code && told.message.starts_with(flag)) => {}
            Err(message) => {
                let finding = rules::IMAGE_FLAG.overall(format!("{flag} in k3s.config gives no image: {message}"));
                self.findings.push(finding);
            }
        }
    }
}

fn left_out(images: &[String]) -> Option<Finding> {
    let seen = || format!("left out, as this profile has no parts besides DNS: {}", images.join(", "));
    (!images.is_empty()).then(|| rules::UNKNOWN_IMAGES.overall(seen()))
}

fn no_pause(release: &Release) -> Finding {
    rules::NO_PAUSE.overall(format!("the list of images of k3s {release} has no pause image"))
}

#[cfg(test)]
#[path = "catalogue/tests.rs"]
mod tests;
