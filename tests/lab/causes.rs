//! Why a standing cluster's node does not run any more: its files or its container were changed by hand. The same
//! `cluster create` must say so within seconds, although the API still calls the node Ready, and must not take away
//! what it did not make.

use std::time::Duration;

use serde_json::Value;

use crate::create::create;
use crate::host::Host;
use crate::k3arm::{Home, Ran};
use crate::kubectl::{kubectl, ready};
use crate::lab::{Lab, image};
use crate::scenario;
use crate::wait::until;

const SOON: Duration = Duration::from_secs(40);
const HOSTS: [&str; 2] = ["h1", "h2"];

fn config(host: &Host) -> String {
    host.volume_path(&format!("k3arm-home-{}-etc", host.name), "k3s/config.yaml")
}

fn ids(lab: &Lab) -> Vec<String> {
    HOSTS.map(|host| lab.host(host).sh("docker ps -aq --no-trunc; docker volume ls -q | sort")).to_vec()
}

/// What is wrong with a run that should have told `words` of a node on `host`; empty if nothing.
fn verdict(case: &str, ran: &Ran, host: &str, words: &str) -> String {
    let errors = ran.errors();
    let told = errors.len() == 1
        && errors[0].starts_with(&format!("error: {host}: node {host}: "))
        && errors[0].contains(words);
    let clean = errors.iter().all(|error| error.contains("\n  hint: ") && error.lines().count() <= 2);
    println!("{case}: exit {} after {:.1?}: {}", ran.code, ran.took, errors.join(" | ").replace('\n', " "));
    match told && clean && ran.code == 1 && ran.took < SOON {
        true => String::new(),
        false => format!("--- {case}: {}\n", ran.all()),
    }
}

/// Changes the node's config.yaml by a script (`$f` is the file, `$k` k3s' folder), restarts it, and runs the same create again.
fn with_config(lab: &Lab, home: &Home, host: &str, edit: &str) -> Ran {
    let host = lab.host(host);
    let (file, name) = (config(host), format!("k3arm-home-{}", host.name));
    let folder = host.volume_path(&format!("{name}-k3s"), "");
    host.sh(&format!("f={file}; k={folder}; cp $f /root/config.yaml; docker stop -t 5 {name} >/dev/null; {edit}; docker start {name} >/dev/null"));
    let ran = create(home, "home", &HOSTS, &[]);
    host.sh(&format!("cp /root/config.yaml {file}; docker restart -t 5 {name} >/dev/null"));
    ran
}

scenario! {
    fn an_agents_settings_changed_by_hand(lab) {
        let home = Home::new();
        create(&home, "home", &HOSTS, &[]).exits(0);
        let before = ids(&lab);
        let rows = [
            ("agent without server", "sed -i '/^\"server\"/d' $f", "the agent's config.yaml names no server"),
            // With certificates of its own an agent needs its token no more.
            ("wrong token, short form", "rm -f $k/agent/*.crt $k/agent/*.key; sed -i 's/^\"token\":.*/\"token\": \"0123456789abcdef\"/' $f", "the server refuses the agent's token"),
            ("wrong CA hash", "sed -i 's/K10......../K10deadbeef/' $f", "the agent's token pins another cluster's CA"),
            ("broken YAML", "echo 'a: [1, {' > $f", "the node's config.yaml is not YAML"),
            ("unknown flag of an agent", "echo 'no-such-flag: 1' >> $f", "k3s ended: "),
        ];
        let run = |(case, edit, words): (&str, &str, &str)| verdict(case, &with_config(&lab, &home, "h2", edit), "h2", words);
        let wrong: String = rows.into_iter().map(run).collect();
        assert_eq!(ids(&lab), before, "nothing is taken away");
        assert!(wrong.is_empty(), "{wrong}");
        create(&home, "home", &HOSTS, &[]).exits(0);
    }
}

scenario! {
    fn a_servers_settings_changed_by_hand(lab) {
        let home = Home::new();
        create(&home, "home", &HOSTS, &[]).exits(0);
        let before = ids(&lab);
        let rows = [
            ("broken YAML", "echo 'a: [1, {' > $f", "the node's config.yaml is not YAML"),
            ("data of an earlier cluster, other token", "sed -i 's/^\"token\":.*/\"token\": \"another\"/' $f", "holds data of an earlier cluster with another token"),
            ("unknown kubelet setting", "sed -i 's/^\"kubelet-arg\": \\[/&\"no-such-argument=1\",/' $f", "the kubelet ended: "),
        ];
        let run = |(case, edit, words): (&str, &str, &str)| verdict(case, &with_config(&lab, &home, "h1", edit), "h1", words);
        let wrong: String = rows.into_iter().map(run).collect();
        assert_eq!(ids(&lab), before, "nothing is taken away");
        assert!(wrong.is_empty(), "{wrong}");
        create(&home, "home", &HOSTS, &[]).exits(0);
    }
}

