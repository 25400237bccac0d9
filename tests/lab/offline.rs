//! A bundle is all that a cluster needs besides SSH.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::host::Host;
use crate::images::{NODES, cluster_file, inside, publish, published, skopeo, word};
use crate::k3arm::{Home, names};
use crate::kubectl::ready;
use crate::lab::{REGISTRY, image, release, unplugged};
use crate::scenario;

const USERS: &str = "docker.io/users/offline:1";

/// Makes a bundle of a cluster file; gives what it says is inside.
fn bundle(home: &Home, file: &Path, more: &[&str]) -> (String, Value) {
    fs::create_dir_all(home.path("out")).expect("a folder");
    let (file, output) = (file.display().to_string(), home.path("out/fleet.tar").display().to_string());
    let arguments = [&["image", "bundle", "-f", &file, "-o", &output, "-o", "json"], more].concat();
    let json = home.k3arm(&arguments).exits(0).json();
    assert_eq!(names(&home.path("out")), ["fleet.tar"], "and nothing half beside it");
    assert_eq!(json["size"], fs::metadata(&output).expect("the bundle").len(), "{json}");
    (output, json)
}

fn names_inside(json: &Value) -> BTreeSet<String> {
    let images = json["images"].as_array().expect("images").iter();
    images.map(|image| word(&image["reference"])).collect()
}

scenario! {
    /// No registry, and nothing that an earlier run has left on this machine.
    fn a_cluster_comes_up_from_a_bundle_alone(lab) {
        lab.on_all(Host::forget_images);
        publish("rancher/mirrored-pause:3.10.2", USERS);
        let home = Home::new();
        let text = cluster_file("offline", &[USERS]);
        let file = home.path("k3arm.yaml");
        fs::write(&file, &text).expect("written");
        let (fleet, json) = bundle(&home, &file, &[]);
        let bundled = names_inside(&json);
        assert!(bundled.contains(USERS), "{bundled:?}");
        let node_image = format!("docker.io/{}", image());
        let expected: BTreeSet<(String, String)> =
            bundled.iter().filter(|name| **name != node_image).map(|name| (name.clone(), published(name))).collect();
        assert!(expected.len() > 1, "k3s starts something of its own: {expected:?}");

        let elsewhere = Home::new();
        let file = elsewhere.path("k3arm.yaml");
        // Nobody can be asked what a channel is now: it is what it was when the bundle was made.
        fs::write(&file, text.replace(&format!("version: {}", release()), "channel: stable")).expect("written");
        let file = file.display().to_string();
        let cut = unplugged("registry");
        lab.clear_registry_log();
        let address = REGISTRY.parse().expect("an address");
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).expect_err("it cannot be reached");
        let arguments = ["cluster", "create", "-f", &file, "--bundle", &fleet, "--timeout", "120s"];
        elsewhere.k3arm(&arguments).exits(0).tells("cluster offline is ready");
        assert_eq!(ready(&elsewhere.kubeconfig()), ["one", "three", "two"]);
        for (host, node) in NODES {
            let inside = inside(lab.host(host), &format!("k3arm-offline-{node}"));
            let held: BTreeSet<_> = inside.into_iter().map(|(name, digest, _)| (name, digest)).collect();
            assert_eq!(held, expected, "{host}");
        }
        elsewhere.k3arm(&arguments).exits(0).tells("nothing was changed");
        assert_eq!(lab.registry_log(), "", "nobody asked");
        drop(cut);
        elsewhere.k3arm(&["cluster", "delete", "offline"]).exits(0);
    }
}

#[track_caller]
fn assert_read_by_skopeo(source: &str, name: &str) {
    for architecture in ["amd64", "arm64"] {
        let flags = ["--override-os", "linux", "--override-arch", architecture];
        let told = skopeo(&[&flags[..], &["inspect", source]].concat());
        assert!(told.contains(&format!("\"Architecture\": \"{architecture}\"")), "{name}: {told}");
    }
    assert_eq!(skopeo(&["inspect", "--format", "{{.Digest}}", source]), published(name), "{name}");
}

