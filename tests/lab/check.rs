//! What is wrong with hosts is found before anything is changed, named by its code, and can be mended.

use std::collections::BTreeSet;

use crate::bad_hosts::small_disk;
use crate::forwarding::sshd;
use crate::host::Host;
use crate::k3arm::{Home, Ran};
use crate::lab::{Undo, ci, engine_stopped, release};
use crate::scenario;

/// `host check` of these hosts, as JSON.
pub(crate) fn check(hosts: &[&str], options: &[&str]) -> Ran {
    let mut arguments = vec!["host", "check", "-o", "json"];
    arguments.extend(hosts.iter().flat_map(|host| ["--host", host]));
    arguments.extend(options);
    Home::new().k3arm(&arguments)
}

/// `severity code` of what was found on a host, without what this machine's kernel gives all of its namespace hosts.
pub(crate) fn found(ran: &Ran, host: &str) -> BTreeSet<String> {
    let json = ran.json();
    let findings = json["findings"].as_array().expect("findings").iter();
    let of_host = findings.filter(|finding| finding["host"] == host);
    let words = of_host.map(|finding| {
        let word = |key: &str| finding[key].as_str().unwrap_or_default();
        assert!(word("why").len() > 20 && word("hint").len() > 10, "{finding}");
        format!("{} {}", word("severity"), word("code"))
    });
    let everywhere = ["note legacy-cgroup", "note iptables-mixed", "warn inotify"];
    words.filter(|word| !everywhere.contains(&word.as_str())).collect()
}

/// A script for somebody who listens, and says nothing.
fn listener(port: u16) -> String {
    format!(
        "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(Listen => 1, ReuseAddr => 1, LocalPort => {port}) && sleep 300' >/dev/null 2>&1 </dev/null & \
         for i in $(seq 100); do ss -Hlnt | grep -q ':{port} ' && exit; sleep 0.1; done; exit 1"
    )
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(ToString::to_string).collect()
}

scenario! {
    fn good_hosts_have_nothing_against_them(lab) {
        let before = lab.snapshots();
        let ran = check(&["h1", "h2", "h3"], &[]).exits(0);
        println!("three hosts in {:.1?}", ran.took);
        for host in ["h1", "h2", "h3"] {
            assert_eq!(found(&ran, host), set(&[]), "{}", ran.all());
        }
        let json = ran.json();
        let reach = json["reach"].as_array().expect("what was tried between hosts");
        assert_eq!(reach.len(), 18, "three ports of each of the others: {}", ran.all());
        assert!(reach.iter().all(|tried| tried["answer"] == "refused"), "{}", ran.all());
        let listed = Home::new().k3arm(&["host", "list", "--host", "h1", "--host", "h2"]).exits(0);
        assert!(listed.stdout.contains("20.10") && listed.stdout.contains("26.1") && listed.stdout.contains("10.66.0.12"));
        assert_eq!(lab.snapshots(), before);
    }
}

scenario! {
    fn a_fault_of_a_host_is_named(lab) {
        let host = lab.host("h4");
        assert_eq!(found(&check(&["guest@h3", "h1"], &[]).exits(3), "h3"), set(&["refuse engine-denied"]));
        {
            let _engine = engine_stopped(host);
            let ran = check(&["h4", "h1"], &[]).exits(3);
            assert_eq!(found(&ran, "h4"), set(&["refuse engine-missing"]), "{}", ran.all());
            assert_eq!(found(&ran, "h1"), set(&[]), "the others are looked at: {}", ran.all());
        }
        {
            let _listener = Undo::script(host, "pkill -f 'LocalPort => 644[3]'");
            host.sh(&listener(6443));
            assert_eq!(found(&check(&["h4"], &[]).exits(3), "h4"), set(&["refuse port-taken"]));
        }
        {
            let _sshd = sshd(host, "AllowTcpForwarding no");
            assert_eq!(found(&check(&["h4"], &[]).exits(0), "h4"), set(&["note forwarding"]));
        }
        {
            // Debian has no such version any more: the host says that it has it, and does all else with its own.
            let old = "/usr/local/bin/iptables";
            let _iptables = Undo::script(host, &format!("rm -f {old}"));
            host.sh(&format!("printf '%s\\n' '#!/bin/sh' 'case $1 in --version) echo \"iptables v1.8.2 (nf_tables)\" ;; *) exec /usr/sbin/iptables \"$@\" ;; esac' > {old}; chmod 755 {old}"));
            let ran = check(&["h4"], &[]).exits(0);
            assert_eq!(found(&ran, "h4"), set(&["warn iptables"]));
            assert!(ran.stdout.contains("its iptables is 1.8.2"), "{}", ran.all());
            // What is wrong with a machine is found although its engine cannot be used.
            assert_eq!(found(&check(&["guest@h4"], &[]).exits(3), "h4"), set(&["refuse engine-denied", "warn iptables"]));
            let create = ["cluster", "create", "home", "--server", "h1", "--agent", "guest@h4", "--ignore", "engine-denied"];
            let ran = Home::new().k3arm(&create).exits(3).tells("its iptables is 1.8.2").tells("nothing was changed");
            assert!(ran.error("h4: ").contains("[engine-denied]"), "{}", ran.all());
        }
        let _full = small_disk(&lab, "h4");
        assert_eq!(found(&check(&["h4"], &[]).exits(0), "h4"), set(&["warn disk-low"]));
        let release = release();
        let create = ["cluster", "create", "home", "--k3s", &release, "--server", "h4", "--dry-run"];
        assert!(Home::new().k3arm(&create).exits(3).error("h4: ").contains("[disk-full]"));
        Home::new().k3arm(&[&create[..], &["--ignore", "disk-full"]].concat()).exits(0).tells("[disk-full]");
    }
}

