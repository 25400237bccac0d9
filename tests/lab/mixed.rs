//! A fleet of two architectures: namespace hosts of this machine's own, and an emulated arm64 machine with a kernel of its own,
//! cgroup v2, and a plug that can be pulled.

use std::process::Command;
use std::time::Duration;

use crate::check::{check, found};
use crate::create::create;
use crate::host::{Host, ci_lab};
use crate::images::{ONE, image_of, outcome, prewarm};
use crate::k3arm::{Home, Running};
use crate::kubectl::{ready, ready_by_now};
use crate::lab::{REGISTRY, ci, engine_from, image, release};
use crate::scenario;
use crate::wait::until;

/// Engines 26.1, 20.10 and 28.5 on this machine's architecture, and the arm64 machine.
const FLEET: [&str; 4] = ["h1", "h2", "h3", "a1"];

/// How long a machine may take from its plug to a Ready node: a boot, an engine, a k3s, all of them emulated.
const BACK: Duration = Duration::from_secs(300);

/// Pulls the plug, and puts it in again. What daemons left in /var/run went with the power: an engine that finds an old PID file
/// there, and a process that has this PID by now, never starts again.
fn power_cut(host: &Host) {
    host.sh("touch /var/run/left-over");
    ci(&["power-cut", &host.name]);
    ci(&["power-on", &host.name]);
    host.sh("test ! -e /var/run/left-over");
}

fn architecture_of(host: &Host, image: &str) -> String {
    host.sh(&format!("docker image inspect --format '{{{{.Os}}}}/{{{{.Architecture}}}}' {image}"))
}

/// Ready as its API says, whatever it said before the plug was pulled.
fn await_ready(home: &Home, names: &[&str]) {
    until(BACK, "all nodes are Ready", || (ready_by_now(&home.kubeconfig()) == names).then_some(()));
}

scenario! {
    /// One command, each host its own platform's image, checked where it arrives; then one cluster of them all.
    fn two_architectures_become_one_cluster(lab) {
        let machine = lab.machine();
        machine.forget_images();
        lab.on_all(Host::forget_images);
        let home = Home::new();
        lab.clear_registry_log();
        let ran = prewarm(&home, &[&release()], &FLEET, &[]).exits(0);
        for (host, platform) in FLEET.iter().zip(["linux/amd64", "linux/amd64", "linux/amd64", "linux/arm64"]) {
            let host = if *host == "a1" { &machine } else { lab.host(host) };
            assert_eq!(outcome(&ran, &host.name, &image()).0, "pulled", "{}", ran.all());
            assert_eq!(architecture_of(host, &image()), platform, "{}", host.name);
        }
        assert!(lab.blobs_asked().values().all(|times| *times == 1), "each blob once: {:?}", lab.blobs_asked());
        assert_eq!(machine.sh(&format!("docker run --rm --entrypoint /bin/sh {} -c 'uname -m'", image())), "aarch64");

        let ran = create(&home, "home", &FLEET, &[]).exits(0).tells("cluster home is ready");
        println!("created in {:.1?}", ran.took);
        assert_eq!(ready(&home.kubeconfig()), ["a1", "h1", "h2", "h3"]);
        assert_eq!(machine.sh("stat -fc %T /sys/fs/cgroup"), "cgroup2fs");
        let again = create(&home, "home", &FLEET, &[]).exits(0).tells("nothing was changed");
        println!("again in {:.1?}", again.took);

        let before = machine.sh("docker ps -q --no-trunc");
        power_cut(&machine);
        await_ready(&home, &["a1", "h1", "h2", "h3"]);
        assert_eq!(machine.sh("docker ps -q --no-trunc"), before, "the same container, by itself");
        create(&home, "home", &FLEET, &[]).exits(0).tells("nothing was changed");

        home.k3arm(&["cluster", "delete", "home"]).exits(0);
        assert_eq!(machine.containers() + &machine.volumes(), "");
        assert!(!machine.sh("ip -o link; iptables-save").contains("KUBE-"));
    }
}

scenario! {
    /// The machine as the server, which an agent of another architecture joins; and load as the way in.
    fn a_server_on_arm64(lab) {
        let machine = lab.machine();
        let home = Home::new();
        create(&home, "home", &["a1", "h2"], &["--via", "load"]).exits(0).tells("cluster home is ready");
        assert_eq!(ready(&home.kubeconfig()), ["a1", "h2"]);
        power_cut(&machine);
        await_ready(&home, &["a1", "h2"]);
        home.k3arm(&["cluster", "delete", "home"]).exits(0);
        assert_eq!(machine.containers() + &machine.volumes(), "");
    }
}

