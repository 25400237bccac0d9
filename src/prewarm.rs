//! Lock × Facts → what each host lacks.

use std::collections::BTreeMap;

use crate::host::{Facts, Finding, HostName, Severity};
use crate::oci::{PinnedImage, Platform};
use crate::plan::{Action, ImageOnHost, Step};

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

/// A step for every image that a host lacks.
pub fn steps(wanted: &BTreeMap<HostName, Vec<ImageOnHost>>, fleet: &BTreeMap<HostName, Facts>) -> Vec<Step> {
    let lacking =
        |host: &HostName, image: &&ImageOnHost| fleet.get(host).is_some_and(|facts| !is_present(image, facts));
    let of_host = |(host, images): (&HostName, &Vec<ImageOnHost>)| {
        let missing = images.iter().filter(|image| lacking(host, image));
        let step = |image: &ImageOnHost| Step { host: host.clone(), action: Action::Prewarm(Box::new(image.clone())) };
        missing.map(step).collect::<Vec<_>>()
    };
    wanted.iter().flat_map(of_host).collect()
}

/// Hosts whose disk cannot take what they lack.
pub fn findings(steps: &[Step], fleet: &BTreeMap<HostName, Facts>) -> Vec<Finding> {
    let missing = |host: &HostName| -> u64 {
        let sizes = steps.iter().filter(|step| step.host == *host).filter_map(|step| match &step.action {
            Action::Prewarm(image) => Some(image.image.compressed_size),
            _ => None,
        });
        sizes.fold(0, u64::saturating_add)
    };
    let finding = |(host, facts): (&HostName, &Facts)| {
        let (free, needed) = (facts.engine.disk_free?, missing(host).saturating_mul(DISK_FACTOR));
        (needed > free).then(|| Finding {
            severity: Severity::Refuse,
            code: "disk-full",
            host: Some(host.clone()),
            message: format!(
                "{} has {:.0} MB free, the images need about {:.0} MB",
                facts.engine.root_dir,
                free as f64 / 1e6,
                needed as f64 / 1e6
            ),
            hint: "free some space there: `docker system df` shows what the engine holds, `docker system prune` removes what is unused"
                .into(),
        })
    };
    fleet.iter().filter_map(finding).collect()
}
