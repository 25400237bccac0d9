//! The cluster's API, through a tunnel that ends on this machine.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::client::Body;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde::de::DeserializeOwned;

use super::{Error, Kubeconfig};

/// The API of one cluster.
#[derive(Clone)]
pub struct Api {
    client: Client,
    tunnel: SocketAddr,
}

/// What the API knows of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// Whether the Ready condition is True.
    pub ready: bool,
    /// The Ready condition's reason (`KubeletReady`, `KubeletNotReady`, `NodeStatusUnknown`), or empty.
    pub reason: String,
    /// The Ready condition's message, or empty.
    pub message: String,
    /// When the kubelet last told its state, in seconds since 1970 by its own clock.
    pub heartbeat: Option<i64>,
    /// InternalIP.
    pub internal_ip: Option<IpAddr>,
    /// The kubelet's version: `v1.36.2+k3s1`.
    pub version: String,
    /// From the labels `node-role.kubernetes.io/…`, sorted: `control-plane`, `etcd`; empty for an agent.
    pub roles: Vec<String>,
    /// Cordoned.
    pub unschedulable: bool,
}

/// The API of the stage, not of a cloud: a k3s of Pis has tens of nodes.
const PAGE: usize = 500;
/// A node object is about 10 kB.
const ANSWER_LIMIT: usize = 16 << 20;

impl Api {
    /// How long one request may take.
    const ANSWER: Duration = Duration::from_secs(5);

    /// The API behind `tunnel`, an address of this machine that leads to the server's port 6443. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Kubeconfig`] if its certificates or its key cannot be used.
    pub async fn connect(kubeconfig: &Kubeconfig, tunnel: SocketAddr) -> Result<Self, Error> {
        let unusable = Error::Kubeconfig { what: "its certificates or its key cannot be used" };
        // An error says that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // k3s' certificate has 127.0.0.1 in it.
        let document = kubeconfig.clone().with_server(&format!("https://{tunnel}")).document();
        let Ok(file) = serde_json::from_value(document) else { return Err(unusable) };
        let Ok(mut config) = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await else {
            return Err(unusable);
        };
        config.connect_timeout = Some(Self::ANSWER);
        config.read_timeout = Some(Self::ANSWER);
        config.write_timeout = Some(Self::ANSWER);
        config.default_retry = false;
        config.proxy_url = None;
        Client::try_from(config).map(|client| Self { client, tunnel }).map_err(|_| unusable)
    }

    /// Whether the API says that it is ready. `false`: it answers, and says that it is not (yet).
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Timeout`] while there is no API, [`Error::Refused`].
    pub async fn ready(&self) -> Result<bool, Error> {
        match self.send(Method::GET, "/readyz", "ask whether the cluster is ready").await {
            Ok(_) => Ok(true),
            Err(Error::Status { status, .. }) if status >= 500 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The version of the API: `v1.36.2+k3s1`.
    ///
    /// # Errors
    /// [`Error`], when it does not answer or not with what the API promises.
    pub async fn version(&self) -> Result<String, Error> {
        Ok(self.get::<Info>("/version", "ask the cluster for its version").await?.git_version)
    }

    /// The cluster's nodes, at most 500, by name.
    ///
    /// # Errors
    /// [`Error`], when it does not answer or not with what the API promises.
    pub async fn nodes(&self) -> Result<Vec<NodeStatus>, Error> {
        #[derive(serde::Deserialize)]
        struct Wire {
            items: Vec<Node>,
        }
        let path = format!("/api/v1/nodes?limit={PAGE}");
        let wire: Wire = self.get(&path, "list the cluster's nodes").await?;
        let mut nodes: Vec<NodeStatus> = wire.items.into_iter().take(PAGE).map(NodeStatus::from).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    /// Removes a node's object; one that is not there is removed already.
    ///
    /// # Errors
    /// [`Error`], when it does not answer or refuses.
    pub async fn delete_node(&self, name: &str) -> Result<(), Error> {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        match self.send(Method::DELETE, &format!("/api/v1/nodes/{name}"), "delete a node from the cluster").await {
            Err(Error::Status { status: 404, .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, attempt: &'static str) -> Result<T, Error> {
        let body = self.send(Method::GET, path, attempt).await?;
        serde_json::from_slice(&body).map_err(|source| Error::Malformed { attempt, source: source.into() })
    }

    async fn send(&self, method: Method, path: &str, attempt: &'static str) -> Result<Vec<u8>, Error> {
        let whole = tokio::time::timeout(Self::ANSWER, self.exchange(method, path, attempt)).await;
        let (status, body) = whole.unwrap_or(Err(Error::Timeout { attempt, within: Self::ANSWER }))?;
        match status {
            status if status.is_success() => Ok(body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Error::Refused { attempt, status: status.as_u16() })
            }
            status => Err(Error::Status { attempt, status: status.as_u16(), message: message(&body) }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        attempt: &'static str,
    ) -> Result<(StatusCode, Vec<u8>), Error> {
        let malformed = |source| Error::Malformed { attempt, source };
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        let request = request.map_err(|source| malformed(source.into()))?;
        let response = self.client.send(request).await;
        let response = response.map_err(|source| Error::Unreachable { attempt, source: source.into() })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(malformed)?;
        Ok((status, body.to_bytes().to_vec()))
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("tunnel", &self.tunnel).finish_non_exhaustive()
    }
}

/// The words of a JSON Status, or the text itself, on one line of at most 300 characters.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Wire {
        message: String,
    }
    let text = serde_json::from_slice::<Wire>(body)
        .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |wire| wire.message);
    text.trim().chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl From<Node> for NodeStatus {
    fn from(node: Node) -> Self {
        let labels = node.metadata.labels.unwrap_or_default();
        let roles = labels.keys().filter_map(|label| label.strip_prefix("node-role.kubernetes.io/"));
        let status = node.status.unwrap_or_default();
        let ready: Option<&NodeCondition> =
            status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        let words = |text: Option<&String>| text.cloned().unwrap_or_default();
        let address = status.addresses.iter().flatten().find(|address| address.type_ == "InternalIP");
        Self {
            name: node.metadata.name.unwrap_or_default(),
            ready: ready.is_some_and(|condition| condition.status == "True"),
            reason: words(ready.and_then(|condition| condition.reason.as_ref())),
            message: words(ready.and_then(|condition| condition.message.as_ref())),
            heartbeat: ready.and_then(|condition| Some(condition.last_heartbeat_time.as_ref()?.0.as_second())),
            internal_ip: address.and_then(|address| address.address.parse().ok()),
            version: status.node_info.map(|info| info.kubelet_version).unwrap_or_default(),
            roles: roles.map(String::from).collect(),
            unschedulable: node.spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
        }
    }
}