scenario! {
    fn what_a_firewall_drops_is_found_before_a_cluster_is_made(lab) {
        let host = lab.host("h4");
        let _open = Undo::script(host, "iptables -D INPUT -p tcp --dport 6443 -j DROP; iptables -D INPUT -p udp --dport 8472 -j DROP");
        host.sh("iptables -I INPUT -p tcp --dport 6443 -j DROP; iptables -I INPUT -p udp --dport 8472 -j DROP");
        let ran = check(&["h1", "h4"], &[]).exits(3);
        assert_eq!(found(&ran, "h1"), set(&["refuse unreachable", "note unanswered"]), "{}", ran.all());
        assert_eq!(found(&ran, "h4"), set(&[]), "{}", ran.all());
        assert_eq!(found(&check(&["h1", "h4"], &["--ignore", "unreachable"]).exits(0), "h1"), set(&["warn unreachable", "note unanswered"]));
        let (home, release) = (Home::new(), release());
        let before = lab.snapshots();
        let ran = home.k3arm(&["cluster", "create", "home", "--k3s", &release, "--server", "h4", "--agent", "h1"]).exits(3);
        let error = ran.error("h1: it does not reach h4 (10.66.0.14) at TCP 6443");
        assert!(error.contains("[unreachable]") && ran.stderr.contains("nothing was changed"), "{error}");
        assert_eq!(lab.snapshots(), before);
        // An agent needs no way to itself at that port.
        home.k3arm(&["cluster", "create", "home", "--k3s", &release, "--server", "h1", "--agent", "h4", "--dry-run"]).exits(0);
    }
}

scenario! {
    /// No bash, nothing but busybox: what k3arm asks of a host it can say, and what its nc can try.
    fn a_host_with_busybox_alone_is_looked_at(lab) {
        let (host, other) = (lab.host("h4"), lab.host("h1"));
        let tools = "/opt/busybox";
        let _tools = Undo::script(host, &format!("rm -rf {tools}"));
        host.sh(&format!("mkdir -p {tools}"));
        std::fs::copy("/bin/busybox", host.outside(tools).join("busybox")).expect("a busybox");
        host.sh(&format!("{tools}/busybox --install -s {tools}; [ ! -e {tools}/bash ]"));
        let _sshd = sshd(host, &format!("SetEnv PATH={tools}"));
        // One that is connected to and says nothing.
        let _listener = Undo::script(other, "pkill -f 'LocalPort => 644[3]'");
        other.sh(&listener(6443));
        let ran = check(&["h1", "h4"], &[]).exits(3);
        assert_eq!(found(&ran, "h4"), set(&[]), "{}", ran.all());
        let json = ran.json();
        let tried = json["reach"].as_array().expect("what was tried between hosts").iter();
        let from_there: BTreeSet<String> =
            tried.filter(|tried| tried["from"] == "h4").map(|tried| format!("{} {}", tried["port"], tried["answer"])).collect();
        assert_eq!(from_there, set(&["6443 \"open\"", "10250 \"refused\""]), "{}", ran.all());
    }
}

