//! What hosts have said, and what must be found on them. Each file beside this one is a host: where its words come from, its answer
//! to the script, what its engine says where that is known, and the codes of all rules that do not hold. `README.md` lists them.

#![expect(clippy::expect_used, reason = "a test that cannot read its files fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use k3arm::cluster::{Cluster, Role};
use k3arm::host::{
    Answer, DiskFacts, EngineFacts, Facts, HostName, ImageStore, Listener, Medium, NodeFacts, NodeState, Reach,
    Severity, Target, parse_machine,
};
use k3arm::preflight::{Purpose, cluster_findings, fleet_findings, node_findings, targets};

/// When all of them were asked.
const ASKED: u64 = 1_795_712_802;

/// A host as its file has it.
struct Sample {
    name: String,
    machine: String,
    engine: BTreeMap<String, String>,
    findings: BTreeSet<String>,
}

fn samples() -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let entries = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    files.sort();
    files.iter().map(|path| sample(path)).collect()
}

fn sample(path: &Path) -> Sample {
    let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
    let text = fs::read_to_string(path).expect("a file");
    assert!(text.contains("\n# source: "), "{name}: where is it from?");
    let (_, rest) = text.split_once("\nmachine:\n").expect(&name);
    let (machine, rest) = rest.split_once("\nengine:\n").expect(&name);
    let (engine, findings) = rest.split_once("findings:").expect(&name);
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_string(), value.to_string()));
    Sample {
        name,
        machine: format!("{machine}\n"),
        engine: engine.lines().filter_map(pair).collect(),
        findings: findings.split_whitespace().map(String::from).collect(),
    }
}

impl Sample {
    fn engine(&self) -> EngineFacts {
        let said = |key: &str, otherwise: &str| self.engine.get(key).map_or(otherwise, String::as_str).to_string();
        let known =
            ["version", "api_version", "os", "arch", "storage_driver", "root_dir", "rootless", "filesystem", "medium"];
        assert!(self.engine.keys().all(|key| known.contains(&key.as_str())), "{}: {:?}", self.name, self.engine);
        EngineFacts {
            version: said("version", "26.1.5"),
            api_version: said("api_version", "1.45"),
            os: said("os", "linux"),
            arch: said("arch", "aarch64"),
            store: ImageStore::Classic,
            storage_driver: said("storage_driver", "overlay2"),
            root_dir: said("root_dir", "/var/lib/docker"),
            disk: DiskFacts {
                free: None,
                filesystem: self.engine.get("filesystem").cloned(),
                medium: self.engine.get("medium").map(|_| Medium::Card),
                device: None,
            },
            images: None,
            rootless: said("rootless", "no") == "yes",
            id: String::new(),
        }
    }

    fn facts(&self) -> Facts {
        let asked = UNIX_EPOCH + Duration::from_secs(ASKED);
        let (machine, _) = parse_machine(&self.machine, asked..=asked).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        Facts {
            machine,
            engine: self.engine(),
            nodes: Vec::new(),
            holders: Vec::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            layers: BTreeSet::new(),
            can_reverse: None,
        }
    }
}

#[test]
fn every_host_gives_its_findings() {
    let samples = samples();
    assert!(samples.len() > 30, "only {} hosts", samples.len());
    for sample in &samples {
        let found = node_findings(&HostName::new(&sample.name), &sample.facts(), Purpose::default());
        let codes: BTreeSet<String> = found.iter().map(|finding| finding.code.to_string()).collect();
        assert_eq!(codes, sample.findings, "{}: {found:#?}", sample.name);
    }
}

/// `pi1`, `pi2` … that have nothing against each other.
fn fleet_of(hosts: u8) -> BTreeMap<HostName, Facts> {
    let sample = samples().into_iter().find(|sample| sample.name.starts_with("emulated-arm64")).expect("it is there");
    let host = |number: u8| {
        let name = format!("pi{number}");
        let mut facts = sample.facts();
        facts.machine.hostname = name.clone();
        facts.machine.address = Some(IpAddr::from([10, 66, 0, 10 + number]));
        facts.engine.id = format!("engine-{name}");
        (HostName::new(&name), facts)
    };
    (1..=hosts).map(host).collect()
}

