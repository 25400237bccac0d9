//! `image prewarm` on three engines: 26.1, 20.10, and 28.5 with containerd's image store.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::host::Host;
use crate::images::Resolved;
use crate::k3arm::{Home, names};
use crate::lab::{Lab, release};
use crate::scenario;

const THREE: [&str; 6] = ["--host", "h1", "--host", "h2", "--host", "h3"];

fn blobs(image: &Resolved) -> BTreeSet<String> {
    image.layers().into_iter().map(|(digest, _)| digest).chain([image.config()]).collect()
}

fn prewarm(home: &Home, more: &[&str]) -> crate::k3arm::Ran {
    home.k3arm(&[&["image", "prewarm", &release()], more].concat())
}

fn without_images(lab: &Lab) {
    lab.on_all(Host::forget_images);
    lab.clear_registry_log();
}

scenario! {
    /// The registry sees each blob once, whatever the number of hosts; the second time it sees none.
    fn three_engines_get_each_blob_once(lab) {
        without_images(&lab);
        let home = Home::new();
        let image = Resolved::of(&release());
        let ran = prewarm(&home, &THREE).exits(0);
        println!("three hosts: {:.1?}", ran.took);
        for host in ["h1", "h2", "h3"] {
            assert!(ran.stdout.lines().any(|line| line.starts_with(host) && line.contains("pulled")), "{}", ran.all());
            image.assert_held(lab.host(host));
        }
        let asked = lab.blobs_asked();
        assert!(asked.values().all(|count| *count == 1), "{asked:?}");
        let fetched: BTreeSet<String> = asked.into_keys().collect();
        // The small configuration may have been asked for by way of resolving; layers are what counts.
        assert!(fetched.is_subset(&blobs(&image)) && fetched.len() + 1 >= blobs(&image).len(), "{fetched:?}");

        lab.clear_registry_log();
        let ran = prewarm(&home, &THREE).exits(0);
        println!("again: {:.1?}", ran.took);
        assert_eq!(ran.stdout.matches("present").count(), 3, "{}", ran.all());
        assert!(lab.blobs_asked().is_empty(), "{:?}", lab.blobs_asked());

        let ran = prewarm(&home, &["--host", "h4"]).exits(0).tells("pulled");
        println!("one more host: {:.1?}", ran.took);
        assert!(lab.blobs_asked().is_empty(), "the store has them: {:?}", lab.blobs_asked());
        image.assert_held(lab.host("h4"));
    }
}

scenario! {
    fn a_dry_run_changes_nothing(lab) {
        without_images(&lab);
        let home = Home::new();
        let ran = prewarm(&home, &[&THREE[..], &["--dry-run"]].concat()).exits(0).tells("pull rancher/k3s:");
        assert_eq!(ran.stdout.matches("for linux/amd64").count(), 3, "{}", ran.all());
        for host in ["h1", "h2", "h3"] {
            assert_eq!(lab.host(host).sh("docker images -aq"), "", "{host}");
        }
        assert!(lab.blobs_asked().is_empty());
        assert!(names(&home.path("k3arm/store")).is_empty(), "not even a store");
    }
}

scenario! {
    fn what_another_program_did_to_the_tag_is_mended(lab) {
        let home = Home::new();
        prewarm(&home, &THREE).exits(0);
        let image = Resolved::of(&release());
        // The tag leads to another image now.
        lab.on_all(|host| host.sh(&format!("docker tag {} users:own && docker rmi {} && docker import /dev/null {} >/dev/null", crate::lab::image(), crate::lab::image(), crate::lab::image())));
        prewarm(&home, &THREE).exits(0).tells("pulled");
        for host in ["h1", "h2", "h3"] {
            image.assert_held(lab.host(host));
            assert_eq!(lab.host(host).sh("docker images -q users:own | wc -l"), "1", "the user's name stays on {host}");
        }
        lab.on_all(Host::forget_images);
    }
}

scenario! {
    fn json_is_one_document(_lab) {
        let home = Home::new();
        let ran = prewarm(&home, &["--host", "h1", "-o", "json"]).exits(0);
        let json = ran.json();
        assert_eq!(json["report"]["outcomes"][0]["host"], "h1", "{}", ran.all());
        assert!(ran.stderr.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{}", ran.all());
    }
}
