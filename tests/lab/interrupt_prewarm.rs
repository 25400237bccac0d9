//! Ctrl-C, SIGTERM and SIGKILL in the middle of a prewarm; then the same command again.

use std::path::Path;
use std::time::Duration;

use crate::host::Host;
use crate::k3arm::{Home, Running, names};
use crate::lab::{Lab, image, release};
use crate::scenario;
use crate::wait::until;

const HOSTS: [&str; 2] = ["h1", "h3"];

fn arguments(release: &str) -> Vec<&str> {
    let hosts = HOSTS.iter().flat_map(|host| ["--host", host]);
    ["image", "prewarm", release].into_iter().chain(hosts).collect()
}

/// Bytes in files below a folder: what has arrived in the store.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(one).sum()
}

/// Listeners on a host's loopback: a reverse forward is one.
fn listeners(lab: &Lab) -> Vec<String> {
    HOSTS.map(|host| lab.host(host).sh("ss -Hlnt | awk '{ print $4 }' | grep '^127.0.0.1:' | sort || true")).to_vec()
}

fn partial_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(partial_files(&entry.path())),
            _ if entry.path().display().to_string().contains("partial") => {
                found.push(entry.path().display().to_string())
            }
            _ => {}
        }
    }
    found
}

/// Stops a prewarm when megabytes of it have arrived, and runs it again.
fn stop_and_repeat(lab: &Lab, signal: &str, code: i32) {
    HOSTS.iter().for_each(|host| lab.host(host).forget_images());
    let (home, release) = (Home::new(), release());
    let quiet = listeners(lab);
    let sent_before = bytes_sent();
    let slow = lab.shape("registry", "16mbit", "none");
    let running: Running = home.start(&arguments(&release));
    let store = home.path("k3arm/store");
    until(Duration::from_secs(60), "3 MB have arrived", || (size(&store) > 3_000_000).then_some(()));
    running.signal(signal);
    let ran = running.ended();
    drop(slow);
    assert_eq!(ran.code, code, "{}", ran.all());
    assert!(ran.took < Duration::from_secs(30), "{}", ran.all());
    if signal != "KILL" {
        assert!(home.ssh_processes().is_empty(), "{:?}", home.ssh_processes());
        assert!(home.control_folders().is_empty(), "{:?}", home.control_folders());
        until(Duration::from_secs(5), "the reverse ports are closed", || (listeners(lab) == quiet).then_some(()));
    }

    lab.clear_registry_log();
    let again = home.k3arm(&arguments(&release)).exits(0);
    println!("{signal}: again in {:.1?}", again.took);
    for host in HOSTS.map(|host| lab.host(host)) {
        let names = host.sh("docker images -a --digests --no-trunc");
        assert!(names.contains("rancher/k3s") && !names.contains("127.0.0.1"), "{names}");
        host.sh(&format!("docker run --rm --network none --entrypoint /bin/sh {} -c true", image()));
    }
    assert!(home.ssh_processes().is_empty(), "left: {:?}", home.ssh_processes());
    assert!(home.control_folders().is_empty(), "left: {:?}", home.control_folders());
    assert!(partial_files(&store).is_empty(), "left: {:?}", partial_files(&store));
    until(Duration::from_secs(5), "the reverse ports are closed", || (listeners(lab) == quiet).then_some(()));
    // What had arrived was not fetched again: all in all little more than the image's own size went over the wire.
    let total = size(&store);
    let sent = bytes_sent() - sent_before;
    println!("{signal}: {total} bytes in the store, {sent} sent by the registry");
    assert!(sent < total + total / 5 + 500_000, "{sent} bytes were sent for {total}");
    let resumed = lab.registry_log().lines().filter(|line| line.contains("\" 206 ")).count();
    assert!(resumed >= 1, "no download was resumed:\n{}", lab.registry_log());
}

fn bytes_sent() -> u64 {
    crate::lab::ci(&["registry-log", "--bytes"]).trim().parse().expect("a number")
}

scenario! {
    fn ctrl_c_in_a_prewarm(lab) {
        stop_and_repeat(&lab, "INT", 130);
    }
}

scenario! {
    fn a_kill_in_a_prewarm(lab) {
        stop_and_repeat(&lab, "KILL", -1);
    }
}

scenario! {
    /// The host's own link is the slow one: the engine is in the middle of its pull.
    fn a_kill_while_the_engine_pulls(lab) {
        let host: &Host = lab.host("h2");
        host.forget_images();
        let (home, release) = (Home::new(), release());
        let before = host.snapshot();
        let slow = lab.shape("h2", "20mbit", "none");
        let running = home.start(&["image", "prewarm", &release, "--host", "h2"]);
        let store = home.path("k3arm/store");
        until(Duration::from_secs(60), "the pull is under way", || (size(&store) > 3_000_000).then_some(()));
        running.signal("KILL");
        running.ended();
        drop(slow);
        home.k3arm(&["image", "prewarm", &release, "--host", "h2"]).exits(0);
        assert!(!host.sh("docker images -a --digests").contains("127.0.0.1"));
        assert!(home.ssh_processes().is_empty() && home.control_folders().is_empty());
        until(Duration::from_secs(5), "the host is as before", || (host.snapshot() == before).then_some(()));
        assert!(names(&home.path("k3arm/run")).is_empty());
    }
}
