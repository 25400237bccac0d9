//! An archive on its way to an engine: counted while it goes, and its own failure told apart from the engine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::archive;
use crate::docker::Error;
use crate::plan::Failure;
use crate::probe::Connection;

/// Bytes that an engine has taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Arc<AtomicU64>);

impl Sent {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The same stream, counted.
    pub(super) fn counting(
        &self,
        stream: impl Stream<Item = Result<Bytes, archive::Error>> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, archive::Error>> + Send + 'static {
        let count = self.0.clone();
        stream.inspect(move |piece| {
            let bytes = piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
            count.fetch_add(bytes, Ordering::Relaxed);
        })
    }
}

/// What stopped an upload: where our own archive broke off, its cause (a registry, the store) is the one to tell.
pub(super) fn failure(error: &Error, connection: &Connection) -> Failure {
    let ours = match error {
        Error::Source { source, .. } => source.downcast_ref::<archive::Error>(),
        _ => None,
    };
    match ours {
        Some(archive::Error::Blob { source, .. }) => super::image::unavailable(source, connection),
        Some(ours) => Failure::new(ours, ours.hint()).on(&connection.host.name),
        None => super::failure(connection, error),
    }
}