/// All pairs of few hosts; of many so many that no part of the fleet is cut off from the rest unseen. Who is known to be the
/// server is tried by all.
#[test]
fn ports_are_tried_between_hosts() {
    let pairs = |cluster: Option<&Cluster>, hosts: u8, port: u16| -> Vec<(HostName, HostName)> {
        let targets = targets(cluster, &fleet_of(hosts));
        let to = |from: HostName, tried: Vec<Target>| {
            let of_port = tried.into_iter().filter(move |target| target.port == port);
            of_port.map(move |target| (from.clone(), target.to))
        };
        targets.into_iter().flat_map(|(from, tried)| to(from, tried)).collect()
    };
    for port in [6443, 8472, 10250] {
        assert_eq!(pairs(None, 8, port).len(), 8 * 7);
        assert_eq!(pairs(None, 16, port).len(), 16 * 4);
        assert_eq!(pairs(None, 50, port).len(), 50 * 6);
    }
    let names: Vec<HostName> = fleet_of(16).into_keys().collect();
    for cut in 1..16 {
        let part = |name: &HostName| names.iter().position(|other| other == name) < Some(cut);
        let crossing = pairs(None, 16, 8472).into_iter().filter(|(from, to)| part(from) != part(to)).count();
        assert!(crossing >= 8, "{crossing} pairs see a cut after {cut} hosts");
    }
    let agents: String =
        (2..=16).map(|number| format!("  - {{ssh: pi{number}, name: pi{number}, role: agent}}\n")).collect();
    let file = format!(
        "apiVersion: k3arm.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: home}}\nhosts:\n  - {{ssh: pi1, name: pi1, role: server}}\n{agents}"
    );
    let cluster = Cluster::parse(&file).expect("a cluster file");
    let [api, kubelet] = [6443, 10250].map(|port| pairs(Some(&cluster), 16, port));
    assert_eq!((api.len(), kubelet.len()), (15, 15));
    assert!(api.iter().all(|(_, to)| to.as_str() == "pi1") && kubelet.iter().all(|(from, _)| from.as_str() == "pi1"));
    assert_eq!(pairs(Some(&cluster), 16, 8472).len(), 16 * 4);
}

