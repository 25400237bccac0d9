//! Layers compressed anew: the same files and the same diff IDs in fewer bytes.
//!
//! Published layers are gzip. Docker from 23.0 on also takes zstd, which is a third smaller at its best and faster to unpack;
//! the image's config, and with it the image's ID on Docker's classic store, does not know how its layers are
//! compressed. So a layer is compressed anew once, kept in the store, and offered under a manifest of our own
//! ([`variant`]). The reverse is there too: gzip for engines before 23.0, where a layer was published bare or as zstd.
//!
//! - A result is kept only when its uncompressed bytes have the diff ID of the image's config.
//! - Memory is bounded whatever the layer: 1 MiB of input that waits, and what the level needs with its window (40 MiB at
//!   level 3, 80 MiB at 10, 230 MiB at 19; several threads take more and are used only where memory is plenty). The engine
//!   that unpacks it sets the window aside, too: 32 MiB, from level 19 on 128 MiB.
//! - The threads yield to whatever else this program does, and end soon when the future is dropped.
//! - Nothing is compressed anew that would be hardly smaller.
//!
//! Uses [`crate::store`] for bytes and records. Whether it is worth the time is not decided here.

mod encoder;
mod error;
mod feed;
mod machine;
mod sample;
mod variant;
mod work;

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::oneshot;

use crate::oci::{Compression, Descriptor, Digest, LayerForm, PlatformImage};
use crate::store::{BlobReader, Derivation, Source, Store};

use feed::{Feed, Feeder, Stop};
use work::{Done, Work};

pub use error::Error;
pub use machine::Machine;
pub use sample::Sampling;
pub use variant::{Variant, variant};

/// Layers below this size are left as they are: what they could save is not worth a request.
const SMALL: u64 = 64 << 10;

/// A result must be this part smaller (1/50, that is 2 %) to be worth anything.
const WORTH: u64 = 50;

/// The most that a layer may unpack to.
const MAX_UNPACKED: u64 = 64 << 30;

/// How much of that it may in relation to its size, beyond what any layer may: file systems full of zeros are real, but
/// gzip's limit of 1032 is reached only on purpose.
const MAX_RATIO: u64 = 200;
const ALWAYS_ALLOWED: u64 = 256 << 20;

/// Is told how many bytes of a layer as published have been worked through. Called from async code: it must return at once.
pub type Progress = Arc<dyn Fn(&Digest, u64) + Send + Sync>;

/// A layer of an image, and what it must unpack to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// As published.
    pub descriptor: Descriptor,
    /// The digest of its uncompressed bytes, from the image's config.
    pub diff_id: Digest,
}

/// How a layer is best sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// As it was published: compressed anew it would be hardly smaller, or it is none of the layers that can be.
    AsPublished,
    /// As this blob, which is in the store.
    Made(Descriptor),
}

/// Compresses layers anew. Clones share the store.
#[derive(Clone)]
pub struct Recompressor {
    store: Store,
    machine: Machine,
    progress: Option<Progress>,
    limit: u64,
}

impl Layer {
    /// The layers of an image, lowest first.
    pub fn of(image: &PlatformImage) -> Vec<Self> {
        let pairs = image.layers.iter().zip(&image.diff_ids);
        pairs.map(|(descriptor, diff_id)| Self { descriptor: descriptor.clone(), diff_id: diff_id.clone() }).collect()
    }

    /// Whether an engine that knows no zstd could not use the layer as it is.
    fn is_needed_as(&self, compression: Compression) -> bool {
        compression == Compression::Gzip && self.descriptor.media_type.layer_form() == Some(LayerForm::Zstd)
    }

    /// Whether there is nothing to gain, as far as can be told without looking into it.
    fn is_left_alone(&self, compression: Compression) -> bool {
        match (self.descriptor.media_type.layer_form(), compression) {
            (None, _) | (Some(LayerForm::Gzip), Compression::Gzip) => true,
            _ => self.descriptor.size < SMALL && !self.is_needed_as(compression),
        }
    }

    /// Bytes of a result that is worth keeping.
    fn worth(&self, compression: Compression) -> u64 {
        let size = self.descriptor.size;
        if self.is_needed_as(compression) { u64::MAX } else { size - size / WORTH }
    }
}

impl Recompressor {
    /// Works with the memory and the cores that this machine has now.
    pub fn new(store: Store) -> Self {
        Self { store, machine: Machine::here(), progress: None, limit: MAX_UNPACKED }
    }