scenario! {
    /// As many a Pi has it: a 32-bit system on a 64-bit kernel. Its engine takes images for arm/v7 only, whatever the kernel is.
    fn a_32_bit_engine_on_a_64_bit_kernel(lab) {
        let machine = lab.machine();
        machine.forget_images();
        let _again = engine_from(&machine, "/opt/armhf/bin");
        assert_eq!(machine.sh("docker version --format '{{.Server.Arch}}'; uname -m"), "arm\naarch64");
        let ran = check(&["a1"], &[]).exits(0);
        assert!(found(&ran, "a1").contains("note userland"), "{}", ran.all());

        let home = Home::new();
        let ran = prewarm(&home, &[ONE], &["a1", "h1"], &[]).exits(0);
        assert_eq!(outcome(&ran, "a1", &image_of(ONE)).0, "pulled", "{}", ran.all());
        assert_eq!(architecture_of(&machine, &image_of(ONE)), "linux/arm");
        home.k3arm(&["cluster", "create", "home", "--k3s", ONE, "--server", "h1", "--agent", "a1", "--timeout", "120s"]).exits(0);
        assert_eq!(ready(&home.kubeconfig()), ["a1", "h1"]);
        home.k3arm(&["cluster", "delete", "home"]).exits(0);
        machine.forget_images();
    }
}

scenario! {
    /// What was made for one architecture only is told before anything is sent to a host of another.
    fn a_bundle_for_another_architecture_is_refused(lab) {
        let machine = lab.machine();
        machine.forget_images();
        lab.host("h1").forget_images();
        let home = Home::new();
        let file = home.path("amd64.tar").display().to_string();
        home.k3arm(&["image", "bundle", ONE, "--platform", "linux/amd64", "-o", &file]).exits(0);
        let ran = prewarm(&home, &[ONE], &["a1", "h1"], &["--bundle", &file]);
        assert!(ran.code != 0 && ran.error("").contains(&format!("holds {}, but not for linux/arm64", image_of(ONE))), "{}", ran.all());
        assert_eq!(machine.sh("docker images -q"), "");
    }
}

/// Pulls the machine's plug when a run says this, waits for the run's end, and gives the machine its power again.
fn cut_when(machine: &Host, mut running: Running, word: &str) {
    running.says(word);
    ci(&["power-cut", &machine.name]);
    let ran = running.ended();
    assert!(ran.code != 0 && ran.stderr.contains("a1"), "it tells which host is lost: {}", ran.all());
    ci(&["power-on", &machine.name]);
}

scenario! {
    fn a_power_cut_in_a_prewarm(lab) {
        let machine = lab.machine();
        machine.forget_images();
        let home = Home::new();
        let slow = lab.shape("a1", "10mbit", "none");
        let running = home.start(&["image", "prewarm", ONE, "--host", "a1", "--host", "h1"]);
        cut_when(&machine, running, &format!("a1: pulling {}", image_of(ONE)));
        drop(slow);
        let again = prewarm(&home, &[ONE], &["a1", "h1"], &[]).exits(0);
        assert_eq!(outcome(&again, "a1", &image_of(ONE)).0, "pulled", "{}", again.all());
        assert_eq!(outcome(&again, "h1", &image_of(ONE)).0, "present", "{}", again.all());
        assert!(!machine.sh("docker images -a --digests").contains("127.0.0.1"));
        machine.sh(&format!("docker run --rm --network none --entrypoint /bin/sh {} -c true", image_of(ONE)));
    }
}

scenario! {
    fn a_power_cut_in_a_create(lab) {
        let machine = lab.machine();
        let home = Home::new();
        let release = release();
        let arguments = ["cluster", "create", "home", "--k3s", &release, "--server", "h1", "--agent", "a1", "--timeout", "90s"];
        cut_when(&machine, home.start(&arguments), "a1: creating node");
        let again = home.k3arm(&arguments).exits(0);
        println!("again in {:.1?}", again.took);
        assert_eq!(ready(&home.kubeconfig()), ["a1", "h1"]);
        home.k3arm(&["cluster", "delete", "home"]).exits(0);
        assert_eq!(machine.containers() + &machine.volumes(), "");
    }
}

/// Puts a program of this machine's into the machine.
fn install(machine: &Host, program: &str) {
    let program = std::fs::File::open(program).expect("the released program is there");
    let script = "cat > /usr/local/bin/k3arm && chmod 755 /usr/local/bin/k3arm";
    let copied = Command::new(ci_lab()).args(["root", &machine.name, "--", "sh", "-c", script]).stdin(program).status();
    assert!(copied.expect("ci/lab runs").success());
}

scenario! {
    /// The program that people download, on the board that it is for: no other machine is needed.
    fn the_release_runs_on_the_machine_itself(lab) {
        let machine = lab.machine();
        machine.forget_images();
        install(&machine, &std::env::var("K3ARM_TEST_AARCH64").expect("ci/test builds it"));
        let k3arm = |arguments: &str| {
            machine.sh(&format!("K3ARM_REGISTRY_MIRROR=docker.io=http://{REGISTRY} HOME=/root k3arm {arguments} 2>&1"))
        };
        assert!(k3arm("--version").starts_with("k3arm "));
        let resolved = k3arm(&format!("image resolve {} --host local", image()));
        assert!(resolved.contains("linux/arm64") && !resolved.contains("amd64"), "{resolved}");
        let created = k3arm(&format!("cluster create board --k3s {} --timeout 120s", release()));
        assert!(created.contains("cluster board is ready") && created.contains("Ready"), "{created}");
        assert!(k3arm(&format!("cluster create board --k3s {}", release())).contains("nothing was changed"));
        k3arm("cluster delete board");
        assert_eq!(machine.containers() + &machine.volumes(), "");
    }
}
