//! Blobs that are made here and not fetched: their digest is known only when they are complete. Everything here blocks.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::oci::{Digest, Hasher};

use super::layout::{self, Identity};
use super::{Error, Shared, Store, lock};

/// A blob that is being made. Dropped without [`Draft::keep`] it leaves nothing; what a killed process left is removed by
/// the next that opens the store, because nobody can go on with it.
#[derive(Debug)]
pub struct Draft {
    file: NamedTempFile,
    hasher: Hasher,
    written: u64,
    shared: Arc<Shared>,
}

impl Store {
    /// An empty draft. Its methods block: they are for a thread that may.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`].
    pub fn draft(&self) -> Result<Draft, Error> {
        let folder = self.shared.layout.ingest();
        let file = self.shared.layout.draft().map_err(|error| Error::io("creating a file in", &folder, error))?;
        Ok(Draft { file, hasher: Hasher::new(), written: 0, shared: self.shared.clone() })
    }
}

impl Draft {
    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| Error::io("writing", self.file.path(), error))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Bytes in it.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes it a blob of the store, with the same guarantees as a fetched one, and returns its digest.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`]; then nothing is left of it.
    pub fn keep(self) -> Result<Digest, Error> {
        let Self { file, hasher, shared, .. } = self;
        let digest = hasher.finish();
        let path = shared.layout.blob(&digest);
        let keep = || -> io::Result<File> {
            file.as_file().sync_all()?;
            let file = file.persist(&path).map_err(|error| error.error)?;
            path.parent().map_or(Ok(()), layout::sync_folder)?;
            Ok(file)
        };
        let identity = keep().and_then(|file| Identity::of(&file));
        let identity = identity.map_err(|error| Error::io("writing", &path, error))?;
        lock(&shared.verified).insert(digest.clone(), identity);
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn drafts(store: &Store) -> usize {
        fs::read_dir(store.root().join("ingest")).unwrap().count()
    }

    #[test]
    fn a_kept_draft_is_a_blob_and_a_dropped_one_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for keep in [false, true] {
            let mut draft = store.draft().unwrap();
            draft.append(b"one ").unwrap();
            draft.append(b"two").unwrap();
            assert_eq!((draft.written(), drafts(&store)), (7, 1));
            let kept = keep.then(|| draft.keep().unwrap());
            assert_eq!(drafts(&store), 0);
            let path = store.path(&Digest::of(b"one two"));
            assert_eq!((kept.is_some(), path.exists()), (keep, keep));
        }
        let path = store.path(&Digest::of(b"one two"));
        assert_eq!(fs::read(path).unwrap(), b"one two");
    }

    #[test]
    fn a_living_draft_survives_the_sweep_and_a_dead_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut living = store.draft().unwrap();
        living.append(b"living").unwrap();
        fs::write(store.root().join("ingest/draft-dead"), b"dead").unwrap();
        Store::open(folder.path()).unwrap();
        assert_eq!(drafts(&store), 1);
        living.keep().unwrap();
        assert!(store.path(&Digest::of(b"living")).exists());
    }

    #[test]
    fn a_damaged_blob_in_its_place_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let path = store.path(&Digest::of(b"right"));
        fs::write(&path, b"wrong").unwrap();
        let mut draft = store.draft().unwrap();
        draft.append(b"right").unwrap();
        draft.keep().unwrap();
        assert_eq!(fs::read(path).unwrap(), b"right");
    }
}