/// The nodes' own address is tried, not the one by which the host was reached this time.
#[test]
fn agents_try_where_the_server_stands() {
    let mut fleet = fleet_of(2);
    let server = fleet.get_mut(&HostName::new("pi1")).expect("it is there");
    server.machine.addresses.insert([10, 67, 0, 11].into(), "wlan0".into());
    let file = "apiVersion: k3arm.dev/v1alpha1\nkind: Cluster\nmetadata: {name: home}\nhosts:\n  - {ssh: pi1, name: pi1, role: server}\n  - {ssh: pi2, name: pi2, role: agent}\n";
    let cluster = Cluster::parse(file).expect("a cluster file");
    let tried = |fleet: &BTreeMap<HostName, Facts>| {
        let targets = targets(Some(&cluster), fleet);
        targets[&HostName::new("pi2")].iter().map(|target| target.address.to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(tried(&fleet), ["10.66.0.11".to_string()].into());
    let labels = [("k3arm.dev/cluster", "home"), ("k3arm.dev/address", "10.67.0.11")];
    let node = NodeFacts {
        id: "1".repeat(64),
        name: "k3arm-home-pi1".into(),
        labels: labels.map(|(label, value)| (label.to_string(), value.to_string())).into(),
        state: NodeState::Running,
        image: String::new(),
        volumes: Vec::new(),
    };
    fleet.get_mut(&HostName::new("pi1")).expect("it is there").nodes.push(node);
    assert_eq!(tried(&fleet), ["10.67.0.11".to_string()].into());
}

/// Two hosts that have nothing against each other, and then what may be: a cloned card, a wrong clock, another network.
#[test]
fn hosts_are_compared_with_each_other() {
    let good = fleet_of(2);
    let codes = |change: &dyn Fn(&mut Facts), reach: &[Reach]| {
        let mut fleet = good.clone();
        change(fleet.get_mut(&HostName::new("pi2")).expect("it is there"));
        let found = fleet_findings(None, &fleet, reach);
        found.iter().map(|finding| format!("{} {}", finding.severity, finding.code)).collect::<Vec<_>>()
    };
    assert_eq!(codes(&|_| {}, &[]), Vec::<String>::new());
    assert_eq!(codes(&|facts| facts.engine.id = "engine-pi1".into(), &[]), ["error same-engine"]);
    assert_eq!(codes(&|facts| facts.machine.hostname = "pi1".into(), &[]), ["warning same-hostname"]);
    assert_eq!(codes(&|facts| facts.machine.clock_offset = -6, &[]), ["warning clocks-apart"]);
    assert_eq!(codes(&|facts| facts.machine.clock_offset = -4000, &[]), ["error clocks-apart"]);
    assert_eq!(codes(&|facts| facts.machine.mtu = Some(1400), &[]), ["warning mtu"]);
    let natted = |facts: &mut Facts| facts.machine.address = Some(IpAddr::from([10, 66, 0, 11]));
    assert_eq!(codes(&natted, &[]), ["error same-address"]);
    let elsewhere = |facts: &mut Facts| facts.machine.address = Some(IpAddr::from([10, 67, 0, 12]));
    assert_eq!(codes(&elsewhere, &[]), ["note networks"]);
    let tried = |port, udp, answer| {
        let (from, to, address) = (HostName::new("pi1"), HostName::new("pi2"), [10, 66, 0, 12].into());
        [Reach { from, to, address, port, udp, answer }]
    };
    for answer in [Answer::Open, Answer::Refused] {
        assert_eq!(codes(&|_| {}, &tried(6443, false, answer)), Vec::<String>::new());
    }
    assert_eq!(codes(&|_| {}, &tried(6443, false, Answer::Silent)), ["error unreachable"]);
    assert_eq!(codes(&|_| {}, &tried(10250, false, Answer::Unreachable)), ["warning unreachable"]);
    assert_eq!(codes(&|_| {}, &tried(8472, true, Answer::Silent)), ["note unanswered"]);
    let ports =
        |fleet: &BTreeMap<HostName, Facts>| -> Vec<usize> { targets(None, fleet).values().map(Vec::len).collect() };
    assert_eq!(ports(&good), [3, 3], "API server, kubelet and vxlan of the other one");
    let mut vxlan = good.clone();
    let there = vxlan.get_mut(&HostName::new("pi2")).expect("it is there");
    there.machine.listeners.push(Listener { port: 8472, udp: true });
    assert_eq!(ports(&vxlan), [2, 3], "the kernel's vxlan does not answer");
    vxlan.values_mut().for_each(|facts| facts.machine.listeners = vec![Listener { port: 8472, udp: true }]);
    assert_eq!(ports(&vxlan), [2, 2], "one that was left on each of them is in nobody's way");
}

/// `cluster:` of two hosts, with lines for their server and for k3s.
fn cluster_of_two(k3s: &str, server: &str) -> Cluster {
    let hosts =
        format!("  - {{ssh: pi1, name: pi1, role: server{server}}}\n  - {{ssh: pi2, name: pi2, role: agent}}\n");
    let file = format!(
        "apiVersion: k3arm.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: home}}\nk3s: {{{k3s}}}\nhosts:\n{hosts}"
    );
    Cluster::parse(&file).expect("a cluster file")
}

#[test]
fn a_cluster_is_judged_by_its_file() {
    let mut fleet = fleet_of(2);
    fleet.values_mut().for_each(|facts| facts.machine.addresses = [([10, 66, 0, 1].into(), "wlan7".into())].into());
    let codes = |k3s: &str, server: &str, offsets: [i64; 2]| {
        let mut fleet = fleet.clone();
        fleet.values_mut().zip(offsets).for_each(|(facts, offset)| facts.machine.clock_offset = offset);
        let found = cluster_findings(&cluster_of_two(k3s, server), &fleet, &BTreeMap::new(), &[]);
        let grave = found.into_iter().filter(|finding| finding.severity == Severity::Refuse);
        grave.map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(codes("", "", [0, 0]), Vec::<&str>::new());
    assert_eq!(codes("", ", address: 10.66.0.1", [0, 0]), Vec::<&str>::new());
    assert_eq!(codes("", ", address: 10.99.0.1", [0, 0]), ["foreign-address"]);
    let cluster = cluster_of_two("", ", address: 10.66.0.1");
    let reached = cluster.server().expect("a server").reached_at(&cluster.name, &fleet[&HostName::new("pi1")]);
    assert_eq!(reached, Some(([10, 66, 0, 1].into(), Some("wlan7".into()))), "flannel does not look for it");
    assert_eq!(codes("", ", address: 10.66.0.12", [0, 0]), ["foreign-address", "same-address"]);
    // What a server dates back by an hour is valid on the others, and here.
    assert_eq!(codes("", "", [3000, 0]), Vec::<&str>::new());
    assert_eq!(codes("", "", [4000, 4000]), ["clock"], "kubectl here");
    assert_eq!(codes("", "", [0, -4000]), ["clocks-apart"]);
    assert_eq!(codes("", "", [-4000, 0]), Vec::<&str>::new(), "an agent may be ahead");
    let tried =
        |k3s: &str| targets(Some(&cluster_of_two(k3s, "")), &fleet).into_values().flatten().any(|target| target.udp);
    assert!(
        tried("") && tried("config: {flannel-backend: vxlan}") && !tried("config: {flannel-backend: wireguard-native}")
    );
}

/// What can be told of a machine without its engine is told.
#[test]
fn a_closed_engine_hides_nothing_of_its_machine() {
    let mut fleet = fleet_of(2);
    let mut machine = fleet.remove(&HostName::new("pi2")).expect("it is there").machine;
    machine.controllers = ["cpu", "cpuset", "pids"].map(String::from).into();
    let closed = BTreeMap::from([(HostName::new("pi2"), machine)]);
    let found = cluster_findings(&cluster_of_two("", ""), &fleet, &closed, &[]);
    assert!(
        found.iter().any(|finding| finding.code == "cgroup" && finding.host == Some(HostName::new("pi2"))),
        "{found:#?}"
    );
}

/// What is wrong with one good host after a change, by severity and code.
fn found(change: impl Fn(&mut Facts), purpose: Purpose<'_>) -> Vec<String> {
    let (name, mut facts) = fleet_of(1).pop_first().expect("it is there");
    // All that this host has against it.
    facts.machine.system.inotify_instances = Some(512);
    facts.machine.kept_for_huge_pages = None;
    change(&mut facts);
    let found = node_findings(&name, &facts, purpose);
    found.iter().map(|finding| format!("{} {}", finding.severity, finding.code)).collect()
}

#[test]
fn heat_and_power_are_told_apart() {
    let of = |throttled: u32, millidegrees: i64| {
        let change = |facts: &mut Facts| {
            facts.machine.board.throttled = Some(throttled);
            facts.machine.board.millidegrees = Some(millidegrees);
        };
        found(change, Purpose::default())
    };
    assert_eq!(of(0, 55_000), Vec::<String>::new());
    assert_eq!(of(0x50005, 55_000), ["warning power"]);
    assert_eq!(of(0x50000, 55_000), ["note power-before"]);
    assert_eq!(of(0xe0000, 55_000), Vec::<String>::new(), "it was hot once");
    assert_eq!(of(0xe000e, 84_000), ["warning heat"]);
    assert_eq!(of(0x80008, 62_000), ["note heat"], "a board with a limit of 60 °C");
}

#[test]
fn a_node_is_judged_by_what_it_is_for() {
    let taken = |port| move |facts: &mut Facts| facts.machine.listeners.push(Listener { port, udp: false });
    let [server, agent] = [Role::Server, Role::Agent].map(|role| Purpose { role: Some(role), ..Purpose::default() });
    assert_eq!(found(taken(6443), server), ["error port-taken"]);
    assert_eq!(found(taken(6443), agent), Vec::<String>::new());
    assert_eq!(found(taken(10250), agent), ["error port-taken"]);
    let small = Purpose { memory: Some(200 << 20), ..server };
    assert_eq!(found(|_| {}, small), ["warning memory-low"]);
    assert_eq!(found(|_| {}, Purpose { memory: Some(300 << 20), ..agent }), Vec::<String>::new());
}

#[test]
fn a_controller_is_not_asked_for_where_that_was_done() {
    let hint = |controllers: &[&str], arguments: &[&str]| {
        let (name, mut facts) = fleet_of(1).pop_first().expect("it is there");
        facts.machine.controllers = controllers.iter().map(ToString::to_string).collect();
        facts.machine.system.boot_config = Some("/boot/firmware/cmdline.txt".into());
        facts.machine.system.kernel_arguments = arguments.iter().map(ToString::to_string).collect();
        let found = node_findings(&name, &facts, Purpose::default());
        found.into_iter().find(|finding| finding.code == "cgroup").map(|finding| finding.hint)
    };
    let hint = |controllers: &[&str], arguments: &[&str]| hint(controllers, arguments).expect("it is found");
    assert!(hint(&["cpu", "cpuset", "pids"], &[]).contains("append ` cgroup_enable=memory`"));
    assert!(hint(&["cpu", "cpuset", "pids"], &["cgroup_enable=memory"]).contains("current kernel"));
    assert!(hint(&["cpu", "cpuset", "memory"], &[]).contains("current kernel"), "pids is no argument's");
}

#[test]
fn an_answer_that_was_cut_is_none_and_words_of_another_language_are_not_known() {
    for sample in samples() {
        let asked = UNIX_EPOCH + Duration::from_secs(ASKED);
        let whole = sample.machine.trim_end();
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            assert!(parse_machine(&whole[..end], asked..=asked).is_err(), "{} cut at {end}", sample.name);
        }
        let foreign = sample.machine.replace("\nend\n", "\nsynchronised=ja\nthrottled=inconnu\ncores=quatre\nend\n");
        let (machine, _) = parse_machine(&foreign, asked..=asked).expect(&sample.name);
        assert_eq!(machine.system.synchronised, None);
    }
}