/// Makes the node's container anew by hand: same name, labels, volumes, environment, other options.
fn remake(host: &Host, options: &str, command: &str) {
    let name = format!("k3arm-home-{}", host.name);
    let json: Value = serde_json::from_str(&host.sh(&format!("docker inspect {name}"))).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let labels = json[0]["Config"]["Labels"].as_object().expect("labels").iter();
    let mut words: Vec<String> = labels.map(|(key, value)| format!("--label '{key}={}'", text(value))).collect();
    for mount in json[0]["Mounts"].as_array().expect("mounts") {
        let source = if mount["Type"] == "volume" { &mount["Name"] } else { &mount["Source"] };
        words.push(format!("-v '{}:{}'", text(source), text(&mount["Destination"])));
    }
    words
        .extend(json[0]["Config"]["Env"].as_array().into_iter().flatten().map(|value| format!("-e '{}'", text(value))));
    let image = text(&json[0]["Config"]["Image"]);
    // PID 1 and its script; how docker splits them is of no interest.
    let (shell, init) = (text(&json[0]["Path"]), text(&json[0]["Args"][0]));
    host.sh(&format!(
        "docker rm -f {name} >/dev/null && docker run -d --name {name} --network host --restart unless-stopped {options} {} --entrypoint {shell} {image} {init} {command}",
        words.join(" ")
    ));
}

scenario! {
    fn a_container_made_by_hand(lab) {
        let home = Home::new();
        create(&home, "home", &HOSTS, &[]).exits(0);
        let host = lab.host("h2");
        remake(host, "", "agent");
        let mut wrong = verdict("not privileged", &create(&home, "home", &HOSTS, &[]), "h2", "it is not privileged");
        remake(host, "--privileged", "agent --no-such-flag");
        wrong += &verdict("unknown flag on the command line", &create(&home, "home", &HOSTS, &[]), "h2", "k3s ended: ");
        remake(host, "--privileged", "agent");
        create(&home, "home", &HOSTS, &[]).exits(0);
        assert!(wrong.is_empty(), "{wrong}");
    }
}

scenario! {
    /// Its volumes are gone, and with them the password by which the server knows the node.
    fn a_node_that_lost_its_password(lab) {
        let home = Home::new();
        create(&home, "home", &HOSTS, &[]).exits(0);
        let host = lab.host("h2");
        host.sh("docker rm -fv k3arm-home-h2 && docker volume ls -q | xargs docker volume rm");
        let server = lab.host("h1").inspect("k3arm-home-h1", "{{.Id}} {{.State.StartedAt}}");
        let ran = create(&home, "home", &HOSTS, &[]);
        assert_eq!(verdict("node password", &ran, "h2", "with another password"), "");
        assert!(ran.errors()[0].contains("kubectl delete node h2"), "{}", ran.all());
        assert_eq!((host.containers(), host.volumes()), (String::new(), String::new()), "what this run made is taken back");
        assert_eq!(lab.host("h1").inspect("k3arm-home-h1", "{{.Id}} {{.State.StartedAt}}"), server, "and nothing else");
        kubectl(&home.kubeconfig(), &["delete", "node", "h2"]);
        create(&home, "home", &HOSTS, &[]).exits(0);
        assert_eq!(ready(&home.kubeconfig()), HOSTS);
    }
}

scenario! {
    fn a_server_that_cannot_be_reached_any_more(lab) {
        let home = Home::new();
        create(&home, "home", &HOSTS, &[]).exits(0);
        let (host, before) = (lab.host("h2"), ids(&lab));
        let rule = "OUTPUT -p tcp -d 10.66.0.11 --dport 6443 -j REJECT";
        host.sh(&format!("iptables -I {rule}"));
        let firewall = crate::lab::Undo::script(host, &format!("iptables -D {rule}"));
        host.sh("docker restart -t 5 k3arm-home-h2");
        let ran = create(&home, "home", &HOSTS, &[]);
        drop(firewall);
        assert_eq!(verdict("server unreachable", &ran, "h2", "https://10.66.0.11:6443"), "");
        assert_eq!(ids(&lab), before);
        create(&home, "home", &HOSTS, &[]).exits(0);
    }
}

scenario! {
    /// The other k3s was there first: the node stays up for ever and talks to it.
    fn another_k3s_that_came_first(lab) {
        let home = Home::new();
        create(&home, "home", &["h1"], &[]).exits(0);
        let host = lab.host("h1");
        host.sh("docker stop -t 10 k3arm-home-h1");
        host.sh(&format!("docker run -d --name by-hand --privileged --network host {} server --kubelet-arg=fail-cgroupv1=false", image()));
        until(Duration::from_secs(60), "it listens", || host.sh("ss -Hlnt").contains(":6443 ").then_some(()));
        // Stopped, it is refused before anything is done.
        create(&home, "home", &["h1"], &[]).exits(3).tells("port 6443");
        host.sh("docker start k3arm-home-h1");
        let ran = create(&home, "home", &["h1"], &[]);
        assert_eq!(verdict("second k3s", &ran, "h1", "another k3s answers on this host's ports"), "");
        host.sh("docker rm -fv by-hand; docker restart -t 5 k3arm-home-h1");
        create(&home, "home", &["h1"], &[]).exits(0);
    }
}
