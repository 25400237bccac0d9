//! Why a new cluster does not start: the cause in one line, within seconds, and what was made is taken back or kept.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::check::{check, found};
use crate::create::create;
use crate::host::Host;
use crate::k3arm::{Home, Ran};
use crate::lab::{Undo, image, release};
use crate::scenario;
use crate::wait::until;

/// From the command to its end: the cause has to be in the log first, which takes k3s some seconds.
const SOON: Duration = Duration::from_secs(40);

fn create_with_kubelet_arg(home: &Home, argument: &str, more: &[&str]) -> Ran {
    let path = home.path("k3arm.yaml");
    let text = format!(
        "apiVersion: k3arm.dev/v1alpha1\nkind: Cluster\nmetadata: {{ name: home }}\nk3s: {{ version: {}, config: {{ kubelet-arg: [{argument}] }} }}\nhosts:\n- {{ name: h1, ssh: pi@h1, role: server }}\n- {{ name: h2, ssh: pi@h2, role: agent }}\n",
        release()
    );
    fs::write(&path, text).expect("written");
    home.k3arm(&[&["cluster", "create", "-f", &path.display().to_string()], more].concat())
}

/// One error, soon, and none of k3s' shutdown noise.
#[track_caller]
fn assert_one_cause(ran: &Ran, words: &str) {
    let errors = ran.errors();
    assert_eq!(errors.len(), 1, "{}", ran.all());
    assert!(errors[0].contains(words) && errors[0].contains("\n  hint: "), "{}", ran.all());
    assert!(errors[0].lines().count() <= 2, "one line and its hint: {}", errors[0]);
    for noise in ["Shutdown request", "level=", "context canceled", "klog"] {
        assert!(!errors[0].contains(noise), "noise: {}", errors[0]);
    }
    assert!(ran.took < SOON, "{}", ran.all());
    println!("{words}: {:.1?}", ran.took);
}

scenario! {
    /// k3s runs for seconds and then ends with code 0.
    fn a_kubelet_that_refuses_its_settings(lab) {
        let home = Home::new();
        home.k3arm(&["image", "prewarm", &release(), "--host", "h1", "--host", "h2"]).exits(0);
        lab.on_all(Host::clean);
        let before = lab.snapshots();
        let mut rows = vec![("no-such-argument=1", "the kubelet ended: ")];
        if lab.host("h1").sh("test -e /sys/fs/cgroup/cgroup.controllers && echo v2 || echo v1") == "v1" {
            rows.push(("fail-cgroupv1=true", "the kubelet refuses the host's legacy cgroup hierarchy (v1)"));
        }
        for (argument, words) in rows {
            let ran = create_with_kubelet_arg(&home, argument, &[]).exits(1);
            assert_one_cause(&ran, words);
            assert_eq!(lab.snapshots(), before, "taken back: {}", ran.all());
        }
    }
}

scenario! {
    fn keep_leaves_what_was_made(lab) {
        let home = Home::new();
        let ran = create_with_kubelet_arg(&home, "no-such-argument=1", &["--keep"]).exits(1).tells("k3arm cluster delete home");
        assert_one_cause(&ran, "the kubelet ended: ");
        assert_eq!(lab.host("h1").containers(), "k3arm-home-h1");
        assert_eq!(lab.host("h2").containers(), "k3arm-home-h2");
        // The engine starts it again and again, and has no log to show in between.
        until(Duration::from_secs(20), "the log can be read", || {
            lab.host("h1").sh("docker logs k3arm-home-h1 2>&1 || true").contains("no-such-argument").then_some(())
        });
        home.k3arm(&["cluster", "delete", "home"]).exits(0);
        assert_eq!(lab.on_all(Host::containers).into_values().collect::<String>(), "");
        assert_eq!(lab.on_all(Host::volumes).into_values().collect::<String>(), "");
    }
}

scenario! {
    /// A k3s that k3arm did not make has the host's ports, unless it has a network of its own.
    fn another_k3s_on_the_host_is_refused_before(lab) {
        let home = Home::new();
        home.k3arm(&["image", "prewarm", &release(), "--host", "h1", "--host", "h2"]).exits(0);
        let host = lab.host("h2");
        let before = lab.host("h1").snapshot();
        // The way k3s is run by hand; on cgroup v1 the kubelet has to be allowed.
        let by_hand = |network: &str| {
            host.sh(&format!("docker run -d --name by-hand --privileged --network {network} {} server --kubelet-arg=fail-cgroupv1=false", image()));
            until(Duration::from_secs(60), "it listens", || {
                let listening = host.sh("nsenter -t $(docker inspect -f '{{.State.Pid}}' by-hand) -n ss -Hlnt");
                [":6443 ", ":6444 "].iter().all(|port| listening.contains(port)).then_some(())
            });
        };
        by_hand("bridge");
        assert_eq!(found(&check(&["h2"], &[]).exits(0), "h2"), BTreeSet::new());
        host.sh("docker rm --force --volumes by-hand");
        by_hand("host");
        // Each role needs ports of its own.
        for (nodes, port) in [(["h2", "h1"], 6443), (["h1", "h2"], 6444)] {
            let ran = create(&home, "home", &nodes, &[]).exits(3).tells("nothing was changed");
            let error = ran.error(&format!("h2: port {port} that a node needs is taken by "));
            assert!(error.contains("k3s") || error.contains("by-hand"), "{error}");
        }
        assert_eq!(lab.host("h1").snapshot(), before);
        assert_eq!(host.containers(), "by-hand");
    }
}

scenario! {
    fn a_server_that_its_agent_cannot_reach(lab) {
        let home = Home::new();
        home.k3arm(&["image", "prewarm", &release(), "--host", "h1", "--host", "h2"]).exits(0);
        let host = lab.host("h2");
        let before = lab.snapshots();
        let rule = "OUTPUT -p tcp -d 10.66.0.11 --dport 6443 -j DROP";
        let firewall = Undo::script(host, &format!("iptables -D {rule}"));
        host.sh(&format!("iptables -I {rule}"));
        // What is found before the start is let pass, as for a firewall that closes later.
        let ran = create(&home, "home", &["h1", "h2"], &["--ignore", "unreachable"]).exits(1);
        drop(firewall);
        assert_one_cause(&ran, "the agent cannot reach the server at https://10.66.0.11:6443");
        assert!(ran.errors()[0].contains("open TCP port 6443"), "{}", ran.all());
        assert_eq!(lab.snapshots(), before, "taken back");
    }
}