scenario! {
    /// Only what was asked for by name, over sudo, and only what is wrong.
    fn a_user_is_let_to_docker_by_prepare(lab) {
        let host = lab.host("h4");
        let prepare = |host: &str, options: &[&str]| Home::new().k3arm(&[&["host", "prepare", "--host", host], options].concat());
        // The one thing that this kernel may lack, and it is that of the machine which the tests run on.
        let instances = "/proc/sys/fs/inotify/max_user_instances";
        let _instances = Undo::script(host, &format!("echo {} > {instances}", host.sh(&format!("cat {instances}"))));
        host.sh(&format!("echo 512 > {instances}"));
        assert!(prepare("h4", &[]).exits(0).stdout.contains("nothing to do"));
        let _member = Undo::script(host, "usermod -aG docker pi");
        host.sh("gpasswd -d pi docker");
        assert_eq!(found(&check(&["h4"], &[]).exits(3), "h4"), set(&["refuse engine-denied"]));
        let groups = || host.sh("id -nG pi");
        assert!(prepare("h4", &["--dry-run"]).exits(0).stdout.contains("add user pi to group docker"));
        assert!(!groups().contains("docker"), "a dry run changes nothing");
        prepare("h4", &[]).exits(0).tells("add user pi to group docker");
        assert!(groups().contains("docker"));
        assert_eq!(found(&check(&["h4"], &[]).exits(0), "h4"), set(&[]));
        // One that fails keeps no other from being done.
        host.sh(&format!("gpasswd -d pi docker; mkdir -p /etc/sysctl.d; mv /etc/sysctl.d /etc/sysctl.away; touch /etc/sysctl.d; echo 128 > {instances}"));
        let _sysctl = Undo::script(host, "rm /etc/sysctl.d; mv /etc/sysctl.away /etc/sysctl.d");
        let ran = prepare("h4", &[]).exits(4);
        ran.error("h4: could not set fs.inotify.max_user_instances=512");
        assert!(groups().contains("docker"), "{}", ran.all());
        host.sh(&format!("echo 512 > {instances}"));
        let refused = prepare("guest@h4", &[]).exits(1);
        assert!(refused.error("h4: could not add user guest to group docker").contains("sudo"), "{}", refused.all());
    }
}

scenario! {
    /// On a machine of 1 GiB whose kernel has huge pages, as Debian's has.
    fn what_is_kept_for_huge_pages_is_given_back_by_prepare(lab) {
        let machine = lab.machine();
        let (switch, file) = ("/sys/kernel/mm/transparent_hugepage/enabled", "/etc/tmpfiles.d/k3arm.conf");
        let _again = Undo::script(&machine, &format!("rm -f {file}; echo always > {switch}"));
        let kept = || machine.sh("cat /proc/sys/vm/min_free_kbytes").parse::<u32>().expect("a number");
        let before = kept();
        assert!(found(&check(&["a1"], &[]).exits(0), "a1").contains("note huge-pages"));
        let prepare = |options: &[&str]| Home::new().k3arm(&[&["host", "prepare", "--host", "a1"], options].concat()).exits(0);
        assert!(prepare(&["--dry-run"]).stdout.contains("switch huge pages off"));
        assert_eq!(kept(), before, "a dry run changes nothing");
        prepare(&[]).tells("switch huge pages off");
        assert_eq!(machine.sh(&format!("cat {file}")), format!("w! {switch} - - - - never"));
        assert!(machine.sh(&format!("cat {switch}")).contains("[never]") && kept() < before / 2, "{} of {before} KiB", kept());
        assert!(!found(&check(&["a1"], &[]).exits(0), "a1").contains("note huge-pages"));
        assert!(prepare(&[]).stdout.contains("nothing to do"));
    }
}

/// Where a Pi's firmware reads the kernel's arguments.
const CMDLINE: &str = "/boot/firmware/cmdline.txt";

fn boot_id(machine: &Host) -> String {
    machine.sh("cat /proc/sys/kernel/random/boot_id")
}

