//! Node containers: made, started, stopped, removed, and what they are doing.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use hyper::body::Incoming;
use hyper::{Method, Response};
use serde::Deserialize;

use super::error::Failure;
use super::transport::read_json;
use super::{Engine, Error, gone, segment};
use crate::cluster::ContainerSpec;
use crate::cluster::names::LABEL_CLUSTER;
use crate::host::{NodeFacts, NodeState};

/// What a container is doing, in more words than [`NodeState`]: a node is restarted by the engine whenever it ends, so
/// its state says "running" again a moment after a failure. `restarts` and `exit_code` tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Created, running, ended.
    pub state: NodeState,
    /// How often the engine has started it again by itself.
    pub restarts: u64,
    /// How its last run ended; 0 before the first end.
    pub exit_code: i64,
    /// When its present or last run began, RFC 3339 by the host's clock; year 1 if it never ran.
    pub started_at: String,
    /// When its last run ended, RFC 3339 by the host's clock; year 1 if none has.
    pub finished_at: String,
    /// The kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// Why the engine could not start it, in its words; else empty.
    pub error: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(default)]
    pub(super) state: String,
    /// Seconds since 1970 by the host's clock.
    #[serde(default)]
    pub(super) created: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    restart_count: u64,
    config: Option<WireConfig>,
    state: Option<WireState>,
    mounts: Option<Vec<WireMount>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireConfig {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WireState {
    status: String,
    exit_code: i64,
    started_at: String,
    finished_at: String,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    error: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireMount {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(default)]
    name: String,
}

impl Engine {
    /// For what reads or writes a lot on an SD card.
    pub(super) const DISK: Duration = Duration::from_secs(300);

    /// All containers with the cluster label, whatever they are doing.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn nodes(&self) -> Result<Vec<NodeFacts>, Error> {
        let mut nodes = Vec::new();
        for listed in self.labelled(LABEL_CLUSTER).await? {
            match self.inspect(&listed.id).await {
                Ok(inspected) => nodes.push(inspected.into_facts()),
                // Removed since it was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    /// All containers with this label.
    pub(super) async fn labelled(&self, label: &str) -> Result<Vec<Listed>, Error> {
        let filters = segment(&serde_json::json!({ "label": [label] }).to_string());
        self.get(&format!("/containers/json?all=1&filters={filters}"), "list containers").await
    }

    async fn inspect(&self, id: &str) -> Result<Inspected, Error> {
        self.get(&format!("/containers/{}/json", segment(id)), &format!("look at container {id}")).await
    }

    /// What the container `id` (or its name) is doing.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn state(&self, id: &str) -> Result<NodeState, Error> {
        Ok(self.status(id).await?.state)
    }

    /// What the container `id` (or its name) is doing and how it came to that.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub async fn status(&self, id: &str) -> Result<ContainerStatus, Error> {
        Ok(self.inspect(id).await?.status())
    }

    /// Waits until the container's next end, also one after which the engine starts it again, and gives its exit code.
    /// There is no deadline: drop the future. A container that has ended before is not waited for: see
    /// [`Self::status`].
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Error::Disconnected`] when the connection ends first.
    pub async fn wait(&self, id: &str) -> Result<i64, Error> {
        self.exit_code(id, self.begin_wait(id, "next-exit").await?).await
    }

    /// The engine has begun to watch the container when this returns; its answer's body comes at the end.
    pub(super) async fn begin_wait(&self, id: &str, condition: &str) -> Result<Response<Incoming>, Error> {
        let path = format!("/containers/{}/wait?condition={condition}", segment(id));
        let answer = tokio::time::timeout(Self::ANSWER, self.transport.open(Method::POST, &path)).await;
        let answer = answer.unwrap_or(Err(Failure::Timeout(Self::ANSWER)));
        answer.map_err(|failure| failure.during(format!("wait for container {id}")))
    }

    pub(super) async fn exit_code(&self, id: &str, waiting: Response<Incoming>) -> Result<i64, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Wire {
            status_code: i64,
        }
        let wire = read_json::<Wire>(waiting).await;
        Ok(wire.map_err(|failure| failure.during(format!("wait for container {id}")))?.status_code)
    }

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

impl Inspected {
    fn status(&self) -> ContainerStatus {
        let none = WireState::default();
        let state = self.state.as_ref().unwrap_or(&none);
        ContainerStatus {
            state: node_state(&state.status, state.exit_code),
            restarts: self.restart_count,
            exit_code: state.exit_code,
            started_at: state.started_at.clone(),
            finished_at: state.finished_at.clone(),
            out_of_memory: state.oom_killed,
            error: super::error::one_line(&state.error),
        }
    }

    fn into_facts(self) -> NodeFacts {
        let state = self.status().state;
        let volumes = self.mounts.into_iter().flatten().filter(|mount| mount.kind == "volume").map(|mount| mount.name);
        NodeFacts {
            id: self.id,
            name: self.name.trim_start_matches('/').into(),
            labels: self.config.and_then(|config| config.labels).unwrap_or_default(),
            state,
            image: self.image,
            volumes: volumes.collect(),
        }
    }
}

fn node_state(status: &str, exit_code: i64) -> NodeState {
    match status {
        "created" => NodeState::Created,
        "running" | "restarting" | "stopping" => NodeState::Running,
        "exited" | "dead" => NodeState::Exited(exit_code),
        other => NodeState::Other(other.into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "k3arm-home-pi1".into(),
            image: "sha256:00".into(),
            entrypoint: vec!["/bin/sh".into()],
            command: vec!["-c".into(), "true".into()],
            environment: BTreeMap::from([("GOGC".into(), "50".into())]),
            labels: BTreeMap::from([(LABEL_CLUSTER.into(), "home".into())]),
            volumes: BTreeMap::from([("/etc/rancher".into(), "k3arm-home-pi1-etc".into())]),
            read_only_binds: vec!["/lib/modules".into()],
        }
    }

    #[test]
    fn a_node_is_asked_for_as_the_design_says() {
        // As a value: bollard keeps labels in an order of chance.
        insta::assert_json_snapshot!(serde_json::to_value(body(&spec())).unwrap());
    }

    #[test]
    fn states_are_the_engines_words() {
        assert_eq!(node_state("created", 0), NodeState::Created);
        assert_eq!(node_state("restarting", 1), NodeState::Running);
        assert_eq!(node_state("exited", 137), NodeState::Exited(137));
        assert_eq!(node_state("paused", 0), NodeState::Other("paused".into()));
    }

    #[test]
    fn an_inspection_may_lack_almost_everything() {
        let inspected: Inspected = serde_json::from_str(r#"{"Id":"a"}"#).unwrap();
        assert_eq!(inspected.status().state, NodeState::Other(String::new()));
        let text = r#"{"Id":"a","Name":"/k3arm-home-pi1","Config":{"Labels":null},"State":{"Status":"exited","ExitCode":3},
            "Mounts":[{"Type":"volume","Name":"v"},{"Type":"bind","Source":"/lib/modules"}]}"#;
        let facts = serde_json::from_str::<Inspected>(text).unwrap().into_facts();
        assert_eq!((facts.name.as_str(), facts.state), ("k3arm-home-pi1", NodeState::Exited(3)));
        assert_eq!(facts.volumes, ["v"]);
    }
}
