//! Images as the suite looks at them: by the registry's own word, by the engines', and by that of nodes.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::host::{Host, text};
use crate::k3arm::{Home, Ran};
use crate::lab::{REGISTRY, release};

/// Two releases that are stand-ins also where [`release`] is a real k3s. They share their lowest layer of three.
pub(crate) const ONE: &str = "v1.36.2+k3s1";
/// The other one.
pub(crate) const OTHER: &str = "v1.35.8+k3s1";
/// Small images of two layers, which nodes start.
pub(crate) const PAUSE: &str = "rancher/mirrored-pause:3.10.2";
/// Another one.
pub(crate) const BUSYBOX: &str = "rancher/mirrored-library-busybox:1.37.0";
/// Hosts with engines 26.1, 20.10, and 28.5 with containerd's image store.
pub(crate) const THREE: [&str; 3] = ["h1", "h2", "h3"];
/// More than configs, documents and what TCP and SSH wrap around them have.
pub(crate) const SMALL: u64 = 300_000;

/// One image, for the hosts' platform, as it was resolved.
pub(crate) struct Resolved {
    /// `rancher/k3s:v1.36.2-k3s1`
    pub(crate) name: String,
    value: Value,
}

/// The image of a release, as people write it.
pub(crate) fn image_of(release: &str) -> String {
    format!("rancher/k3s:{}", release.replace('+', "-"))
}

impl Resolved {
    /// Resolves an image, or a release.
    pub(crate) fn of(source: &str) -> Self {
        let arguments = ["image", "resolve", source, "--platform", "linux/amd64", "-o", "json"];
        let name = if source.starts_with('v') { image_of(source) } else { source.into() };
        Self { name, value: Home::new().k3arm(&arguments).exits(0).json()[0].clone() }
    }

    /// The index.
    pub(crate) fn index(&self) -> String {
        word(&self.value["index"]["digest"])
    }

    /// The config: the image's ID on the classic store.
    pub(crate) fn config(&self) -> String {
        word(&self.value["platforms"]["linux/amd64"]["config"]["digest"])
    }

    /// Digests of the layers with their sizes, lowest first.
    pub(crate) fn layers(&self) -> Vec<(String, u64)> {
        let layers = self.value["platforms"]["linux/amd64"]["layers"].as_array().expect("layers");
        layers.iter().map(|layer| (word(&layer["digest"]), number(&layer["size"]))).collect()
    }

    /// Bytes of the layers from this one on.
    pub(crate) fn bytes_from(&self, layer: usize) -> u64 {
        self.layers()[layer..].iter().map(|(_, size)| size).sum()
    }

    /// The engine holds it under its canonical name, by the right ID, under no other name; and it runs.
    #[track_caller]
    pub(crate) fn assert_held(&self, host: &Host) {
        let id = if has_containerd_store(host) { self.index() } else { self.config() };
        assert_eq!(host.image_id(&self.name), id, "{}", host.name);
        let names = host.sh("docker images -a --digests --no-trunc");
        assert!(!names.contains("127.0.0.1"), "a temporary name is left on {}:\n{names}", host.name);
        let runs =
            host.sh(&format!("docker run --rm --network none --entrypoint /bin/sh {} -c 'echo it runs'", self.name));
        assert_eq!(runs, "it runs", "{}", host.name);
    }
}

/// Whether the engine keeps images in containerd.
pub(crate) fn has_containerd_store(host: &Host) -> bool {
    host.sh("docker info --format '{{.DriverStatus}}'").contains("io.containerd.snapshotter")
}

/// Prewarms these sources on these hosts.
pub(crate) fn prewarm(home: &Home, sources: &[&str], hosts: &[&str], more: &[&str]) -> Ran {
    let hosts: Vec<&str> = hosts.iter().flat_map(|host| ["--host", host]).collect();
    home.k3arm(&[&["image", "prewarm", "-o", "json"], sources, &hosts, more].concat())
}

/// What became of an image on a host: its status, and the bytes that were sent for it.
#[track_caller]
pub(crate) fn outcome(ran: &Ran, host: &str, subject: &str) -> (String, u64) {
    let json = ran.json();
    let outcomes = json["report"]["outcomes"].as_array().expect("outcomes");
    let found = outcomes.iter().find(|outcome| outcome["host"] == host && outcome["subject"] == subject);
    let found = found.unwrap_or_else(|| panic!("nothing of {subject} on {host}\n{}", ran.all()));
    (word(&found["status"]), number(&found["bytes"]))
}

/// All steps of a plan that was printed.
pub(crate) fn steps(json: &Value) -> Vec<Value> {
    let phases = json["plan"]["phases"].as_array().expect("phases");
    phases.iter().flat_map(|phase| phase["steps"].as_array().expect("steps").clone()).collect()
}

/// A cluster file of a server h1 and agents h2, h3, with the images that the user wants inside.
pub(crate) fn cluster_file(name: &str, images: &[&str]) -> String {
    format!(
        "apiVersion: k3arm.dev/v1alpha1
kind: Cluster
metadata: {{ name: {name} }}
k3s: {{ version: {}, profile: tiny }}
hosts:
  - {{ name: one, ssh: pi@h1, role: server }}
  - {{ name: two, ssh: pi@h2, role: agent }}
  - {{ name: three, ssh: pi@h3, role: agent }}
images: [{}]
",
        release(),
        images.join(", ")
    )
}

/// The nodes of such a cluster: host and node.
pub(crate) const NODES: [(&str, &str); 3] = [("h1", "one"), ("h2", "two"), ("h3", "three")];

/// The images in a node: name, digest and labels of each.
pub(crate) fn inside(host: &Host, container: &str) -> Vec<(String, String, String)> {
    let listed = host.sh(&format!("docker exec {container} ctr -n k8s.io images ls"));
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let digest = words.iter().find(|word| word.starts_with("sha256:"))?;
        Some((words.first()?.to_string(), digest.to_string(), words.last()?.to_string()))
    };
    // By containerd's own names for digests, and by digests alone, the CRI lists them again.
    let is_name = |(name, _, _): &(String, String, String)| !name.contains('@') && !name.starts_with("sha256:");
    listed.lines().skip(1).filter_map(line).filter(is_name).collect()
}

/// Runs skopeo, which must succeed, and gives what it printed, trimmed.
#[track_caller]
pub(crate) fn skopeo(arguments: &[&str]) -> String {
    let output =
        Command::new("skopeo").args(arguments).stdin(Stdio::null()).output().expect("skopeo runs (Debian: skopeo)");
    assert!(output.status.success(), "skopeo {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_string()
}

/// The digest by which the lab's registry knows an image.
pub(crate) fn published(name: &str) -> String {
    skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &in_registry(name)])
}

/// Publishes an image of the registry under another name, for all platforms.
pub(crate) fn publish(from: &str, to: &str) {
    let flags = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&flags[..], &[&in_registry(from), &in_registry(to)]].concat());
}

/// `docker://…`, without the registry that the lab's stands for.
pub(crate) fn in_registry(name: &str) -> String {
    format!("docker://{REGISTRY}/{}", name.trim_start_matches("docker.io/"))
}

#[track_caller]
pub(crate) fn word(value: &Value) -> String {
    value.as_str().expect("a string").to_string()
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}