scenario! {
    /// A kernel without the memory controller, and a clock of another day, on a machine that has a kernel and a clock.
    fn a_kernel_without_memory_accounting_is_found_and_mended(lab) {
        let machine = lab.machine();
        let _again = Undo::script(&machine, &format!("rm -f {CMDLINE}*; busybox hwclock -s -u"));
        machine.sh(&format!("mkdir -p /boot/firmware; rm -f {CMDLINE}*; echo 'console=tty1 root=PARTUUID=1-02 rootwait' > {CMDLINE}; sync"));
        ci(&["power-cut", "a1"]);
        ci(&["power-on", "a1", "cgroup_disable=memory"]);
        let ran = check(&["a1"], &[]).exits(3);
        assert!(found(&ran, "a1").contains("refuse cgroup"), "{}", ran.all());
        let finding = ran.json()["findings"][0].clone();
        assert!(finding["message"].as_str().is_some_and(|seen| seen.contains("memory") && seen.contains("cgroup_disable=memory")), "{finding}");
        assert!(finding["hint"].as_str().is_some_and(|hint| hint.contains(CMDLINE)), "{finding}");

        let release = release();
        let created = Home::new().k3arm(&["cluster", "create", "home", "--k3s", &release, "--server", "h1", "--agent", "a1"]).exits(3);
        created.error("a1: its kernel has these cgroup controllers switched off: memory");
        assert_eq!(machine.containers() + &lab.host("h1").containers(), "");

        let before = boot_id(&machine);
        let planned = Home::new().k3arm(&["host", "prepare", "--host", "a1", "--dry-run"]).exits(0);
        assert!(planned.stdout.contains(&format!("append cgroup_enable=memory to {CMDLINE}")), "{}", planned.all());
        assert!(planned.stdout.contains("a1 needs a reboot"), "{}", planned.all());
        assert_eq!(machine.sh(&format!("ls {CMDLINE}*")), CMDLINE, "a dry run changes nothing");
        machine.sh(&format!("mv {CMDLINE} {CMDLINE}.kept; printf 'one\\ntwo\\n' > {CMDLINE}"));
        let refused = Home::new().k3arm(&["host", "prepare", "--host", "a1", "--reboot"]).exits(4);
        assert!(refused.error("a1: could not append").contains("more than one line"), "{}", refused.all());
        assert!(!refused.stdout.contains("append") && !refused.stdout.contains("needs a reboot"), "{}", refused.all());
        assert_eq!(boot_id(&machine), before, "{}", refused.all());
        machine.sh(&format!("mv {CMDLINE}.kept {CMDLINE}"));

        // No firmware reads this file here: the machine starts anew with what it was started with.
        let arguments = ["host", "prepare", "--host", "a1", "--reboot", "--timeout", "3m"];
        let unheard = Home::new().k3arm(&arguments).exits(4);
        unheard.error("a1: it is back, and its kernel still has no memory controller");
        let between = boot_id(&machine);
        assert_ne!(between, before, "{}", unheard.all());
        let home = Home::new();
        let mut running = home.start(&arguments);
        running.says("waiting until it is back");
        ci(&["power-cut", "a1"]);
        ci(&["power-on", "a1"]);
        let prepared = running.ended();
        assert_eq!(prepared.code, 0, "{}", prepared.all());
        println!("prepared and back in {:.1?}", prepared.took);
        assert_ne!(boot_id(&machine), between, "{}", prepared.all());
        assert_eq!(machine.sh(&format!("cat {CMDLINE}")), "console=tty1 root=PARTUUID=1-02 rootwait cgroup_enable=memory");
        assert_eq!(machine.sh(&format!("cat {CMDLINE}.before-k3arm")), "console=tty1 root=PARTUUID=1-02 rootwait");

        ci(&["power-cut", "a1"]);
        ci(&["power-on", "a1"]);
        machine.sh("date -s '2 days ago'");
        let ran = check(&["a1", "h1"], &[]).exits(3);
        assert!(found(&ran, "a1").contains("refuse clock"), "{}", ran.all());
        assert!(ran.stdout.contains("clocks-apart"), "{}", ran.all());
        machine.sh("busybox hwclock -s -u");
        check(&["a1"], &[]).exits(0);
    }
}

scenario! {
    fn a_code_that_is_none_is_a_wrong_command_line(_lab) {
        let ran = Home::new().k3arm(&["host", "check", "--host", "h1", "--ignore", "cgroups"]).exits(2);
        assert!(ran.stderr.contains("did you mean cgroup?"), "{}", ran.all());
        Home::new().k3arm(&["host", "check", "--explain", "clock"]).exits(0).tells("Certificates are dated by it");
    }
}
