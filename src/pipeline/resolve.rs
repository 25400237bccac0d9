//! `image resolve`.

use std::collections::BTreeSet;

use crate::cluster::Source;
use crate::host::Host;
use crate::oci::{PinnedImage, Platform};
use crate::plan::Failure;

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
    let mut failures = probed.failures;
    for (host, facts) in &probed.facts {
        match facts.platform() {
            Ok(platform) => drop(platforms.insert(platform)),
            Err(error) => failures.push(Failure::new(&error, None).on(host)),
        }
    }
    disconnect(probed.fleet).await;
    if !failures.is_empty() {
        return Err(Stop::Failures(failures));
    }
    let sourced = Sourced::open(&Sourcing::default(), environment).await?;
    let wishes: Vec<_> = request.sources.iter().map(|source| sourced.wish(source)).collect();
    tokio::select! {
        resolved = pin(&wishes, &platforms, None, environment) => Ok(resolved?.images),
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    }
}
