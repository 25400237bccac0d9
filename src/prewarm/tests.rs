//! What each host lacks: counted by hand.

use super::*;
use crate::host::Severity;
use crate::host::{CgroupVersion, EngineFacts, ImageStore, MachineFacts};
use crate::oci::{Descriptor, MediaType, PlatformImage};

fn descriptor(name: &str, size: u64) -> Descriptor {
    let media_type = MediaType(MediaType::OCI_MANIFEST.into());
    Descriptor { media_type, digest: Digest::of(name.as_bytes()), size, platform: None, annotations: BTreeMap::new() }
}

/// An image of the layers with these names, each of 100 bytes for every letter.
fn image(name: &str, layers: &[&str]) -> PinnedImage {
    let size = |layer: &str| layer.len() as u64 * 100;
    let one = PlatformImage {
        manifest: descriptor(&format!("{name} manifest"), 1),
        config: descriptor(&format!("{name} config"), 10),
        layers: layers.iter().map(|layer| descriptor(layer, size(layer))).collect(),
        diff_ids: layers.iter().map(|layer| Digest::of(format!("plain {layer}").as_bytes())).collect(),
        compressed_size: layers.iter().map(|layer| size(layer)).sum::<u64>() + 10,
    };
    let reference = format!("registry.example/{name}:1").parse().unwrap();
    PinnedImage { reference, index: None, platforms: [("linux/arm64".parse().unwrap(), one)].into() }
}

fn chains(layers: &[&str]) -> BTreeSet<Digest> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(format!("plain {layer}").as_bytes())).collect();
    chain_ids(&diff_ids).into_iter().collect()
}

fn facts(held: &[&str]) -> Facts {
    let machine = MachineFacts {
        hostname: "pi".into(),
        kernel_arch: "aarch64".into(),
        kernel_release: "6.12".into(),
        memory_total: 1 << 30,
        memory_available: 1 << 29,
        kept_for_huge_pages: None,
        cgroup: CgroupVersion::V2,
        controllers: Vec::new(),
        clock_offset: 0,
        address: None,
        interface: None,
        addresses: Default::default(),
        prefix: Some(24),
        mtu: Some(1500),
        listeners: Vec::new(),
        board: Default::default(),
        system: Default::default(),
        k3s_processes: Vec::new(),
    };
    let engine = EngineFacts {
        version: "26.1.5".into(),
        api_version: "1.45".into(),
        os: "linux".into(),
        arch: "aarch64".into(),
        store: ImageStore::Classic,
        storage_driver: "overlay2".into(),
        root_dir: "/var/lib/docker".into(),
        disk: crate::host::DiskFacts { free: Some(1 << 40), ..Default::default() },
        images: None,
        rootless: false,
        id: String::new(),
    };
    let (nodes, volumes, images) = Default::default();
    Facts {
        machine,
        engine,
        nodes,
        volumes,
        images,
        layers: chains(held),
        can_reverse: Some(true),
        holders: Vec::new(),
    }
}

fn deliveries_to(facts: Facts, images: &[PinnedImage], ways: Ways) -> Result<Vec<Delivery>, Vec<Finding>> {
    let fleet = BTreeMap::from([(HostName::new("pi"), facts)]);
    let steps = steps(&wanted(images, &fleet), &fleet, ways)?;
    let delivery = |step: Step| match step.action {
        Action::Prewarm(delivery) => *delivery,
        other => panic!("{other:?}"),
    };
    Ok(steps.into_iter().map(delivery).collect())
}

#[test]
fn only_the_layers_above_what_is_held_travel() {
    let [delivery] = deliveries_to(facts(&["base"]), &[image("app", &["base", "libs", "x"])], Ways::Auto)
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!((delivery.held_layers, delivery.missing().layers, delivery.missing().bytes), (1, 2, 400 + 100 + 10));
    assert_eq!(delivery.held(), crate::plan::Share { layers: 1, bytes: 400 });
    assert!(delivery.to_string().ends_with("2 of 3 layers, 0.0 of 0.0 MB"), "{delivery}");
}

#[test]
fn the_same_layer_upon_another_one_is_not_held() {
    let [delivery] =
        deliveries_to(facts(&["libs"]), &[image("app", &["base", "libs"])], Ways::Auto).unwrap().try_into().unwrap();
    assert_eq!(delivery.held_layers, 0);
}

#[test]
fn a_layer_that_two_images_share_counts_once() {
    let images = [image("one", &["base", "a"]), image("two", &["base", "b"])];
    let deliveries = deliveries_to(facts(&[]), &images, Ways::Auto).unwrap();
    assert_eq!(deliveries.iter().map(|delivery| delivery.held_layers).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn facts_choose_the_way_and_the_user_may() {
    let images = [image("app", &["base"])];
    let via = |facts: Facts, ways| deliveries_to(facts, &images, ways).map(|deliveries| deliveries[0].via);
    let forbidden = || Facts { can_reverse: Some(false), ..facts(&[]) };
    let rootless = || {
        let mut facts = facts(&[]);
        facts.engine.rootless = true;
        facts
    };
    assert_eq!(via(facts(&[]), Ways::Auto), Ok(Via::Pull));
    assert_eq!(via(facts(&[]), Ways::Only(Via::Load)), Ok(Via::Load));
    assert_eq!(via(forbidden(), Ways::Auto), Ok(Via::Load));
    assert_eq!(via(rootless(), Ways::Auto), Ok(Via::Load));
    for facts in [forbidden(), rootless()] {
        let findings = via(facts, Ways::Only(Via::Pull)).unwrap_err();
        assert_eq!((findings[0].code, findings[0].severity), ("no-pull", Severity::Refuse));
    }
}

#[test]
fn what_is_there_under_its_name_needs_no_step() {
    let image = image("app", &["base"]);
    let mut facts = facts(&["base"]);
    let config = image.platforms.values().next().unwrap().config.digest.clone();
    facts.images.insert("registry.example/app:1".into(), config);
    assert!(deliveries_to(facts, &[image], Ways::Auto).unwrap().is_empty());
}

#[test]
fn the_disk_that_images_go_to_must_have_room() {
    let disk = |free| crate::host::DiskFacts { free: Some(free), ..Default::default() };
    let full = |root, images: Option<u64>| {
        let mut facts = facts(&[]);
        facts.engine.disk = disk(root);
        let place = |free| crate::host::ImagePlace { dir: "/var/lib/containerd".into(), disk: disk(free) };
        facts.engine.images = images.map(place);
        let fleet = BTreeMap::from([(HostName::new("pi"), facts)]);
        let steps = steps(&wanted(&[image("app", &["base"])], &fleet), &fleet, Ways::Auto).unwrap();
        findings(&steps, &fleet).into_iter().map(|finding| finding.message).collect::<Vec<_>>()
    };
    assert_eq!(full(1 << 40, None), Vec::<String>::new());
    assert!(full(100, None)[0].starts_with("/var/lib/docker has 0 MB free"));
    assert_eq!(full(100, Some(1 << 40)), Vec::<String>::new(), "nothing goes to the engine's own folder");
    assert!(full(1 << 40, Some(100))[0].starts_with("/var/lib/containerd has 0 MB free"));
}
