//! Golden plans: for given facts, exactly these steps. `K3ARM_GOLDEN=write cargo test --test plans` writes them anew.

#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use k3arm::cluster::{Cluster, Identity, Secret};
use k3arm::host::{CgroupVersion, EngineFacts, Facts, HostName, ImageStore, MachineFacts, NodeFacts, NodeState};
use k3arm::oci::{Descriptor, Digest, MediaType, PinnedImage, PlatformImage};
use k3arm::plan::{Action, ImageOnHost, Plan, Ways};
use k3arm::provision::{Comparison, NodeImages, Wanted};
use k3arm::{prewarm, provision};

const FILE: &str = "\
apiVersion: k3arm.dev/v1alpha1
kind: Cluster
metadata: { name: home }
k3s: { version: v1.36.3+k3s1, config: { cluster-cidr: 10.88.0.0/16, kubelet-arg: [max-pods=30], made-up: 1 } }
hosts:
  - { name: pi1, ssh: pi@pi1, role: server, labels: { disk: ssd } }
  - { name: pi2, ssh: pi@pi2, role: agent, taints: ['only=this:NoSchedule'] }
  - { name: old, ssh: pi@old, role: agent }
";

type Fleet = BTreeMap<HostName, Facts>;

/// A Pi with 1 GiB, one with 4 and containerd's store, and one with a 32-bit system on a 64-bit kernel.
fn fleet() -> Fleet {
    let one = |name: &str, last: u8, store, arch: &str, gib: u64| {
        let machine = MachineFacts {
            hostname: name.into(),
            kernel_arch: "aarch64".into(),
            kernel_release: "6.12.34+rpt-rpi-v8".into(),
            memory_total: gib << 30,
            memory_available: (gib << 30) - (200 << 20),
            kept_for_huge_pages: None,
            cgroup: if name == "old" { CgroupVersion::V1 } else { CgroupVersion::V2 },
            controllers: ["cpuset", "cpu", "memory", "pids"].map(String::from).to_vec(),
            clock_offset: 0,
            address: Some(IpAddr::from([10, 0, 0, last])),
            interface: Some("eth0".into()),
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
            arch: arch.into(),
            store,
            storage_driver: "overlay2".into(),
            root_dir: "/var/lib/docker".into(),
            disk: k3arm::host::DiskFacts { free: Some(8 << 30), ..Default::default() },
            images: None,
            rootless: false,
            id: format!("engine-{last}"),
        };
        let facts = Facts {
            machine,
            engine,
            nodes: Vec::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            layers: Default::default(),
            can_reverse: None,
            holders: Vec::new(),
        };
        (HostName::new(name), facts)
    };
    [
        one("pi1", 11, ImageStore::Classic, "aarch64", 1),
        one("pi2", 12, ImageStore::Containerd, "aarch64", 4),
        one("old", 13, ImageStore::Classic, "armv7l", 1),
    ]
    .into()
}

