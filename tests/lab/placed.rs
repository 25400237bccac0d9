//! `image prewarm -f`: images wait on hosts for the nodes that will be made there, and nodes keep them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::host::Host;
use crate::images::{
    NODES, PAUSE, SMALL, cluster_file, has_containerd_store, inside, outcome, publish, published, steps,
};
use crate::k3arm::{Home, Ran};
use crate::kubectl::{kubectl, ready};
use crate::lab::{Lab, image};
use crate::scenario;
use crate::wait::until;

const USERS: &str = "docker.io/users/placed:1";

/// A user with a cluster file.
struct User {
    home: Home,
    file: String,
}

impl User {
    fn new() -> Self {
        publish(PAUSE, USERS);
        let home = Home::new();
        let file = home.path("k3arm.yaml");
        fs::write(&file, cluster_file("placed", &[USERS])).expect("written");
        Self { file: file.display().to_string(), home }
    }

    fn run(&self, command: &[&str], more: &[&str]) -> Ran {
        self.home.k3arm(&[command, &["-f", &self.file], more].concat())
    }

    fn prewarm(&self, more: &[&str]) -> Ran {
        self.run(&["image", "prewarm"], &[&["-o", "json"], more].concat())
    }
}

fn holder(node: &str) -> String {
    format!("k3arm-placed-{node}-images")
}

fn received(lab: &Lab) -> BTreeMap<String, u64> {
    lab.on_all(Host::received)
}

/// What the node's container has said since it was last started.
fn log_since_start(host: &Host, container: &str) -> String {
    let since = host.inspect(container, "{{.State.StartedAt}}");
    host.sh(&format!("docker logs --since {since} {container} 2>&1"))
}

scenario! {
    fn images_wait_for_a_node_which_keeps_them(lab) {
        let user = User::new();
        // Docker's own image is there; what is looked at is what goes inside.
        let ran = user.prewarm(&[]).exits(0);
        for (host, node) in NODES {
            let (status, bytes) = outcome(&ran, node, &holder(node));
            assert!(status == "placed" && bytes > SMALL, "{}", ran.all());
            assert_eq!(lab.host(host).containers(), holder(node));
            assert_eq!(lab.host(host).inspect(&holder(node), "{{.State.Status}}"), "created", "never started");
        }

        let before = (lab.snapshots(), received(&lab));
        let again = user.prewarm(&[]).exits(0);
        assert!(steps(&again.json()).is_empty(), "{}", again.all());
        for (_, node) in NODES {
            assert_eq!(outcome(&again, node, &image()), ("present".into(), 0), "{}", again.all());
            assert_eq!(outcome(&again, node, &holder(node)), ("present".into(), 0), "{}", again.all());
        }
        assert_eq!(lab.snapshots(), before.0);

        let plan = user.run(&["cluster", "create"], &["--dry-run", "-o", "json"]).exits(0).json();
        assert!(!plan.to_string().contains("place-images"), "{plan}");
        let before = received(&lab);
        user.run(&["cluster", "create"], &["--timeout", "120s"]).exits(0).tells("cluster placed is ready");
        let after = received(&lab);
        assert_eq!(ready(&user.home.kubeconfig()), ["one", "three", "two"]);
        for (host, node) in NODES {
            let (name, container) = (host, format!("k3arm-placed-{node}"));
            let host = lab.host(name);
            // Nodes talk to each other; an image has more.
            println!("{name} received {} bytes while its node came up", after[name] - before[name]);
            assert_eq!(host.containers(), container, "no holder is left");
            assert_kept(host, &container);
        }
        for (host, node) in NODES {
            assert_kept_over_a_restart(lab.host(host), &format!("k3arm-placed-{node}"), &user.home);
        }
        user.run(&["cluster", "create"], &[]).exits(0).tells("nothing was changed");
        user.home.k3arm(&["cluster", "delete", "placed"]).exits(0);
    }
}

