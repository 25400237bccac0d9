//! Blobs and a source of them that fails in whatever way a test wants.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use k3arm::oci::{Descriptor, Digest, MediaType};
use k3arm::store::{BlobReader, Error, Source, SourceError, SourceStream};
use tokio::sync::Semaphore;

/// What upstream sends at once.
pub(crate) const PIECE: usize = 32 << 10;

/// Bytes that do not repeat.
pub(crate) fn content(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

#[allow(dead_code, reason = "each test program uses some of them")]
pub(crate) fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor {
        media_type: MediaType("application/vnd.oci.image.layer.v1.tar+gzip".into()),
        digest: Digest::of(content),
        size: content.len() as u64,
        platform: None,
        annotations: Default::default(),
    }
}

/// What goes wrong with one opening of the source.
#[allow(dead_code, reason = "each test program uses some of them")]
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is refused.
    Refuse,
    /// An error after so many bytes of this opening.
    Cut(usize),
    /// A clean end after so many bytes of this opening.
    End(usize),
    /// Silence after so many bytes of this opening.
    Hang(usize),
    /// One byte of the blob is wrong.
    Flip(usize),
    /// More bytes than the blob has.
    Excess,
    /// Each piece waits for a permit.
    Gate(Arc<Semaphore>),
}

/// A source of one blob.
pub(crate) struct Fake {
    content: Bytes,
    faults: Mutex<VecDeque<Fault>>,
    /// The offsets at which it was opened.
    opened: Mutex<Vec<u64>>,
}

impl Fake {
    pub(crate) fn new(content: &Bytes, faults: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        let faults = Mutex::new(faults.into_iter().collect());
        Arc::new(Self { content: content.clone(), faults, opened: Mutex::default() })
    }

    pub(crate) fn opened(&self) -> Vec<u64> {
        self.opened.lock().unwrap().clone()
    }
}

impl Source for Fake {
    fn open<'a>(&'a self, _: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<SourceStream, SourceError>> {
        self.opened.lock().unwrap().push(offset);
        let fault = self.faults.lock().unwrap().pop_front();
        let stream = stream_of(&self.content, offset as usize, fault);
        Box::pin(async move { stream })
    }
}

fn stream_of(content: &Bytes, offset: usize, fault: Option<Fault>) -> Result<SourceStream, SourceError> {
    let mut bytes = content.to_vec();
    let mut gate = None;
    let mut last: Option<SourceStream> = None;
    match fault {
        None => {}
        Some(Fault::Refuse) => return Err("upstream refused".into()),
        Some(Fault::Cut(after)) => {
            bytes.truncate(offset + after);
            last = Some(stream::iter([Err("upstream was cut".into())]).boxed());
        }
        Some(Fault::End(after)) => bytes.truncate(offset + after),
        Some(Fault::Hang(after)) => {
            bytes.truncate(offset + after);
            last = Some(stream::pending().boxed());
        }
        Some(Fault::Flip(at)) => bytes[at] ^= 1,
        Some(Fault::Excess) => bytes.push(0),
        Some(Fault::Gate(permits)) => gate = Some(permits),
    }
    let rest = Bytes::from(bytes).slice(offset..);
    let pieces: Vec<Bytes> = rest.chunks(PIECE).map(Bytes::copy_from_slice).collect();
    let stream = stream::iter(pieces).then(move |piece| {
        let gate = gate.clone();
        async move {
            if let Some(gate) = gate {
                gate.acquire().await?.forget();
            }
            Ok(piece)
        }
    });
    Ok(match last {
        Some(last) => stream.chain(last).boxed(),
        None => stream.boxed(),
    })
}

/// All that a reader gives, and how it ends.
#[allow(dead_code, reason = "only one of the test programs reads without a mirror")]
pub(crate) async fn read(mut reader: BlobReader) -> (Vec<u8>, Result<(), Error>) {
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await {
        match chunk {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}
