//! Ctrl-C and SIGKILL in the middle of a create, at several moments; then the same command again.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::host::Host;
use crate::k3arm::{Home, Running};
use crate::kubectl::ready;
use crate::lab::{Lab, release};
use crate::scenario;

/// When to stop it: at an event of a host's engine, or when k3arm says something.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Host, event: `create`, `start`.
    Event(&'static str, &'static str),
    /// Words on stderr.
    Says(&'static str),
}

const MOMENTS: [Moment; 6] = [
    Moment::Event("h1", "create"),
    Moment::Event("h1", "start"),
    Moment::Event("h2", "create"),
    Moment::Event("h2", "start"),
    Moment::Says("waiting for node h2 to join"),
    Moment::Says("waiting for node h1 to be Ready"),
];

fn start(home: &Home) -> Running {
    home.start(&["cluster", "create", "home", "--k3s", &release(), "--server", "h1", "--agent", "h2"])
}

/// The engine's events of node containers, line by line.
struct Events(Child, mpsc::Receiver<String>);

impl Events {
    fn of(host: &Host, event: &str) -> Self {
        let filters = format!("--filter type=container --filter label=k3arm.dev/cluster --filter event={event}");
        let mut child = host.start(&format!("docker events {filters} --format '{{{{.Action}}}}'"));
        let (sender, receiver) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self(child, receiver)
    }

    fn next(&self) {
        self.1.recv_timeout(Duration::from_secs(60)).expect("the event comes");
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a create and sends the signal at the moment.
fn stop_at(lab: &Lab, home: &Home, moment: Moment, signal: &str) -> crate::k3arm::Ran {
    let running = match moment {
        Moment::Event(host, event) => {
            let events = Events::of(lab.host(host), event);
            let running = start(home);
            events.next();
            running
        }
        Moment::Says(words) => {
            let mut running = start(home);
            running.says(words);
            running
        }
    };
    running.signal(signal);
    running.ended()
}

fn assert_nothing_is_left(lab: &Lab, home: &Home, moment: Moment) {
    assert!(home.ssh_processes().is_empty(), "{moment:?}: {:?}", home.ssh_processes());
    assert!(home.control_folders().is_empty(), "{moment:?}: {:?}", home.control_folders());
    lab.on_all(|host| {
        let containers = host.sh("docker ps -a --filter label=k3arm.dev/one-shot -q");
        assert_eq!(containers, "", "{moment:?}: {}", host.name);
        let unnamed = host.sh("docker volume ls -q | grep -v ^k3arm-home- || true");
        assert_eq!(unnamed, "", "{moment:?}: volumes of nobody on {}", host.name);
    });
}

fn prewarmed(lab: &Lab) -> Home {
    let home = Home::new();
    home.k3arm(&["image", "prewarm", &release(), "--host", "h1", "--host", "h2"]).exits(0);
    lab.on_all(Host::clean);
    home
}

scenario! {
    /// What was made is taken back: the hosts are as they were.
    fn ctrl_c_takes_back_what_was_made(lab) {
        let home = prewarmed(&lab);
        let before = lab.snapshots();
        for moment in MOMENTS {
            let ran = stop_at(&lab, &home, moment, "INT");
            assert_eq!(ran.code, 130, "{moment:?}: {}", ran.all());
            println!("{moment:?}: taken back after {:.1?}", ran.took);
            assert_eq!(lab.snapshots(), before, "{moment:?}: {}", ran.all());
            assert_nothing_is_left(&lab, &home, moment);
            assert!(crate::k3arm::names(&home.path("k3arm/clusters")).is_empty(), "{moment:?}");
        }
    }
}

scenario! {
    /// Nobody took anything back; the same command completes, whatever it finds.
    fn after_a_kill_the_same_command_completes(lab) {
        let home = prewarmed(&lab);
        let before = lab.snapshots();
        for moment in MOMENTS {
            let ran = stop_at(&lab, &home, moment, "KILL");
            assert_eq!(ran.code, -1, "{moment:?}: {}", ran.all());
            let again = start(&home).ended();
            assert_eq!(again.code, 0, "{moment:?}: {}", again.all());
            println!("{moment:?}: completed in {:.1?}", again.took);
            assert_eq!(ready(&home.kubeconfig()), ["h1", "h2"], "{moment:?}");
            assert_nothing_is_left(&lab, &home, moment);
            home.k3arm(&["cluster", "delete", "home"]).exits(0);
            assert_eq!(lab.snapshots(), before, "{moment:?}");
        }
    }
}

scenario! {
    /// A delete that was killed is finished by the same command.
    fn after_a_kill_the_same_delete_completes(lab) {
        let home = prewarmed(&lab);
        let before = lab.snapshots();
        start(&home).ended().exits(0);
        let events = Events::of(lab.host("h2"), "die");
        let running = home.start(&["cluster", "delete", "home"]);
        events.next();
        running.signal("KILL");
        running.ended();
        home.k3arm(&["cluster", "delete", "home"]).exits(0);
        assert_eq!(lab.snapshots(), before);
        assert_nothing_is_left(&lab, &home, Moment::Event("h2", "die"));
    }
}
