//! What nobody needs any more leaves the store.

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;

use crate::oci::{Descriptor, Digest, Document, MAX_MANIFEST_BYTES, Manifest, REF_NAME, Reference};

use super::{Error, Store, blocking, layout};

/// What left the store, or would leave it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Pruned {
    /// Files.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Forgets the images for which `keep` says no, and removes all blobs and records that none of the others needs. A
    /// blob that another process is reading is read to its end; one that it needs later is fetched again.
    ///
    /// # Errors
    /// [`Error::Index`] when `index.json` is broken, [`Error::Busy`], [`Error::Io`].
    pub async fn prune(
        &self,
        keep: impl Fn(&Reference) -> bool + Send + 'static,
        dry_run: bool,
    ) -> Result<Pruned, Error> {
        let lock = self.lock_index().await?;
        let derivations = self.derivations().await?;
        let store = self.clone();
        let work = move || {
            let _held = lock;
            let mut index = store.read_index()?;
            index.manifests.retain(|entry| {
                let name = entry.annotations.get(REF_NAME).and_then(|name| name.parse().ok());
                name.is_some_and(|name| keep(&name))
            });
            let mut needed = store.reachable(&index.manifests);
            let made = derivations.iter().filter(|one| needed.contains(&one.original.digest));
            let made: Vec<Digest> = made.filter_map(|one| Some(one.result.as_ref()?.digest.clone())).collect();
            needed.extend(made);
            let pruned = store.sweep(&needed, dry_run)?;
            if !dry_run {
                store.write_index(&index)?;
                store.forget_derivations(|original| needed.contains(original));
            }
            Ok(pruned)
        };
        blocking(&Digest::of(b""), work).await?
    }

    /// The digests that these images lead to, as far as their documents are here.
    fn reachable(&self, roots: &[Descriptor]) -> BTreeSet<Digest> {
        let (mut found, mut left) = (BTreeSet::new(), roots.to_vec());
        while let Some(next) = left.pop() {
            if !found.insert(next.digest.clone()) || next.size > MAX_MANIFEST_BYTES {
                continue;
            }
            let Ok(bytes) = self.shared.layout.read_small(&next) else { continue };
            match Document::parse(&next.media_type, &bytes) {
                Ok(Document::Index(index)) => left.extend(index.manifests),
                Ok(Document::Manifest(Manifest { config, layers })) => {
                    found.extend(layers.into_iter().chain([config]).map(|blob| blob.digest));
                }
                Err(_) => {}
            }
        }
        found
    }

    /// Removes all blobs but the needed ones, and what has arrived of others.
    fn sweep(&self, needed: &BTreeSet<Digest>, dry_run: bool) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        let layout = &self.shared.layout;
        for folder in [layout.blobs(), layout.ingest()] {
            let entries = fs::read_dir(&folder).map_err(|error| Error::io("reading", &folder, error))?;
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let digest = format!("sha256:{}", name.trim_start_matches("sha256-")).parse::<Digest>();
                if digest.is_ok_and(|digest| needed.contains(&digest)) || name.starts_with("write-") {
                    continue;
                }
                pruned.blobs += 1;
                pruned.bytes += entry.metadata().map_or(0, |found| found.len());
                if !dry_run {
                    layout::remove(&entry.path())?;
                }
            }
        }
        Ok(pruned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn described(media_type: &str, bytes: &[u8]) -> Descriptor {
        let media_type = MediaType(media_type.into());
        let size = bytes.len() as u64;
        Descriptor { media_type, digest: Digest::of(bytes), size, platform: None, annotations: [].into() }
    }

    /// Puts an image of one layer into the store; its layer's name.
    async fn image(store: &Store, name: &str, layer: &'static [u8]) -> Digest {
        let (config, layer_descriptor) = (described("config", b"{}"), described("layer", layer));
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer_descriptor],
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let root = described(MediaType::OCI_MANIFEST, &manifest);
        for bytes in [manifest, b"{}".to_vec(), layer.to_vec()] {
            store.write(bytes).await.unwrap();
        }
        store.record(&name.parse().unwrap(), &root).await.unwrap();
        layer_descriptor.digest
    }

    #[tokio::test]
    async fn what_a_kept_image_needs_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let kept = image(&store, "kept:1", b"kept layer").await;
        let gone = image(&store, "gone:1", b"gone layer").await;
        let keep = |name: &Reference| name.repository().ends_with("kept");
        let would = store.prune(keep, true).await.unwrap();
        assert!(store.path(&gone).exists(), "only looked at");
        let pruned = store.prune(keep, false).await.unwrap();
        assert_eq!((would, pruned.blobs), (pruned.clone(), 2), "a manifest and a layer: the config is shared");
        assert_eq!((store.path(&kept).exists(), store.path(&gone).exists()), (true, false));
        assert_eq!(store.images().await.unwrap().len(), 1);
        assert_eq!(store.prune(keep, false).await.unwrap(), Pruned::default());
    }
}
