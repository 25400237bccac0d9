//! The lab: its hosts, its registry, its cables.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::host::{Host, ci_lab, text};

/// One scenario at a time, also if somebody forgets `--test-threads=1`.
static ALONE: Mutex<()> = Mutex::new(());

/// An address of the lab's network where nobody is.
pub(crate) const NOBODY: &str = "10.66.0.99";
/// Where the lab's registry is.
pub(crate) const REGISTRY: &str = "10.66.0.2:5000";

/// The lab, cleaned, for one scenario.
pub(crate) struct Lab {
    /// h1, h2, …: those that are fast enough to be cleaned for every scenario.
    pub(crate) hosts: Vec<Host>,
    _alone: MutexGuard<'static, ()>,
}

/// The release that nodes run in this suite: `v1.36.3+k3s1`.
pub(crate) fn release() -> String {
    std::env::var("K3ARM_TEST_RELEASE").unwrap_or_else(|_| "v1.36.3+k3s1".into())
}

/// The image of [`release`], as people write it.
pub(crate) fn image() -> String {
    format!("rancher/k3s:{}", release().replace('+', "-"))
}

impl Lab {
    /// The lab that this runs in, without anything that another scenario left on its hosts.
    pub(crate) fn fresh() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = std::env::var("K3ARM_LAB_DIR").expect("runs inside a lab: ci/test lab");
        let inventory = std::fs::read_to_string(format!("{directory}/inventory")).expect("the lab has an inventory");
        let host = |line: &str| Some(Host { name: line.split_whitespace().next()?.to_string() });
        let hosts = inventory.lines().filter_map(host).filter(|host| host.name.starts_with('h')).collect();
        let lab = Self { hosts, _alone: alone };
        assert!(lab.hosts.len() >= 4, "the suite needs 4 hosts: {inventory}");
        lab.on_all(Host::clean);
        lab
    }

    /// The host of this name.
    pub(crate) fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name == name).expect("there is such a host")
    }

    /// The emulated arm64 machine, cleaned.
    pub(crate) fn machine(&self) -> Host {
        let machine = Host { name: "a1".into() };
        ci(&["power-on", &machine.name]);
        machine.clean();
        machine
    }

    /// Does something on all hosts at once.
    pub(crate) fn on_all<T: Send>(&self, work: impl Fn(&Host) -> T + Sync) -> BTreeMap<String, T> {
        thread::scope(|scope| {
            let started: Vec<_> = self.hosts.iter().map(|host| (host, scope.spawn(|| work(host)))).collect();
            started.into_iter().map(|(host, thread)| (host.name.clone(), thread.join().expect("no panic"))).collect()
        })
    }

    /// What stands on every host.
    pub(crate) fn snapshots(&self) -> BTreeMap<String, String> {
        self.on_all(Host::snapshot)
    }

    /// Digests that the registry was asked for since the log was cleared, and how often.
    pub(crate) fn blobs_asked(&self) -> BTreeMap<String, u32> {
        let asked = ci(&["registry-log", "--blobs"]);
        let line = |line: &str| {
            let (count, digest) = line.split_once(' ')?;
            Some((digest.to_string(), count.parse().ok()?))
        };
        asked.lines().filter_map(line).collect()
    }

    /// What the registry was asked, line by line.
    pub(crate) fn registry_log(&self) -> String {
        ci(&["registry-log"])
    }

    /// Forgets what the registry was asked.
    pub(crate) fn clear_registry_log(&self) {
        ci(&["registry-log", "--clear"]);
    }

    /// Makes a link slow until the value is dropped.
    pub(crate) fn shape(&self, what: &str, rate: &str, delay: &str) -> Undo {
        ci(&["shape", what, rate, delay]);
        let what = what.to_string();
        Undo(Some(Box::new(move || drop(ci(&["shape", &what, "none"])))))
    }
}

/// Pulls the cable of a host or of the registry until the value is dropped.
pub(crate) fn unplugged(what: &str) -> Undo {
    ci(&["link", what, "down"]);
    let what = what.to_string();
    Undo(Some(Box::new(move || drop(ci(&["link", &what, "up"])))))
}

/// Stops a host's engine until the value is dropped.
pub(crate) fn engine_stopped(host: &Host) -> Undo {
    ci(&["engine", &host.name, "stop"]);
    let name = host.name.clone();
    Undo(Some(Box::new(move || drop(ci(&["engine", &name, "start"])))))
}

/// Has another engine of a host's run, which is in this folder, until the value is dropped.
pub(crate) fn engine_from(host: &Host, folder: &str) -> Undo {
    engine_after(host, &format!("printf {folder}: >/run/lab/engine.path"), "rm /run/lab/engine.path")
}

/// Starts a host's engine anew after a script; and again, after another one, when the value is dropped.
pub(crate) fn engine_after(host: &Host, begin: &str, end: &str) -> Undo {
    let (at_end, end) = (host.clone(), end.to_string());
    let undo = Undo(Some(Box::new(move || {
        let _stopped = engine_stopped(&at_end);
        drop(at_end.try_sh(&end));
    })));
    let _stopped = engine_stopped(host);
    host.sh(begin);
    undo
}

/// Runs a command of `ci/lab` on this lab.
pub(crate) fn ci(arguments: &[&str]) -> String {
    let output = Command::new(ci_lab()).args(arguments).output().expect("ci/lab runs");
    assert!(output.status.success(), "ci/lab {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Does something when it is dropped, also when a scenario fails.
pub(crate) struct Undo(Option<Box<dyn FnOnce()>>);

impl Undo {
    /// Runs a script on a host at the end.
    pub(crate) fn script(host: &Host, script: &str) -> Self {
        let (host, script) = (host.clone(), script.to_string());
        Self(Some(Box::new(move || drop(host.try_sh(&script)))))
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}
