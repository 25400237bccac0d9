//! Pulling an image by digest, with the engine's own words on how it goes.

use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use super::error::{Failure, one_line, without_secret};
use super::{Engine, Error};
use crate::oci::{Digest, Platform};

/// One line of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// What it concerns: the first 12 digits of a layer, or empty.
    pub layer: String,
    /// The engine's word: `Downloading`, `Extracting`, `Pull complete`, `Already exists`.
    pub status: String,
    /// Bytes done, where they are counted.
    pub current: Option<u64>,
    /// Bytes in all, where they are known.
    pub total: Option<u64>,
}

impl Engine {
    /// How long an engine may say nothing during a pull: an SD card that syncs a large layer takes a minute or two.
    const SILENCE: Duration = Duration::from_secs(180);

    /// Has the engine pull `name@digest`, where `name` is `127.0.0.1:PORT/path`. Afterwards the image has that name by
    /// digest and no tag. There is no limit on the whole, but one on silence (3 minutes). Dropping the future ends the
    /// pull. Where the digest is an index, `platform` says which of its images is wanted.
    ///
    /// A layer that breaks off ends the pull, and the next one goes on at once. The engine itself would wait, for 50 to
    /// 75 s in all, and ask the same door again, which after a lost connection is none: a classic store has one transfer
    /// for a layer however many pulls want it, so that ours may have joined that of a run that is long gone.
    ///
    /// # Errors
    /// [`Error::Pull`] with the engine's reason, [`Error::NoSpace`], [`Error::Timeout`], [`Error::Disconnected`]; none, if the engine holds the image nevertheless.
    pub async fn pull(
        &self,
        name: &str,
        digest: &Digest,
        platform: &Platform,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), Error> {
        let Err(error) = self.pull_once(name, digest, platform, progress).await else { return Ok(()) };
        // Some engines end a good pull with an error (bollard#560): what they hold counts.
        match self.image_named(&format!("{name}@{digest}")).await {
            Ok(Some(facts)) if facts.usable_manifests.as_ref().is_none_or(|usable| !usable.is_empty()) => {
                tracing::debug!(%error, "the pull ended with an error, but the image is there");
                Ok(())
            }
            _ => Err(error),
        }
    }

    async fn pull_once(
        &self,
        name: &str,
        digest: &Digest,
        platform: &Platform,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), Error> {
        let image = format!("{name}@{digest}");
        let options = CreateImageOptionsBuilder::default()
            .from_image(name)
            .tag(&digest.to_string())
            .platform(&platform.to_string())
            .build();
        let mut lines = self.docker.create_image(Some(options), None, None);
        loop {
            match tokio::time::timeout(Self::SILENCE, lines.next()).await {
                Ok(Some(Ok(line))) => match PullProgress::from(line) {
                    line if line.is_retry() => return Err(broken_off(&image, &line)),
                    line => progress(line),
                },
                Ok(Some(Err(error))) => return Err(refused(&image, error)),
                Ok(None) => return Ok(()),
                Err(_) => return Err(Failure::Timeout(Self::SILENCE).during(format!("hear from the pull of {image}"))),
            }
        }
    }
}

impl PullProgress {
    /// There is no field for it: the engine counts down.
    fn is_retry(&self) -> bool {
        self.status.starts_with("Retrying in ")
    }
}

/// A layer of which no more comes.
fn broken_off(image: &str, line: &PullProgress) -> Error {
    Error::Pull { name: without_secret(image), message: format!("the transfer of layer {} broke off", line.layer) }
}

/// What the engine says is its reason, wherever it says it; a broken connection is ours.
fn refused(image: &str, error: bollard::errors::Error) -> Error {
    match Failure::from_bollard(error, Engine::SILENCE).during(format!("pull {image}")) {
        Error::Api { message, .. } | Error::NotFound { message, .. } => {
            Error::Pull { name: without_secret(image), message }
        }
        other => other,
    }
}

impl From<CreateImageInfo> for PullProgress {
    fn from(line: CreateImageInfo) -> Self {
        let detail = line.progress_detail.unwrap_or_default();
        let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
        Self {
            layer: one_line(&line.id.unwrap_or_default()),
            status: one_line(&line.status.unwrap_or_default()),
            current: bytes(detail.current),
            total: bytes(detail.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::docker::transport::tests::Fake;

    const FAILED: &str = "{\"status\":\"Downloading\",\"id\":\"abc\",\"progressDetail\":{\"current\":5,\"total\":-1}}\r\n\
                          {\"errorDetail\":{\"message\":\"write /x: no space left on device\"},\"error\":\"x\"}\r\n";

    /// An engine whose pulls say `progress` and then nothing more, or go on for ever; `held` is its answer about images.
    fn engine(progress: &'static str, ends: bool, held: &'static str) -> Fake {
        Fake::serving(move |request, mut stream| async move {
            let body = match request.split(' ').nth(1).unwrap_or_default() {
                path if path.starts_with("/images/create") => progress,
                path if path.starts_with("/images/") => held,
                _ => "OK",
            };
            let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n{body}").as_bytes()).await;
            while !ends && request.contains("/images/create") {
                std::future::pending::<()>().await;
            }
        })
    }

    async fn pull(fake: Fake, progress: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<(), Error> {
        let platform = Platform::new("linux", "arm64", None);
        fake.engine().await.unwrap().pull("127.0.0.1:1/a", &Digest::of(b""), &platform, progress).await
    }

    #[tokio::test]
    async fn an_error_in_the_stream_counts_unless_the_image_is_there() {
        let lines = std::sync::Mutex::new(Vec::new());
        let full = pull(engine(FAILED, true, ""), &|line| lines.lock().unwrap().push(line)).await.unwrap_err();
        assert!(matches!(full, Error::NoSpace { .. }), "{full:?}");
        let [line] = lines.into_inner().unwrap().try_into().unwrap();
        let seen = PullProgress { layer: "abc".into(), status: "Downloading".into(), current: Some(5), total: None };
        assert_eq!(line, seen);
        let held = "{\"Id\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}";
        assert!(pull(engine(FAILED, true, held), &|_| {}).await.is_ok(), "a spurious error");
        let garbage = pull(engine("nonsense\r\n", true, ""), &|_| {}).await.unwrap_err();
        assert!(matches!(garbage, Error::Malformed { .. }), "{garbage:?}");
    }

    #[tokio::test]
    async fn a_layer_that_the_engine_would_try_again_ends_the_pull() {
        let line = "{\"status\":\"Retrying in 5 seconds\",\"progressDetail\":{},\"id\":\"abc\"}\r\n";
        let retry = pull(engine(line, false, ""), &|_| {});
        let error = tokio::time::timeout(Duration::from_secs(60), retry).await.unwrap().unwrap_err();
        assert!(matches!(&error, Error::Pull { message, .. } if message.contains("abc")), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_says_nothing_more_is_given_up() {
        let silent = pull(engine("{\"status\":\"Downloading\"}\r\n", false, ""), &|_| {}).await.unwrap_err();
        assert!(matches!(silent, Error::Timeout { within: Engine::SILENCE, .. }), "{silent:?}");
    }
}
