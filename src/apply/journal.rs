//! What a run has made so far, so that it can be taken back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::{network, node};
use crate::host::HostName;
use crate::plan::{Failure, PlannedNode, RemovedNode};
use crate::probe::Fleet;

/// Time a node has to stop that is thrown away anyway.
const GRACE: Duration = Duration::from_secs(5);

/// Nodes made in this run. Clones share it, so it outlives an interrupted run.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Made>>>);

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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(made);
    }

    /// Whether nothing was made.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Removes all that was made, on all hosts at once. What cannot be removed is told, and the rest still goes.
    pub async fn roll_back(&self, fleet: &Fleet) -> Vec<Failure> {
        let made = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
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
