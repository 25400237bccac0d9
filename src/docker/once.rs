//! A container that runs one script and is gone.
//!
//! The engine itself removes it when it ends, so that nothing is left when we are killed in between; one that has not
//! been started by then is swept by the next run.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::CreateContainerOptions;
use futures_util::StreamExt;
use hyper::Method;
use serde::Deserialize;

use super::containers::small_log;
use super::error::Failure;
use super::logs::Logs;
use super::{Engine, Error, segment};

/// The most that is kept of a script's output, in bytes.
pub const OUTPUT_LIMIT: usize = 64 << 10;

/// Marks these containers.
const LABEL: &str = "k3arm.dev/one-shot";

/// One script in one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneShot {
    /// The image's ID.
    pub image: String,
    /// For the image's `/bin/sh -c`; never a secret.
    pub script: String,
    /// In the host's network rather than in one without any interface.
    pub host_network: bool,
    /// With all capabilities and devices.
    pub privileged: bool,
}

impl Engine {
    /// Runs the script and gives its exit code and what it wrote, both streams together in the order of arrival. The
    /// container is removed in any case, also when this future is dropped.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it has not ended after `deadline` (it is killed), [`Error::NotFound`] without the image.
    pub async fn run_once(&self, spec: &OneShot, deadline: Duration) -> Result<(i64, String), Error> {
        let attempt = "run a script in a container";
        let request = self.docker.create_container(None::<CreateContainerOptions>, body(spec));
        let id = self.carry_out(attempt, deadline, request).await?.id;
        let mut guard = Guard { engine: self, id: Some(id.clone()) };
        let timeout = || Failure::Timeout(deadline).during(attempt);
        let outcome = tokio::time::timeout(deadline, self.run_created(&id)).await.unwrap_or_else(|_| Err(timeout()));
        if outcome.is_err() {
            self.remove_container(&id).await?;
        }
        guard.id = None;
        outcome
    }

    /// Attached before it is started, so that no output is lost; waited for before, so that no end is.
    async fn run_created(&self, id: &str) -> Result<(i64, String), Error> {
        let path = format!("/containers/{}/attach?stream=1&stdout=1&stderr=1", segment(id));
        let attached = self.transport.open(Method::POST, &path).await;
        let attached = attached.map_err(|failure| failure.during("attach to a container"))?;
        let removed = self.begin_wait(id, "removed").await?;
        self.start(id).await?;
        let output = collect(Logs::new(attached.into_body(), id)).await?;
        Ok((self.exit_code(id, removed).await?, output))
    }

    /// Removes what runs that were killed have left of [`Self::run_once`]: containers that do not run, and ones that
    /// have for more than a quarter of an hour. Gives their number.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer.
    pub async fn sweep_one_shots(&self) -> Result<usize, Error> {
        let mut swept = 0;
        let left = self.labelled(LABEL).await?;
        if left.is_empty() {
            return Ok(0);
        }
        let now = self.clock().await?;
        for container in left {
            if container.state != "running" || now.saturating_sub(container.created) > 900 {
                self.remove_container(&container.id).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Seconds since 1970 by the host's clock; 0 if it cannot be read.
    async fn clock(&self) -> Result<i64, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Wire {
            #[serde(default)]
            system_time: String,
        }
        let wire: Wire = self.get("/info", "ask Docker for the time").await?;
        let now = super::logs::since_epoch(&wire.system_time).unwrap_or_default();
        Ok(i64::try_from(now.as_secs()).unwrap_or_default())
    }
}

pub(super) async fn collect(mut lines: Logs) -> Result<String, Error> {
    let mut output = String::new();
    while let Some(line) = lines.next().await {
        let line = line?;
        if output.len() + line.len() < OUTPUT_LIMIT {
            output += &line;
            output.push('\n');
        }
    }
    Ok(output)
}

fn body(spec: &OneShot) -> ContainerCreateBody {
    let network = if spec.host_network { "host" } else { "none" };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: Some(vec!["/bin/sh".into(), "-c".into()]),
        cmd: Some(vec![spec.script.clone()]),
        labels: Some([(LABEL.to_string(), "1".to_string())].into()),
        host_config: Some(HostConfig {
            privileged: Some(spec.privileged),
            network_mode: Some(network.into()),
            auto_remove: Some(true),
            log_config: Some(small_log()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Removes the container when the future that runs it is dropped.
struct Guard<'a> {
    engine: &'a Engine,
    id: Option<String>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let engine = self.engine.clone();
        if let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = engine.remove_container(&id).await {
                    tracing::debug!(%error, id, "a container is left for the next sweep");
                }
            });
        }
    }
}
