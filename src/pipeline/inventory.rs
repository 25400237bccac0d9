//! `image list` and `image prune`: what engines hold, and what of it is k3arm's and nobody's need.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde::Serialize;

use crate::cluster::names::volumes_of;
use crate::docker::HeldImage;
use crate::host::{Facts, Host, HostName};
use crate::oci::Reference;
use crate::plan::Failure;
use crate::probe::Connection;
use crate::records::Placed;
use crate::store::{Pruned, Store};

use super::{Environment, Probed, Stop, connect, disconnect};

/// One name of an image on a host.
#[derive(Debug, Clone, Serialize)]
pub struct ListedImage {
    /// Where.
    pub host: HostName,
    /// The name; for images that wait in a holder for their node, the holder's.
    pub name: String,
    /// The ID on that engine; nothing for a holder.
    pub id: Option<String>,
    /// Bytes on the host's disk, as the engine counts them.
    pub size: Option<u64>,
    /// A container uses it.
    pub used: bool,
    /// This machine's k3arm has brought it.
    pub placed: bool,
}

/// What `image prune` is asked.
#[derive(Debug)]
pub struct PruneRequest {
    /// On these hosts.
    pub hosts: Vec<Host>,
    /// Empty the store, whatever hosts hold.
    pub all: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

impl PruneRequest {
    /// Whether a host is reached so.
    fn is_at(&self, name: &HostName, destination: &str) -> bool {
        self.hosts.iter().any(|host| host.name == *name && host.destination.to_string() == destination)
    }
}

/// What went, or would go.
#[derive(Debug, Serialize)]
pub struct PruneReport {
    /// From hosts.
    pub images: Vec<ListedImage>,
    /// From the store on this machine.
    pub store: Pruned,
    /// What could not be removed, and hosts that did not answer.
    pub failures: Vec<Failure>,
}

/// Lists the images of hosts.
///
/// # Errors
/// The user interrupted. Hosts that do not answer are told beside the list.
pub async fn image_list(hosts: &[Host], environment: &Environment) -> Result<(Vec<ListedImage>, Vec<Failure>), Stop> {
    let probed = connect(hosts, environment).await?;
    let listed = list(&probed, environment).await;
    disconnect(probed.fleet).await;
    let (images, failures) = listed;
    Ok((images, probed.failures.into_iter().chain(failures).collect()))
}

async fn list(probed: &Probed, environment: &Environment) -> (Vec<ListedImage>, Vec<Failure>) {
    let one = async |(host, facts): (&HostName, &Facts)| {
        let connection = probed.fleet.get(host)?;
        Some(on_host(connection, facts, environment).await.map_err(|failure| failure.on(host)))
    };
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    for answer in join_all(probed.facts.iter().map(one)).await.into_iter().flatten() {
        match answer {
            Ok(found) => images.extend(found),
            Err(failure) => failures.push(failure),
        }
    }
    (images, failures)
}

async fn on_host(
    connection: &Connection,
    facts: &Facts,
    environment: &Environment,
) -> Result<Vec<ListedImage>, Failure> {
    let host = &connection.host;
    let held = connection.engine.images().await.map_err(|e| Failure::new(&e, e.hint()))?;
    let placed = environment.records.placed(&host.destination).map_err(|e| Failure::new(&e, None))?;
    let mut listed: Vec<ListedImage> = held.iter().flat_map(|image| names(&host.name, image, &placed)).collect();
    listed.extend(facts.holders.iter().map(|holder| ListedImage {
        host: host.name.clone(),
        name: holder.name.clone(),
        id: None,
        size: None,
        used: facts.nodes.iter().any(|node| node.volumes.iter().any(|volume| holder.volumes.contains(volume))),
        placed: true,
    }));
    Ok(listed)
}

fn names(host: &HostName, image: &HeldImage, placed: &Placed) -> Vec<ListedImage> {
    let is_placed = |name: &String| {
        let name = name.parse::<Reference>().ok();
        name.is_some_and(|name| placed.get(&name) == Some(&image.id))
    };
    let listed = |name: &String| ListedImage {
        host: host.clone(),
        name: name.clone(),
        id: Some(image.id.to_string()),
        size: Some(image.size),
        used: image.used,
        placed: is_placed(name),
    };
    image.repo_tags.iter().map(listed).collect()
}

/// Removes what k3arm has brought and nothing uses; from the store, what no host has of us any more.
///
/// # Errors
/// The store or a record cannot be read, or the user interrupted. What concerns one host is in the report.
pub async fn prune(request: PruneRequest, environment: &Environment) -> Result<PruneReport, Stop> {
    let probed = connect(&request.hosts, environment).await?;
    let (listed, mut failures) = list(&probed, environment).await;
    let candidates = listed.into_iter().filter(|image| image.placed && !image.used);
    let mut images = Vec::new();
    for image in candidates {
        if request.dry_run {
            images.push(image);
            continue;
        }
        match remove(&image, &probed, environment).await {
            Ok(()) => images.push(image),
            Err(failure) => failures.push(failure.on(&image.host)),
        }
    }
    disconnect(probed.fleet).await;
    failures.extend(probed.failures);
    let store = prune_store(&request, &images, environment).await?;
    Ok(PruneReport { images, store, failures })
}

async fn remove(image: &ListedImage, probed: &Probed, environment: &Environment) -> Result<(), Failure> {
    let Some(connection) = probed.fleet.get(&image.host) else { return Ok(()) };
    let fail = |e: crate::docker::Error| Failure::new(&e, e.hint());
    let holder =
        probed.facts.get(&image.host).and_then(|facts| facts.holders.iter().find(|one| one.name == image.name));
    if let Some(holder) = holder {
        return connection.engine.remove(&holder.id, &volumes_of(holder)).await.map_err(fail);
    }
    connection.engine.untag(&image.name).await.map_err(fail)?;
    let records = &environment.records;
    let mut placed = records.placed(&connection.host.destination).map_err(|e| Failure::new(&e, None))?;
    placed.retain(|name, _| name.familiar() != image.name);
    records.set_placed(&connection.host.destination, placed).map_err(|e| Failure::new(&e, None))
}

async fn prune_store(
    request: &PruneRequest,
    going: &[ListedImage],
    environment: &Environment,
) -> Result<Pruned, Failure> {
    if !environment.store.exists() {
        return Ok(Pruned::default());
    }
    let mut placed = environment.records.all_placed().map_err(|e| Failure::new(&e, None))?;
    // After a dry run they stand there still.
    for (destination, placed) in &mut placed {
        let goes = |image: &ListedImage, name: &Reference| {
            request.is_at(&image.host, destination) && image.name == name.familiar()
        };
        placed.retain(|name, _| !going.iter().any(|image| goes(image, name)));
    }
    // What goes from one host may stay on another.
    let kept: BTreeSet<Reference> =
        placed.into_values().flat_map(BTreeMap::into_keys).filter(|_| !request.all).collect();
    let store = Store::open(&environment.store).map_err(|e| Failure::new(&e, e.hint()))?;
    let keep = move |name: &Reference| kept.contains(&name.on_engine());
    store.prune(keep, request.dry_run).await.map_err(|e| Failure::new(&e, e.hint()))
}
