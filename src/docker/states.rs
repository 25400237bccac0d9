//! What containers are doing: nodes, their states, their ends.

use std::collections::BTreeMap;

use hyper::body::Incoming;
use hyper::{Method, Response};
use serde::Deserialize;

use super::error::Failure;
use super::holders::Holder;
use super::transport::read_json;
use super::{Engine, Error, segment};
use crate::cluster::names::{LABEL_CLUSTER, LABEL_IMAGES};
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
pub(super) struct Inspected {
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
    #[serde(default)]
    destination: String,
}

impl Engine {
    /// All containers with the cluster label, whatever they are doing; holders are none.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn nodes(&self) -> Result<Vec<NodeFacts>, Error> {
        let mut nodes = Vec::new();
        for listed in self.labelled(LABEL_CLUSTER).await? {
            match self.inspect(&listed.id).await {
                Ok(inspected) if inspected.has_label(LABEL_IMAGES) => {}
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

    pub(super) async fn inspect(&self, id: &str) -> Result<Inspected, Error> {
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

    fn has_label(&self, label: &str) -> bool {
        let labels = self.config.as_ref().and_then(|config| config.labels.as_ref());
        labels.is_some_and(|labels| labels.contains_key(label))
    }

    pub(super) fn into_holder(self) -> Holder {
        let volumes = self.mounts.into_iter().flatten().filter(|mount| mount.kind == "volume");
        Holder {
            id: self.id,
            name: self.name.trim_start_matches('/').into(),
            labels: self.config.and_then(|config| config.labels).unwrap_or_default(),
            volumes: volumes.map(|mount| (mount.destination, mount.name)).collect(),
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
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn a_holder_is_no_node() {
        use tokio::io::AsyncWriteExt;
        let fake = crate::docker::transport::tests::Fake::serving(|request, mut stream| async move {
            let body = match request {
                path if path.contains("/containers/json") => r#"[{"Id":"n"},{"Id":"h"}]"#,
                path if path.contains("/containers/n/") => {
                    r#"{"Id":"n","Config":{"Labels":{"k3arm.dev/cluster":"a"}}}"#
                }
                _ => {
                    r#"{"Id":"h","Name":"/h","Config":{"Labels":{"k3arm.dev/cluster":"a","k3arm.dev/images":"a"}},
                        "Mounts":[{"Type":"volume","Name":"v","Destination":"/images"}]}"#
                }
            };
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes()).await;
        });
        let engine = fake.engine().await.unwrap();
        let nodes = engine.nodes().await.unwrap();
        assert_eq!(nodes.into_iter().map(|node| node.id).collect::<Vec<_>>(), ["n"]);
        let holder = engine.holders().await.unwrap().pop().unwrap();
        assert_eq!((holder.id, holder.name), ("h".into(), "h".into()));
        assert_eq!(holder.volumes, BTreeMap::from([("/images".into(), "v".into())]));
    }
}
