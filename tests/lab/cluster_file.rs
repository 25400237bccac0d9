//! `-f k3arm.yaml`

use std::fs;

use crate::k3arm::{Home, Ran};
use crate::kubectl::node;
use crate::lab::release;
use crate::scenario;

fn file(config: &str) -> String {
    let release = release();
    format!(
        "apiVersion: k3arm.dev/v1alpha1
kind: Cluster
metadata: {{ name: file }}
k3s:
  version: {release}
  profile: tiny
  config: {config}
hosts:
  - {{ name: one, ssh: pi@h1, role: server, labels: {{ disk: ssd, place: attic }} }}
  - {{ name: two, ssh: pi@h2, role: agent, taints: ['only=this:NoSchedule'] }}
"
    )
}

fn create(home: &Home, text: &str, more: &[&str]) -> Ran {
    let path = home.path("k3arm.yaml");
    fs::write(&path, text).expect("written");
    home.k3arm(&[&["cluster", "create", "-f", &path.display().to_string()], more].concat())
}

scenario! {
    fn names_labels_taints_and_flags_arrive(lab) {
        let home = Home::new();
        let text = file("{ node-label: [from=config], kubelet-arg: [max-pods=42] }");
        create(&home, &text, &[]).exits(0);
        let (one, two) = (node(&home.kubeconfig(), "one"), node(&home.kubeconfig(), "two"));
        let labels = &one["metadata"]["labels"];
        assert_eq!((&labels["disk"], &labels["place"], &labels["from"]), (&"ssd".into(), &"attic".into(), &"config".into()));
        assert!(two["spec"]["taints"].to_string().contains(r#""key":"only""#), "{two}");
        assert!(!one["spec"]["taints"].to_string().contains("only"), "{one}");
        let config = |node: &str, host: &str| {
            let host = lab.host(host);
            host.sh(&format!("cat {}", host.volume_path(&format!("k3arm-file-{node}-etc"), "k3s/config.yaml")))
        };
        assert!(config("one", "h1").contains("max-pods=42"), "{}", config("one", "h1"));
        assert!(config("two", "h2").contains("max-pods=42"), "{}", config("two", "h2"));
        assert_eq!(lab.host("h1").inspect("k3arm-file-one", "{{json .Config.Env}}").matches("GOGC=").count(), 1);

        create(&home, &text, &[]).exits(0).tells("nothing was changed");
        let changed = create(&home, &text.replace("disk: ssd", "disk: nvme"), &[]).exits(3);
        let error = changed.error("one: node one of cluster file runs with other settings");
        assert!(error.contains("k3arm cluster delete file"), "{error}");
    }
}

scenario! {
    /// A node gets the memory that it may have, and Kubernetes is told what its pods may not; the user's variables win.
    fn a_nodes_memory_is_limited_and_its_variables_are_the_users(lab) {
        let home = Home::new();
        let text = file("{ disable: [traefik] }")
            .replace("role: agent", "role: agent, memory: 400Mi")
            .replace("profile: tiny", "profile: tiny\n  environment: { GOGC: '33' }");
        let created = create(&home, &text, &[]).exits(0);
        let note = "profile tiny, for the server's 1024 MiB: no Ingress controller, NetworkPolicy is not enforced";
        assert!(created.stderr.contains(note), "only what the user left out of the parts: {}", created.all());
        let (server, agent) = (lab.host("h1"), lab.host("h2"));
        assert_eq!(agent.inspect("k3arm-file-two", "{{.HostConfig.Memory}}"), (400 << 20).to_string());
        assert_eq!(server.inspect("k3arm-file-one", "{{.HostConfig.Memory}}"), "0");
        let config = |host: &crate::host::Host, node: &str| {
            host.sh(&format!("cat {}", host.volume_path(&format!("k3arm-file-{node}-etc"), "k3s/config.yaml")))
        };
        let reserved = |mib: u32| format!("system-reserved=memory={}Ki", mib << 10);
        assert!(config(agent, "two").contains(&reserved(1024 - 400 + 60)), "{}", config(agent, "two"));
        assert!(config(server, "one").contains(&reserved(200)), "what k3s itself takes: {}", config(server, "one"));
        assert!(config(server, "one").contains(r#""disable": ["traefik"]"#), "{}", config(server, "one"));
        assert!(server.inspect("k3arm-file-one", "{{json .Config.Env}}").contains(r#""GOGC=33""#));
        create(&home, &text, &[]).exits(0).tells("nothing was changed");
    }
}

scenario! {
    /// A flag that k3s does not know is only warned of, before and by k3s itself; it never reaches an agent, which would end.
    fn an_unknown_flag_is_a_warning(lab) {
        let home = Home::new();
        let ran = create(&home, &file("{ no-such-flag: 1, cluster-cidr: 10.88.0.0/16 }"), &[]).exits(0);
        ran.exits(0).tells("k3s knows no flag no-such-flag").tells("k3s ignores the flag --no-such-flag").tells("cluster file is ready");
        let agent = lab.host("h2");
        let config = agent.sh(&format!("cat {}", agent.volume_path("k3arm-file-two-etc", "k3s/config.yaml")));
        assert!(!config.contains("no-such-flag") && !config.contains("cluster-cidr"), "{config}");
    }
}

scenario! {
    fn a_flag_of_k3arms_own_is_refused(lab) {
        let before = lab.snapshots();
        for flag in ["token: x", "node-name: x", "server: 'https://x'", "data-dir: /x", "https-listen-port: 7443"] {
            let ran = create(&Home::new(), &file(&format!("{{ {flag} }}")), &[]).exits(3).tells("nothing was changed");
            assert!(ran.stderr.contains("[owned-flag]") && ran.stderr.contains("hint: remove"), "{}", ran.all());
        }
        assert_eq!(lab.snapshots(), before);
    }
}

scenario! {
    fn a_broken_file_is_told_with_its_line(_lab) {
        let home = Home::new();
        let ran = create(&home, &file("{}").replace("role: agent", "role: worker"), &[]).exits(2);
        assert!(ran.stderr.contains("k3arm.yaml:10:36: "), "{}", ran.all());
        let ran = create(&home, &file("{ a: [1, 2"), &[]).exits(2);
        assert!(ran.stderr.contains("k3arm.yaml:") && ran.stderr.contains('^'), "{}", ran.all());
        let ran = create(&home, &file("{}").replace("profile", "profil"), &[]).exits(2);
        assert!(ran.stderr.contains("profil"), "{}", ran.all());
        assert_eq!(ran.stdout, "");
    }
}