    /// Works as if on another machine.
    #[must_use]
    pub fn on(self, machine: Machine) -> Self {
        Self { machine, ..self }
    }

    /// Tells how far it is.
    #[must_use]
    pub fn with_progress(self, progress: Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Refuses layers that unpack to more bytes than this; 64 GiB is the most.
    #[must_use]
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit: limit.min(MAX_UNPACKED), ..self }
    }

    /// What an earlier run found out about a layer: with this compression, or with a level of zstd that is higher.
    ///
    /// # Errors
    /// [`Error::Keep`] when the store cannot be read.
    pub async fn find(&self, layer: &Layer, compression: Compression) -> Result<Option<Form>, Error> {
        if layer.is_left_alone(compression) {
            return Ok(Some(Form::AsPublished));
        }
        let found = self.store.derivation(&layer.descriptor.digest, &layer.diff_id, compression).await;
        let found = found.map_err(|source| Error::Keep { layer: layer.descriptor.digest.clone(), source })?;
        Ok(found.map(|found| found.result.map_or(Form::AsPublished, Form::Made)))
    }

    /// Finds a layer or compresses it anew. The layer as published comes from the store, or through it from `source`.
    /// Dropping the future stops the work; then, and after an error, nothing is kept.
    ///
    /// # Errors
    /// [`Error`], all of it.
    pub async fn make(&self, layer: &Layer, to: Compression, source: Arc<dyn Source>) -> Result<Form, Error> {
        if let Some(form) = self.find(layer, to).await? {
            return Ok(form);
        }
        let name = &layer.descriptor.digest;
        let keep = |source| Error::Keep { layer: name.clone(), source };
        let done = self.transcode(layer, to, source).await?;
        tracing::debug!(layer = %name, compression = %to, result = ?done.result, took = ?done.took, "compressed anew");
        let (original, diff_id, result) = (layer.descriptor.clone(), layer.diff_id.clone(), done.result);
        let record = Derivation { original, diff_id, compression: to, result: result.clone(), took: done.took };
        self.store.record_derivation(record).await.map_err(keep)?;
        Ok(result.map_or(Form::AsPublished, Form::Made))
    }

    async fn transcode(&self, layer: &Layer, to: Compression, source: Arc<dyn Source>) -> Result<Done, Error> {
        let Descriptor { digest: name, size, .. } = &layer.descriptor;
        let effort = self.machine.effort(to, *size)?;
        let stop = Stop::default();
        let work = Work {
            layer: layer.clone(),
            compression: to,
            effort,
            limit: self.limit.min(ALWAYS_ALLOWED.saturating_add(size.saturating_mul(MAX_RATIO))),
            worth: layer.worth(to),
            store: self.store.clone(),
            stop: stop.flag(),
        };
        let reader = self.reader(layer, source).await?;
        let (feeder, feed) = Feed::new();
        let (done, result) = oneshot::channel();
        work::start(name, move || drop(done.send(work.run(feed))))?;
        self.pump(layer, reader, feeder).await?;
        // While this is awaited, `stop` lives.
        result.await.map_err(|_| Error::Interrupted { layer: name.clone() })?
    }

    async fn reader(&self, layer: &Layer, source: Arc<dyn Source>) -> Result<BlobReader, Error> {
        let opened = self.store.open_blob(&layer.descriptor, source).await;
        opened.map_err(|source| Error::Read { layer: layer.descriptor.digest.clone(), source })
    }

    /// Gives the layer to the thread until it has all or wants no more. The end is told only when the reader has come to
    /// it, which is after the digest was checked.
    async fn pump(&self, layer: &Layer, mut reader: BlobReader, feeder: Feeder) -> Result<(), Error> {
        let (name, mut given) = (&layer.descriptor.digest, 0);
        while let Some(piece) = reader.next().await {
            let piece = piece.map_err(|source| Error::Read { layer: name.clone(), source })?;
            given += piece.len() as u64;
            if feeder.send(Some(piece)).await.is_err() {
                return Ok(());
            }
            if let Some(progress) = &self.progress {
                progress(name, given);
            }
        }
        let _ = feeder.send(None).await;
        Ok(())
    }
}

impl std::fmt::Debug for Recompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recompressor")
            .field("store", &self.store)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}
