//! Loading images from a tar that is streamed: an OCI layout, a `docker save` archive, or both in one.
//!
//! What a tar may leave out (tried on 20.10 and 26.1 with the classic store and on 28.5 with the containerd store):
//!
//! - Classic: it reads `manifest.json` and the files that it names. A layer's file may be missing, its entry not, where
//!   the engine has that layer's chain; the config must be there. Else the answer is an error, and nothing is left.
//! - containerd: it reads the OCI layout if there is one, and then not `manifest.json`. A layer's blob may be missing
//!   where the engine has the blob, or has its chain unpacked from a blob in another compression. In the latter case the
//!   image runs, but the engine calls it incomplete ever after, see [`Engine::unpacked`]. Else, and also where config,
//!   manifest or index are missing, the image gets its name and the answer is "Loaded image": a line of text may tell of
//!   layers that could not be unpacked, and nothing tells of the rest. A tar that breaks off is taken as complete, too.
//!
//! So no answer of an engine says that it holds the image: ask [`Engine::holds`] afterwards, also after an error (some
//! engines end a good load with one). If it does not and the tar left something out, send all of it.

use bytes::Bytes;
use futures_util::Stream;
use hyper::Method;
use serde::Deserialize;

use super::error::{Cause, Failure, is_no_space, one_line};
use super::progress::Lines;
use super::upload::{Pulse, Upload};
use super::{Engine, Error, PullProgress};

impl Engine {
    /// Has the engine load the images of `tar`, which is sent as fast as the engine takes it and never held in memory.
    /// Classic stores then tell how far they are with each layer; the containerd store tells nothing. There is no limit
    /// on the whole, but one on silence: 3 minutes in which the engine takes nothing of what it is given, and, when it
    /// has all and unpacks, a second more for each 512 KiB. Dropping the future ends the request.
    ///
    /// `Ok` means that the engine said nothing to the contrary, not that it holds the images: see [`Self::holds`].
    ///
    /// # Errors
    /// [`Error::Source`] with the error of `tar`, whatever the engine made of it; [`Error::Load`] with the engine's
    /// reason, such as a layer that neither it nor the tar has; [`Error::NoSpace`], [`Error::Timeout`],
    /// [`Error::Disconnected`].
    pub async fn load<E: Into<Cause> + 'static>(
        &self,
        tar: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), Error> {
        let upload = Upload::new(tar);
        let pulse = upload.pulse();
        let outcome = pulse.watch(self.load_watched(upload, &pulse, progress)).await;
        outcome.unwrap_or_else(|failure| Err(failure.during("load images")))
    }

    /// The inner error is the engine's own.
    async fn load_watched(
        &self,
        upload: Upload,
        pulse: &Pulse,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Result<(), Error>, Failure> {
        let (body, _connection) = self.transport.upload(Method::POST, "/images/load?quiet=0", upload).await?;
        let mut lines = Lines::new(body);
        while let Some(line) = lines.next::<Wire>().await? {
            pulse.said();
            match line.reason() {
                Some(message) => return Ok(Err(refused(message))),
                None => progress(line.into()),
            }
        }
        Ok(Ok(()))
    }
}

fn refused(message: &str) -> Error {
    let (message, is_no_space) = (one_line(message), is_no_space(message));
    if is_no_space { Error::NoSpace { attempt: "load images".into(), message } } else { Error::Load { message } }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    id: Option<String>,
    status: Option<String>,
    stream: Option<String>,
    error: Option<String>,
    error_detail: Option<WireError>,
    progress_detail: Option<WireBytes>,
}

#[derive(Debug, Deserialize)]
struct WireError {
    message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireBytes {
    current: Option<i64>,
    total: Option<i64>,
}

impl Wire {
    /// Why the engine gave up. Where layers cannot be unpacked, the containerd store has no field for it, only words.
    fn reason(&self) -> Option<&str> {
        let detail = self.error_detail.as_ref().map(|detail| detail.message.as_deref().unwrap_or("no reason given"));
        let words = self.stream.as_deref().filter(|words| words.starts_with("Error unpacking image"));
        self.error.as_deref().or(detail).or(words)
    }
}

impl From<Wire> for PullProgress {
    fn from(line: Wire) -> Self {
        let detail = line.progress_detail.unwrap_or_default();
        let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
        Self {
            layer: one_line(&line.id.unwrap_or_default()),
            status: one_line(&line.status.or(line.stream).unwrap_or_default()),
            current: bytes(detail.current),
            total: bytes(detail.total),
        }
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
