//! `cluster create` and what is asked of a standing cluster.

use std::collections::BTreeMap;
use std::fs;

use crate::host::Host;
use crate::k3arm::{Home, Ran, names};
use crate::kubectl::{kubectl, ready};
use crate::lab::{Lab, NOBODY, Undo, release};
use crate::scenario;

/// Creates a cluster with its server on the first host and agents on the others.
pub(crate) fn create(home: &Home, name: &str, hosts: &[&str], more: &[&str]) -> Ran {
    let release = release();
    let mut arguments = vec!["cluster", "create", name, "--timeout", "90s", "--k3s", &release, "--server", hosts[0]];
    arguments.extend(hosts[1..].iter().flat_map(|host| ["--agent", host]));
    arguments.extend(more);
    home.k3arm(&arguments)
}

/// What a second run must leave alone: containers, their starts, volumes.
fn identity(lab: &Lab) -> BTreeMap<String, String> {
    lab.on_all(|host| {
        host.sh("docker ps -aq | xargs -r docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.State.Pid}}'; docker volume ls -q | xargs -r docker volume inspect --format '{{.Name}} {{.CreatedAt}}'")
    })
}

scenario! {
    /// A container of a hypervisor, or a kernel in one piece: there is nothing to bind.
    fn a_host_without_modules_runs_a_node(lab) {
        let (home, host) = (Home::new(), lab.host("h1"));
        let _modules = Undo::script(host, "mv /lib/modules.away /lib/modules");
        host.sh("mv /lib/modules /lib/modules.away");
        create(&home, "home", &["h1"], &[]).exits(0).tells("cluster home is ready");
        assert_eq!(host.inspect("k3arm-home-h1", "{{range .Mounts}}{{if eq .Type \"bind\"}}{{.Source}}{{end}}{{end}}"), "");
    }
}

scenario! {
    /// Three nodes on three engines, with a kubectl of the user's own.
    fn three_engines_become_a_cluster(lab) {
        let home = Home::new();
        let ran = create(&home, "home", &["h1", "h2", "h3"], &[]).exits(0).tells("cluster home is ready");
        println!("created in {:.1?}", ran.took);
        assert_eq!(ran.stdout.matches(" Ready ").count(), 3, "{}", ran.all());
        let config = home.kubeconfig();
        assert_eq!(ready(&config), ["h1", "h2", "h3"]);
        assert_eq!(kubectl(&config, &["get", "--raw", "/readyz"]), "ok");
        kubectl(&config, &["label", "node", "h2", "disk=ssd"]);
        kubectl(&config, &["cordon", "h3"]);
        assert!(kubectl(&config, &["get", "nodes", "-l", "disk=ssd"]).contains("h2"));
        assert!(kubectl(&config, &["get", "nodes"]).contains("SchedulingDisabled"));
        for (host, role) in [("h1", "server"), ("h2", "agent"), ("h3", "agent")] {
            assert_node(lab.host(host), role);
        }

        let before = identity(&lab);
        let again = create(&home, "home", &["h1", "h2", "h3"], &[]).exits(0).tells("nothing was changed");
        println!("again in {:.1?}", again.took);
        assert_eq!(identity(&lab), before);
        create(&home, "home", &["h1", "h2", "h3"], &["--dry-run"]).exits(0).tells("nothing to do");

        let listed = home.k3arm(&["cluster", "list"]).exits(0);
        assert_eq!(listed.stdout.matches("running").count(), 3, "{}", listed.all());
        let json = home.k3arm(&["cluster", "list", "-o", "json"]).exits(0).json();
        assert_eq!(json[0]["nodes"].as_array().expect("nodes").len(), 3);
        // Another machine, which remembers nothing.
        Home::new().k3arm(&["cluster", "list", "--host", "h2"]).exits(0).tells("home");
    }
}

/// A container as the design says.
fn assert_node(host: &Host, role: &str) {
    let name = format!("k3arm-home-{}", host.name);
    let inspect = |template: &str| host.inspect(&name, template);
    assert_eq!(inspect("{{.HostConfig.NetworkMode}} {{.HostConfig.RestartPolicy.Name}}"), "host unless-stopped");
    assert_eq!(inspect("{{json .Config.Cmd}}"), format!("[\"{role}\"]"), "no flags on the command line");
    assert_eq!(inspect("{{index .Config.Labels \"k3arm.dev/release\"}}"), release());
    let image = inspect("{{.Config.Image}}");
    assert!(image.starts_with("sha256:"), "made by the image's ID: {image}");
    let volumes = ["cni", "etc", "images", "k3s", "kubelet", "log"].map(|volume| format!("{name}-{volume}"));
    assert_eq!(host.volumes().lines().collect::<Vec<_>>(), volumes);
}

