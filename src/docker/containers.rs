//! Node containers: made, started, stopped, removed.

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};

use super::{Engine, Error, gone, segment};
use crate::cluster::ContainerSpec;

impl Engine {
    /// For what reads or writes a lot on an SD card.
    pub(super) const DISK: Duration = Duration::from_secs(300);

    /// Makes a node's container and its volumes, and gives its ID; it is not started. The engine's own logs of it are
    /// kept to 30 MB.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken, [`Error::NotFound`] without the image, [`Error::Api`] (400) if a
    /// bound path is not on the host.
    pub async fn create(&self, spec: &ContainerSpec) -> Result<String, Error> {
        let options = CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let request = self.docker.create_container(Some(options), body(spec));
        Ok(self.carry_out(&format!("create container {}", spec.name), Self::DISK, request).await?.id)
    }

    /// Starts a container; one that runs is left alone.
    ///
    /// # Errors
    /// [`Error::Api`] with the reason of runc, when it cannot be started.
    pub async fn start(&self, id: &str) -> Result<(), Error> {
        let id_segment = segment(id);
        let request = self.docker.start_container(&id_segment, None::<StartContainerOptions>);
        self.carry_out(&format!("start container {id}"), Self::DISK, request).await
    }

    /// Asks the container's PID 1 to end (SIGTERM), kills it after `grace` (whole seconds); one that does not run is
    /// left alone.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let id_segment = segment(id);
        let request = self.docker.stop_container(&id_segment, Some(options));
        self.carry_out(&format!("stop container {id}"), grace.saturating_add(Self::DISK), request).await
    }

    /// Removes a container, killing it if it runs, with its anonymous volumes; then the named `volumes`. What is not
    /// there is removed already.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another container uses one of the volumes.
    pub async fn remove(&self, id: &str, volumes: &[String]) -> Result<(), Error> {
        self.remove_container(id).await?;
        for volume in volumes {
            self.remove_volume(volume).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let id_segment = segment(id);
        let request = self.docker.remove_container(&id_segment, Some(options));
        gone(self.carry_out(&format!("remove container {id}"), Self::DISK, request).await)
    }
}

fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: Some(spec.entrypoint.clone()),
        cmd: Some(spec.command.clone()),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        host_config: Some(HostConfig {
            privileged: Some(true),
            network_mode: Some("host".into()),
            init: Some(false),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            mounts: Some(mounts(spec)),
            log_config: Some(small_log()),
            memory: spec.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// An SD card is small and wears out.
pub(super) fn small_log() -> HostConfigLogConfig {
    let limits = [("max-size", "10m"), ("max-file", "3")];
    HostConfigLogConfig {
        typ: Some("json-file".into()),
        config: Some(limits.map(|(key, value)| (key.to_string(), value.to_string())).into_iter().collect()),
    }
}

/// Binds are mounts, too: `Binds` would make a missing path on the host.
fn mounts(spec: &ContainerSpec) -> Vec<Mount> {
    let volumes = spec.volumes.iter().map(|(path, name)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.clone()),
        target: Some(path.clone()),
        volume_options: Some(MountVolumeOptions {
            labels: Some(spec.labels.clone().into_iter().collect()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    });
    let binds = spec.read_only_binds.iter().map(|path| Mount {
        typ: Some(MountType::BIND),
        source: Some(path.clone()),
        target: Some(path.clone()),
        read_only: Some(true),
        ..Mount::default()
    });
    volumes.chain(binds).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::names::LABEL_CLUSTER;

    pub(crate) fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "k3arm-home-pi1".into(),
            image: "sha256:00".into(),
            entrypoint: vec!["/bin/sh".into()],
            command: vec!["-c".into(), "true".into()],
            environment: BTreeMap::from([("GOGC".into(), "50".into())]),
            labels: BTreeMap::from([(LABEL_CLUSTER.into(), "home".into())]),
            volumes: BTreeMap::from([("/etc/rancher".into(), "k3arm-home-pi1-etc".into())]),
            memory: None,
            read_only_binds: vec!["/lib/modules".into()],
        }
    }

    #[test]
    fn a_node_is_asked_for_as_the_design_says() {
        // As a value: bollard keeps labels in an order of chance.
        insta::assert_json_snapshot!(serde_json::to_value(body(&spec())).unwrap());
    }
}
