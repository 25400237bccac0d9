//! The catalogue itself, and what of it clusters start.

use serde_json::{Value, json};

use super::*;
use crate::cluster::Profile;
use crate::host::Severity;

const GIB: u64 = 1 << 30;

fn release() -> Release {
    "v1.36.3+k3s1".parse().unwrap()
}

fn k3s(profile: Profile, config: Value) -> K3s {
    K3s { profile, config: config.as_object().cloned().unwrap(), ..K3s::default() }
}

fn references(names: &[&str]) -> Vec<Reference> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Short names, without tags, of what a cluster starts.
fn started(images: &ReleaseImages, k3s: &K3s, memory: u64) -> Vec<String> {
    let images = images.started(k3s, memory).on(Role::Agent, &[]);
    let name = |image: &Reference| image.repository().rsplit('/').next().unwrap().replace("mirrored-", "");
    images.iter().map(name).collect()
}

/// With all parts, besides what these flags leave out.
fn with(config: Value) -> Vec<String> {
    started(&ReleaseImages::catalogued(&release()).unwrap(), &k3s(Profile::Full, config), GIB)
}

const ALL: [&str; 8] = [
    "klipper-helm",
    "klipper-lb",
    "local-path-provisioner",
    "coredns-coredns",
    "library-busybox",
    "library-traefik",
    "metrics-server",
    "pause",
];

fn without(names: &[&str]) -> Vec<&'static str> {
    ALL.into_iter().filter(|name| !names.contains(name)).collect()
}

#[test]
fn every_line_of_the_catalogue_has_every_component() {
    let catalogue: Catalogue = serde_saphyr::from_str(CATALOGUE).unwrap();
    assert!(catalogue.releases.len() >= 6);
    for (name, line) in &catalogue.releases {
        let (major, minor) = line.read_from.minor();
        assert_eq!(*name, format!("{major}.{minor}"));
        assert_eq!(line.images.keys().copied().collect::<Vec<_>>(), Component::ALL, "{name}");
        for (component, image) in &line.images {
            assert_eq!(Component::of(image), Some(*component), "{image}");
            assert_eq!((image.registry(), image.tag() == Some("latest")), ("docker.io", false), "{image}");
        }
    }
}

#[test]
fn a_line_that_nobody_has_read_is_no_guess() {
    let error = ReleaseImages::catalogued(&"v1.99.0+k3s1".parse().unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("which images k3s v1.99.0+k3s1 starts: its catalogue has 1.31, 1.32"),
        "{error}"
    );
    assert!(error.hint().contains("images:"));
    assert!(UnknownRelease::Image("me/k3s:mine".parse().unwrap()).hint().contains("k3s-images.txt"));
}

