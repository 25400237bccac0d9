//! `recompressed/`: which blob was made of which layer, so that it is made once.
//!
//! One small file for each layer and compression, replaced as a whole: processes that write the same one at the same time
//! have made equally good results, and a reader sees one of them. A record is a hint and no more: it counts only where its
//! blob is held and undamaged.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::oci::{Compression, Descriptor, Digest, ZstdLevel};

use super::{Error, Store, blocking};

/// A record is of some 700 bytes.
const MAX_BYTES: u64 = 16 << 10;

/// More records than anybody has; beyond, [`Store::derivations`] stops reading.
const MAX_RECORDS: usize = 100_000;

/// What became of a layer that was compressed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Derivation {
    /// The layer as published.
    pub original: Descriptor,
    /// The digest of its uncompressed bytes, which was checked.
    pub diff_id: Digest,
    /// With what it was compressed.
    pub compression: Compression,
    /// The result; `None` if it was not worth keeping.
    pub result: Option<Descriptor>,
    /// How long that took.
    pub took: Duration,
}

impl Store {
    /// Writes down what became of a layer.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`].
    pub async fn record_derivation(&self, derivation: Derivation) -> Result<(), Error> {
        let (store, digest) = (self.clone(), derivation.original.digest.clone());
        blocking(&digest, move || store.write_derivation(&derivation)).await?
    }

    /// What was made of a layer with `wanted` or something as good: the smallest held and undamaged result, else that it
    /// was tried in vain, else nothing.
    ///
    /// # Errors
    /// [`Error::Io`] when a held blob cannot be read.
    pub async fn derivation(
        &self,
        original: &Digest,
        diff_id: &Digest,
        wanted: Compression,
    ) -> Result<Option<Derivation>, Error> {
        let (store, digest) = (self.clone(), original.clone());
        let names = compressions().filter(move |made| made.is_as_good_as(wanted));
        let read = move || -> Vec<Derivation> {
            let files = names.map(|made| store.derivation_file(&digest, made));
            files.filter_map(|file| read(&file)).collect()
        };
        let mut found = blocking(original, read).await?;
        // What is there comes before what was tried in vain.
        found.sort_by_key(|one| one.result.as_ref().map_or(u64::MAX, |result| result.size));
        for one in found {
            let is_about_it = one.original.digest == *original && one.diff_id == *diff_id;
            let is_there = match &one.result {
                Some(result) => is_about_it && self.holds(result).await?,
                None => is_about_it,
            };
            if is_there {
                return Ok(Some(one));
            }
        }
        Ok(None)
    }