scenario! {
    fn an_agent_joins_a_standing_cluster(lab) {
        let home = Home::new();
        create(&home, "home", &["h1"], &[]).exits(0);
        let server = lab.host("h1").inspect("k3arm-home-h1", "{{.Id}} {{.State.StartedAt}}");
        create(&home, "home", &["h1", "h2"], &[]).exits(0);
        assert_eq!(ready(&home.kubeconfig()), ["h1", "h2"]);
        assert_eq!(lab.host("h1").inspect("k3arm-home-h1", "{{.Id}} {{.State.StartedAt}}"), server);
        // A node that was stopped by hand is started again, as it is.
        lab.host("h2").sh("docker stop k3arm-home-h2");
        create(&home, "home", &["h1", "h2"], &[]).exits(0);
        assert_eq!(ready(&home.kubeconfig()), ["h1", "h2"]);
    }
}

scenario! {
    fn kubeconfigs_are_got_and_merged(_lab) {
        let home = Home::new();
        let foreign = "apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters:\n- name: work\n  cluster: {server: 'https://192.0.2.1:6443'}\ncontexts:\n- name: work\n  context: {cluster: work, user: me}\nusers:\n- name: me\n  user: {token: mine}\n";
        create(&home, "home", &["h1"], &["--no-kubeconfig"]).exits(0);
        assert!(!home.kubeconfig().exists(), "as asked");
        let got = home.k3arm(&["kubeconfig", "get", "home"]).exits(0);
        assert_eq!(got.stderr.matches("error").count(), 0, "{}", got.stderr);
        let file = home.path("got");
        fs::write(&file, &got.stdout).expect("written");
        assert_eq!(ready(&file), ["h1"]);

        fs::write(home.kubeconfig(), foreign).expect("written");
        home.k3arm(&["kubeconfig", "merge", "home", "--keep-context"]).exits(0);
        let current = || kubectl(&home.kubeconfig(), &["config", "current-context"]);
        assert_eq!(current().trim(), "work");
        home.k3arm(&["kubeconfig", "merge", "home"]).exits(0);
        assert_eq!(current().trim(), "k3arm-home");
        assert_eq!(ready(&home.kubeconfig()), ["h1"]);
        // From a machine that knows nothing of it.
        let other = Home::new().k3arm(&["kubeconfig", "get", "home", "--host", "h1"]).exits(0);
        assert!(other.stdout.contains("https://10.66.0.11:6443"), "{}", other.stderr);

        home.k3arm(&["cluster", "delete", "home"]).exits(0);
        let contexts = kubectl(&home.kubeconfig(), &["config", "get-contexts", "-o", "name"]);
        assert_eq!(contexts.trim(), "work", "the user's own stays");
        let users = kubectl(&home.kubeconfig(), &["config", "view", "--raw", "-o", "jsonpath={.users[*].user.token}"]);
        assert_eq!(users.trim(), "mine");
        home.k3arm(&["kubeconfig", "get", "home"]).exits(1);
    }
}

scenario! {
    fn a_dry_run_prints_the_plan_and_changes_nothing(lab) {
        let home = Home::new();
        let before = lab.snapshots();
        let ran = create(&home, "home", &["h1", "h2"], &["--dry-run"]).exits(0);
        for words in ["create container k3arm-home-h1 (server h1)", "create container k3arm-home-h2 (agent h2)"] {
            assert!(ran.stdout.contains(words), "{words}: {}", ran.all());
        }
        let json = create(&home, "home", &["h1", "h2"], &["--dry-run", "-o", "json"]).exits(0).json();
        assert!(json["phases"].is_array(), "{json}");
        assert_eq!(lab.snapshots(), before);
        assert!(!home.kubeconfig().exists());
        assert!(names(&home.path("k3arm/clusters")).is_empty());
    }
}

scenario! {
    /// All or nothing: the hosts that answer are left as they were.
    fn a_host_that_is_down_stops_it_before_anything_is_changed(lab) {
        let home = Home::new();
        let before = lab.snapshots();
        let nobody = format!("pi@{NOBODY}");
        let ran = create(&home, "home", &["h1", &nobody, "guest@h3"], &[]);
        assert_ne!(ran.code, 0, "{}", ran.all());
        ran.error(NOBODY);
        ran.error("h3: user guest");
        assert_eq!(ran.errors().len(), 2, "{}", ran.all());
        assert_eq!(lab.snapshots(), before);
        assert!(names(&home.path("k3arm/clusters")).is_empty(), "not remembered");
    }
}

scenario! {
    fn a_host_has_one_node(lab) {
        let home = Home::new();
        create(&home, "first", &["h1"], &[]).exits(0);
        // The first one is still at work on its network.
        let before = (identity(&lab), lab.host("h2").snapshot());
        let ran = create(&home, "second", &["h1", "h2"], &[]).exits(3).tells("nothing was changed");
        let error = ran.error("h1: port 6443");
        assert!(error.contains("node h1 of cluster first") && error.contains("k3arm cluster delete first"), "{error}");
        assert_eq!((identity(&lab), lab.host("h2").snapshot()), before);
        // The same machine under two names.
        let ran = create(&Home::new(), "third", &["h2", "ssh://pi@10.66.0.12"], &[]).exits(3);
        assert!(ran.stderr.contains("it is the same Docker engine as") && ran.errors().len() == 1, "{}", ran.all());
    }
}
