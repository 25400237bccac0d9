//! Where a run takes its images from: the registries, or a bundle; pinned by the lock, if there is one.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::archive::Archive;
use crate::cluster::Source;
use crate::host::{Destination, Host};
use crate::lockfile::{LockFile, Written};
use crate::oci::{Lock, Reference, ReferenceError};
use crate::plan::{Failure, Progress};
use crate::probe::probe;

use super::Environment;
use super::origin::Origin;
use super::pinning::{Resolved, Wish};

/// How a run finds its images.
#[derive(Debug, Clone, Default)]
pub struct Sourcing {
    /// An archive in the place of all registries: nothing but it and the hosts is asked.
    pub bundle: Option<Place>,
    /// The cluster file, beside which the lock is, or will be.
    pub cluster_file: Option<PathBuf>,
    /// Look everything up anew, whatever the lock says.
    pub update: bool,
}

/// Where an archive of images is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A tar file or a folder.
    File(PathBuf),
    /// This machine's Docker engine.
    Docker(Reference),
}

impl FromStr for Place {
    type Err = ReferenceError;

    /// `docker:NAME`, or a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("docker:") {
            Some(name) => name.parse().map(Self::Docker),
            None => Ok(Self::File(text.into())),
        }
    }
}

/// A run's images: where they come from, and what is known of them before anybody is asked.
pub(super) struct Sourced {
    origin: Origin,
    file: Option<LockFile>,
    /// What the file says.
    lock: Option<Lock>,
    update: bool,
}

impl Sourced {
    /// Opens the bundle and reads the lock, where there are such.
    pub(super) async fn open(sourcing: &Sourcing, environment: &Environment) -> Result<Self, Failure> {
        let origin = match &sourcing.bundle {
            Some(place) => Origin::Archive(Arc::new(open(place, environment).await?)),
            None => Origin::Registry(environment.registry.clone()),
        };
        let file = sourcing.cluster_file.as_deref().map(LockFile::beside);
        let lock = match &file {
            Some(file) => file.read().map_err(|e| Failure::new(&e, e.hint()))?,
            None => None,
        };
        Ok(Self { origin, file, lock, update: sourcing.update })
    }

    pub(super) fn wish(&self, source: &Source) -> Wish {
        Wish { source: source.clone(), origin: self.origin.clone() }
    }

    /// What must not be looked up anew.
    pub(super) fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref().filter(|_| !self.update)
    }

    /// The archive that stands for all registries.
    pub(super) fn bundle(&self) -> Option<&Archive> {
        match &self.origin {
            Origin::Archive(archive) => Some(archive),
            Origin::Registry(_) => None,
        }
    }

    /// Writes the lock, if there is a place for one, and tells what it says otherwise than before.
    pub(super) fn keep(&self, resolved: &Resolved, environment: &Environment) -> Result<(), Failure> {
        let Some(file) = &self.file else { return Ok(()) };
        let lock = self.merged(resolved);
        let before = self.lock.clone().unwrap_or_default();
        for moved in before.differences(&lock).iter().filter(|moved| moved.from.is_some()) {
            environment.events.overall(Progress::Warning { what: moved.to_string() });
        }
        let written = file.write(&lock).map_err(|e| Failure::new(&e, e.hint()))?;
        if written == Written::Changed {
            let what = format!("wrote {}: {} images pinned", file.path().display(), lock.iter().count());
            environment.events.overall(Progress::Done { what });
        }
        Ok(())
    }

    /// What this run wants, pinned; the platforms of earlier runs stay.
    fn merged(&self, resolved: &Resolved) -> Lock {
        let mut lock = self.lock.clone().unwrap_or_default();
        lock.retain(|source| resolved.lock.get(source).is_some());
        for (source, image) in resolved.lock.iter() {
            if lock.merge(source, image.clone()).is_err() {
                lock.insert(source, image.clone());
            }
        }
        lock
    }
}

/// Opens an archive where it is, or has this machine's engine make one.
pub(super) async fn open(place: &Place, environment: &Environment) -> Result<Archive, Failure> {
    let spool = &environment.store;
    let opened = match place {
        Place::File(path) => Archive::open(path, spool).await,
        Place::Docker(name) => {
            let (here, _) = probe(&Host::of(Destination::Local), &environment.ssh).await?;
            let tar = here.engine.save(name).await.map_err(|e| Failure::new(&e, e.hint()))?;
            Archive::from_stream(&format!("docker:{}", name.familiar()), tar, spool).await
        }
    };
    opened.map_err(|e| Failure::new(&e, e.hint()))
}
