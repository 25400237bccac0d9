//! `image resolve`.

use std::collections::BTreeSet;

use crate::cluster::Source;
use crate::host::Host;
use crate::oci::{PinnedImage, Platform};

use super::pinning::pin;
use super::sourcing::{Sourced, Sourcing};
use super::{Environment, Stop, connect, disconnect};

/// What `image resolve` is asked.
#[derive(Debug)]
pub struct ResolveRequest {
    /// Images and releases.
    pub sources: Vec<Source>,
    /// For which platforms; with no platform and no host, all that an image has.
    pub platforms: BTreeSet<Platform>,
    /// For the platforms of these hosts.
    pub hosts: Vec<Host>,
}

/// Pins references to digests.
///
/// # Errors
/// The registry's answer, or a host that could not be asked for its platform.
pub async fn resolve(request: ResolveRequest, environment: &Environment) -> Result<Vec<PinnedImage>, Stop> {
    let mut platforms = request.platforms;
    let probed = connect(&request.hosts, environment).await?;
    let of_hosts = probed.platforms();
    disconnect(probed.fleet).await;
    platforms.extend(of_hosts.map_err(Stop::Failures)?);
    let sourced = Sourced::open(&Sourcing::default(), environment).await?;
    let wishes: Vec<_> = request.sources.iter().map(|source| sourced.wish(source)).collect();
    tokio::select! {
        resolved = pin(&wishes, &platforms, None, environment) => Ok(resolved?.images),
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    }
}
