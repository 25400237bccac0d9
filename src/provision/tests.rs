//! Plans against made-up hosts: what is wanted, what stands, and that nothing is planned twice.

use std::collections::BTreeMap;

use super::*;
use crate::cluster::names::LABEL_NODE;
use crate::host::{CgroupVersion, EngineFacts, HolderFacts, ImageStore, MachineFacts};
use crate::oci::{Descriptor, Digest, MediaType, PinnedImage, PlatformImage};
use crate::plan::{ImageOnHost, PlannedNode, Ways};
use crate::prewarm;

const FILE: &str = "\
apiVersion: k3arm.dev/v1alpha1
kind: Cluster
metadata: { name: home }
k3s: { version: v1.36.3+k3s1 }
hosts:
  - { name: pi2, ssh: pi@pi2, role: agent, labels: { disk: ssd } }
  - { name: pi1, ssh: pi@pi1, role: server }
";

fn cluster() -> Cluster {
    Cluster::parse(FILE).unwrap()
}

fn facts(last: u8, store: ImageStore) -> Facts {
    Facts {
        machine: MachineFacts {
            hostname: format!("pi{last}"),
            kernel_arch: "aarch64".into(),
            kernel_release: "6.12".into(),
            memory_total: 1 << 30,
            memory_available: 800 << 20,
            kept_for_huge_pages: None,
            cgroup: CgroupVersion::V2,
            controllers: vec!["memory".into()],
            clock_offset: 0,
            address: Some(std::net::IpAddr::from([10, 0, 0, last])),
            interface: Some("eth0".into()),
            addresses: [(std::net::Ipv4Addr::new(10, 0, 0, last), "eth0".into())].into(),
            prefix: Some(24),
            mtu: Some(1500),
            listeners: Vec::new(),
            board: Default::default(),
            system: Default::default(),
            k3s_processes: Vec::new(),
        },
        engine: EngineFacts {
            version: "26.1.5".into(),
            api_version: "1.45".into(),
            os: "linux".into(),
            arch: "aarch64".into(),
            store,
            storage_driver: "overlay2".into(),
            root_dir: "/var/lib/docker".into(),
            disk: crate::host::DiskFacts { free: Some(8 << 30), ..Default::default() },
            images: None,
            rootless: false,
            id: format!("engine-{last}"),
        },
        nodes: Vec::new(),
        volumes: BTreeMap::new(),
        images: BTreeMap::new(),
        layers: Default::default(),
        can_reverse: None,
        holders: Vec::new(),
    }
}

fn fleet() -> BTreeMap<HostName, Facts> {
    [("pi1", 1, ImageStore::Classic), ("pi2", 2, ImageStore::Containerd)]
        .map(|(name, last, store)| (HostName::new(name), facts(last, store)))
        .into()
}

fn descriptor(name: &str, size: u64) -> Descriptor {
    let media_type = MediaType(MediaType::OCI_MANIFEST.into());
    let digest = Digest::of(name.as_bytes());
    Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() }
}

fn image() -> PinnedImage {
    let one = PlatformImage {
        manifest: descriptor("manifest", 500),
        config: descriptor("config", 1000),
        layers: vec![descriptor("layer", 83_000_000)],
        diff_ids: vec![Digest::of(b"uncompressed")],
        compressed_size: 83_001_000,
    };
    PinnedImage {
        reference: "rancher/k3s:v1.36.3-k3s1".parse().unwrap(),
        index: Some(descriptor("index", 900)),
        platforms: [("linux/arm64".parse().unwrap(), one)].into(),
    }
}

/// The stages from facts to plan, as the pipeline runs them.
fn plan(cluster: &Cluster, fleet: &BTreeMap<HostName, Facts>, identity: &Identity) -> Result<Plan, Vec<Finding>> {
    let on_hosts = prewarm::wanted(&[image()], fleet);
    let images = on_hosts
        .iter()
        .map(|(host, images)| (host.clone(), NodeImages { node: images[0].clone(), inside: Vec::new() }))
        .collect();
    let wanted = Wanted::new(cluster, &images, fleet)?;
    let comparison = Comparison::of(&wanted, fleet)?;
    Ok(comparison.plan(&wanted, identity, prewarm::steps(&on_hosts, fleet, Ways::Auto)?))
}

