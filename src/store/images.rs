//! `index.json`: which images the store holds, by name.

use std::fs::File;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{interval, timeout};

use crate::oci::{CONTAINERD_NAME, Descriptor, MAX_MANIFEST_BYTES, REF_NAME, Reference};

use super::{Error, Store, blocking};

/// How long another process may take to rewrite the index: it is one small file.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexFile {
    schema_version: u32,
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
}

impl Store {
    /// Writes down that the store holds the image `reference`, whose index or manifest is `root`; an earlier entry of
    /// that name is replaced.
    ///
    /// # Errors
    /// [`Error::Index`] when `index.json` is broken, [`Error::Busy`], [`Error::NoSpace`], [`Error::Io`].
    pub async fn record(&self, reference: &Reference, root: &Descriptor) -> Result<(), Error> {
        let lock = self.lock_index().await?;
        let (store, name, digest) = (self.clone(), reference.to_string(), root.digest.clone());
        // The platform belongs into the image's own index.
        let mut entry = Descriptor { platform: None, ..root.clone() };
        entry.annotations.extend([REF_NAME, CONTAINERD_NAME].map(|key| (key.into(), name.clone())));
        let rewrite = move || {
            let _held = lock;
            let mut index = store.read_index()?;
            index.manifests.retain(|other| other.annotations.get(REF_NAME) != Some(&name));
            index.manifests.push(entry);
            store.write_index(&index)
        };
        blocking(&digest, rewrite).await?
    }

    /// The images that were recorded, oldest first. Entries of other programs without a full name are left out.
    ///
    /// # Errors
    /// [`Error::Index`] when `index.json` is broken, [`Error::Io`].
    pub async fn images(&self) -> Result<Vec<(Reference, Descriptor)>, Error> {
        let store = self.clone();
        let index = tokio::task::spawn_blocking(move || store.read_index()).await;
        let index = index.map_err(|error| Error::io("reading", self.root(), io::Error::other(error)))??;
        let named = index.manifests.into_iter().filter_map(|entry| {
            let reference = entry.annotations.get(REF_NAME)?.parse().ok()?;
            Some((reference, entry))
        });
        Ok(named.collect())
    }

    /// The lock is on `oci-layout`, which is never replaced.
    pub(super) async fn lock_index(&self) -> Result<File, Error> {
        let path = self.root().join("oci-layout");
        let file = File::open(&path).map_err(|error| Error::io("opening", &path, error))?;
        let mut ticks = interval(Duration::from_millis(10));
        let locked = async {
            while file.try_lock().is_err() {
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, locked).await.map_err(|_| Error::Busy { path, waited: PATIENCE })?;
        Ok(file)
    }

    pub(super) fn read_index(&self) -> Result<IndexFile, Error> {
        use io::Read;
        let path = self.root().join("index.json");
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes))
            .map_err(|error| Error::io("reading", &path, error))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Index { path, source: error.into() })
    }

    pub(super) fn write_index(&self, index: &IndexFile) -> Result<(), Error> {
        let path = self.root().join("index.json");
        let bytes =
            serde_json::to_vec(index).map_err(|error| Error::Index { path: path.clone(), source: error.into() })?;
        self.shared.layout.replace(&path, &bytes)
    }
}
