//! A real kubectl with the kubeconfig that k3arm wrote.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::host::text;

/// Runs kubectl, which must succeed, and gives what it printed.
#[track_caller]
pub(crate) fn kubectl(kubeconfig: &Path, arguments: &[&str]) -> String {
    try_kubectl(kubeconfig, arguments).unwrap_or_else(|said| panic!("kubectl {arguments:?}: {said}"))
}

/// What kubectl prints, or why it fails.
fn try_kubectl(kubeconfig: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(kubeconfig).arg("--request-timeout=20s").args(arguments).stdin(Stdio::null());
    let output = command.output().expect("kubectl runs (Debian: kubernetes-client)");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() { Ok(stdout) } else { Err(stdout + &stderr) }
}

/// The node object.
#[track_caller]
pub(crate) fn node(kubeconfig: &Path, name: &str) -> Value {
    serde_json::from_str(&kubectl(kubeconfig, &["get", "node", name, "-o", "json"])).expect("JSON")
}

/// Nodes that are Ready, sorted.
#[track_caller]
pub(crate) fn ready(kubeconfig: &Path) -> Vec<String> {
    ready_of(&kubectl(kubeconfig, &NODES))
}

/// The same, where the API may be away for a moment: then none is.
pub(crate) fn ready_by_now(kubeconfig: &Path) -> Vec<String> {
    ready_of(&try_kubectl(kubeconfig, &NODES).unwrap_or_default())
}

const NODES: [&str; 3] = ["get", "nodes", "--no-headers"];

fn ready_of(lines: &str) -> Vec<String> {
    let ready = lines.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, state) = (words.next()?, words.next()?);
        (state == "Ready").then(|| name.to_string())
    });
    let mut ready: Vec<String> = ready.collect();
    ready.sort();
    ready
}