/// What the hosts' facts are after a plan was carried out.
fn after(plan: &Plan, mut fleet: BTreeMap<HostName, Facts>, state: &NodeState) -> BTreeMap<HostName, Facts> {
    for step in plan.steps() {
        let facts = fleet.get_mut(&step.host).unwrap();
        match &step.action {
            Action::Prewarm(delivery) => {
                drop(facts.images.insert(delivery.image.reference.to_string(), delivery.image.id().clone()))
            }
            Action::CreateNode(node) => made(facts, node, state),
            Action::RemoveNode(removed) => facts.nodes.retain(|node| node.name != removed.name),
            Action::StartNode { container, .. } => {
                facts.nodes.iter_mut().filter(|n| n.id == *container).for_each(|n| n.state = NodeState::Running);
            }
            Action::Mend(_)
            | Action::StopNode { .. }
            | Action::ClearNetwork { .. }
            | Action::PlaceImages(_)
            | Action::KeepImages { .. } => {}
        }
    }
    fleet
}

fn made(facts: &mut Facts, node: &PlannedNode, state: &NodeState) {
    let container = &node.container;
    facts.nodes.push(NodeFacts {
        id: format!("id-{}", container.name),
        name: container.name.clone(),
        labels: container.labels.clone(),
        state: state.clone(),
        image: container.image.clone(),
        volumes: container.volumes.values().cloned().collect(),
    });
    facts.volumes.extend(container.volumes.values().map(|name| (name.clone(), container.labels.clone())));
}

