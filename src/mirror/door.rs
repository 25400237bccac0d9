//! Doors: what each host may pull, behind a path that only it knows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use crate::oci::{Descriptor, Digest, Hasher, MediaType, Reference};
use crate::store::{self, Source, Store};

use super::Error;
use super::request::Item;
use super::turns::Turns;

/// How often a blob may fail for one host.
const ENOUGH: u32 = 3;

/// An image that a host may pull.
#[derive(Clone)]
pub struct Published {
    /// Its name upstream; the repository and the tag are taken over, the registry is not.
    pub reference: Reference,
    /// Its index and manifests as they came, byte for byte; the tag stands for the first.
    pub documents: Vec<(Descriptor, Bytes)>,
    /// The configs and layers that may be asked for, each config followed by its layers from the lowest upwards.
    pub blobs: Vec<Descriptor>,
    /// Where blobs come from that the store does not hold.
    pub source: Arc<dyn Source>,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, documents, blobs, .. } = self;
        let counts = (documents.len(), blobs.len());
        f.debug_struct("Published").field("reference", reference).field("documents, blobs", &counts).finish()
    }
}

/// One host's way in: a path that cannot be guessed and what is published under it. When it is dropped, the path is gone;
/// answers that are on their way are still completed.
pub struct Door {
    doors: Arc<Doors>,
    key: Digest,
    secret: String,
    room: Arc<Room>,
    running: watch::Receiver<()>,
}

impl Door {
    /// Lets the host pull an image, and returns the repository under which it does:
    /// `k3arm-<32 hexadecimal digits>/rancher/k3s`. What was published in the same repository before stays,
    /// and blobs come from where they came.
    pub fn publish(&self, image: Published) -> String {
        let repository = image.reference.repository().to_string();
        lock(&self.room.repositories).entry(repository.clone()).or_default().add(image);
        format!("{}/{repository}", self.secret)
    }

    /// Bytes of documents and blobs that have been handed to this host's connections.
    pub fn served(&self) -> u64 {
        self.room.served.load(Ordering::Relaxed)
    }

    /// The last thing that went wrong with a blob for this host, once: the reason behind a pull that failed. An engine
    /// repeats what was cut off, so there can be one although the pull went well.
    pub fn take_error(&self) -> Option<store::Error> {
        lock(&self.room.error).take()
    }

    /// Resolves when a blob cannot be given to this host and its engine's asking again will not help: at once where
    /// that is certain (a full disk), else when it has failed three times. Classic engines ask six times, with pauses
    /// that add up to more than a minute; whoever pulls can stop here and say why.
    pub async fn gave_up(&self) -> store::Error {
        let mut hopeless = self.room.hopeless.subscribe();
        match hopeless.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            // Cannot be: the room, and with it the sender, lives as long as the door.
            _ => std::future::pending().await,
        }
    }

    /// Resolves when the mirror has stopped, so that a pull through it can be given up.
    pub async fn closed(&self) {
        let mut running = self.running.clone();
        // Nothing is ever sent: the end of the channel is the message.
        while running.changed().await.is_ok() {}
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        lock(&self.doors.rooms).remove(&self.key);
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("served", &self.served()).finish_non_exhaustive()
    }
}

/// All doors of a mirror.
pub(super) struct Doors {
    pub(super) store: Store,
    /// From this the doors' secrets are derived, so that making one cannot fail.
    seed: [u8; 32],
    made: AtomicU64,
    /// By the digest of the secret: how long a look-up takes then says nothing about the secret itself.
    rooms: Mutex<BTreeMap<Digest, Arc<Room>>>,
}

