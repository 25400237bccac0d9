//! `version list`: what can be had of k3s.

use serde::Serialize;

use crate::cluster::{Release, ReleaseImages};
use crate::plan::Failure;

use super::Environment;

/// A channel and where it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Its name: `stable`, `v1.36`.
    pub channel: String,
    /// The release it is at.
    pub release: Release,
    /// Whether k3arm knows the images of its line by itself.
    pub catalogued: bool,
}

/// All channels that are at a release: those with names first, then the lines, the newest first.
///
/// # Errors
/// The channels' server does not answer, or not with channels.
pub async fn versions(environment: &Environment) -> Result<Vec<Offer>, Failure> {
    let channels = environment.registry.channels().await.map_err(|e| Failure::new(&e, e.hint()))?;
    let offer = |name: String, latest: Option<String>| {
        let release: Release = latest?.parse().ok()?;
        let catalogued = ReleaseImages::catalogued(&release).is_ok();
        // Names of a server are shown on terminals.
        let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
        is_plain.then_some(Offer { channel: name, release, catalogued })
    };
    let offers = channels.into_iter().filter_map(|channel| offer(channel.name, channel.latest));
    let (mut lines, mut offers): (Vec<Offer>, Vec<Offer>) = offers.partition(|offer| offer.channel.starts_with('v'));
    lines.sort_by(|a, b| b.release.cmp(&a.release));
    offers.extend(lines);
    Ok(offers)
}
