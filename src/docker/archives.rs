//! Tars into containers, also ones that do not run, and what became of a file there.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::{Method, Response};
use serde::Deserialize;

use super::error::{Cause, Failure};
use super::upload::Upload;
use super::{Engine, Error, segment};

/// What a path in a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// Bytes, of a regular file; of anything else what its file system says.
    pub size: u64,
    /// A file, a directory, something else.
    pub kind: FileKind,
}

/// What kind of file. Links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// With bytes in it.
    Regular,
    /// With files in it.
    Directory,
    /// A link, device, socket or pipe.
    Other,
}

/// The answer is one header; an engine's has 200 bytes and the path.
const STAT_LIMIT: usize = 8 << 10;

impl Engine {
    /// Unpacks `tar` at the root of a container, which need not have been started; paths inside its volumes end up in
    /// the volumes. It is sent as fast as the engine unpacks it and never held in memory; the limit on the engine's
    /// silence is that of [`Self::load`]. Dropping the future ends the request.
    ///
    /// What was unpacked stays, whatever happens then: of a tar that breaks off, the whole files and the first part of
    /// the one it broke off in, see [`Self::stat`].
    ///
    /// # Errors
    /// [`Error::Source`] with the error of `tar`, whatever the engine made of it; [`Error::NotFound`] without the
    /// container, [`Error::NoSpace`], [`Error::Timeout`], [`Error::Disconnected`], [`Error::Api`] for a tar that is
    /// none or that is too short.
    pub async fn put_archive<E: Into<Cause> + 'static>(
        &self,
        container: &str,
        tar: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<(), Error> {
        let upload = Upload::new(tar);
        let path = format!("/containers/{}/archive?path=%2F", segment(container));
        let pulse = upload.pulse();
        let unpacked = pulse.watch(async {
            let (body, _connection) = self.transport.upload(Method::PUT, &path, upload).await?;
            body.collect().await.map(drop).map_err(Failure::Http)
        });
        unpacked.await.map_err(|failure| failure.during(format!("unpack files in container {container}")))
    }

    /// What is at `path`, which is absolute, in a container; `None` if there is nothing. The container need not run.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the container.
    pub async fn stat(&self, container: &str, path: &str) -> Result<Option<FileStat>, Error> {
        let attempt = format!("look at {path} in container {container}");
        let request = format!("/containers/{}/archive?path={}", segment(container), segment(path));
        let answer = tokio::time::timeout(Self::ANSWER, self.transport.open(Method::HEAD, &request)).await;
        let answer = answer.unwrap_or(Err(Failure::Timeout(Self::ANSWER)));
        match answer.and_then(|response| file_stat(&response)).map_err(|failure| failure.during(attempt)) {
            Ok(stat) => Ok(Some(stat)),
            // 404 for a container that is not there, and for a path.
            Err(error) if error.is_not_found() => self.state(container).await.map(|_| None),
            Err(error) => Err(error),
        }
    }
}

/// Base64 of JSON in a header.
fn file_stat<B>(response: &Response<B>) -> Result<FileStat, Failure> {
    let malformed = |what: &str| Failure::Malformed(what.into());
    let header = response.headers().get("x-docker-container-path-stat");
    let header = header.filter(|value| value.len() <= STAT_LIMIT).ok_or_else(|| malformed("no such header"))?;
    let json = BASE64_STANDARD.decode(header).map_err(|source| Failure::Malformed(source.into()))?;
    let wire: Wire = serde_json::from_slice(&json).map_err(|source| Failure::Malformed(source.into()))?;
    Ok(FileStat { size: u64::try_from(wire.size).map_err(|_| malformed("a negative size"))?, kind: kind(wire.mode) })
}

#[derive(Debug, Deserialize)]
struct Wire {
    size: i64,
    mode: u32,
}

/// Go's `fs.FileMode`: its highest bits are the type, the lowest nine the permissions.
fn kind(mode: u32) -> FileKind {
    const DIRECTORY: u32 = 1 << 31;
    // Symbolic link, device, named pipe, socket, character device, irregular.
    const OTHER: u32 = (1 << 27) | (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19);
    match mode {
        _ if mode & DIRECTORY != 0 => FileKind::Directory,
        _ if mode & OTHER != 0 => FileKind::Other,
        _ => FileKind::Regular,
    }
}

#[cfg(test)]
#[path = "archives_tests.rs"]
mod tests;