impl Doors {
    pub(super) fn new(store: Store) -> Result<Self, Error> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| Error::Random)?;
        Ok(Self { store, seed, made: AtomicU64::new(0), rooms: Mutex::default() })
    }

    pub(super) fn open(self: &Arc<Self>, running: watch::Receiver<()>) -> Door {
        let mut hasher = Hasher::new();
        hasher.update(&self.seed);
        hasher.update(&self.made.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let secret = format!("k3arm-{}", hasher.finish().hex().get(..32).unwrap_or_default());
        let (key, room) = (Digest::of(secret.as_bytes()), Arc::new(Room::default()));
        lock(&self.rooms).insert(key.clone(), room.clone());
        Door { doors: self.clone(), key, secret, room, running }
    }

    /// What is behind the door with this path component.
    pub(super) fn room(&self, secret: &str) -> Option<Arc<Room>> {
        lock(&self.rooms).get(&Digest::of(secret.as_bytes())).cloned()
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors").field("made", &self.made).finish_non_exhaustive()
    }
}

/// What is behind a door.
#[derive(Default)]
pub(super) struct Room {
    repositories: Mutex<BTreeMap<String, Repository>>,
    served: AtomicU64,
    pub(super) turns: Arc<Turns>,
    error: Mutex<Option<store::Error>>,
    failures: Mutex<BTreeMap<Digest, u32>>,
    hopeless: watch::Sender<Option<store::Error>>,
}

impl Room {
    pub(super) fn find(&self, repository: &str, item: &Item<'_>) -> Option<Found> {
        lock(&self.repositories).get(repository)?.find(item)
    }

    pub(super) fn count(&self, bytes: usize) {
        self.served.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, blob: &Digest, error: &store::Error) {
        *lock(&self.error) = Some(error.clone());
        let times = *lock(&self.failures).entry(blob.clone()).and_modify(|times| *times += 1).or_insert(1);
        if times >= ENOUGH || is_certain(error) {
            self.hopeless.send_replace(Some(error.clone()));
        }
    }
}

/// Whether the next attempt would fail like this one.
fn is_certain(error: &store::Error) -> bool {
    use store::Error::{Busy, Io, NoSpace, WrongSize};
    matches!(error, Busy { .. } | Io { .. } | NoSpace { .. } | WrongSize { .. })
}

/// Something that was asked for and may be had.
pub(super) enum Found {
    /// A document.
    Document(Digest, MediaType, Bytes),
    /// A blob, in the store or at its source.
    Blob(Blob),
}

/// A blob that may be had.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) descriptor: Descriptor,
    pub(super) source: Arc<dyn Source>,
    /// In its image; 0 is the config, then come the layers from the lowest upwards.
    pub(super) place: usize,
}

#[derive(Default)]
struct Repository {
    documents: BTreeMap<Digest, (MediaType, Bytes)>,
    tags: BTreeMap<String, Digest>,
    blobs: BTreeMap<Digest, Blob>,
}

impl Repository {
    fn add(&mut self, image: Published) {
        // By the digests of the bytes themselves: a document is not served under a name that is not its own.
        let named: Vec<_> =
            image.documents.into_iter().map(|(d, bytes)| (Digest::of(&bytes), (d.media_type, bytes))).collect();
        if let (Some(tag), Some((root, _))) = (image.reference.tag(), named.first()) {
            self.tags.insert(tag.to_string(), root.clone());
        }
        self.documents.extend(named);
        let source = image.source;
        for (place, descriptor) in image.blobs.into_iter().enumerate() {
            let blob = || Blob { descriptor: descriptor.clone(), source: source.clone(), place };
            self.blobs.entry(descriptor.digest.clone()).or_insert_with(blob);
        }
    }

    fn find(&self, item: &Item<'_>) -> Option<Found> {
        let document = |digest: &Digest| {
            let (media_type, bytes) = self.documents.get(digest)?.clone();
            Some(Found::Document(digest.clone(), media_type, bytes))
        };
        match item {
            Item::Manifest(digest) => document(digest),
            Item::Tag(tag) => document(self.tags.get(*tag)?),
            Item::Blob(digest) => self.blobs.get(digest).cloned().map(Found::Blob),
        }
    }
}

/// The tables stay consistent whatever panics: each change of them is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
