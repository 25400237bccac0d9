//! Hosts that something is wrong with: one clear line each, with its fix, and the others done.

use std::fs;
use std::process::Command;

use crate::check::{check, found};
use crate::k3arm::Home;
use crate::lab::{Lab, NOBODY, Undo, ci, engine_after, engine_stopped, image, release};
use crate::scenario;

/// The engine of this host gets a disk that is too small, until the value is dropped.
pub(crate) fn small_disk(lab: &Lab, name: &str) -> Undo {
    let host = lab.host(name).clone();
    ci(&["engine", name, "stop"]);
    let undo = Undo::script(
        &host,
        "touch /run/lab/engine.off; pkill -x dockerd; while pgrep -x dockerd >/dev/null; do sleep 0.1; done; \
         umount /var/lib/docker; rm /run/lab/engine.off; kill -HUP 1; \
         for i in $(seq 100); do docker version >/dev/null 2>&1 && exit; sleep 0.1; done",
    );
    host.sh("mount -t tmpfs -o size=40m tmpfs /var/lib/docker");
    ci(&["engine", name, "start"]);
    undo
}

scenario! {
    fn four_bad_hosts_leave_the_good_one_going(lab) {
        lab.host("h1").forget_images();
        let home = Home::new();
        let _full = small_disk(&lab, "h4");
        let ran = home.k3arm(&[
            "image", "prewarm", &release(), "--host", "h1", "--host", &format!("pi@{NOBODY}"), "--host", "root@h2", "--host",
            "guest@h3", "--host", "h4",
        ]).exits(4);
        assert_eq!(ran.errors().len(), 4, "{}", ran.all());
        let down = ran.error(NOBODY);
        assert!(down.contains("no route") || down.contains("no answer"), "{down}");
        let key = ran.error("h2: root was not let in");
        assert!(key.contains("ssh-copy-id"), "{key}");
        let docker = ran.error("h3: user guest may not use Docker");
        assert!(docker.contains("usermod -aG docker guest"), "{docker}");
        let disk = ran.error("h4: /var/lib/docker has");
        assert!(disk.contains("docker system"), "{disk}");
        assert!(ran.stdout.lines().any(|line| line.starts_with("h1 ") && line.contains("pulled")), "{}", ran.all());
        lab.host("h1").sh(&format!("docker image inspect {}", image()));
    }
}

scenario! {
    /// A containerd that Docker did not start keeps images in a folder of its own: the disk of that one counts. Docker takes it where
    /// its socket is.
    fn images_of_a_systems_containerd_are_on_its_disk(lab) {
        let host = lab.host("h3");
        let (root, socket, pid) = ("/var/lib/containerd", "/run/containerd/containerd.sock", "/run/lab/containerd.pid");
        let begin = format!(
            "mkdir -p {root}; mount -t tmpfs -o size=40m tmpfs {root}; \
             containerd --address {socket} --root {root} --state /run/containerd >/var/log/containerd.log 2>&1 </dev/null & echo $! > {pid}; \
             for i in $(seq 100); do [ -S {socket} ] && exit; sleep 0.1; done; cat /var/log/containerd.log; exit 1"
        );
        let end = format!("kill $(cat {pid}); while kill -0 $(cat {pid}); do sleep 0.1; done; umount {root}; rm -f {socket}* {pid}");
        let _containerd = engine_after(host, &begin, &end);
        let ran = check(&["h3"], &[]).exits(0);
        assert_eq!(found(&ran, "h3"), ["warn disk-low".to_string()].into(), "{}", ran.all());
        assert!(ran.stdout.contains("/var/lib/containerd has 0.0 GB free"), "{}", ran.all());
        let ran = Home::new().k3arm(&["image", "prewarm", &release(), "--host", "h3"]).exits(1);
        ran.error("h3: /var/lib/containerd has");
    }
}

scenario! {
    fn only_bad_hosts_is_a_failure(_lab) {
        let ran = Home::new().k3arm(&["image", "prewarm", &release(), "--host", &format!("pi@{NOBODY}")]).exits(1);
        ran.error(NOBODY);
        let ran = Home::new().k3arm(&["image", "resolve", &release(), "--host", "no-such-host"]).exits(1);
        ran.error("no-such-host");
    }
}

scenario! {
    fn no_engine_is_told(lab) {
        let _engine = engine_stopped(lab.host("h4"));
        let ran = Home::new().k3arm(&["image", "prewarm", &release(), "--host", "h4"]).exits(1);
        assert!(ran.error("h4").contains("docker"), "{}", ran.all());
    }
}

scenario! {
    /// Refused, with a command; and that command is the right one.
    fn an_unknown_host_key_is_refused_with_the_command_that_accepts_it(_lab) {
        let home = Home::new();
        let config = fs::read_to_string(std::env::var("K3ARM_SSH_CONFIG").expect("the lab's")).expect("ssh_config");
        let (known, file) = (home.path("known_hosts"), home.path("ssh_config"));
        fs::write(&known, "").expect("written");
        let own = config.lines().map(|line| match line.trim().starts_with("UserKnownHostsFile") {
            true => format!("  UserKnownHostsFile {}\n", known.display()),
            false => format!("{line}\n"),
        });
        fs::write(&file, own.collect::<String>()).expect("written");
        let file = file.display().to_string();
        let resolve = || home.k3arm(&["image", "resolve", &release(), "--host", "h1", "--ssh-config", &file]);
        let ran = resolve().exits(1);
        let error = ran.error("h1: the ED25519 host key of");
        let command = error.rsplit('`').nth(1).expect("a command in the hint").to_string();
        let accepted = Command::new("sh").args(["-c", &command]).output().expect("sh runs");
        assert!(accepted.status.success(), "{command}: {accepted:?}");
        resolve().exits(0);
        // Another key in its place is another matter.
        let other = fs::read_to_string(&known).expect("read");
        assert!(other.contains("ssh-ed25519"), "{other}");
        let changed: String = other.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} AAAAC3NzaC1lZDI1NTE5AAAAIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIII\n", words[0], words[1])
        }).collect();
        fs::write(&known, changed).expect("written");
        let error = resolve().exits(1).error("h1: THE HOST KEY");
        assert!(error.contains("ssh-keygen") && error.contains("-R"), "{error}");
    }
}
