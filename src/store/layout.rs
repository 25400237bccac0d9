//! The folder: where things are, how they get there, and what an earlier run may have left. Everything here blocks.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::oci::{Descriptor, Digest, Hasher};

use super::Error;

/// Partial files that nobody wrote to for this long are removed: their image is hardly wanted any more.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How the names of files begin that nobody can go on with when their process is dead.
const DRAFT: &str = "draft-";

/// Pieces in which files are hashed.
const HASH_PIECE: usize = 256 << 10;

/// The paths of a store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

/// Which file this is, and in which state: changes when it is replaced or written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Layout {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(path).map_err(|error| Error::io("finding", path, error))?;
        let layout = Self { root };
        for folder in [layout.blobs(), layout.ingest()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|error| Error::io("creating", &folder, error))?;
        }
        layout.create("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        layout.create("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)?;
        // Whether the folder can be written is asked of the file system, not of permission bits.
        NamedTempFile::new_in(layout.ingest()).map_err(|error| Error::io("writing to", &layout.ingest(), error))?;
        layout.sweep(SystemTime::now());
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.ingest().join(format!("sha256-{}", digest.hex()))
    }

    /// Makes a file of the layout if it is missing; another process may do the same at the same time.
    fn create(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.root.join(name);
        if path.exists() {
            return Ok(());
        }
        let file = self.temporary(content).map_err(|error| Error::io("creating", &path, error))?;
        match file.persist_noclobber(&path) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io("creating", &path, error.error))
            }
            _ => Ok(()),
        }
    }

    /// Replaces a file: readers see the old content or the new one, also after a power cut.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let write = || {
            self.temporary(content)?.persist(path).map_err(|error| error.error)?;
            path.parent().map_or(Ok(()), sync_folder)
        };
        write().map_err(|error| Error::io("writing", path, error))
    }

    fn temporary(&self, content: &[u8]) -> io::Result<NamedTempFile> {
        let mut file = tempfile::Builder::new().prefix("write-").tempfile_in(self.ingest())?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        Ok(file)
    }

    /// An empty file that no other process sweeps away: its lock is ours for as long as it is open.
    pub(super) fn draft(&self) -> io::Result<NamedTempFile> {
        loop {
            let file = tempfile::Builder::new().prefix(DRAFT).tempfile_in(self.ingest())?;
            file.as_file().lock()?;
            // Before it was locked, a sweep may have taken it for that of a dead process.
            let there = File::open(file.path()).and_then(|there| Identity::of(&there));
            if there.is_ok_and(|there| Identity::of(file.as_file()).is_ok_and(|ours| ours.is_same_file(&there))) {
                return Ok(file);
            }
        }
    }

    pub(super) fn write_small(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let path = self.blob(digest);
        let held = File::open(&path).is_ok_and(|mut file| hash(&mut file).is_ok_and(|found| found == *digest));
        if held { Ok(()) } else { self.replace(&path, bytes) }
    }

    pub(super) fn read_small(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let path = self.blob(&descriptor.digest);
        let failed = |error| Error::io("reading", &path, error);
        let not_held = || Error::NotHeld { digest: descriptor.digest.clone() };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_held()),
            file => file.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(descriptor.size.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        if Digest::of(&bytes) == descriptor.digest {
            return Ok(bytes.into());
        }
        tracing::debug!(digest = %descriptor.digest, "held document is damaged: thrown away");
        remove(&path)?;
        Err(not_held())
    }

    /// Removes what dead processes left: drafts at once, the rest when it is old. A file that is locked belongs to a living
    /// one.
    fn sweep(&self, now: SystemTime) {
        for entry in fs::read_dir(self.ingest()).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|found| found.modified());
            let is_old = modified.is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > STALE));
            let is_draft = entry.file_name().to_string_lossy().starts_with(DRAFT);
            if (is_old || is_draft) && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
                tracing::debug!(path = %entry.path().display(), "stale file removed");
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Ok(Self { device: found.dev(), inode: found.ino(), size: found.len(), modified })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The same file, whatever has been written to it in between.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// The digest of all that is in a file, from where it stands.
pub(super) fn hash(file: &mut impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    hash_into(&mut hasher, file)?;
    Ok(hasher.finish())
}

/// Feeds a file to `hasher`; returns the number of bytes.
pub(super) fn hash_into(hasher: &mut Hasher, file: &mut impl Read) -> io::Result<u64> {
    let mut piece = vec![0; HASH_PIECE];
    let mut done = 0;
    loop {
        let read = match file.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(done);
        }
        hasher.update(&piece[..read]);
        done += read as u64;
    }
}

/// Removes a file that may already be gone.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path, error)),
        _ => Ok(()),
    }
}

/// Makes a rename durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_and_unlocked_partials_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        let digests = [b"old", b"new", b"use"].map(|name| Digest::of(name));
        let files = digests.each_ref().map(|digest| File::create(layout.partial(digest)).unwrap());
        let long_ago = SystemTime::now() - STALE - Duration::from_secs(60);
        files[0].set_modified(long_ago).unwrap();
        files[2].set_modified(long_ago).unwrap();
        files[2].lock().unwrap();
        Layout::open(folder.path()).unwrap();
        assert_eq!(digests.each_ref().map(|digest| layout.partial(digest).exists()), [false, true, true]);
    }

    #[test]
    fn the_folder_is_private_and_an_image_layout() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        Layout::open(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(root.join("oci-layout")).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
        assert_eq!(fs::read_dir(root.join("ingest")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let error = Layout::open(Path::new("/proc/k3arm")).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.starts_with("/proc/k3arm")), "{error:?}");
    }
}
