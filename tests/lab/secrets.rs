//! No secret anywhere but in files inside volumes.

use std::fs;
use std::path::Path;

use crate::create::create;
use crate::host::{Host, text};
use crate::k3arm::Home;
use crate::scenario;

/// Every secret of a cluster: tokens and passwords in the volumes of a node, and the private keys of its CAs.
fn secrets(host: &Host, node: &str) -> Vec<String> {
    let etc = host.volume_path(&format!("k3arm-home-{node}-etc"), "");
    let k3s = host.volume_path(&format!("k3arm-home-{node}-k3s"), "");
    let files = host.sh(&format!(
        "grep token {etc}/k3s/config.yaml; cat {etc}/node/password {k3s}/server/token {k3s}/server/agent-token 2>/dev/null; \
         cat {k3s}/server/tls/*.key {etc}/k3s/k3s.yaml 2>/dev/null | grep -E '^[A-Za-z0-9+/=]{{40,}}$|client-key-data' || true"
    ));
    let words = files.split(|c: char| c.is_whitespace() || c == '"');
    // A token is `K10<hash of the CA>::<user>:<password>`: the password is the secret.
    let secret = |word: &str| word.rsplit("::").next().and_then(|rest| rest.rsplit(':').next()).map(String::from);
    let long = |word: &String| word.len() >= 32 && !word.contains('/') || word.len() >= 60;
    words.filter_map(secret).filter(long).collect()
}

/// All files below a folder, as text.
fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => {
                found.push((path.display().to_string(), text(&fs::read(&path).unwrap_or_default())))
            }
            _ => {}
        }
    }
}

scenario! {
    fn no_secret_is_anywhere_but_in_the_volumes(lab) {
        let home = Home::new();
        let hosts = ["h1", "h2"];
        let mut places: Vec<(String, String)> = Vec::new();
        let ran = create(&home, "home", &hosts, &["-vv"]).exits(0);
        assert!(ran.stderr.contains("TRACE"), "the log says all: {}", ran.all());
        places.push(("-vv create".into(), ran.all()));
        for more in [&["-o", "json"][..], &["-o", "yaml"], &["--dry-run"], &["--dry-run", "-o", "json", "-vv"]] {
            places.push((format!("{more:?}"), create(&home, "home", &hosts, more).exits(0).all()));
        }
        // Plans that hold the standing cluster's token: of an agent that is added, of the removal.
        for format in ["table", "json", "yaml"] {
            let plan = create(&home, "home", &["h1", "h2", "h3"], &["--dry-run", "-vv", "-o", format]).exits(0).all();
            assert!(plan.contains("k3arm-home-h3"), "{plan}");
            places.push((format!("plan as {format}"), plan));
        }
        for arguments in [&["cluster", "delete", "home", "--dry-run", "-vv", "-o", "json"][..], &["cluster", "list", "-vv", "-o", "json"]] {
            places.push((format!("{arguments:?}"), home.k3arm(arguments).exits(0).all()));
        }
        files(&home.path("k3arm"), &mut places);
        let mut secrets: Vec<String> = Vec::new();
        for host in hosts.map(|host| lab.host(host)) {
            secrets.extend(self::secrets(host, &host.name));
            places.push((format!("docker inspect on {}", host.name), host.sh("docker ps -aq | xargs docker inspect; docker volume ls -q | xargs docker volume inspect")));
            places.push((format!("ps on {}", host.name), host.sh("ps -efww; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")));
            places.push((format!("docker logs on {}", host.name), host.sh(&format!("docker logs k3arm-home-{} 2>&1", host.name))));
        }
        assert!(secrets.len() >= 5, "the test must know the secrets: {}", secrets.len());
        for (place, text) in &places {
            for secret in &secrets {
                assert!(!text.contains(secret), "a secret ({}…) in: {place}", &secret[..6]);
            }
        }
        let mode = lab.host("h2").sh(&format!("stat -c %a {}", lab.host("h2").volume_path("k3arm-home-h2-etc", "k3s/config.yaml")));
        assert_eq!(mode, "600");
        // The server's own token, which can add servers, is on no agent.
        let token = |flag: &str| {
            let server = lab.host("h1");
            let line = server.sh(&format!("grep '^\"{flag}\"' {}", server.volume_path("k3arm-home-h1-etc", "k3s/config.yaml")));
            line.split('"').nth(3).expect("a token").to_string()
        };
        let agent = lab.host("h2").sh(&format!("grep -r '' {}", lab.host("h2").volume_path("k3arm-home-h2-etc", "")));
        assert!(agent.contains(&token("agent-token")) && !agent.contains(&token("token")));
    }
}