#[test]
fn a_new_cluster_is_pulled_created_and_started_server_first() {
    let identity = Identity::generate().unwrap();
    let plan = plan(&cluster(), &fleet(), &identity).unwrap();
    insta::assert_snapshot!(plan, @"
    Prewarm
      pi1  pull rancher/k3s:v1.36.3-k3s1 for linux/arm64 (05b3abf2579a): 83.0 MB
      pi2  pull rancher/k3s:v1.36.3-k3s1 for linux/arm64 (05b3abf2579a): 83.0 MB
    Server
      pi1  create container k3arm-home-pi1 (server pi1)
            with /etc/rancher/k3arm/init, /etc/rancher/k3s/config.yaml, /var/lib/rancher/k3s/server/tls/server-ca.crt, /var/lib/rancher/k3s/server/tls/server-ca.key
    Agents
      pi2  create container k3arm-home-pi2 (agent pi2)
            with /etc/rancher/k3arm/init, /etc/rancher/k3s/config.yaml
    ");
}

#[test]
fn against_the_facts_it_produces_the_next_plan_is_empty() {
    let (cluster, identity) = (cluster(), Identity::generate().unwrap());
    let first = plan(&cluster, &fleet(), &identity).unwrap();
    let standing = after(&first, fleet(), &NodeState::Running);
    // The second run knows other secrets, or none: only what stands on the hosts counts.
    let second = plan(&cluster, &standing, &Identity::generate().unwrap()).unwrap();
    assert!(second.is_empty(), "{second}");
}

#[test]
fn a_node_that_stopped_is_started_and_one_that_never_ran_is_made_anew() {
    let (cluster, identity) = (cluster(), Identity::generate().unwrap());
    let first = plan(&cluster, &fleet(), &identity).unwrap();
    let stopped = plan(&cluster, &after(&first, fleet(), &NodeState::Exited(0)), &identity).unwrap();
    assert!(stopped.steps().all(|step| matches!(step.action, Action::StartNode { .. })), "{stopped}");
    assert_eq!(stopped.steps().count(), 2);
    let incomplete = plan(&cluster, &after(&first, fleet(), &NodeState::Created), &identity).unwrap();
    let actions: Vec<&Action> = incomplete.steps().map(|step| &step.action).collect();
    assert!(matches!(
        actions[..],
        [Action::RemoveNode(_), Action::CreateNode(_), Action::RemoveNode(_), Action::CreateNode(_)]
    ));
}

#[test]
fn other_settings_and_strangers_are_refused_and_nothing_is_lost() {
    let (mut cluster, identity) = (cluster(), Identity::generate().unwrap());
    let first = plan(&cluster, &fleet(), &identity).unwrap();
    let standing = after(&first, fleet(), &NodeState::Running);
    let codes = |cluster: &Cluster, fleet: &BTreeMap<HostName, Facts>| -> Vec<&str> {
        plan(cluster, fleet, &identity).unwrap_err().iter().map(|finding| finding.code).collect()
    };
    let mut without_container = standing.clone();
    without_container.values_mut().for_each(|facts| facts.nodes.clear());
    assert_eq!(codes(&cluster, &without_container), ["volumes-left", "volumes-left"]);
    let mut foreign = standing.clone();
    let agent = &mut foreign.get_mut(&HostName::new("pi2")).unwrap().nodes[0];
    agent.labels.insert(LABEL_CLUSTER_ID.into(), "another".into());
    assert_eq!(codes(&cluster, &foreign), ["node-of-another"]);
    cluster.k3s.config.insert("tls-san".into(), "pi.example".into());
    assert_eq!(codes(&cluster, &standing), ["node-differs"], "the flag is the server's alone");
}

#[test]
fn a_standing_node_is_the_same_by_another_way_in_and_with_another_kernel() {
    let (mut cluster, identity) = (cluster(), Identity::generate().unwrap());
    cluster.members.iter_mut().for_each(|member| member.memory = Some("768Mi".parse().unwrap()));
    let first = plan(&cluster, &fleet(), &identity).unwrap();
    let mut standing = after(&first, fleet(), &NodeState::Running);
    for (last, facts) in (1..).zip(standing.values_mut()) {
        let wireless = std::net::Ipv4Addr::new(192, 168, 1, last);
        facts.machine.address = Some(wireless.into());
        facts.machine.interface = Some("wlan0".into());
        facts.machine.addresses.insert(wireless, "wlan0".into());
        facts.machine.memory_total -= 36 << 10;
    }
    assert!(plan(&cluster, &standing, &identity).unwrap().is_empty());
    let mut cut = standing.clone();
    cut.values_mut().flat_map(|facts| &mut facts.nodes).for_each(|node| node.state = NodeState::Created);
    let again = plan(&cluster, &cut, &identity).unwrap();
    let addresses: Vec<&String> = again
        .steps()
        .filter_map(|step| match &step.action {
            Action::CreateNode(node) => node.container.labels.get(crate::cluster::names::LABEL_ADDRESS),
            _ => None,
        })
        .collect();
    assert_eq!(addresses, ["192.168.1.1", "192.168.1.2"], "what was never started stands nowhere");
    cluster.members[0].memory = Some("900Mi".parse().unwrap());
    assert!(plan(&cluster, &standing, &identity).is_err(), "another limit is another node");
}

#[test]
fn a_small_machines_node_is_the_same_with_another_kernel() {
    let (cluster, identity) = (cluster(), Identity::generate().unwrap());
    let mut small = fleet();
    small.values_mut().for_each(|facts| facts.machine.memory_total = 420 << 20);
    let mut standing = after(&plan(&cluster, &small, &identity).unwrap(), small, &NodeState::Running);
    standing.values_mut().for_each(|facts| facts.machine.memory_total -= 3 << 20);
    assert!(plan(&cluster, &standing, &identity).unwrap().is_empty());
}

#[test]
fn delete_takes_all_of_the_cluster_and_nothing_else() {
    let (cluster, identity) = (cluster(), Identity::generate().unwrap());
    let mut standing = after(&plan(&cluster, &fleet(), &identity).unwrap(), fleet(), &NodeState::Running);
    let mut other = standing[&HostName::new("pi2")].nodes[0].clone();
    other.labels.insert(LABEL_CLUSTER.into(), "work".into());
    other.labels.insert(LABEL_NODE.into(), "x".into());
    other.name = "k3arm-work-x".into();
    other.volumes = vec!["k3arm-work-x-etc".into()];
    let pi2 = standing.get_mut(&HostName::new("pi2")).unwrap();
    pi2.nodes.push(other);
    pi2.volumes.insert("k3arm-home-old-etc".into(), [(LABEL_CLUSTER.to_string(), "home".to_string())].into());
    insta::assert_snapshot!(delete(&cluster.name, &standing), @"
    Remove
      pi1  stop container k3arm-home-pi1
      pi1  remove cni0, flannel.1 and k3s' iptables rules
      pi1  remove container k3arm-home-pi1 and its 6 volumes
      pi2  stop container k3arm-home-pi2
      pi2  remove cni0, flannel.1 and k3s' iptables rules
      pi2  remove container k3arm-home-pi2 and its 6 volumes
    Left volumes
      pi2  remove volumes k3arm-home-old-etc
    ");
}

#[test]
fn no_form_of_a_plan_shows_a_secret() {
    let identity = Identity::generate().unwrap();
    let plan = plan(&cluster(), &fleet(), &identity).unwrap();
    let forms = [plan.to_string(), format!("{plan:?}"), serde_json::to_string(&plan).unwrap()];
    let key = identity.ca_key.as_ref().unwrap();
    for secret in [&identity.server_token, &identity.agent_token, &identity.join_token(), key] {
        assert!(forms.iter().all(|form| !form.contains(secret.expose())));
    }
    let files = plan.steps().filter_map(|step| match &step.action {
        Action::CreateNode(node) => Some(node.files.iter().map(|file| file.content.expose()).collect::<String>()),
        _ => None,
    });
    let files: Vec<String> = files.collect();
    assert!(files[0].contains(identity.server_token.expose()) && files[0].contains(key.expose()));
    assert!(!files[1].contains(identity.server_token.expose()), "an agent cannot become a server");
}

/// The same image as a node's own containerd is given it.
fn with_images(fleet: &BTreeMap<HostName, Facts>) -> Images {
    let on_hosts = prewarm::wanted(&[image()], fleet);
    let node = |images: &Vec<ImageOnHost>| NodeImages { node: images[0].clone(), inside: vec![images[0].clone()] };
    on_hosts.iter().map(|(host, images)| (host.clone(), node(images))).collect()
}

/// The fleet after its placements were carried out.
fn placed(cluster: &Cluster, mut fleet: BTreeMap<HostName, Facts>) -> BTreeMap<HostName, Facts> {
    for step in placements(cluster, &with_images(&fleet), &fleet) {
        assert!(!step.action.travelling_layers().is_empty(), "they count in what is fetched");
        let Action::PlaceImages(placement) = step.action else { panic!("{:?}", step.action) };
        let facts = fleet.get_mut(&step.host).unwrap();
        facts.volumes.insert(placement.name.clone(), placement.labels.clone());
        let (name, labels) = (placement.name, placement.labels);
        facts.holders.push(HolderFacts {
            id: format!("id-{name}"),
            volumes: vec![name.clone(), "anonymous".into()],
            name,
            labels,
        });
    }
    fleet
}

#[test]
fn images_are_placed_once_and_then_found_by_the_node() {
    let cluster = Cluster::parse(FILE).unwrap();
    let fleet = placed(&cluster, fleet());
    let images = with_images(&fleet);
    assert!(placements(&cluster, &images, &fleet).is_empty(), "a second time there is nothing to do");
    let wanted = Wanted::new(&cluster, &images, &fleet).unwrap();
    let comparison = Comparison::of(&wanted, &fleet).unwrap();
    let plan = comparison.plan(&wanted, &Identity::generate().unwrap(), Vec::new());
    let sends = plan.steps().filter(|step| step.action.travelling_bytes() > 0).count();
    assert_eq!((plan.steps().count(), sends), (2, 0), "{plan}");
    let finish = comparison.finish(&wanted).to_string();
    assert_eq!(finish.matches("pin 1 images in the node").count(), 2, "{finish}");
    assert_eq!(finish.matches("remove container k3arm-home-pi").count(), 2, "{finish}");
}

#[test]
fn other_images_are_swept_and_placed_anew() {
    let cluster = Cluster::parse(FILE).unwrap();
    let mut fleet = placed(&cluster, fleet());
    for holder in fleet.values_mut().flat_map(|facts| &mut facts.holders) {
        holder.labels.insert(crate::cluster::names::LABEL_IMAGES.into(), "other".into());
    }
    let steps = placements(&cluster, &with_images(&fleet), &fleet);
    let of_pi1: Vec<_> =
        steps.iter().filter(|step| step.host == HostName::new("pi1")).map(|step| &step.action).collect();
    let [Action::RemoveNode(removed), Action::PlaceImages(_)] = of_pi1[..] else { panic!("{of_pi1:?}") };
    assert_eq!(removed.volumes, ["k3arm-home-pi1-images"], "the engine's own volumes go with the container");
}

#[test]
fn deleting_takes_holders_and_their_volumes() {
    let cluster = Cluster::parse(FILE).unwrap();
    let plan = delete(&cluster.name, &placed(&cluster, fleet())).to_string();
    assert_eq!(plan.matches("remove container k3arm-home-pi").count(), 2, "{plan}");
    assert_eq!(plan.matches("remove volumes k3arm-home-pi").count(), 2, "{plan}");
}
