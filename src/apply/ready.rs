//! Waits until every node is Ready as the cluster's own API says, and reads the nodes' logs meanwhile: a cause that is in
//! a log ends the wait at once, instead of a timeout later.

mod watch;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::{failure, lost};
use crate::cluster::{API_PORT, Cause, Certainty, ClusterName, NodeName, Role};
use crate::host::HostName;
use crate::kube::{Api, Kubeconfig, NodeStatus};
use crate::plan::{Events, Failure, Progress};
use crate::probe::{Connection, Fleet};

use watch::{Notice, watch};

/// Where k3s writes the administrator's kubeconfig.
const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
/// A kubeconfig of k3s is 3 KiB.
const KUBECONFIG_LIMIT: u64 = 64 << 10;
const TICK: Duration = Duration::from_secs(1);
/// How long an agent may fail to reach a server that is up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The nodes that must become Ready.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// The cluster.
    pub cluster: ClusterName,
    /// Server first.
    pub nodes: Vec<AwaitedNode>,
    /// When to give up.
    pub timeout: Duration,
}

/// One node that must become Ready.
#[derive(Debug, Clone)]
pub struct AwaitedNode {
    /// Its name in Kubernetes.
    pub name: NodeName,
    /// Its host.
    pub host: HostName,
    /// Server or agent.
    pub role: Role,
    /// Its container, by name or ID.
    pub container: String,
}

/// A cluster whose nodes are all Ready.
#[derive(Debug)]
pub struct Settled {
    /// As k3s wrote it on the server.
    pub kubeconfig: Kubeconfig,
    /// All nodes that the API knows.
    pub nodes: Vec<NodeStatus>,
}

/// Waits until all nodes are Ready.
///
/// # Errors
/// The cause that a node's log names, with its fix; or what was still missing at the deadline.
pub async fn settle(awaited: &Awaited, fleet: &Fleet, events: &Events) -> Result<Settled, Failure> {
    let mut wait = Wait::new(awaited, fleet, events).await?;
    let (sender, mut notices) = mpsc::channel(64);
    // Dropped with this future, and the watchers with it.
    let _watchers: Vec<_> = wait.watchers(&sender).into_iter().map(task).collect();
    let connections = awaited.nodes.iter().filter_map(|node| fleet.get(&node.host));
    let mut lost = select_all(connections.map(|connection| Box::pin(lost(connection))));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            (failure, ..) = &mut lost => return Err(failure),
            Some(notice) = notices.recv() => wait.hear(notice)?,
            _ = ticks.tick() => {
                if let Some(settled) = wait.look().await? {
                    return Ok(settled);
                }
            }
        }
    }
}

/// An engine's time as seconds since 1970.
fn seconds(rfc3339: &str) -> Option<i64> {
    rfc3339.parse::<jiff::Timestamp>().ok().map(|time| time.as_second())
}

/// A task that ends with the value.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn task(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(future))
}

/// What is known while waiting.
struct Wait<'a> {
    awaited: &'a Awaited,
    fleet: &'a Fleet,
    events: &'a Events,
    began: Instant,
    /// When each container was last started, by its host's clock.
    started: BTreeMap<NodeName, i64>,
    server: &'a Connection,
    api: Option<(Kubeconfig, Api)>,
    /// Since when the API has answered.
    up: Option<Instant>,
    /// Causes that may pass, by node: the latest of them, and when it was heard.
    suspected: BTreeMap<NodeName, (Cause, Instant)>,
    /// What was last told of each node, so that only changes are told.
    told: BTreeMap<NodeName, String>,
}

