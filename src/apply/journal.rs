//! What a run has made so far, so that it can be taken back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::{network, node};
use crate::host::HostName;
use crate::plan::{Failure, PlannedNode, RemovedNode};
use crate::probe::Fleet;

/// Time a node has to stop that is thrown away anyway.
const GRACE: Duration = Duration::from_secs(5);

/// How long requests that are under way may take before what they make is taken back.
const LATE: Duration = Duration::from_secs(30);

/// Nodes made in this run. Clones share it, so it outlives an interrupted run.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    made: Arc<Mutex<Vec<Made>>>,
    under_way: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

#[derive(Debug, Clone)]
struct Made {
    host: HostName,
    node: RemovedNode,
    image: String,
}

impl Journal {
    /// Writes down a node that is about to be made, by its container's name.
    pub(super) fn note(&self, host: &HostName, node: &PlannedNode) {
        let container = &node.container;
        let removed = RemovedNode {
            name: container.name.clone(),
            container: Some(container.name.clone()),
            volumes: container.volumes.values().cloned().collect(),
        };
        let made = Made { host: host.clone(), node: removed, image: container.image.clone() };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
    }

    /// Carries out a request that makes something, to its end even where the run is interrupted: the engine would carry
    /// it out anyway, after we have looked for what there is to take back. `None` if it panicked.
    pub(super) async fn see_through<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move { drop(sender.send(request.await)) });
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        receiver.await.ok()
    }

    /// Whether nothing was made.
    pub fn is_empty(&self) -> bool {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Removes all that was made, on all hosts at once. What cannot be removed is told, and the rest still goes.
    pub async fn roll_back(&self, fleet: &Fleet) -> Vec<Failure> {
        let under_way = std::mem::take(&mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::time::timeout(LATE, join_all(under_way)).await;
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let results = join_all(made.iter().map(|made| take_back(made, fleet))).await;
        results.into_iter().filter_map(Result::err).collect()
    }
}

async fn take_back(made: &Made, fleet: &Fleet) -> Result<(), Failure> {
    let Some(connection) = fleet.get(&made.host) else { return Ok(()) };
    let was_started = node::stop_within(&made.node.name, GRACE, connection).await?;
    if was_started {
        network::clear(&made.image, connection).await?;
    }
    node::remove(&made.node, connection).await.map(|_| ())
}
