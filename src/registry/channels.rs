//! k3s' release channels: `stable` is a version today and another one next month.

use std::time::Duration;

use serde::Deserialize;

use super::auth::Grant;
use super::transport::Request;
use super::{Asked, Client, Error, Object};

/// The real list has about 50 channels in 20 KiB.
const MOST_BYTES: u64 = 1 << 20;

/// A channel: a name that moves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Channel {
    /// `stable`, `latest`, `v1.36`.
    pub name: String,
    /// The version it is at now, as k3s spells it (`v1.36.2+k3s1`). A channel may have none.
    pub latest: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    data: Vec<Channel>,
}

impl Client {
    /// All channels, in the server's order. Names and versions are as they came: the caller parses them.
    ///
    /// # Errors
    /// [`Error`] with [`Object::Channels`].
    pub async fn channels(&self) -> Result<Vec<Channel>, Error> {
        let url: url::Url = self.inner.channels_url.parse().map_err(|source| Error::Settings {
            what: "the address of the channels is not one".into(),
            source: Some(Box::new(source)),
        })?;
        self.inner.retry.run(|| self.channels_once(&url)).await
    }

    async fn channels_once(&self, url: &url::Url) -> Result<Vec<Channel>, Error> {
        let asked = Asked::new(Object::Channels, url);
        let deadline: Duration = self.inner.transport.timeouts.document;
        let answer = self.inner.transport.send(Request::get(asked.clone(), url.clone())).await?;
        let host = url.host_str().unwrap_or_default();
        let bytes = Grant::anonymous().judge(answer, host).await?.body.whole(MOST_BYTES, deadline).await?;
        let wire: Wire = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Malformed { asked: Box::new(asked), source: Box::new(source) })?;
        Ok(wire.data)
    }
}
