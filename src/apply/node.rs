//! A node's container: made, started, stopped, removed.

use std::time::Duration;

use super::meter::Meter;
use super::{Worked, Workshop, failure, inside};
use crate::cluster::NodeName;
use crate::plan::{Events, Failure, PlannedNode, Progress, RemovedNode};
use crate::probe::Connection;

/// What k3s gets to stop cleanly.
const GRACE: Duration = Duration::from_secs(60);

/// Makes the container, puts its files into its volumes and onto the disk, and only then starts it: a container that was
/// never started is known to be incomplete.
pub(super) async fn create(
    node: &PlannedNode,
    connection: &Connection,
    workshop: &Workshop<'_>,
    meter: &Meter<'_>,
) -> Result<Worked, Failure> {
    let fail = |error| failure(connection, &error);
    workshop.journal.note(&connection.host.name, node);
    workshop.events.on(&connection.host.name, Progress::Started { what: format!("creating node {}", node.node) });
    let (engine, spec) = (connection.engine.clone(), node.container.clone());
    let (journal, host) = (workshop.journal.clone(), connection.host.name.clone());
    let create = async move {
        let id = engine.create(&spec).await?;
        journal.made(&host, &spec.name, &id);
        Ok(id)
    };
    let created = workshop.journal.see_through(create).await;
    let id: String = created.ok_or_else(|| cut(connection))?.map_err(fail)?;
    connection.engine.put_files(&id, &node.files).await.map_err(fail)?;
    let bytes = match node.images.is_empty() {
        true => 0,
        false => inside::place(&node.images, &id, connection, workshop, meter).await?,
    };
    connection.flush().await;
    let engine = connection.engine.clone();
    let started = workshop.journal.see_through(async move { engine.start(&id).await }).await;
    started.ok_or_else(|| cut(connection))?.map_err(fail)?;
    Ok(Worked { subject: format!("node {}", node.node), status: "started", bytes })
}

/// A request whose task came to no end: only a panic does that.
fn cut(connection: &Connection) -> Failure {
    let message = "a request to Docker was cut".into();
    Failure { host: Some(connection.host.name.clone()), message, hint: Some("run the same command again".into()) }
}

pub(super) async fn start(container: &str, node: &NodeName, connection: &Connection) -> Result<Worked, Failure> {
    connection.engine.start(container).await.map_err(|e| failure(connection, &e))?;
    Ok(Worked { subject: format!("node {node}"), status: "started", bytes: 0 })
}

pub(super) async fn stop(
    container: &str,
    name: &str,
    connection: &Connection,
    events: &Events,
) -> Result<Worked, Failure> {
    events.on(&connection.host.name, Progress::Started { what: format!("stopping {name}") });
    stop_within(container, GRACE, connection).await?;
    Ok(Worked { subject: name.into(), status: "stopped", bytes: 0 })
}

/// Stops a container. Whether there was one that had ever been started.
pub(super) async fn stop_within(container: &str, grace: Duration, connection: &Connection) -> Result<bool, Failure> {
    match connection.engine.status(container).await {
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(failure(connection, &error)),
        Ok(status) if status.state == crate::host::NodeState::Created => return Ok(false),
        Ok(_) => {}
    }
    connection.engine.stop(container, grace).await.map_err(|e| failure(connection, &e))?;
    Ok(true)
}

pub(super) async fn remove(node: &RemovedNode, connection: &Connection) -> Result<Worked, Failure> {
    let fail = |error| failure(connection, &error);
    match &node.container {
        Some(container) => connection.engine.remove(container, &node.volumes).await.map_err(fail)?,
        None => {
            for volume in &node.volumes {
                connection.engine.remove_volume(volume).await.map_err(fail)?;
            }
        }
    }
    Ok(Worked { subject: node.name.clone(), status: "removed", bytes: 0 })
}
