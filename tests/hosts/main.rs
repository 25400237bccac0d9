//! What hosts have said, and what must be found on them. Each file beside this one is a host: where its words come from, its answer
//! to the script, what its engine says where that is known, and the codes of all rules that do not hold. `README.md` lists them.

#![expect(clippy::expect_used, reason = "a test that cannot read its files fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use k3arm::host::{
    Answer, DiskFacts, EngineFacts, Facts, HostName, ImageStore, Listener, Medium, Reach, parse_machine,
};
use k3arm::preflight::{Purpose, fleet_findings, node_findings, targets};

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
            },
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

/// Two hosts that have nothing against each other, and then what may be: a cloned card, a wrong clock, another network.
#[test]
fn hosts_are_compared_with_each_other() {
    let sample = samples().into_iter().find(|sample| sample.name.starts_with("emulated-arm64")).expect("it is there");
    let host = |name: &str, last: u8| {
        let mut facts = sample.facts();
        facts.machine.hostname = name.into();
        facts.machine.address = Some(IpAddr::from([10, 66, 0, last]));
        facts.engine.id = format!("engine-{name}");
        (HostName::new(name), facts)
    };
    let good: BTreeMap<HostName, Facts> = [host("pi1", 11), host("pi2", 12)].into();
    let codes = |change: &dyn Fn(&mut Facts), reach: &[Reach]| {
        let mut fleet = good.clone();
        change(fleet.get_mut(&HostName::new("pi2")).expect("it is there"));
        let found = fleet_findings(&fleet, reach);
        found.iter().map(|finding| format!("{} {}", finding.severity, finding.code)).collect::<Vec<_>>()
    };
    assert_eq!(codes(&|_| {}, &[]), Vec::<String>::new());
    assert_eq!(codes(&|facts| facts.engine.id = "engine-pi1".into(), &[]), ["error same-engine"]);
    assert_eq!(codes(&|facts| facts.machine.hostname = "pi1".into(), &[]), ["warning same-hostname"]);
    assert_eq!(codes(&|facts| facts.machine.clock_offset = -6, &[]), ["warning clocks-apart"]);
    assert_eq!(codes(&|facts| facts.machine.mtu = Some(1400), &[]), ["warning mtu"]);
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