/// The user's image and k3s' own are in the node by the registry's digests, pinned for good, and their archive is gone.
#[track_caller]
fn assert_kept(host: &Host, container: &str) {
    let images = inside(host, container);
    assert!(images.len() > 1 && images.iter().any(|(name, _, _)| name == USERS), "{images:?}");
    for (name, digest, labels) in images {
        assert_eq!(digest, published(&name), "{name} on {}", host.name);
        assert!(labels.contains("io.cri-containerd.pinned=pinned"), "{name} on {}: {labels}", host.name);
        assert!(!labels.contains("io.cattle.k3s.pinned"), "k3s takes its pins away itself: {name}: {labels}");
    }
    let archives = host.sh(&format!("docker exec {container} ls -A /var/lib/rancher/k3s/agent/images"));
    assert!(!archives.contains(".tar"), "{}: {archives}", host.name);
}

#[track_caller]
fn assert_kept_over_a_restart(host: &Host, container: &str, home: &Home) {
    let before = inside(host, container);
    host.sh(&format!("docker restart -t 30 {container}"));
    until(Duration::from_secs(90), "the node's containerd lists its images again", || {
        let listed = host.try_sh(&format!("docker exec {container} ctr -n k8s.io images ls"));
        listed.status.success().then_some(())
    });
    until(Duration::from_secs(90), "its API answers and the node is Ready", || {
        let readyz = std::process::Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(home.kubeconfig())
            .args(["--request-timeout=5s", "get", "--raw", "/readyz"])
            .output();
        readyz.is_ok_and(|output| output.status.success()).then_some(())
    });
    until(Duration::from_secs(90), "the kubelet has started", || {
        log_since_start(host, container).contains("Running kubelet").then_some(())
    });
    let log = log_since_start(host, container);
    assert!(!log.contains("Importing images from"), "{}: {log}", host.name);
    assert_eq!(inside(host, container), before, "{}", host.name);
    assert_kept(host, container);
}

scenario! {
    /// Placed, used, or never used: nothing of it is left.
    fn delete_takes_what_waits(lab) {
        let user = User::new();
        user.prewarm(&[]).exits(0);
        lab.on_all(Host::clean);
        let before = lab.snapshots();

        user.prewarm(&[]).exits(0);
        assert_ne!(lab.snapshots(), before);
        user.home.k3arm(&["cluster", "delete", "placed", "--host", "h1", "--host", "h2", "--host", "h3"]).exits(0);
        assert_eq!(lab.snapshots(), before, "after a prewarm alone");

        user.prewarm(&[]).exits(0);
        user.run(&["cluster", "create"], &["--timeout", "120s"]).exits(0);
        assert!(!kubectl(&user.home.kubeconfig(), &["get", "nodes"]).is_empty());
        user.home.k3arm(&["cluster", "delete", "placed"]).exits(0);
        assert_eq!(lab.snapshots(), before, "after a cluster");
    }
}

scenario! {
    /// Only this platform's layers go, and each once, whatever the images that have it.
    fn only_the_hosts_platform_is_placed(lab) {
        let user = User::new();
        let ran = user.prewarm(&[]).exits(0);
        let json = ran.json();
        for (host, node) in NODES {
            let host = lab.host(host);
            let volume = host.volume_path(&holder(node), "k3arm.tar");
            let in_archive = host.sh(&format!("tar -tf {volume} | grep '^blobs/sha256/.' | sort"));
            let placement = steps(&json).into_iter().find(|step| step["host"] == node && step["action"] == "place-images");
            let placement = placement.unwrap_or_else(|| panic!("no placement on {}: {json}", host.name));
            let images = placement["images"].as_array().expect("images").clone();
            let mut expected: Vec<String> = images.iter().flat_map(|image| {
                let one = &image["image"];
                let layers = one["layers"].as_array().expect("layers").iter().map(|layer| layer["digest"].clone());
                layers.chain([one["config"]["digest"].clone(), one["manifest"]["digest"].clone(), image["index"].clone()]).collect::<Vec<_>>()
            }).map(|digest| format!("blobs/{}", digest.as_str().expect("a digest").replace(':', "/"))).collect();
            expected.sort();
            expected.dedup();
            assert_eq!(in_archive.lines().collect::<Vec<_>>(), expected, "{} ({})", host.name, has_containerd_store(host));
        }
    }
}
