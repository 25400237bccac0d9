//! Content-addressed blobs on disk: each fetched from upstream once, whoever and however many ask for it.
//!
//! The folder is an OCI image layout (`oci-layout`, `index.json`, `blobs/sha256/…`) with one folder more, `ingest/`,
//! where bytes arrive. Several k3arm processes may use it at the same time, and any of them may be killed at any moment:
//!
//! - A blob gets its name only when it is complete, its digest was checked and it is on the disk (`fsync`, then `rename`).
//! - A partial file `ingest/sha256-HEX` outlives the process. The next run hashes what is there and asks upstream for the rest.
//! - Who holds the lock on the partial file downloads; every other process reads along in the same file, and takes over
//!   when the lock gets free without a result.
//! - Readers follow the growing file and are never given a blob's last bytes before its digest was checked, so that
//!   nobody who counts bytes can mistake a wrong blob for a complete one.
//! - The first use of a held blob in a process hashes it; a damaged one is thrown away and fetched again before a reader
//!   sees a byte of it.
//! - A download without readers is cancelled; its partial file stays.
//!
//! What is made here of a layer (compressed anew) is a blob like any other, a [`Draft`] until it is complete; `recompressed/`
//! says what was made of which layer.
//!
//! Uses only the nouns of [`crate::oci`]. Where bytes come from is the caller's: see [`Source`].

mod derived;
mod download;
mod draft;
mod error;
mod images;
mod layout;
mod partial;
mod prune;
mod reader;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::oci::{Descriptor, Digest, MAX_MANIFEST_BYTES};

use download::Download;
use layout::{Identity, Layout};

pub use derived::Derivation;
pub use draft::Draft;
pub use error::Error;
pub use prune::Pruned;
pub use reader::BlobReader;

/// Why upstream could not give a blob; the store keeps it as it is and hands it to every reader of that blob.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of a blob from the wanted offset to its end, in pieces of any size.
pub type SourceStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// Where the bytes of a blob come from.
///
/// Nothing it yields is believed: length and digest are checked by the store. It should notice a dead connection itself;
/// the store gives up after two minutes without a byte.
pub trait Source: Send + Sync {
    /// The bytes of the blob from `offset` (less than its size) on.
    fn open<'a>(&'a self, descriptor: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<SourceStream, SourceError>>;
}

/// Is told how many bytes of a blob are on the disk, after each change; the first call for a download names what an
/// earlier run left. Called from async code: it must return at once.
pub type Observer = Arc<dyn Fn(&Digest, u64) + Send + Sync>;

/// A store of blobs in a folder. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    observer: Option<Observer>,
}

struct Shared {
    layout: Layout,
    /// The one download of each blob that somebody reads now.
    downloads: Mutex<HashMap<Digest, Weak<Download>>>,
    /// The files whose content this process has hashed.
    verified: Mutex<HashMap<Digest, Identity>>,
    fetched: AtomicU64,
}

impl Store {
    /// Opens the store in the folder `path`, which is made (mode 0700) if it is missing. Partial files that nobody has
    /// touched for a week are removed.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`] when the folder cannot be made or written.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let shared = Shared {
            layout: Layout::open(path)?,
            downloads: Mutex::default(),
            verified: Mutex::default(),
            fetched: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared), observer: None })
    }

    /// The same store, whose downloads are reported to `observer`. A download that another clone has already started
    /// goes on reporting to that clone's observer.
    #[must_use]
    pub fn with_observer(self, observer: Observer) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Whether a blob of this digest and size is held. Its content is not looked at; reading it does that.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        std::fs::metadata(self.path(&descriptor.digest))
            .is_ok_and(|found| found.is_file() && found.len() == descriptor.size)
    }

    /// Whether a blob of this digest and size is held and undamaged. Its content is hashed once in a process.
    ///
    /// # Errors
    /// [`Error::Io`] when it is there and cannot be read.
    pub async fn holds(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let (path, known) =
            (self.path(&descriptor.digest), lock(&self.shared.verified).get(&descriptor.digest).cloned());
        let (wanted, size) = (descriptor.digest.clone(), descriptor.size);
        let looked = blocking(&descriptor.digest, move || match download::look(&path, size, &wanted, known.as_ref()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            looked => looked.map_err(|error| Error::io("reading", &path, error)),
        });
        let Some((_, identity)) = looked.await?? else { return Ok(false) };
        lock(&self.shared.verified).insert(descriptor.digest.clone(), identity);
        Ok(true)
    }

    /// Where a blob of this digest is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.layout.blob(digest)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.shared.layout.root()
    }

    /// Bytes that this process has fetched from upstream through this store.
    pub fn fetched(&self) -> u64 {
        self.shared.fetched.load(Ordering::Relaxed)
    }

    /// A small blob (an index, a manifest, a config), checked against its digest.
    ///
    /// # Errors
    /// [`Error::NotHeld`] when it is not here, or was here and damaged: then it has been thrown away. [`Error::TooLarge`]
    /// above [`MAX_MANIFEST_BYTES`]. [`Error::Io`].
    pub async fn read(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        if descriptor.size > MAX_MANIFEST_BYTES {
            let Descriptor { digest, size, .. } = descriptor.clone();
            return Err(Error::TooLarge { digest, size, limit: MAX_MANIFEST_BYTES });
        }
        let (shared, descriptor) = (self.shared.clone(), descriptor.clone());
        let digest = descriptor.digest.clone();
        blocking(&digest, move || shared.layout.read_small(&descriptor)).await?
    }

    /// Puts `bytes` into the store, atomically, and returns their digest.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`].
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<Digest, Error> {
        let (shared, bytes) = (self.shared.clone(), bytes.into());
        let digest = Digest::of(&bytes);
        let name = digest.clone();
        blocking(&digest, move || shared.layout.write_small(&name, &bytes)).await??;
        Ok(digest)
    }

    /// A reader of the blob from its first byte: from the disk if it is held, else from the one download of it, which
    /// is started or joined. Nothing is awaited here but the lock of a table; what goes wrong, the reader tells.
    ///
    /// # Errors
    /// None at present; the signature leaves room for a store that refuses early.
    pub async fn open_blob(&self, descriptor: &Descriptor, source: Arc<dyn Source>) -> Result<BlobReader, Error> {
        let mut downloads = lock(&self.shared.downloads);
        let running = downloads.get(&descriptor.digest).and_then(Weak::upgrade);
        if let Some(download) = running.filter(|download| download.can_serve(descriptor)) {
            return Ok(BlobReader::new(download));
        }
        let download = Arc::new(Download::start(self, descriptor, source));
        downloads.retain(|_, download| download.strong_count() > 0);
        downloads.insert(descriptor.digest.clone(), Arc::downgrade(&download));
        Ok(BlobReader::new(download))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("root", &self.layout.root()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("root", &self.root()).finish_non_exhaustive()
    }
}

/// Runs file work where it may block. The error is that of a runtime that is shutting down.
async fn blocking<T: Send + 'static>(digest: &Digest, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted { digest: digest.clone() })
}

/// The tables stay consistent whatever panics: each change of them is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
