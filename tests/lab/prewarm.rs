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
        // The small configuration was asked for by way of resolving, too; layers are what counts.
        for (layer, _) in image.layers() {
            assert_eq!(asked.get(&layer), Some(&1), "{asked:?}");
        }
        assert!(asked.into_keys().collect::<BTreeSet<String>>().is_subset(&blobs(&image)));

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
        let image = Resolved::of(&release());
        let asked = lab.blobs_asked().into_keys().collect::<Vec<_>>();
        assert!(asked.iter().all(|digest| *digest == image.config()), "a layer was asked for: {asked:?}");
        assert!(names(&home.path("k3arm/store")).is_empty(), "not even a store");
    }
}

scenario! {
    fn what_another_program_did_to_the_tag_is_mended(lab) {
        let home = Home::new();
        prewarm(&home, &THREE).exits(0);
        let image = Resolved::of(&release());
        // The tag leads to another image now.
        let name = &image.name;
        for host in ["h1", "h2", "h3"] {
            lab.host(host).sh(&format!("docker tag {name} users:own && docker rmi {name} && docker import /dev/null {name} >/dev/null"));
        }
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