impl<'a> Wait<'a> {
    async fn new(awaited: &'a Awaited, fleet: &'a Fleet, events: &'a Events) -> Result<Self, Failure> {
        let nobody = || Failure { host: None, message: "the cluster has no server".into(), hint: None };
        let server = awaited.nodes.iter().find(|node| node.role == Role::Server).ok_or_else(nobody)?;
        let server = fleet.get(&server.host).ok_or_else(nobody)?;
        let mut started = BTreeMap::new();
        for node in &awaited.nodes {
            let Some(connection) = fleet.get(&node.host) else { continue };
            let status = connection.engine.status(&node.container).await.map_err(|e| failure(connection, &e))?;
            started.extend(seconds(&status.started_at).map(|at| (node.name.clone(), at)));
        }
        let (suspected, told) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            awaited,
            fleet,
            events,
            began: Instant::now(),
            started,
            server,
            api: None,
            up: None,
            suspected,
            told,
        })
    }

    fn watchers(&self, sender: &mpsc::Sender<Notice>) -> Vec<impl Future<Output = ()> + Send + 'static> {
        let of_node = |node: &AwaitedNode| {
            let connection = self.fleet.get(&node.host)?.clone();
            Some(watch(node.clone(), connection, sender.clone()))
        };
        self.awaited.nodes.iter().filter_map(of_node).collect()
    }

    /// Takes in what a watcher found in a log.
    fn hear(&mut self, notice: Notice) -> Result<(), Failure> {
        let Notice { node, cause, ended } = notice;
        match cause.certainty {
            Certainty::Warning => {
                let what = format!("node {}: {} ({})", node.name, cause.message, cause.hint);
                self.events.on(&node.host, Progress::Warning { what });
            }
            Certainty::IfItLasts if !ended => {
                self.suspected.insert(node.name, (cause, Instant::now()));
            }
            _ => return Err(self.failure_of(&node, &cause)),
        }
        Ok(())
    }

    /// Asks the API once. `Some` when all nodes are Ready.
    async fn look(&mut self) -> Result<Option<Settled>, Failure> {
        self.connect().await?;
        let nodes = match &self.api {
            Some((_, api)) => api.nodes().await.ok(),
            None => None,
        };
        if nodes.is_some() && self.up.is_none() {
            self.up = Some(Instant::now());
        }
        let nodes = nodes.unwrap_or_default();
        self.tell(&nodes);
        if self.awaited.nodes.iter().all(|node| self.is_ready(node, &nodes))
            && let Some((kubeconfig, _)) = self.api.take()
        {
            return Ok(Some(Settled { kubeconfig, nodes }));
        }
        self.check_patience(&nodes)?;
        Ok(None)
    }

    /// Reads the kubeconfig once the server has written it, and opens the way to the API.
    async fn connect(&mut self) -> Result<(), Failure> {
        if self.api.is_some() {
            return Ok(());
        }
        let Some(server) = self.awaited.nodes.iter().find(|node| node.role == Role::Server) else { return Ok(()) };
        // Not there yet, or half written: the next tick looks again, the deadline bounds it.
        let Ok(Some(text)) = self.server.engine.get_file(&server.container, KUBECONFIG, KUBECONFIG_LIMIT).await else {
            return Ok(());
        };
        let Ok(kubeconfig) = Kubeconfig::parse(text.expose()) else { return Ok(()) };
        let remote = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), API_PORT);
        let tunnel = self.server.session.forward_to(remote).await;
        let tunnel = tunnel.map_err(|e| Failure::new(&e, e.hint()).on(&self.server.host.name))?;
        let api = Api::connect(&kubeconfig, tunnel).await;
        let api = api.map_err(|e| Failure::new(&e, e.hint()).on(&self.server.host.name))?;
        self.api = Some((kubeconfig, api));
        Ok(())
    }

    /// Ready, in its role, and said so after its container was started: the API keeps the word of a dead node for 45 s and more.
    fn is_ready(&self, node: &AwaitedNode, nodes: &[NodeStatus]) -> bool {
        let Some(status) = nodes.iter().find(|status| status.name == node.name.as_str()) else { return false };
        let fresh = match (status.heartbeat, self.started.get(&node.name)) {
            // Both are whole seconds; no kubelet reports within the second in which it was started, but the one before may have.
            (Some(heartbeat), Some(started)) => heartbeat > *started,
            _ => true,
        };
        // k3s labels a server a moment after it is Ready.
        let labelled = node.role == Role::Agent || status.roles.iter().any(|role| role == "control-plane");
        status.ready && fresh && labelled
    }

    /// A cause as the failure of its node.
    fn failure_of(&self, node: &AwaitedNode, cause: &Cause) -> Failure {
        let hint = cause.hint.replace("NODE", node.name.as_str()).replace("NAME", self.awaited.cluster.as_str());
        Failure {
            host: Some(node.host.clone()),
            message: format!("node {}: {}", node.name, cause.message),
            hint: Some(hint),
        }
    }

    fn tell(&mut self, nodes: &[NodeStatus]) {
        for node in &self.awaited.nodes {
            let status = nodes.iter().find(|status| status.name == node.name.as_str());
            let what = match (status, self.up) {
                (None, None) => "waiting for the API server".to_string(),
                (None, Some(_)) => format!("waiting for node {} to join", node.name),
                (Some(_), _) if self.is_ready(node, nodes) => format!("node {} is Ready", node.name),
                (Some(status), _) if status.ready => {
                    format!("waiting for node {} to report again since its container was started", node.name)
                }
                (Some(status), _) => {
                    let reason = &status.message;
                    format!("waiting for node {} to be Ready: {reason}", node.name)
                }
            };
            if self.told.insert(node.name.clone(), what.clone()).as_ref() == Some(&what) {
                continue;
            }
            let progress = match what.ends_with("is Ready") {
                true => Progress::Done { what },
                false => Progress::Started { what },
            };
            self.events.on(&node.host, progress);
        }
    }

    /// What might pass has had its time, or all has.
    fn check_patience(&self, nodes: &[NodeStatus]) -> Result<(), Failure> {
        let waiting: Vec<&AwaitedNode> = self.awaited.nodes.iter().filter(|node| !self.is_ready(node, nodes)).collect();
        let lasts = |(_, heard): &&(Cause, Instant)| self.up.is_some_and(|up| *heard > up + PATIENCE);
        let lasting = waiting.iter().find_map(|node| Some((node, self.suspected.get(&node.name).filter(lasts)?)));
        if let Some((node, (cause, _))) = lasting {
            return Err(self.failure_of(node, cause));
        }
        if self.began.elapsed() < self.awaited.timeout {
            return Ok(());
        }
        let names: Vec<&str> = waiting.iter().map(|node| node.name.as_str()).collect();
        let state = waiting.first().and_then(|node| self.told.get(&node.name)).cloned().unwrap_or_default();
        Err(Failure {
            host: waiting.first().map(|node| node.host.clone()),
            message: format!("{} not Ready after {} s: {state}", names.join(", "), self.awaited.timeout.as_secs()),
            hint: Some(
                "a slow board may need more: --timeout 15m; `docker logs` of the container shows what it does".into(),
            ),
        })
    }
}
