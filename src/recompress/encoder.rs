//! The compressors, set up for a machine.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use zstd::stream::raw::CParameter;

use crate::oci::{Compression, ZstdLevel};

use super::machine::Effort;

/// gzip's level: what registries' layers are usually made with.
const GZIP_LEVEL: u32 = 6;

/// A compressor in front of `W`.
pub(super) enum Encoder<W: Write> {
    Gzip(GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(compression: Compression, effort: Effort, into: W) -> io::Result<Self> {
        match compression {
            // Without a time or a name in the header, the same bytes give the same result.
            Compression::Gzip => Ok(Self::Gzip(GzEncoder::new(into, flate2::Compression::new(GZIP_LEVEL)))),
            Compression::Zstd(level) => Ok(Self::Zstd(zstd_encoder(level, effort, into)?)),
        }
    }

    pub(super) fn get_ref(&self) -> &W {
        match self {
            Self::Gzip(encoder) => encoder.get_ref(),
            Self::Zstd(encoder) => encoder.get_ref(),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

fn zstd_encoder<W: Write>(
    level: ZstdLevel,
    effort: Effort,
    into: W,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut encoder = zstd::stream::write::Encoder::new(into, level.get().into())?;
    if let Some(window_log) = effort.window_log {
        encoder.set_parameter(CParameter::WindowLog(window_log))?;
        encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    }
    if effort.workers > 0 {
        encoder.set_parameter(CParameter::NbWorkers(effort.workers))?;
        encoder.set_parameter(CParameter::JobSize(u32::try_from(effort.job).unwrap_or(u32::MAX)))?;
    }
    Ok(encoder)
}
