//! Images out of an engine, as `docker save` writes them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyDataStream;
use hyper::Method;
use hyper::body::Incoming;

use super::error::Failure;
use super::{Engine, Error, image_path};
use crate::oci::Reference;

/// How long the engine may give nothing: it reads a whole layer before the first byte of it.
const SILENCE: Duration = Duration::from_secs(180);

impl Engine {
    /// The image of this name with all that the engine has of it, as a tar, bounded only by who reads it. Fails in the
    /// middle when the connection breaks, or when the engine gives nothing for three minutes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such image.
    pub async fn save(&self, name: &Reference) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, Error> {
        let name = name.on_engine().familiar();
        let attempt = format!("save image {name}");
        let path = format!("/images/{}/get", image_path(&name));
        let answer = tokio::time::timeout(SILENCE, self.transport.open(Method::GET, &path)).await;
        let answer = answer.unwrap_or(Err(Failure::Timeout(SILENCE)));
        let body = answer.map_err(|failure| failure.during(attempt))?.into_body();
        Ok(stream::try_unfold(BodyDataStream::new(body), next))
    }
}

async fn next(mut body: BodyDataStream<Incoming>) -> io::Result<Option<(Bytes, BodyDataStream<Incoming>)>> {
    match tokio::time::timeout(SILENCE, body.next()).await {
        Ok(Some(Ok(bytes))) => Ok(Some((bytes, body))),
        Ok(Some(Err(error))) => Err(io::Error::other(error)),
        Ok(None) => Ok(None),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the engine gave nothing for three minutes")),
    }
}
