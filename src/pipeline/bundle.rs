//! `image bundle`: all images of a cluster, for all of its platforms, in one file.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::apply::pack;
use crate::archive::{Contents, Form};
use crate::cluster::{Cluster, Source};
use crate::files::{self, NewFile};
use crate::host::Host;
use crate::oci::{PinnedImage, Platform};
use crate::plan::{Events, Failure, Progress};
use crate::store::Store;

use super::needs::Needs;
use super::pinning::{Resolved, pin};
use super::sourcing::{Sourced, Sourcing};
use super::{Environment, Stop, connect, disconnect};

/// What `image bundle` is asked.
#[derive(Debug)]
pub struct BundleRequest {
    /// The cluster whose images are wanted.
    pub cluster: Option<Cluster>,
    /// Images and releases besides.
    pub sources: Vec<Source>,
    /// For which platforms; if none is named, those of the hosts.
    pub platforms: BTreeSet<Platform>,
    /// Hosts whose platforms are wanted; those of the cluster are added where no platform is named.
    pub hosts: Vec<Host>,
    /// Where images come from.
    pub sourcing: Sourcing,
    /// The file; an old one is replaced when the new one is complete.
    pub output: PathBuf,
    /// Only say what would be in it.
    pub dry_run: bool,
}

/// What is in the file, or would be.
#[derive(Debug)]
pub struct Bundled {
    /// The images, by name.
    pub images: Vec<PinnedImage>,
    /// The file's size in bytes.
    pub size: u64,
}

/// Makes a bundle.
///
/// # Errors
/// An image or a host that could not be had, or a disk that is full. The old file is untouched then.
pub async fn bundle(request: BundleRequest, environment: &Environment) -> Result<Bundled, Stop> {
    tokio::select! {
        bundled = Box::pin(run(&request, environment)) => bundled,
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    }
}

async fn run(request: &BundleRequest, environment: &Environment) -> Result<Bundled, Stop> {
    let fleet = fleet(request, environment).await?;
    let sourced = Sourced::open(&request.sourcing, environment).await?;
    let mut wishes: Vec<_> = request.sources.iter().map(|source| sourced.wish(source)).collect();
    if let Some(cluster) = &request.cluster {
        wishes.extend(Needs::of(cluster, fleet.server_memory, &sourced, environment).await?.wishes());
    }
    let resolved = pin(&wishes, &fleet.platforms, sourced.lock(), environment).await?;
    let store = Store::open(&environment.store).map_err(|e| Failure::new(&e, e.hint()))?;
    resolved.keep(&store).await?;
    let packed = contents(&resolved, &store).await?.pack(Form::Layout).map_err(|e| Failure::new(&e, e.hint()))?;
    let size = packed.size();
    if !request.dry_run {
        sourced.keep(&resolved, environment)?;
        write(&request.output, size, packed.stream(&store), &environment.events).await?;
    }
    Ok(Bundled { images: resolved.images, size })
}

/// What is known of the hosts that the bundle is for.
struct FleetFacts {
    platforms: BTreeSet<Platform>,
    /// Of the server, in bytes; decides what k3s starts where the profile is `auto`.
    server_memory: Option<u64>,
}

async fn fleet(request: &BundleRequest, environment: &Environment) -> Result<FleetFacts, Stop> {
    let members = request.cluster.iter().flat_map(|cluster| &cluster.members);
    let of_cluster = members.map(|member| member.host.clone()).filter(|_| request.platforms.is_empty());
    let hosts: Vec<Host> = request.hosts.iter().cloned().chain(of_cluster).collect();
    let probed = connect(&hosts, environment).await?;
    let of_hosts = probed.platforms();
    let server_memory = request.cluster.as_ref().and_then(|cluster| probed.server_memory(cluster));
    disconnect(probed.fleet).await;
    let unreached = |failure: Failure| Failure {
        hint: Some("name the platforms instead of asking the hosts: `--platform linux/arm64`".into()),
        ..failure
    };
    match of_hosts {
        Ok(platforms) => Ok(FleetFacts { platforms: &platforms | &request.platforms, server_memory }),
        Err(failures) => Err(Stop::Failures(failures.into_iter().map(unreached).collect())),
    }
}

async fn contents(resolved: &Resolved, store: &Store) -> Result<Contents, Failure> {
    let published = resolved.published();
    let mut contents = Contents::default();
    for image in &resolved.images {
        let supply = published.get(&image.reference.on_engine().to_string());
        let (Some(supply), Some(root)) = (supply, image.digest()) else { continue };
        contents.images.push(pack(supply, root, image.platforms.values(), store).await?);
    }
    Ok(contents)
}

/// Writes beside the file and then in its place, so that it is there whole or not at all.
async fn write(
    path: &Path,
    size: u64,
    tar: impl Stream<Item = Result<Bytes, crate::archive::Error>>,
    events: &Events,
) -> Result<(), Failure> {
    let fail = |source: std::io::Error| Failure {
        host: None,
        message: format!("{} could not be written: {source}", path.display()),
        hint: Some(format!("{} bytes are needed in a folder that you may write to; `-o FILE` names another one", size)),
    };
    let mut file = NewFile::begin(path, files::USUAL_MODE).map_err(fail)?;
    events.overall(Progress::Started { what: format!("writing {}", path.display()) });
    let (mut tar, mut done) = (std::pin::pin!(tar), 0);
    while let Some(piece) = tar.next().await {
        let piece = piece.map_err(|e| Failure::new(&e, e.hint()))?;
        done += piece.len() as u64;
        file = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file))
            .await
            .map_err(|error| fail(std::io::Error::other(error)))?
            .map_err(fail)?;
        events.overall(Progress::Bytes { done, total: size });
    }
    tokio::task::spawn_blocking(move || file.replace())
        .await
        .map_err(|error| fail(std::io::Error::other(error)))?
        .map_err(fail)?;
    events.overall(Progress::Done { what: format!("wrote {}", path.display()) });
    Ok(())
}
