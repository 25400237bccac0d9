//! Files into and out of containers, also ones that do not run, as tar streams.
//!
//! What goes through here may be secret: the archive is sent as a stream, which bollard does not log.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio_tar::{Archive, Builder, EntryType, Header};

use super::error::Failure;
use super::{Engine, Error, segment};
use crate::cluster::{NodeFile, Secret};

impl Engine {
    /// Puts `files`, owned by root, into a container, and makes the directories above them: mode 0755, and 0700 for
    /// `server` and `tls` directories and what is below them, as k3s has them. The container need not have been
    /// started; paths inside its volumes end up in the volumes.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the container, [`Error::Malformed`] for a path that is not absolute or climbs with
    /// `..`, [`Error::NoSpace`].
    pub async fn put_files(&self, container: &str, files: &[NodeFile]) -> Result<(), Error> {
        let attempt = format!("put files into container {container}");
        let archive = pack(files).await.map_err(|source| Failure::Malformed(source.into()).during(&attempt))?;
        let body = bollard::body_stream(futures_util::stream::iter([Bytes::from(archive)]));
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let id = segment(container);
        self.carry_out(&attempt, Self::DISK, self.docker.upload_to_container(&id, Some(options), body)).await
    }

    /// The content of one regular file of at most `limit` bytes; `None` if the container has no such path.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the container, [`Error::Malformed`] if it is longer, not text, or not a file.
    pub async fn get_file(&self, container: &str, path: &str, limit: u64) -> Result<Option<Secret>, Error> {
        let attempt = format!("read {path} of container {container}");
        let malformed = |source: io::Error| Failure::Malformed(source.into()).during(&attempt);
        match tokio::time::timeout(Self::DISK, self.download(container, path, limit, &attempt)).await {
            Ok(Ok(archive)) => unpack(&archive, limit).await.map(Some).map_err(malformed),
            // 404 for a container that is not there, and for a path.
            Ok(Err(error)) if error.is_not_found() => self.state(container).await.map(|_| None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Timeout { attempt, within: Self::DISK }),
        }
    }

    /// At most `limit` bytes and what tar puts around them.
    async fn download(&self, container: &str, path: &str, limit: u64, attempt: &str) -> Result<Vec<u8>, Error> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let id = segment(container);
        let mut chunks = std::pin::pin!(self.docker.download_from_container(&id, Some(options)));
        let mut archive = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Failure::from_bollard(error, Duration::ZERO).during(attempt))?;
            archive.extend_from_slice(&chunk);
            if archive.len() as u64 > limit.saturating_add(TAR_OVERHEAD) {
                return Err(Failure::Malformed(too_long(limit).into()).during(attempt));
            }
        }
        Ok(archive)
    }
}

/// Headers, extended headers, padding and the two blocks at the end.
const TAR_OVERHEAD: u64 = 32 << 10;

fn too_long(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes"))
}

/// Directories first, each once, then the files.
async fn pack(files: &[NodeFile]) -> io::Result<Vec<u8>> {
    let mut directories = BTreeMap::new();
    for file in files {
        let path = relative(&file.path)?;
        for directory in path.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty()) {
            directories.insert(directory.to_path_buf(), directory_mode(directory));
        }
    }
    let mut archive = Builder::new(Vec::new());
    for (path, mode) in &directories {
        archive.append_data(&mut header(EntryType::Directory, *mode, 0), path, tokio::io::empty()).await?;
    }
    for file in files {
        let content = file.content.expose().as_bytes();
        let mut header = header(EntryType::Regular, file.mode & 0o7777, content.len() as u64);
        archive.append_data(&mut header, relative(&file.path)?, content).await?;
    }
    archive.into_inner().await
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn directory_mode(directory: &Path) -> u32 {
    let is_private = directory.iter().any(|name| name == "server" || name == "tls");
    if is_private { 0o700 } else { 0o755 }
}

/// The path without its leading slash.
fn relative(path: &str) -> io::Result<PathBuf> {
    let mut components = Path::new(path).components();
    let is_plain = components.next() == Some(Component::RootDir)
        && components.clone().all(|component| matches!(component, Component::Normal(_)))
        && components.clone().next().is_some();
    if is_plain {
        return Ok(components.as_path().to_path_buf());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is not an absolute path of a file")))
}

/// The one file in `archive`.
async fn unpack(archive: &[u8], limit: u64) -> io::Result<Secret> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    let mut archive = Archive::new(archive);
    let entry = archive.entries()?.next().await.ok_or_else(|| invalid("an empty archive"))??;
    if entry.header().entry_type() != EntryType::Regular {
        return Err(invalid("not a regular file"));
    }
    let mut content = Vec::new();
    entry.take(limit.saturating_add(1)).read_to_end(&mut content).await?;
    if content.len() as u64 > limit {
        return Err(too_long(limit));
    }
    String::from_utf8(content).map(Secret::new).map_err(|_| invalid("not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> NodeFile {
        NodeFile { path: path.into(), mode: 0o600, content: Secret::new(content) }
    }

    #[tokio::test]
    async fn directories_come_first_each_once_and_private_ones_are_closed() {
        let files = [file("/var/lib/k3s/server/tls/ca.key", "k"), file("/etc/a/b", "1"), file("/etc/a/c", "2")];
        let archive = pack(&files).await.unwrap();
        let mut archive = Archive::new(archive.as_slice());
        let mut entries = archive.entries().unwrap();
        let mut seen = Vec::new();
        while let Some(entry) = entries.next().await {
            let entry = entry.unwrap();
            let mode = entry.header().mode().unwrap();
            seen.push(format!("{} {mode:o}", entry.path().unwrap().display()));
        }
        assert_eq!(
            seen,
            [
                "etc 755",
                "etc/a 755",
                "var 755",
                "var/lib 755",
                "var/lib/k3s 755",
                "var/lib/k3s/server 700",
                "var/lib/k3s/server/tls 700",
                "var/lib/k3s/server/tls/ca.key 600",
                "etc/a/b 600",
                "etc/a/c 600"
            ]
        );
    }

    #[tokio::test]
    async fn paths_that_climb_are_refused() {
        for path in ["etc/a", "/etc/../a", "/", "", "/etc/./../a"] {
            assert!(pack(&[file(path, "")]).await.is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_within_its_limit() {
        let archive = |files: Vec<NodeFile>| async move {
            let mut archive = Builder::new(Vec::new());
            for file in files {
                let content = file.content.expose().as_bytes();
                let mut header = header(EntryType::Regular, 0o600, content.len() as u64);
                archive.append_data(&mut header, relative(&file.path).unwrap(), content).await.unwrap();
            }
            archive.into_inner().await.unwrap()
        };
        let one = archive(vec![file("/a", "secret")]).await;
        assert_eq!(unpack(&one, 6).await.unwrap().expose(), "secret");
        assert!(unpack(&one, 5).await.is_err());
        assert!(unpack(&one[..515], 6).await.is_err(), "cut off");
        assert!(unpack(&archive(vec![]).await, 6).await.is_err());
        let mut directory = Builder::new(Vec::new());
        let mut header = header(EntryType::Directory, 0o755, 0);
        directory.append_data(&mut header, "d", tokio::io::empty()).await.unwrap();
        assert!(unpack(&directory.into_inner().await.unwrap(), 6).await.is_err());
    }

    proptest::proptest! {
        #[test]
        fn hostile_archives_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2048)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(unpack(&bytes, 100));
        }
    }
}