fn image() -> PinnedImage {
    let descriptor = |name: &str, size| {
        let media_type = MediaType(MediaType::OCI_MANIFEST.into());
        Descriptor {
            media_type,
            digest: Digest::of(name.as_bytes()),
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    };
    let platform = |name: &str| PlatformImage {
        manifest: descriptor(&format!("manifest {name}"), 500),
        config: descriptor(&format!("config {name}"), 1_000),
        layers: vec![descriptor(&format!("layer {name}"), 83_000_000)],
        diff_ids: vec![Digest::of(format!("uncompressed {name}").as_bytes())],
        compressed_size: 83_001_000,
    };
    let platforms = ["linux/arm64", "linux/arm/v7"].map(|name| (name.parse().expect("a platform"), platform(name)));
    PinnedImage {
        reference: "rancher/k3s:v1.36.3-k3s1".parse().expect("a reference"),
        index: Some(descriptor("index", 900)),
        platforms: platforms.into(),
    }
}

fn identity() -> Identity {
    Identity {
        id: "0123456789abcdef".into(),
        server_token: Secret::new("the server's token"),
        agent_token: Secret::new("the agents' token"),
        ca_certificate: "a certificate\n".into(),
        ca_key: Some(Secret::new("its key")),
    }
}

/// The stages from facts to plan, as the pipeline runs them.
fn create(fleet: &Fleet) -> Plan {
    let cluster = Cluster::parse(FILE).expect("a cluster file");
    let on_hosts = prewarm::wanted(&[image()], fleet);
    let node = |images: &Vec<ImageOnHost>| NodeImages { node: images[0].clone(), inside: Vec::new() };
    let images = on_hosts.iter().map(|(host, images)| (host.clone(), node(images))).collect();
    let wanted = Wanted::new(&cluster, &images, fleet).expect("no findings");
    let comparison = Comparison::of(&wanted, fleet).expect("no findings");
    comparison.plan(&wanted, &identity(), prewarm::steps(&on_hosts, fleet, Ways::Auto).expect("no findings"))
}

/// What the facts are after a plan was carried out.
fn after(plan: &Plan, mut fleet: Fleet, state: &NodeState) -> Fleet {
    for step in plan.steps() {
        let facts = fleet.get_mut(&step.host).expect("a host");
        match &step.action {
            Action::Prewarm(delivery) => {
                drop(facts.images.insert(delivery.image.reference.to_string(), delivery.image.id().clone()))
            }
            Action::CreateNode(node) => {
                let spec = &node.container;
                facts.volumes.extend(spec.volumes.values().map(|name| (name.clone(), spec.labels.clone())));
                facts.nodes.push(NodeFacts {
                    id: format!("id-of-{}", spec.name),
                    name: spec.name.clone(),
                    image: spec.image.clone(),
                    labels: spec.labels.clone(),
                    state: state.clone(),
                    volumes: spec.volumes.values().cloned().collect(),
                });
            }
            _ => {}
        }
    }
    fleet
}

#[track_caller]
fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("K3ARM_GOLDEN").is_some() {
        std::fs::write(&file, text).expect("written");
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, wanted, "{name} differs; if that is meant, K3ARM_GOLDEN=write writes it anew");
    for secret in ["token", "certificate", "its key"] {
        assert!(!text.contains(&format!("the server's {secret}")) && !text.contains(&format!("the agents' {secret}")));
    }
}

#[test]
fn a_new_cluster() {
    let plan = create(&fleet());
    golden("create.txt", &plan.to_string());
    golden("create.json", &(serde_json::to_string_pretty(&plan).expect("JSON") + "\n"));
}

/// The files of the nodes, without secrets: what is a node told?
#[test]
fn settings_of_the_nodes() {
    let plan = create(&fleet());
    let files = plan.steps().filter_map(|step| match &step.action {
        Action::CreateNode(node) => Some((node, node.files.iter().find(|file| file.path.ends_with("config.yaml"))?)),
        _ => None,
    });
    let text: String = files
        .map(|(node, file)| {
            let lines = file.content.expose().lines().filter(|line| !line.contains("token"));
            format!("# {}\n{}\n", node.node, lines.map(|line| format!("{line}\n")).collect::<String>())
        })
        .collect();
    golden("settings.txt", &text);
}

#[test]
fn the_same_again_is_nothing() {
    let plan = create(&fleet());
    assert_eq!(create(&after(&plan, fleet(), &NodeState::Running)), Plan::default());
}

#[test]
fn nodes_that_were_stopped_or_cut() {
    let plan = create(&fleet());
    golden("create-stopped.txt", &create(&after(&plan, fleet(), &NodeState::Exited(0))).to_string());
    golden("create-cut.txt", &create(&after(&plan, fleet(), &NodeState::Created)).to_string());
}

#[test]
fn a_cluster_goes() {
    let plan = create(&fleet());
    let name = "home".parse().expect("a name");
    golden("delete.txt", &provision::delete(&name, &after(&plan, fleet(), &NodeState::Running)).to_string());
    let mut left = after(&plan, fleet(), &NodeState::Running);
    left.values_mut().for_each(|facts| facts.nodes.clear());
    golden("delete-volumes.txt", &provision::delete(&name, &left).to_string());
}
