//! `cluster delete` leaves a host as it was found.

use crate::create::create;
use crate::host::Host;
use crate::k3arm::{Home, names};
use crate::lab::image;
use crate::scenario;
use crate::wait::until;
use std::time::Duration;

/// What the user has of their own on the host: a container, a volume, a bridge, rules in several tables, also some whose
/// words look like k3s'.
fn users_things(host: &Host) {
    host.sh(&format!(
        "docker volume create users-data >/dev/null
         docker run -d --name users-app -v users-data:/data -p 8080:80 --entrypoint /bin/sh {} -c 'sleep 100000' >/dev/null
         docker network create users-net >/dev/null
         for family in iptables ip6tables; do
           $family -N USERS-CHAIN
           $family -A USERS-CHAIN -p tcp --dport 12345 -j ACCEPT
           $family -A INPUT -m comment --comment 'kube of mine USERS-1' -j USERS-CHAIN
           $family -t mangle -A POSTROUTING -p udp --dport 5 -m comment --comment 'notes on KUBE-SERVICES USERS-2' -j ACCEPT
         done
         iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -m comment --comment USERS-3 -j MASQUERADE",
        image()
    ));
}

scenario! {
    fn delete_removes_all_of_the_cluster_and_nothing_else(lab) {
        let home = Home::new();
        let prewarmed = lab.hosts.iter().take(3).flat_map(|host| ["--host", &host.name]);
        let arguments: Vec<&str> = ["image", "prewarm"].into_iter().chain(prewarmed).collect();
        home.k3arm(&[&arguments[..], &[&crate::lab::release()]].concat()).exits(0);
        lab.on_all(|host| if host.name != "h4" { users_things(host) });
        let before = lab.snapshots();
        create(&home, "home", &["h1", "h2", "h3"], &[]).exits(0);
        // k3s' rules come after Ready.
        for name in ["h1", "h2", "h3"] {
            let host = lab.host(name);
            until(Duration::from_secs(60), "flannel and rules of k3s", || {
                let now = host.snapshot();
                (now.contains("flannel.1") && now.contains("KUBE-")).then_some(())
            });
        }
        let standing = lab.on_all(Host::containers);
        home.k3arm(&["cluster", "delete", "home", "--dry-run"]).exits(0).tells("remove container k3arm-home-h1 and its 6 volumes");
        assert_eq!(lab.on_all(Host::containers), standing, "a dry run changes nothing");

        home.k3arm(&["cluster", "delete", "home"]).exits(0).tells("cluster home is deleted");
        for (host, after) in lab.snapshots() {
            similar(&host, &before[&host], &after);
        }
        assert!(names(&home.path("k3arm/clusters")).is_empty(), "forgotten");
        home.k3arm(&["cluster", "delete", "home", "--host", "h1"]).exits(0).tells("nothing of cluster home");
    }
}

/// Equal, or the lines that differ.
#[track_caller]
fn similar(host: &str, before: &str, after: &str) {
    let lost: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    let left: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    assert!(before == after, "{host}\nlost: {lost:#?}\nleft: {left:#?}");
}

scenario! {
    /// A host that is down when its cluster is deleted is told; the same command finishes the work when it is back.
    fn a_host_that_is_down_is_deleted_later(lab) {
        let home = Home::new();
        create(&home, "home", &["h1", "h2"], &[]).exits(0);
        crate::lab::ci(&["link", "h2", "down"]);
        let cut = home.k3arm(&["cluster", "delete", "home"]);
        crate::lab::ci(&["link", "h2", "up"]);
        cut.exits(4).error("h2");
        assert_eq!((lab.host("h1").containers(), lab.host("h1").volumes()), (String::new(), String::new()));
        assert_eq!(lab.host("h2").containers(), "k3arm-home-h2");
        home.k3arm(&["cluster", "delete", "home"]).exits(0);
        assert_eq!((lab.host("h2").containers(), lab.host("h2").volumes()), (String::new(), String::new()));
    }
}