    /// Every readable record, of whatever layers, whether its blob is held or not.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read.
    pub async fn derivations(&self) -> Result<Vec<Derivation>, Error> {
        let folder = self.derivation_folder();
        let list = move || match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::io("reading", &folder, error)),
            Ok(entries) => Ok(entries.flatten().take(MAX_RECORDS).filter_map(|entry| read(&entry.path())).collect()),
        };
        let listed = tokio::task::spawn_blocking(list).await;
        listed.map_err(|error| Error::io("reading", self.root(), io::Error::other(error)))?
    }

    fn write_derivation(&self, derivation: &Derivation) -> Result<(), Error> {
        let folder = self.derivation_folder();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| Error::io("creating", &folder, error))?;
        let path = self.derivation_file(&derivation.original.digest, derivation.compression);
        let bytes = serde_json::to_vec(derivation).map_err(|error| Error::io("writing", &path, error.into()))?;
        self.shared.layout.replace(&path, &bytes)
    }

    /// Removes the records of layers for which `keep` says no.
    pub(super) fn forget_derivations(&self, keep: impl Fn(&Digest) -> bool) {
        for entry in fs::read_dir(self.derivation_folder()).into_iter().flatten().flatten() {
            if read(&entry.path()).is_none_or(|one| !keep(&one.original.digest)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn derivation_folder(&self) -> PathBuf {
        self.root().join("recompressed")
    }

    fn derivation_file(&self, original: &Digest, compression: Compression) -> PathBuf {
        let kind = compression.to_string().replace(':', "-");
        self.derivation_folder().join(format!("{}-{kind}.json", original.hex()))
    }
}

fn compressions() -> impl Iterator<Item = Compression> {
    let levels = (1..=ZstdLevel::MAX.get()).filter_map(ZstdLevel::new).map(Compression::Zstd);
    std::iter::once(Compression::Gzip).chain(levels)
}

/// A file that is missing, broken or no record at all is as good as none.
fn read(path: &Path) -> Option<Derivation> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::debug!(path = %path.display(), %error, "record cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{LayerForm, MediaType};

    fn zstd(level: u8) -> Compression {
        Compression::Zstd(ZstdLevel::new(level).unwrap())
    }

    fn descriptor(bytes: &[u8], form: LayerForm) -> Descriptor {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        Descriptor { media_type: MediaType::oci_layer(form), digest, size, platform: None, annotations: [].into() }
    }

    fn derivation(level: u8, result: Option<&[u8]>) -> Derivation {
        Derivation {
            original: descriptor(b"original", LayerForm::Gzip),
            diff_id: Digest::of(b"uncompressed"),
            compression: zstd(level),
            result: result.map(|bytes| descriptor(bytes, LayerForm::Zstd)),
            took: Duration::from_millis(1500),
        }
    }

    async fn found(store: &Store, wanted: Compression) -> Option<Derivation> {
        let (original, diff_id) = (Digest::of(b"original"), Digest::of(b"uncompressed"));
        store.derivation(&original, &diff_id, wanted).await.unwrap()
    }

    async fn store_with(derivations: &[Derivation], blobs: &[&'static [u8]]) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for derivation in derivations {
            store.record_derivation(derivation.clone()).await.unwrap();
        }
        for blob in blobs {
            store.write(*blob).await.unwrap();
        }
        (folder, store)
    }

    #[tokio::test]
    async fn any_level_that_is_as_good_is_found_and_the_smallest_of_them() {
        let (low, high) = (derivation(3, Some(b"longer")), derivation(19, Some(b"short")));
        let (_folder, store) = store_with(&[low.clone(), high.clone()], &[b"longer", b"short"]).await;
        assert_eq!(found(&store, zstd(3)).await, Some(high.clone()));
        assert_eq!(found(&store, zstd(19)).await, Some(high));
        assert_eq!(found(&store, zstd(20)).await, None);
        assert_eq!(found(&store, Compression::Gzip).await, None);
        assert_eq!(store.derivation(&Digest::of(b"original"), &Digest::of(b"other"), zstd(3)).await.unwrap(), None);
        assert_eq!(store.derivations().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_record_without_its_blob_or_with_a_damaged_one_is_ignored() {
        let (missing, damaged) = (derivation(19, Some(b"missing")), derivation(15, Some(b"damaged")));
        let held = derivation(10, Some(b"a longer one"));
        let (_folder, store) = store_with(&[missing, damaged, held.clone()], &[b"damaged", b"a longer one"]).await;
        fs::write(store.path(&Digest::of(b"damaged")), b"dAmaged").unwrap();
        assert_eq!(found(&store, zstd(3)).await, Some(held));
        assert_eq!(found(&store, zstd(12)).await, None);
    }

    #[tokio::test]
    async fn what_was_tried_in_vain_is_remembered_but_comes_last() {
        let (vain, made) = (derivation(19, None), derivation(22, Some(b"made")));
        let (_folder, store) = store_with(&[vain.clone(), made.clone()], &[b"made"]).await;
        assert_eq!(found(&store, zstd(10)).await, Some(made));
        fs::remove_file(store.path(&Digest::of(b"made"))).unwrap();
        assert_eq!(found(&store, zstd(10)).await, Some(vain));
        assert_eq!(found(&store, zstd(20)).await, None);
    }

    #[tokio::test]
    async fn a_broken_record_is_none() {
        let (_folder, store) = store_with(&[derivation(3, Some(b"made"))], &[b"made"]).await;
        let path = store.derivation_file(&Digest::of(b"original"), zstd(3));
        let whole = fs::read(&path).unwrap();
        for broken in [&whole[..whole.len() / 2], b"", b"[]", &vec![b' '; 1 << 20]] {
            fs::write(&path, broken).unwrap();
            assert_eq!(found(&store, zstd(3)).await, None);
        }
        fs::write(&path, whole).unwrap();
        assert!(found(&store, zstd(3)).await.is_some());
    }
}
