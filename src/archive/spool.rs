//! What cannot be read by seeking is first written, once, to a temporary file without a name: compressed archives, and
//! streams. The file is gone when the archive is dropped, whatever happens to the process.

use std::fs::{DirBuilder, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use super::error::Cause;
use super::{Error, Flaw};

/// Pieces in which files are unpacked.
const PIECE: usize = 256 << 10;

/// How a file is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// `file`, or what it unpacks to, in a temporary file in `folder`. Its full size is needed there, and nothing else
/// bounds it. Blocks.
pub(super) fn unpacked(mut file: File, archive: &Path, folder: &Path) -> Result<File, Error> {
    let failed = |error| Error::io("reading", archive, error);
    let mut magic = [0; 4];
    let length = file.read_at(&mut magic, 0).map_err(failed)?;
    let kind = Compression::of(&magic[..length]);
    if kind == Compression::None {
        return Ok(file);
    }
    file.rewind().map_err(failed)?;
    let file = BufReader::with_capacity(PIECE, file);
    let decoder: Box<dyn Read> = match kind {
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(file).map_err(failed)?),
        _ => Box::new(MultiGzDecoder::new(file)),
    };
    tracing::debug!(archive = %archive.display(), folder = %folder.display(), "unpacking archive to a temporary file");
    write_out(decoder, archive, folder)
}

fn write_out(mut decoder: Box<dyn Read>, archive: &Path, folder: &Path) -> Result<File, Error> {
    let spooling = |error| Error::spool(folder, archive, error);
    let damaged = |error: io::Error| {
        let flaw = Flaw::Compression { source: Arc::new(error) };
        Error::Invalid { archive: archive.to_path_buf(), flaw }
    };
    let mut out = temporary(folder).map_err(spooling)?;
    let mut piece = vec![0; PIECE];
    loop {
        match decoder.read(&mut piece).map_err(damaged)? {
            0 => return Ok(out),
            length => out.write_all(&piece[..length]).map_err(spooling)?,
        }
    }
}

/// A file without a name. On a new machine the folder is not there yet.
fn temporary(folder: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    tempfile::tempfile_in(folder)
}

/// All of `stream`, in a temporary file in `folder`.
pub(super) async fn spooled<S, E>(stream: S, archive: &Path, folder: &Path) -> Result<File, Error>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let spooling = |error| Error::spool(folder, archive, error);
    let mut stream = std::pin::pin!(stream);
    let mut out = tokio::fs::File::from_std(temporary(folder).map_err(spooling)?);
    while let Some(bytes) = stream.next().await {
        let broken = |error: E| Error::Stream { archive: archive.to_path_buf(), source: Cause::from(error.into()) };
        out.write_all(&bytes.map_err(broken)?).await.map_err(spooling)?;
    }
    out.flush().await.map_err(spooling)?;
    Ok(out.into_std().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let out = unpacked(file, Path::new("a.tar"), folder.path())?;
        let mut all = vec![0; out.metadata().unwrap().len() as usize];
        out.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
        Ok(all)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_compressions_and_none_are_read() {
        let content: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
        for packed in [gzip(&content), zstd::encode_all(&content[..], 1).unwrap(), content.clone()] {
            assert!(unpack(&packed).unwrap() == content);
            assert!(unpack(&[gzip(b"ab"), gzip(b"c")].concat()).unwrap() == b"abc");
        }
        assert!(unpack(b"").unwrap().is_empty());
    }

    #[test]
    fn cut_compressed_data_is_a_flaw_of_the_archive() {
        let content: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
        for packed in [gzip(&content), zstd::encode_all(&content[..], 1).unwrap()] {
            for cut in [&packed[..packed.len() / 2], &packed[..packed.len() - 1], &packed[..5]] {
                let error = unpack(cut).unwrap_err();
                assert!(matches!(error.flaw(), Some(Flaw::Compression { .. })), "{error:?}");
            }
        }
    }

    #[test]
    fn a_full_disk_is_told_with_its_folder() {
        let error = Error::spool(Path::new("/s"), Path::new("a.tar.gz"), io::ErrorKind::StorageFull.into());
        assert_eq!(error.to_string(), "no space left in /s to unpack a.tar.gz");
        assert!(error.hint().is_some_and(|hint| hint.contains("/s")));
    }

    #[tokio::test]
    async fn a_new_machine_gets_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let pieces = [Ok::<_, io::Error>(Bytes::from_static(b"ab"))];
        let missing = folder.path().join("not/yet");
        let file = spooled(futures_util::stream::iter(pieces), Path::new("docker:x"), &missing).await.unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_broken_stream_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let pieces = [Ok(Bytes::from_static(b"ab")), Err("gone")];
        let error =
            spooled(futures_util::stream::iter(pieces), Path::new("docker:x"), folder.path()).await.unwrap_err();
        assert!(matches!(&error, Error::Stream { source, .. } if source.to_string() == "gone"), "{error:?}");
    }
}
