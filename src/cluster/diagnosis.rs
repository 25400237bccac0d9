//! What a node's log says is wrong, in one line with its fix.
//!
//! k3s ends with code 0 when its kubelet dies, runs on for ever with a wrong token, and buries the cause under its
//! shutdown noise. So the log is read line by line for the causes that are known. Texts as seen on k3s 1.36.

/// A cause, found in a line of a node's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Whether waiting can help.
    pub certainty: Certainty,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Whether waiting can help against a [`Cause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// Worth a warning, the node runs on.
    Warning,
    /// May pass: wrong only if it goes on while the server is up.
    IfItLasts,
    /// Will not pass.
    Final,
}

/// A known text, and what is said about it. `{}` in a message stands for the detail that follows the text in the line.
struct Rule {
    texts: &'static [&'static str],
    certainty: Certainty,
    message: &'static str,
    hint: &'static str,
}

/// Only an agent says so of itself; a server says `not authorized` of the agents that it refuses.
const JOINING: &str = "Waiting to retrieve agent configuration";

/// In order: the first rule all of whose texts are in the line decides.
const RULES: &[Rule] = &[
    Rule {
        texts: &["Unknown flag ", "found in config.yaml"],
        certainty: Certainty::Warning,
        message: "k3s ignores the flag {}",
        hint: "correct or remove it under k3s.config in the cluster file",
    },
    Rule {
        texts: &["bootstrap data already found and encrypted with different token"],
        certainty: Certainty::Final,
        message: "the node's volume holds data of an earlier cluster with another token",
        hint: "`k3arm cluster delete NAME` removes the volumes; to keep the data, put the old token back into /etc/rancher/k3s/config.yaml",
    },
    Rule {
        texts: &["--server is required"],
        certainty: Certainty::Final,
        message: "the agent's config.yaml names no server",
        hint: "`k3arm cluster delete NAME` and create it again: the file in the node's volume was changed",
    },
    Rule {
        texts: &["kubelet is configured to not run on a host using cgroup v1"],
        certainty: Certainty::Final,
        message: "the kubelet refuses the host's legacy cgroup hierarchy (v1)",
        hint: "remove fail-cgroupv1=true from kubelet-arg, or boot the host with systemd.unified_cgroup_hierarchy=1",
    },
    Rule {
        texts: &["Shutdown request received: ", "kubelet exited: "],
        certainty: Certainty::Final,
        message: "the kubelet ended: {}",
        hint: "look at the kubelet-arg entries under k3s.config in the cluster file",
    },
    Rule {
        texts: &["Shutdown request received: "],
        certainty: Certainty::Final,
        message: "k3s shut itself down: {}",
        hint: "look at the settings under k3s.config in the cluster file",
    },
    Rule {
        texts: &["level=fatal", "yaml: "],
        certainty: Certainty::Final,
        message: "the node's config.yaml is not YAML: {}",
        hint: "`k3arm cluster delete NAME` and create it again: the file in the node's volume was changed",
    },
    Rule {
        texts: &[JOINING, "snapshotter cannot be enabled"],
        certainty: Certainty::Final,
        message: "the node's container may not mount overlayfs: it is not privileged, or its disk cannot carry it",
        hint: "`k3arm cluster delete NAME` and create it again: the container was not made by k3arm as it stands; check that the host's engine is not rootless",
    },
    Rule {
        texts: &["token CA hash does not match"],
        certainty: Certainty::Final,
        message: "the agent's token pins another cluster's CA: {}",
        hint: "the agent belongs to another cluster: `k3arm cluster delete NAME` removes it, then create it again",
    },
    Rule {
        texts: &["CA cert validation failed", "certificate signed by unknown authority"],
        certainty: Certainty::Final,
        message: "another k3s answers on this host's ports",
        hint: "stop the other k3s on this host (`systemctl stop k3s k3s-agent`, or `docker ps` for another node), then run the command again",
    },
    Rule {
        texts: &[JOINING, "Node password rejected"],
        certainty: Certainty::Final,
        message: "the server knows a node of this name with another password: the volume of /etc/rancher (file node/password) is not the one it joined with",
        hint: "`kubectl delete node NODE` lets the name join anew, or give the machine another name",
    },
    Rule {
        texts: &[JOINING, "not authorized"],
        certainty: Certainty::Final,
        message: "the server refuses the agent's token",
        hint: "the token in the node's /etc/rancher/k3s/config.yaml is not this cluster's: `k3arm cluster delete NAME` and create it again",
    },
    Rule {
        texts: &["Failed to validate connection to cluster at "],
        certainty: Certainty::IfItLasts,
        message: "the agent cannot reach the server at {}",
        hint: "open TCP port 6443 between the hosts, and check that the address is one the agent's host can reach",
    },
    Rule {
        texts: &["level=fatal", "msg="],
        certainty: Certainty::Final,
        message: "k3s ended: {}",
        hint: "look at the settings under k3s.config in the cluster file",
    },
];

/// The cause that a line of a node's log names, if it names one.
pub fn diagnose(line: &str) -> Option<Cause> {
    let text = unescape(line);
    let rule = RULES.iter().find(|rule| rule.texts.iter().all(|known| text.contains(known)))?;
    let detail = rule.texts.last().and_then(|known| text.split_once(known)).map_or("", |(_, rest)| rest);
    let detail = shorten(if rule.certainty == Certainty::Warning { flag(&text) } else { detail });
    Some(Cause { certainty: rule.certainty, message: rule.message.replace("{}", &detail), hint: rule.hint.into() })
}

/// The lines of a log that say most, where no cause is known: errors before the shutdown began, else the last lines.
pub fn relevant<'a>(lines: &[&'a str], most: usize) -> Vec<&'a str> {
    let is_error = |line: &&&str| {
        ["level=error", "level=fatal", "panic:"].iter().any(|mark| line.contains(mark)) || line.starts_with(['E', 'F'])
    };
    let errors: Vec<&str> = lines.iter().filter(is_error).copied().collect();
    let chosen = if errors.is_empty() { lines } else { &errors };
    chosen[chosen.len().saturating_sub(most)..].to_vec()
}

/// logrus quotes a message that has spaces: `\"` and `\n` inside it are brought back.
fn unescape(line: &str) -> String {
    line.replace("\\\"", "\"").replace("\\n", " ")
}

fn flag(text: &str) -> &str {
    text.split_once("Unknown flag ").and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default()
}

/// One line for people: without the quotes around it, at most 200 characters.
fn shorten(detail: &str) -> String {
    let trimmed = detail.trim().trim_matches('"').trim_end_matches('"').trim();
    trimmed.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certainty(line: &str) -> Option<Certainty> {
        diagnose(line).map(|cause| cause.certainty)
    }

    #[test]
    fn every_row_of_what_k3s_was_seen_to_say_is_known() {
        let fatal = [
            r#"time="2026-11-23T17:00:00Z" level=fatal msg="yaml: line 1: did not find expected ',' or ']'""#,
            r#"level=error msg="Shutdown request received: \"kubelet exited: failed to validate kubelet configuration, error: kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported""#,
            r#"level=info msg="Waiting to retrieve agent configuration; server is not ready: \"overlayfs\" snapshotter cannot be enabled for \"/var/lib\"""#,
            r#"level=fatal msg="Error: preparing server: failed to bootstrap cluster data: bootstrap data already found and encrypted with different token""#,
            r#"level=error msg="CA cert validation failed: Get \"https://127.0.0.1:6443/cacerts\": x509: certificate signed by unknown authority""#,
            r#"level=fatal msg="Error: --server is required""#,
            r#"level=info msg="Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration from server: not authorized""#,
            r#"level=error msg="Failed to validate connection to cluster at https://10.0.0.1:6443: token CA hash does not match the Cluster CA certificate hash: a != b""#,
            r#"level=info msg="Waiting to retrieve agent configuration; server is not ready: /var/lib/rancher/k3s/agent/serving-kubelet.crt: Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match""#,
        ];
        for line in fatal {
            assert_eq!(certainty(line), Some(Certainty::Final), "{line}");
        }
        let unreachable = r#"level=error msg="Failed to validate connection to cluster at https://10.0.0.9:6443: failed to get CA certs: Get …: connect: no route to host""#;
        assert_eq!(certainty(unreachable), Some(Certainty::IfItLasts));
        assert!(diagnose(unreachable).unwrap().message.contains("https://10.0.0.9:6443"));
    }

    #[test]
    fn an_unknown_flag_is_named() {
        let line = r#"time="…" level=warning msg="Unknown flag --no-such-flag found in config.yaml, skipping\n""#;
        let cause = diagnose(line).unwrap();
        assert_eq!(
            (cause.certainty, cause.message.as_str()),
            (Certainty::Warning, "k3s ignores the flag --no-such-flag")
        );
    }

    #[test]
    fn ordinary_lines_are_no_cause() {
        for line in [
            r#"level=error msg="Sending HTTP/1.1 401 response to 10.0.0.2:39980: not authorized""#,
            r#"time="…" level=info msg="Starting k3s v1.36.3+k3s1""#,
            r#"level=info msg="Waiting for API server to become available""#,
            "I1123 17:23:49.628516      15 server.go:204] ok",
            "",
        ] {
            assert_eq!(diagnose(line), None, "{line}");
        }
    }

    #[test]
    fn without_a_cause_errors_come_before_shutdown_noise() {
        let lines = ["level=info a", "level=error b", "level=info c", "level=info d"];
        assert_eq!(relevant(&lines, 5), ["level=error b"]);
        assert_eq!(relevant(&lines[2..], 1), ["level=info d"]);
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,300}") {
            let _ = diagnose(&line);
        }
    }
}
