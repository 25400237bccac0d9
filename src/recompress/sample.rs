//! What compressing anew would cost and bring: measured on the beginning of a layer, or remembered from earlier runs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::oci::{Compression, Hasher, Yield, ZstdLevel};
use crate::store::Source;

use super::encoder::Encoder;
use super::feed::{Decoder, Feed, Stop};
use super::machine::{Effort, Machine};
use super::work::{self, PIECE, fill};
use super::{Error, Layer, Recompressor};

/// Uncompressed bytes that are tried.
const SAMPLE: usize = 8 << 20;

/// A level that got no further than this in its time says nothing.
const LEAST: usize = 1 << 20;

/// What is to be found out, and what that may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampling {
    /// Tried in this order, while there is time. Levels for which this machine has not the memory are left out.
    pub levels: Vec<ZstdLevel>,
    /// How long the machine may work on it, all levels together.
    pub budget: Duration,
}

impl Recompressor {
    /// Tries levels on the first 8 MiB of a layer. What is fetched for that stays in the store. Levels that were not
    /// reached in time, or not with enough bytes to say anything, are missing from the result.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Corrupt`], [`Error::Compress`], [`Error::Interrupted`].
    pub async fn sample(
        &self,
        layer: &Layer,
        source: Arc<dyn Source>,
        sampling: &Sampling,
    ) -> Result<Vec<Yield>, Error> {
        let (name, stop) = (layer.descriptor.digest.clone(), Stop::default());
        let (feeder, feed) = Feed::new();
        let (done, result) = oneshot::channel();
        let trial = Trial { layer: layer.clone(), machine: self.machine, sampling: sampling.clone() };
        let stopped = stop.flag();
        work::start(&name, move || {
            drop(done.send(trial.run(feed, &|| stopped.load(std::sync::atomic::Ordering::Relaxed))))
        })?;
        let reader = self.reader(layer, source).await?;
        let quiet = Self { progress: None, ..self.clone() };
        quiet.pump(layer, reader, feeder).await?;
        result.await.map_err(|_| Error::Interrupted { layer: name })?
    }

    /// What earlier runs found out on this machine, all layers together. Less exact than a sample about the size of the
    /// result, more exact about the time.
    ///
    /// # Errors
    /// [`crate::store::Error::Io`] when the records cannot be read.
    pub async fn remembered(&self) -> Result<Vec<Yield>, crate::store::Error> {
        let mut sums: BTreeMap<ZstdLevel, (f64, f64, f64)> = BTreeMap::new();
        for one in self.store.derivations().await? {
            // A result in vain ended early, and says nothing about either.
            let (Compression::Zstd(level), Some(result)) = (one.compression, one.result) else { continue };
            let sum = sums.entry(level).or_default();
            *sum = (sum.0 + one.original.size as f64, sum.1 + result.size as f64, sum.2 + one.took.as_secs_f64());
        }
        let figure = |(level, (from, to, seconds)): (ZstdLevel, (f64, f64, f64))| Yield {
            level,
            rate: from / seconds,
            ratio: to / from,
        };
        let is_sound = |one: &Yield| one.rate.is_finite() && one.rate > 0.0 && one.ratio.is_finite();
        Ok(sums.into_iter().map(figure).filter(is_sound).collect())
    }
}

struct Trial {
    layer: Layer,
    machine: Machine,
    sampling: Sampling,
}

/// The beginning of a layer.
struct Beginning {
    bytes: Vec<u8>,
    /// Bytes of the layer as published that it came from.
    published: f64,
    /// Time that uncompressing and hashing took.
    unpacking: Duration,
    /// Uncompressed bytes of the whole layer, if it goes on like this.
    whole: f64,
}

impl Trial {
    fn run(self, feed: Feed, is_stopped: &dyn Fn() -> bool) -> Result<Vec<Yield>, Error> {
        let beginning = self.unpack(feed)?;
        let began = Instant::now();
        let mut yields = Vec::new();
        for level in &self.sampling.levels {
            let Ok(effort) = self.machine.effort(Compression::Zstd(*level), self.layer.descriptor.size) else {
                continue;
            };
            let left = || self.sampling.budget.saturating_sub(beginning.unpacking + began.elapsed());
            let is_over = || is_stopped() || left().is_zero();
            let tried = beginning.attempt(*level, effort, &is_over);
            let name = &self.layer.descriptor.digest;
            yields.extend(tried.map_err(|source| Error::Compress { layer: name.clone(), source })?);
        }
        Ok(yields)
    }

    fn unpack(&self, feed: Feed) -> Result<Beginning, Error> {
        let corrupt = |source| Error::Corrupt { layer: self.layer.descriptor.digest.clone(), source };
        let began = Instant::now();
        let mut decoder = Decoder::new(feed).map_err(corrupt)?;
        let mut bytes = vec![0; SAMPLE];
        let read = fill(&mut decoder, &mut bytes).map_err(corrupt)?;
        bytes.truncate(read);
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        let published = decoder.feed().consumed as f64;
        let unpacking = began.elapsed().saturating_sub(decoder.feed().waited);
        let whole = self.layer.descriptor.size as f64 * (bytes.len() as f64 / published);
        Ok(Beginning { bytes, published, unpacking, whole })
    }
}

impl Beginning {
    /// One thread stands for several.
    fn attempt(&self, level: ZstdLevel, effort: Effort, is_over: &dyn Fn() -> bool) -> io::Result<Option<Yield>> {
        let began = Instant::now();
        let alone = Effort { workers: 0, ..effort };
        let mut encoder = Encoder::new(Compression::Zstd(level), alone, Counter(0))?;
        let mut done = 0;
        for piece in self.bytes.chunks(PIECE) {
            if is_over() {
                break;
            }
            encoder.write_all(piece)?;
            done += piece.len();
        }
        if done == 0 || done < LEAST.min(self.bytes.len()) {
            return Ok(None);
        }
        let size = encoder.finish()?.0 as f64;
        let part = done as f64 / self.bytes.len() as f64;
        let compressing = began.elapsed().as_secs_f64() / effort.threads(self.whole);
        let (seconds, published) = (self.unpacking.as_secs_f64() * part + compressing, self.published * part);
        Ok(Some(Yield { level, rate: published / seconds, ratio: size / published }))
    }
}

/// Counts what is written to it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
