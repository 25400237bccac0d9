//! The thread that uncompresses, checks and compresses.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::oci::{Compression, Descriptor, Digest, Hasher, MediaType};
use crate::store::{self, Draft, Store};

use super::encoder::Encoder;
use super::feed::{Decoder, Feed};
use super::machine::Effort;
use super::{Error, Layer};

/// Uncompressed bytes worked on at once.
pub(super) const PIECE: usize = 128 << 10;

/// How much the thread yields to others, such as the encryption of what other hosts are being sent meanwhile.
const NICENESS: i32 = 10;

/// All that the thread needs.
pub(super) struct Work {
    pub(super) layer: Layer,
    pub(super) compression: Compression,
    pub(super) effort: Effort,
    /// Bytes that the layer may unpack to.
    pub(super) limit: u64,
    /// Bytes of a result that is worth keeping.
    pub(super) worth: u64,
    pub(super) store: Store,
    pub(super) stop: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Done {
    /// `None` where the result would have been hardly smaller.
    pub(super) result: Option<Descriptor>,
    /// Time spent, without waiting for input.
    pub(super) took: Duration,
}

/// Starts a thread of low priority. Not one of the runtime's: those are waited for when the program ends, and a level of
/// zstd may be busy for seconds.
pub(super) fn start(layer: &Digest, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let work = || {
        // On Linux this is the priority of the thread, and of those that it starts.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICENESS);
        work();
    };
    let started = thread::Builder::new().name("recompress".into()).spawn(work);
    started.map(drop).map_err(|_| Error::Interrupted { layer: layer.clone() })
}

impl Work {
    pub(super) fn run(self, feed: Feed) -> Result<Done, Error> {
        let began = Instant::now();
        let Self { layer, compression, effort, .. } = &self;
        let name = &layer.descriptor.digest;
        let corrupt = |source| Error::Corrupt { layer: name.clone(), source };
        let mut decoder = Decoder::new(feed).map_err(corrupt)?;
        let keep = |source| Error::Keep { layer: name.clone(), source };
        let sink = Sink(self.store.draft().map_err(keep)?);
        let mut encoder = Encoder::new(*compression, *effort, sink).map_err(|error| cannot_write(name, error))?;
        let (mut hasher, mut unpacked, mut piece) = (Hasher::new(), 0, vec![0; PIECE]);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted { layer: name.clone() });
            }
            let read = fill(&mut decoder, &mut piece).map_err(corrupt)?;
            if read == 0 {
                break;
            }
            unpacked += read as u64;
            if unpacked > self.limit {
                return Err(Error::TooLarge { layer: name.clone(), limit: self.limit });
            }
            hasher.update(&piece[..read]);
            encoder.write_all(&piece[..read]).map_err(|error| cannot_write(name, error))?;
            if encoder.get_ref().0.written() > self.worth {
                return Ok(Done { result: None, took: began.elapsed().saturating_sub(decoder.feed().waited) });
            }
        }
        let found = hasher.finish();
        if found != layer.diff_id {
            return Err(Error::WrongDiffId { layer: name.clone(), expected: layer.diff_id.clone(), found });
        }
        let draft = encoder.finish().map_err(|error| cannot_write(name, error))?.0;
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted { layer: name.clone() });
        }
        let took = began.elapsed().saturating_sub(decoder.feed().waited);
        if draft.written() > self.worth {
            return Ok(Done { result: None, took });
        }
        let size = draft.written();
        let digest = draft.keep().map_err(keep)?;
        let media_type = MediaType::oci_layer(compression.form());
        Ok(Done { result: Some(Descriptor { media_type, digest, size, platform: None, annotations: [].into() }), took })
    }
}

/// Reads until `piece` is full or the input ends.
pub(super) fn fill(from: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match from.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A draft behind the standard trait; the store's own error travels inside that of the trait.
struct Sink(Draft);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn cannot_write(layer: &Digest, error: io::Error) -> Error {
    let layer = layer.clone();
    match error.downcast::<store::Error>() {
        Ok(source) => Error::Keep { layer, source },
        Err(source) => Error::Compress { layer, source },
    }
}