#[test]
fn images_of_another_release_of_the_line_are_told() {
    let codes = |release: &str| {
        let images = ReleaseImages::catalogued(&release.parse().unwrap()).unwrap();
        images.started(&K3s::default(), GIB).findings.iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(codes("v1.36.3+k3s1"), Vec::<&str>::new());
    assert_eq!(codes("v1.36.2+k3s1"), ["images-of-another-release"]);
}

#[test]
fn the_profile_decides_by_the_servers_memory() {
    let images = ReleaseImages::catalogued(&release()).unwrap();
    let auto = K3s::default();
    assert_eq!(started(&images, &auto, 4 * GIB), ALL);
    assert_eq!(started(&images, &auto, GIB), ["coredns-coredns", "pause"]);
    assert_eq!(started(&images, &k3s(Profile::Small, json!({})), 4 * GIB), ["coredns-coredns", "pause"]);
    let dns_off = k3s(Profile::Tiny, json!({"disable+": "coredns"}));
    assert_eq!(started(&images, &dns_off, GIB), ["pause"], "the user's items and the profile's");
    let only = k3s(Profile::Tiny, json!({"disable": ["coredns", "metrics-server", "local-storage"]}));
    assert_eq!(
        started(&images, &only, GIB),
        ["klipper-helm", "klipper-lb", "library-traefik", "pause"],
        "the user's list alone, and what installs charts"
    );
    let no_charts = k3s(Profile::Tiny, json!({"disable": ["coredns"], "disable-helm-controller": true}));
    assert!(!started(&images, &no_charts, GIB).contains(&"library-traefik".to_string()), "the user's own word");
}

#[test]
fn what_the_user_does_without_is_told_by_what_is_started() {
    let missed = |config| missed(&k3s(Profile::Small, config), GIB);
    let all = [
        "no Ingress controller",
        "no LoadBalancer services",
        "no `kubectl top`",
        "no default StorageClass",
        "NetworkPolicy is not enforced",
        "no HelmChart resources",
    ];
    assert_eq!(missed(json!({})), all);
    assert_eq!(missed(json!({"disable": []})), all[4..5]);
    assert_eq!(missed(json!({"disable": "traefik, servicelb"})), [all[0], all[1], all[4], all[5]]);
    assert_eq!(missed(json!({"disable": [], "disable-helm-controller": true})), [all[0], all[4], all[5]]);
    assert_eq!(missed(json!({"disable-network-policy": false})), [all[0], all[1], all[2], all[3], all[5]]);
}

#[test]
fn flags_leave_parts_out() {
    assert_eq!(with(json!({})), ALL);
    for (config, gone) in [
        (json!({"disable": ["traefik"]}), &["klipper-helm", "library-traefik"][..]),
        (json!({"disable": "servicelb, metrics-server"}), &["klipper-lb", "metrics-server"]),
        (json!({"disable": ["servicelb"], "disable+": ["coredns"]}), &["klipper-lb", "coredns-coredns"]),
        (json!({"disable": ["local-storage"]}), &["local-path-provisioner", "library-busybox"]),
        (json!({"disable-helm-controller": true}), &["klipper-helm", "library-traefik"]),
        (json!({"disable-helm-controller": "false"}), &[]),
        (json!({"disable-cloud-controller": true}), &[]),
        (json!({"disable": ["no-such-part", 7]}), &[]),
        (json!({"airgap-extra-registry": ["registry.lan"]}), &[]),
    ] {
        assert_eq!(with(config.clone()), without(gone), "{config}");
    }
}

#[test]
fn a_server_without_pods_needs_nothing() {
    let images = ReleaseImages::catalogued(&release()).unwrap();
    let system = images.started(&k3s(Profile::Full, json!({"disable-agent": true})), GIB);
    let users = references(&["me/app:1"]);
    assert!(system.on(Role::Server, &users).is_empty());
    assert_eq!(system.on(Role::Agent, &users).len(), ALL.len() + 1);
}

#[test]
fn names_are_those_that_k3s_asks_for() {
    let images =
        ReleaseImages::listed(&release(), references(&["rancher/mirrored-pause:3.6", "rancher/klipper-helm:v1"]));
    let names = |config: Value| {
        let system = images.started(&k3s(Profile::Full, config), GIB);
        assert!(system.findings.is_empty(), "{:?}", system.findings);
        system.on(Role::Server, &[]).iter().map(Reference::familiar).collect::<Vec<_>>()
    };
    assert_eq!(names(json!({})), ["rancher/klipper-helm:v1", "rancher/mirrored-pause:3.6"]);
    assert_eq!(
        names(json!({"system-default-registry": "harbor.lan:5000/hub"})),
        ["harbor.lan:5000/hub/rancher/klipper-helm:v1", "harbor.lan:5000/hub/rancher/mirrored-pause:3.6"]
    );
    let pause = json!({"system-default-registry": "r.lan", "pause-image": "my/pause:1", "helm-job-image": "my/helm:1"});
    assert_eq!(names(pause), ["my/helm:1", "r.lan/my/pause:1"]);
    let pause = json!({"system-default-registry": "r.lan", "pause-image": "r.lan/pause:1", "disable": "traefik",
        "helm-job-image": "my/helm:1"});
    assert_eq!(names(pause), ["r.lan/pause:1"]);
    let argument =
        json!({"helm-job-image": "my/old:1", "helm-controller-arg": ["threads=1", "default-job-image=my/new:1"]});
    assert_eq!(names(argument), ["my/new:1", "rancher/mirrored-pause:3.6"]);
}

#[test]
fn flags_that_give_no_image_are_refused() {
    for config in [json!({"pause-image": "No Image"}), json!({"system-default-registry": "https://r.lan"})] {
        let system = ReleaseImages::catalogued(&release()).unwrap().started(&k3s(Profile::Small, config.clone()), GIB);
        let refused = |finding: &Finding| finding.severity == Severity::Refuse && finding.code == "image-flag";
        assert!(matches!(&system.findings[..], [finding] if refused(finding)), "{config}: {:?}", system.findings);
    }
}

#[test]
fn an_image_of_no_known_part_is_left_out_on_small_machines_only() {
    let listed = references(&["rancher/mirrored-pause:3.6", "rancher/new-part:v1", "docker.io/library/traefik:v3"]);
    let images = ReleaseImages::listed(&release(), listed);
    assert_eq!(started(&images, &k3s(Profile::Full, json!({})), GIB), ["traefik", "pause", "new-part"]);
    assert_eq!(started(&images, &k3s(Profile::Small, json!({})), GIB), ["pause"]);
    let finding = images.started(&k3s(Profile::Small, json!({})), GIB).findings.remove(0);
    assert!(finding.message.contains("rancher/new-part:v1") && finding.severity == Severity::Note, "{finding}");
    let torn = ReleaseImages::listed(&release(), references(&["rancher/mirrored-coredns-coredns:1"]));
    assert_eq!(torn.started(&K3s::default(), GIB).findings[0].code, "no-pause-image");
}

#[test]
fn an_image_that_the_user_names_too_is_there_once() {
    let images = ReleaseImages::listed(&release(), references(&["rancher/mirrored-pause:3.6"]));
    let system = images.started(&K3s::default(), GIB);
    let digest = crate::oci::Digest::of(b"");
    let pinned = format!("rancher/mirrored-pause:3.6@{digest}");
    let users = references(&[&pinned, "me/app:1", "docker.io/me/app:1"]);
    assert_eq!(system.on(Role::Agent, &users), references(&["me/app:1", &pinned]));
}
