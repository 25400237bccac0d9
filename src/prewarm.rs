//! Lock × Facts → what each host lacks.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::{DiskFacts, Facts, Finding, HostName, rules};
use crate::oci::{Digest, PinnedImage, Platform, chain_ids};
use crate::plan::{Action, Delivery, ImageOnHost, Step, Via, Ways};

/// The engine unpacks a layer only when it has all of it: compressed and unpacked forms stand side by side, and
/// k3s' image unpacks to about three times its compressed size.
const DISK_FACTOR: u64 = 4;

/// What the engine of a host with these facts is to hold of an image.
pub fn image_on_host(image: &PinnedImage, facts: &Facts, platform: &Platform) -> Option<ImageOnHost> {
    Some(ImageOnHost {
        reference: image.reference.on_engine(),
        index: image.index.as_ref().map(|index| index.digest.clone()),
        platform: platform.clone(),
        image: image.platforms.get(platform)?.clone(),
        store: facts.engine.store,
    })
}

/// What every host is to hold: its platform's image of each reference.
pub fn wanted(images: &[PinnedImage], fleet: &BTreeMap<HostName, Facts>) -> BTreeMap<HostName, Vec<ImageOnHost>> {
    let of_host = |facts: &Facts| {
        let platform = facts.platform().ok()?;
        Some(images.iter().filter_map(|image| image_on_host(image, facts, &platform)).collect())
    };
    fleet.iter().filter_map(|(host, facts)| Some((host.clone(), of_host(facts)?))).collect()
}

/// Whether the host holds exactly this image under its name.
pub fn is_present(image: &ImageOnHost, facts: &Facts) -> bool {
    facts.images.get(&image.reference.to_string()) == Some(image.id())
}

/// The way into this host's engine.
///
/// # Errors
/// A refusal, where the user wants a pull and the host cannot do it.
fn way(host: &HostName, facts: &Facts, ways: Ways) -> Result<Via, Finding> {
    // An engine with a network of its own does not see the host's loopback.
    let obstacle = match (facts.engine.rootless, facts.can_reverse) {
        (true, _) => Some("its engine is rootless and has a network of its own"),
        (false, Some(false)) => Some("its sshd forbids forwarded ports"),
        (false, _) => None,
    };
    match (ways, obstacle) {
        (Ways::Only(Via::Load), _) | (Ways::Auto, Some(_)) => Ok(Via::Load),
        (Ways::Auto | Ways::Only(Via::Pull), None) => Ok(Via::Pull),
        (Ways::Only(Via::Pull), Some(obstacle)) => {
            Err(rules::NO_PULL.on(host, format!("its engine cannot pull from this machine: {obstacle}")))
        }
    }
}

/// A step for every image that a host lacks. A layer that several images share is counted for the first of them.
///
/// # Errors
/// All refusals, where hosts cannot take images the way the user wants.
pub fn steps(
    wanted: &BTreeMap<HostName, Vec<ImageOnHost>>,
    fleet: &BTreeMap<HostName, Facts>,
    ways: Ways,
) -> Result<Vec<Step>, Vec<Finding>> {
    let (mut steps, mut findings) = (Vec::new(), Vec::new());
    for (host, images) in wanted {
        let Some(facts) = fleet.get(host) else { continue };
        let lacking: Vec<&ImageOnHost> = images.iter().filter(|image| !is_present(image, facts)).collect();
        if lacking.is_empty() {
            continue;
        }
        match way(host, facts, ways) {
            Ok(via) => steps.extend(
                deliveries(&lacking, facts, via)
                    .map(|delivery| Step { host: host.clone(), action: Action::Prewarm(Box::new(delivery)) }),
            ),
            Err(finding) => findings.push(finding),
        }
    }
    if findings.is_empty() { Ok(steps) } else { Err(findings) }
}

fn deliveries<'a>(lacking: &'a [&ImageOnHost], facts: &'a Facts, via: Via) -> impl Iterator<Item = Delivery> + 'a {
    let mut coming: BTreeSet<Digest> = BTreeSet::new();
    lacking.iter().map(move |image| {
        let chains = chain_ids(&image.image.diff_ids);
        let held_layers =
            chains.iter().take_while(|chain| facts.layers.contains(*chain) || coming.contains(*chain)).count();
        coming.extend(chains);
        Delivery { image: (*image).clone(), via, held_layers, travels_as: None }
    })
}

/// Hosts whose disk cannot take what the steps send them.
pub fn findings(steps: &[Step], fleet: &BTreeMap<HostName, Facts>) -> Vec<Finding> {
    let finding = |(host, facts): (&HostName, &Facts)| {
        let mut needed: BTreeMap<&str, (&DiskFacts, u64)> = BTreeMap::new();
        for step in steps.iter().filter(|step| step.host == *host) {
            // What waits for a node is in a volume.
            let (dir, disk) = match step.action {
                Action::Prewarm(_) => facts.engine.images_at(),
                _ => (facts.engine.root_dir.as_str(), &facts.engine.disk),
            };
            let place = needed.entry(dir).or_insert((disk, 0));
            place.1 = place.1.saturating_add(step.action.travelling_bytes().saturating_mul(DISK_FACTOR));
        }
        needed.into_iter().find_map(|(dir, (disk, needed))| {
            let free = disk.free.filter(|free| needed > *free)?;
            let [free_mb, needed_mb] = [free, needed].map(|bytes| bytes as f64 / 1e6);
            let seen = format!("{dir} has {free_mb:.0} MB free, the images need about {needed_mb:.0} MB");
            Some(rules::DISK_FULL.on(host, seen))
        })
    };
    fleet.iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests;
