//! What a run has made so far, so that it can be taken back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::{deeper, failure, network, node};
use crate::cluster::names::LABEL_CLUSTER_ID;
use crate::host::{HostName, NodeFacts, NodeState};
use crate::plan::{Failure, PlannedNode, RemovedNode};
use crate::probe::{Connection, Fleet};

/// Time a node has to stop that is thrown away anyway.
const GRACE: Duration = Duration::from_secs(5);

/// How long requests that are under way may take before what they make is taken back.
const LATE: Duration = Duration::from_secs(30);

/// Nodes made in this run. Clones share it, so it outlives an interrupted run.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    made: Arc<Mutex<Vec<Made>>>,
    filling: Arc<Mutex<Vec<Filling>>>,
    under_way: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

#[derive(Debug, Clone)]
struct Made {
    host: HostName,
    name: String,
    volumes: Vec<String>,
    image: String,
    /// Of the cluster, from the labels: another run's container may have the same name.
    cluster_id: Option<String>,
    /// Of the container, once the engine has told it.
    id: Option<String>,
}

/// A holder of images that is not complete.
#[derive(Debug, Clone)]
struct Filling {
    host: HostName,
    container: String,
    volume: String,
}

impl Journal {
    /// Writes down a holder that is about to be made and filled.
    pub(super) fn filling(&self, host: &HostName, container: &str, volume: &str) {
        let filling = Filling { host: host.clone(), container: container.into(), volume: volume.into() };
        lock(&self.filling).push(filling);
    }

    /// The holder is complete: it stays.
    pub(super) fn filled(&self, host: &HostName, container: &str) {
        lock(&self.filling).retain(|filling| filling.host != *host || filling.container != container);
    }

    /// Writes down a node that is about to be made.
    pub(super) fn note(&self, host: &HostName, node: &PlannedNode) {
        let container = &node.container;
        let made = Made {
            host: host.clone(),
            name: container.name.clone(),
            volumes: container.volumes.values().cloned().collect(),
            image: container.image.clone(),
            cluster_id: container.labels.get(LABEL_CLUSTER_ID).cloned(),
            id: None,
        };
        lock(&self.made).push(made);
    }

    /// Writes down the ID that the engine gave to a node's container.
    pub(super) fn made(&self, host: &HostName, name: &str, id: &str) {
        let mut all = lock(&self.made);
        let noted = all.iter_mut().rev().find(|made| made.host == *host && made.name == name);
        noted.into_iter().for_each(|made| made.id = Some(id.into()));
    }

    /// Carries out a request that makes something, to its end even where the run is interrupted: the engine would carry
    /// it out anyway, after we have looked for what there is to take back. `None` if it panicked.
    pub(super) async fn see_through<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move { drop(sender.send(request.await)) });
        lock(&self.under_way).push(task);
        receiver.await.ok()
    }

    /// Whether nothing was made.
    pub fn is_empty(&self) -> bool {
        lock(&self.made).is_empty() && lock(&self.filling).is_empty()
    }

    async fn empty_out(&self, fleet: &Fleet) -> Vec<Failure> {
        let filling = std::mem::take(&mut *lock(&self.filling));
        let results = join_all(filling.iter().map(|filling| remove_filling(filling, fleet))).await;
        results.into_iter().filter_map(Result::err).collect()
    }

    /// Removes all that was made, on all hosts at once. What cannot be removed is told and stays written down, and the
    /// rest still goes.
    pub async fn roll_back(&self, fleet: &Fleet) -> Vec<Failure> {
        let under_way = std::mem::take(&mut *lock(&self.under_way));
        let _ = tokio::time::timeout(LATE, join_all(under_way)).await;
        let made = std::mem::take(&mut *lock(&self.made));
        let results = join_all(made.iter().map(|made| take_back(made, fleet))).await;
        let mut failures = self.empty_out(fleet).await;
        for (made, result) in made.into_iter().zip(results) {
            if let Err(failure) = result {
                failures.push(failure);
                lock(&self.made).push(made);
            }
        }
        failures
    }
}

/// The tables stay consistent whatever panics: each change of them is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take_back(made: &Made, fleet: &Fleet) -> Result<(), Failure> {
    let Some(connection) = fleet.get(&made.host) else { return Ok(()) };
    match take_back_from(made, connection).await {
        Ok(()) => Ok(()),
        Err(cause) => {
            let cause = deeper(cause, connection).await;
            Err(Failure { message: format!("{} may be left there: {}", made.name, cause.message), ..cause })
        }
    }
}

async fn remove_filling(filling: &Filling, fleet: &Fleet) -> Result<(), Failure> {
    let Some(connection) = fleet.get(&filling.host) else { return Ok(()) };
    let removed = connection.engine.remove(&filling.container, std::slice::from_ref(&filling.volume)).await;
    match removed {
        // Renamed in the last moment: it is complete, and its volume is in use.
        Ok(()) | Err(crate::docker::Error::Conflict { .. }) => Ok(()),
        Err(error) => {
            let cause = deeper(failure(connection, &error), connection).await;
            Err(Failure { message: format!("{} may be left there: {}", filling.container, cause.message), ..cause })
        }
    }
}

async fn take_back_from(made: &Made, connection: &Connection) -> Result<(), Failure> {
    let nodes = connection.engine.nodes().await.map_err(|e| failure(connection, &e))?;
    let Some(found) = nodes.iter().find(|node| made.is(node)) else {
        return remove_volumes(made, connection).await;
    };
    if node::stop_within(&found.id, GRACE, connection).await? {
        network::clear(&made.image, connection).await?;
    }
    let removed = RemovedNode { name: made.name.clone(), container: Some(found.id.clone()), volumes: Vec::new() };
    node::remove(&removed, connection).await?;
    remove_volumes(made, connection).await
}

impl Made {
    /// Whether a container is the one that this run made: by its ID, or, where the run was cut before it learnt that,
    /// by its labels, never started.
    fn is(&self, node: &NodeFacts) -> bool {
        match &self.id {
            Some(id) => node.id == *id,
            None => {
                let same_cluster = node.labels.get(LABEL_CLUSTER_ID) == self.cluster_id.as_ref();
                node.name == self.name && same_cluster && node.state == NodeState::Created
            }
        }
    }
}

/// Volumes that were made with the container. One that was there before keeps the images of the node that is to come.
async fn remove_volumes(made: &Made, connection: &Connection) -> Result<(), Failure> {
    let volumes = connection.engine.volumes().await.map_err(|e| failure(connection, &e))?;
    let is_ours = |name: &&String| {
        volumes.get(*name).is_some_and(|labels| labels.get(LABEL_CLUSTER_ID) == made.cluster_id.as_ref())
    };
    for name in made.volumes.iter().filter(is_ours) {
        match connection.engine.remove_volume(name).await {
            // In use: by a container that is not this run's.
            Err(crate::docker::Error::Conflict { .. }) => {}
            other => other.map_err(|e| failure(connection, &e))?,
        }
    }
    Ok(())
}
