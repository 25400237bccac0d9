//! From the asynchronous reader of a blob to a thread that reads, waits and decodes.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::oci::LayerForm;

/// Pieces (of at most 128 KiB) that wait for the thread.
const WAITING: usize = 8;

/// The window of a zstd frame that an engine accepts, as a power of two: 128 MiB, also what zstd itself takes unasked.
pub(super) const MAX_WINDOW_LOG: u32 = 27;

/// Where the thread reads.
#[derive(Debug)]
pub(super) struct Feed {
    pieces: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    has_ended: bool,
    pub(super) consumed: u64,
    pub(super) waited: Duration,
}

/// Where the pieces are put; `None` is the end, a closed channel is not.
pub(super) type Feeder = mpsc::Sender<Option<Bytes>>;

impl Feed {
    pub(super) fn new() -> (Feeder, Self) {
        let (feeder, pieces) = mpsc::channel(WAITING);
        let feed = Self { pieces, piece: Bytes::new(), has_ended: false, consumed: 0, waited: Duration::ZERO };
        (feeder, feed)
    }

    /// What the first bytes say of the rest. Media types are not asked: engines do not either, and the digest of the
    /// uncompressed bytes tells in the end whether it was understood rightly.
    pub(super) fn form(&mut self) -> io::Result<LayerForm> {
        let mut head = self.fill_buf()?.to_vec();
        // Pieces can be as short as one byte.
        while head.len() < 4 && !self.has_ended {
            self.next_piece()?;
            head.extend_from_slice(&self.piece);
            self.piece = Bytes::from(head.clone());
        }
        Ok(match head[..] {
            [0x1f, 0x8b, ..] => LayerForm::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => LayerForm::Zstd,
            // A frame that decoders skip; some writers put one first.
            [first, 0x2a, 0x4d, 0x18, ..] if first >> 4 == 5 => LayerForm::Zstd,
            _ => LayerForm::Plain,
        })
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let piece = self.pieces.blocking_recv();
        self.waited += began.elapsed();
        match piece {
            Some(Some(piece)) => self.piece = piece,
            Some(None) => (self.piece, self.has_ended) = (Bytes::new(), true),
            None => return Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
        }
        Ok(())
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.has_ended {
            self.next_piece()?;
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        self.piece.advance(amount);
        self.consumed += amount as u64;
    }
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// Uncompressed bytes of a layer, whatever it is compressed with: gzip of several members and zstd of several frames too.
pub(super) enum Decoder {
    Plain(Feed),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Feed>>),
    Zstd(zstd::stream::read::Decoder<'static, Feed>),
}

impl Decoder {
    pub(super) fn new(mut feed: Feed) -> io::Result<Self> {
        Ok(match feed.form()? {
            LayerForm::Plain => Self::Plain(feed),
            LayerForm::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(feed))),
            LayerForm::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(feed)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Self::Zstd(decoder)
            }
        })
    }

    pub(super) fn feed(&self) -> &Feed {
        match self {
            Self::Plain(feed) => feed,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }
}

impl Read for Decoder {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(feed) => feed.read(into),
            Self::Gzip(decoder) => decoder.read(into),
            Self::Zstd(decoder) => decoder.read(into),
        }
    }
}

/// Tells the thread to stop when the future that waits for it is dropped.
#[derive(Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
