//! `k3arm.lock` beside the cluster file: the same bytes, whatever a tag stands for by now.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::images::{BUSYBOX, PAUSE, cluster_file, publish, published, steps, word};
use crate::k3arm::{Home, Ran, Running, names};
use crate::scenario;

const USERS: &str = "docker.io/users/locked:1";

/// A folder with a cluster file; the tag is pause's.
fn folder() -> Home {
    publish(PAUSE, USERS);
    let folder = Home::new();
    fs::write(folder.path("k3arm.yaml"), cluster_file("locked", &[USERS])).expect("written");
    folder
}

/// Another user each time, who knows only the folder.
fn prewarm(folder: &Home, more: &[&str]) -> Ran {
    let file = folder.path("k3arm.yaml").display().to_string();
    Home::new().k3arm(&[&["image", "prewarm", "-o", "json", "-f", &file], more].concat())
}

fn lock(folder: &Home) -> String {
    fs::read_to_string(folder.path("k3arm.lock")).unwrap_or_default()
}

/// The index to which the lock pins the user's image.
fn locked(folder: &Home) -> String {
    let lock: Value = serde_json::from_str(&lock(folder)).expect("JSON");
    word(&lock["images"]["users/locked:1"]["index"]["digest"])
}

/// The index of the user's image, as the nodes are to get it.
fn planned(json: &Value) -> Vec<String> {
    let placed = steps(json).into_iter().flat_map(|step| step["images"].as_array().cloned().unwrap_or_default());
    let users = placed.filter(|image| image["reference"] == USERS);
    users.map(|image| image["index"].as_str().expect("a digest").to_string()).collect()
}

scenario! {
    fn a_tag_that_moves_does_not_move_the_cluster(_lab) {
        let folder = folder();
        let first = published(USERS);
        prewarm(&folder, &["--dry-run"]).exits(0);
        assert_eq!(lock(&folder), "", "a dry run writes nothing");
        prewarm(&folder, &[]).exits(0).tells("images pinned");
        let written = lock(&folder);
        assert_eq!(locked(&folder), first, "{written}");

        publish(BUSYBOX, USERS);
        let second = published(USERS);
        assert_ne!(first, second);
        // Nothing but what is locked is placed, and what is placed is that.
        let again = prewarm(&folder, &[]).exits(0);
        assert!(steps(&again.json()).is_empty(), "{}", again.all());
        assert_eq!(lock(&folder), written, "not touched");

        let looked = prewarm(&folder, &["--update", "--dry-run"]).exits(0);
        assert_eq!(planned(&looked.json()), vec![second.clone(); 3], "{}", looked.all());
        assert_eq!(lock(&folder), written, "a dry run writes nothing");
        let updated = prewarm(&folder, &["--update"]).exits(0).tells("moved from");
        assert_eq!(planned(&updated.json()), vec![second.clone(); 3], "{}", updated.all());
        let moved: Vec<&str> = updated.stderr.lines().filter(|line| line.contains("moved from")).collect();
        assert!(moved.len() == 1 && moved[0].contains("users/locked:1"), "{moved:?}");
        assert_eq!(locked(&folder), second, "{}", lock(&folder));
    }
}

scenario! {
    /// What is locked comes from the registry by its digest, on hosts and machines that have seen nothing of it.
    fn a_new_machine_takes_what_is_locked(lab) {
        let folder = folder();
        let first = published(USERS);
        prewarm(&folder, &[]).exits(0);
        publish(BUSYBOX, USERS);
        lab.on_all(crate::host::Host::clean);
        let ran = prewarm(&folder, &[]).exits(0);
        assert_eq!(planned(&ran.json()), vec![first; 3], "{}", ran.all());
    }
}

scenario! {
    fn a_broken_lock_is_an_error_and_stays(lab) {
        let folder = folder();
        let before = lab.snapshots();
        for text in ["nonsense", "{\"version\": 99}", "<<<<<<< ours\n{}\n"] {
            fs::write(folder.path("k3arm.lock"), text).expect("written");
            let ran = prewarm(&folder, &[]).exits(1);
            let error = ran.error(&folder.path("k3arm.lock").display().to_string());
            assert!(error.contains("is not a lock"), "{error}");
            assert_eq!(lock(&folder), text);
        }
        assert_eq!(lab.snapshots(), before);
        assert_eq!(names(&folder.path("")).len(), 2, "{:?}", names(&folder.path("")));
    }
}

/// The program where this folder cannot be written to, not even by root.
fn read_only(folder: &Path, command: &Command) -> Command {
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(folder);
    inside.arg(command.get_program()).args(command.get_args());
    inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    inside
}

scenario! {
    /// Nothing is changed on a host whose images could not be pinned; with a lock that is right already nothing is written.
    fn a_folder_that_cannot_be_written_to_is_told(lab) {
        let (folder, home) = (folder(), Home::new());
        let before = lab.snapshots();
        let file = folder.path("k3arm.yaml").display().to_string();
        let run = || {
            let command = home.command(&["image", "prewarm", "-f", &file]);
            let inside = read_only(&folder.path(""), &command);
            Running::start(inside, &home.path("")).ended()
        };
        let ran = run().exits(1);
        let error = ran.error("the lock file ");
        assert!(error.contains("k3arm.lock could not be written") && error.contains("writable"), "{error}");
        assert_eq!(lab.snapshots(), before);
        prewarm(&folder, &[]).exits(0);
        run().exits(0);
    }
}
