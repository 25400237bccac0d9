//! What hosts have said, and what must be found on them. Each file beside this one is a host: where its words come from, its answer
//! to the script, what its engine says where that is known, and the codes of all rules that do not hold. `README.md` lists them.

#![expect(clippy::expect_used, reason = "a test that cannot read its files fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use k3arm::host::{DiskFacts, EngineFacts, Facts, HostName, ImageStore, Medium, parse_machine};
use k3arm::preflight::{Purpose, node_findings};

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
    assert!(samples.len() > 2, "only {} hosts", samples.len());
    for sample in &samples {
        let found = node_findings(&HostName::new(&sample.name), &sample.facts(), Purpose::default());
        let codes: BTreeSet<String> = found.iter().map(|finding| finding.code.to_string()).collect();
        assert_eq!(codes, sample.findings, "{}: {found:#?}", sample.name);
    }
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