scenario! {
    /// Hosts need not be asked where the platforms are named; what others read is an image layout as any other.
    fn skopeo_reads_a_bundle_of_two_platforms(_lab) {
        let home = Home::new();
        let file = home.path("k3arm.yaml");
        // Nobody is there.
        fs::write(&file, cluster_file("offline", &[]).replace("pi@h", "pi@10.66.0.9")).expect("written");
        let one = bundle(&home, &file, &["--platform", "linux/amd64"]).1;
        let (fleet, both) = bundle(&home, &file, &["--platform", "linux/amd64", "--platform", "linux/arm64"]);
        assert!(both["size"].as_u64() > one["size"].as_u64().map(|size| size * 3 / 2), "{} {}", one["size"], both["size"]);
        assert_eq!(names_inside(&one), names_inside(&both));
        let index = Command::new("tar").args(["-xOf", &fleet, "index.json"]).output().expect("tar runs");
        let index: Value = serde_json::from_slice(&index.stdout).expect("an index");
        let entries = index["manifests"].as_array().expect("entries");
        assert_eq!(entries.len(), names_inside(&both).len(), "{index}");
        for entry in entries {
            let name = word(&entry["annotations"]["org.opencontainers.image.ref.name"]);
            assert_eq!(word(&entry["digest"]), published(&name), "{name}");
            // Of Docker's older kind, which keeps its digest and its kind, skopeo finds no entry by its name.
            if word(&entry["mediaType"]).contains("vnd.oci") {
                assert_read_by_skopeo(&format!("oci-archive:{fleet}:{name}"), &name);
            }
        }
        // All bytes of it, by somebody else's check.
        let copy = format!("dir:{}", home.path("copy").display());
        let flags = ["--override-os", "linux", "--override-arch", "arm64", "copy"];
        skopeo(&[&flags[..], &[&format!("oci-archive:{fleet}:docker.io/{}", image()), &copy]].concat());
    }
}

scenario! {
    /// What is wrong is told before a host is changed.
    fn a_bundle_that_lacks_something_is_told(lab) {
        let home = Home::new();
        let file = home.path("k3arm.yaml");
        fs::write(&file, cluster_file("offline", &[])).expect("written");
        let (fleet, _) = bundle(&home, &file, &["--platform", "linux/arm64"]);
        let before = lab.snapshots();
        let create = |file: &str, fleet: &str| Home::new().k3arm(&["cluster", "create", "-f", file, "--bundle", fleet]);
        let text = file.display().to_string();
        let ran = create(&text, &fleet);
        assert_ne!(ran.code, 0, "{}", ran.all());
        assert!(ran.errors().iter().any(|error| error.contains("linux/amd64") || error.contains("lacks")), "{}", ran.all());
        let (whole, _) = bundle(&home, &file, &["--platform", "linux/amd64"]);
        fs::write(&file, cluster_file("offline", &[USERS])).expect("written");
        fs::remove_file(home.path("k3arm.lock")).expect("a lock");
        let ran = create(&text, &whole).exits(1);
        assert!(ran.error("").contains("does not hold users/offline:1"), "{}", ran.all());
        let cut = home.path("cut.tar");
        let bytes = fs::read(&whole).expect("the bundle");
        fs::write(&cut, &bytes[..bytes.len() / 2]).expect("written");
        fs::write(&file, cluster_file("offline", &[])).expect("written");
        let ran = create(&text, &cut.display().to_string()).exits(1);
        assert!(ran.error("").contains("cut.tar"), "{}", ran.all());
        let ran = create(&text, "no-such.tar").exits(1);
        assert!(ran.error("").contains("no-such.tar"), "{}", ran.all());
        assert_eq!(lab.snapshots(), before);
    }
}
