//! The architecture is a test: who may use whom, read from the `use crate::` and `crate::` paths of every file.

#![expect(clippy::expect_used, reason = "a test that cannot read the sources fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Module → the modules it may use. Nouns first, then stages, then effects, then the edge; an edge that is not here
/// is an error, and so is one that is here and no longer used.
const LAYERS: &[(&str, &[&str])] = &[
    // Nouns.
    ("oci", &[]),
    ("host", &["oci"]),
    ("cluster", &["host", "oci"]),
    ("plan", &["cluster", "host", "oci"]),
    // Stages.
    ("resolve", &["oci"]),
    ("preflight", &["cluster", "host"]),
    ("prewarm", &["host", "oci", "plan"]),
    ("economy", &["host", "oci"]),
    ("provision", &["cluster", "host", "oci", "plan", "prewarm"]),
    // Effects. The first are doors to one protocol or place each and know no other but `files`.
    ("docker", &["cluster", "host", "oci"]),
    ("files", &[]),
    ("kube", &["cluster", "files"]),
    ("lockfile", &["files", "oci"]),
    ("records", &["cluster", "host", "oci"]),
    ("registry", &["oci"]),
    ("ssh", &["host"]),
    ("store", &["oci"]),
    ("archive", &["oci", "store"]),
    ("mirror", &["oci", "store"]),
    ("recompress", &["oci", "store"]),
    // A host is a session and the engine behind it; a plan is carried out with all of them.
    ("probe", &["docker", "host", "oci", "plan", "ssh"]),
    (
        "apply",
        &["archive", "cluster", "docker", "host", "kube", "mirror", "oci", "plan", "probe", "registry", "ssh", "store"],
    ),
    // The edge.
    (
        "pipeline",
        &[
            "apply",
            "archive",
            "cluster",
            "docker",
            "economy",
            "files",
            "host",
            "kube",
            "lockfile",
            "mirror",
            "oci",
            "plan",
            "preflight",
            "prewarm",
            "probe",
            "provision",
            "recompress",
            "records",
            "registry",
            "resolve",
            "ssh",
            "store",
        ],
    ),
    ("cli", &["cluster", "economy", "files", "host", "kube", "oci", "pipeline", "plan", "records", "registry", "ssh"]),
];

#[test]
fn modules_use_only_what_their_layer_may() {
    let seen = edges();
    let table: BTreeMap<&str, BTreeSet<&str>> =
        LAYERS.iter().map(|(module, uses)| (*module, uses.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (module, uses) in &seen {
        let allowed = table.get(module.as_str()).cloned().unwrap_or_default();
        wrong.extend(
            uses.iter().filter(|used| !allowed.contains(used.as_str())).map(|used| format!("{module} uses {used}")),
        );
        if !table.contains_key(module.as_str()) {
            wrong.push(format!("{module} is not in the table"));
        }
    }
    for (module, uses) in &table {
        let real = seen.get(*module).cloned().unwrap_or_default();
        wrong.extend(
            uses.iter().filter(|used| !real.contains(**used)).map(|used| format!("{module} no longer uses {used}")),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<PathBuf> = sources().into_iter().filter(|path| !read(path).starts_with("//!")).collect();
    assert!(silent.is_empty(), "without //! at the top: {silent:?}");
}

fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources() {
        let module = module_of(&path);
        if module == "lib" || module == "main" {
            continue;
        }
        let uses = edges.entry(module.clone()).or_default();
        uses.extend(used_by(&read(&path)).into_iter().filter(|used| *used != module));
    }
    edges
}

/// The first path segment after each `crate::`, also inside `use crate::{a, b::c}`.
fn used_by(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |all, line| all + line + "\n");
    let mut used = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => used.extend(group_members(group)),
            None => used.extend(first_word(rest)),
        }
    }
    used
}

fn group_members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut members = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            _ if depth == 0 => members.last_mut().into_iter().for_each(|last| last.push(c)),
            _ => {}
        }
    }
    members.iter().filter_map(|member| first_word(member.trim())).collect()
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(root()).unwrap_or(path);
    let first = relative.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned());
    first.unwrap_or_default().trim_end_matches(".rs").to_string()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src can be read").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a source file can be read")
}
