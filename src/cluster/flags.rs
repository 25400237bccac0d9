//! The flags that k3s takes in its configuration file, by name: k3s only warns of one it does not know, in a log
//! that nobody reads, so k3arm looks before.
//!
//! Source: `pkg/cli/cmds` of k3s 1.36.

use serde_json::{Map, Value};

use super::Role;

/// What `k3s agent` takes.
pub const AGENT: [&str; 46] = [
    "airgap-extra-registry",
    "alsologtostderr",
    "bind-address",
    "config",
    "container-runtime-endpoint",
    "data-dir",
    "debug",
    "default-runtime",
    "disable-apiserver-lb",
    "disable-default-registry-endpoint",
    "docker",
    "enable-pprof",
    "flannel-cni-conf",
    "flannel-conf",
    "flannel-iface",
    "image-credential-provider-bin-dir",
    "image-credential-provider-config",
    "image-service-endpoint",
    "kube-proxy-arg",
    "kubelet-arg",
    "lb-server-port",
    "log",
    "node-external-dns",
    "node-external-ip",
    "node-internal-dns",
    "node-ip",
    "node-label",
    "node-name",
    "node-taint",
    "nonroot-devices",
    "pause-image",
    "prefer-bundled-bin",
    "private-registry",
    "protect-kernel-defaults",
    "resolv-conf",
    "rootless",
    "selinux",
    "server",
    "snapshotter",
    "token",
    "token-file",
    "v",
    "vmodule",
    "vpn-auth",
    "vpn-auth-file",
    "with-node-id",
];

/// What `k3s server` takes.
pub const SERVER: [&str; 126] = [
    "advertise-address",
    "advertise-port",
    "agent-token",
    "agent-token-file",
    "airgap-extra-registry",
    "alsologtostderr",
    "apiserver-bind-address",
    "apiserver-port",
    "bind-address",
    "cluster-cidr",
    "cluster-dns",
    "cluster-domain",
    "cluster-init",
    "cluster-reset",
    "cluster-reset-restore-path",
    "config",
    "container-runtime-endpoint",
    "data-dir",
    "datastore-cafile",
    "datastore-certfile",
    "datastore-endpoint",
    "datastore-keyfile",
    "debug",
    "default-local-storage-path",
    "default-runtime",
    "disable",
    "disable-agent",
    "disable-apiserver",
    "disable-cloud-controller",
    "disable-controller-manager",
    "disable-default-registry-endpoint",
    "disable-etcd",
    "disable-helm-controller",
    "disable-kube-proxy",
    "disable-network-policy",
    "disable-scheduler",
    "docker",
    "egress-selector-mode",
    "embedded-registry",
    "enable-pprof",
    "etcd-arg",
    "etcd-disable-snapshots",
    "etcd-expose-metrics",
    "etcd-s3",
    "etcd-s3-access-key",
    "etcd-s3-bucket",
    "etcd-s3-bucket-lookup-type",
    "etcd-s3-config-secret",
    "etcd-s3-endpoint",
    "etcd-s3-endpoint-ca",
    "etcd-s3-folder",
    "etcd-s3-insecure",
    "etcd-s3-proxy",
    "etcd-s3-region",
    "etcd-s3-retention",
    "etcd-s3-secret-key",
    "etcd-s3-session-token",
    "etcd-s3-skip-ssl-verify",
    "etcd-s3-timeout",
    "etcd-snapshot-compress",
    "etcd-snapshot-dir",
    "etcd-snapshot-name",
    "etcd-snapshot-reconcile-interval",
    "etcd-snapshot-retention",
    "etcd-snapshot-schedule-cron",
    "flannel-backend",
    "flannel-cni-conf",
    "flannel-conf",
    "flannel-external-ip",
    "flannel-iface",
    "flannel-ipv6-masq",
    "helm-controller-arg",
    "helm-job-image",
    "https-listen-port",
    "image-credential-provider-bin-dir",
    "image-credential-provider-config",
    "image-service-endpoint",
    "kine-tls",
    "kube-apiserver-arg",
    "kube-cloud-controller-arg",
    "kube-cloud-controller-manager-arg",
    "kube-controller-arg",
    "kube-controller-manager-arg",
    "kube-proxy-arg",
    "kube-scheduler-arg",
    "kubelet-arg",
    "lb-server-port",
    "log",
    "node-external-dns",
    "node-external-ip",
    "node-internal-dns",
    "node-ip",
    "node-label",
    "node-name",
    "node-taint",
    "nonroot-devices",
    "pause-image",
    "prefer-bundled-bin",
    "private-registry",
    "protect-kernel-defaults",
    "resolv-conf",
    "rootless",
    "secrets-encryption",
    "secrets-encryption-provider",
    "selinux",
    "server",
    "service-cidr",
    "service-node-port-range",
    "servicelb-namespace",
    "snapshotter",
    "supervisor-metrics",
    "supervisor-port",
    "system-default-registry",
    "tls-san",
    "tls-san-security",
    "token",
    "token-file",
    "v",
    "vmodule",
    "vpn-auth",
    "vpn-auth-file",
    "with-node-id",
    "write-kubeconfig",
    "write-kubeconfig-group",
    "write-kubeconfig-mode",
    "write-kubeconfig-name",
];

/// The known flag that `unknown` was probably meant to be: at most two letters apart.
pub fn closest(unknown: &str) -> Option<&'static str> {
    let ranked = SERVER.iter().chain(&AGENT).map(|flag| (distance(unknown, flag), *flag));
    ranked.filter(|(distance, _)| *distance <= 2).min().map(|(_, flag)| flag)
}

/// Whether k3s knows the flag; the file takes `name+` too, which adds to a list.
pub fn is_known(flag: &str) -> bool {
    let name = flag.strip_suffix('+').unwrap_or(flag);
    SERVER.contains(&name) || AGENT.contains(&name)
}

/// Whether a node of this role may be given the flag. A server skips what it does not know with a warning, and may be
/// newer than this list; an agent ends on it.
pub fn is_for(role: Role, flag: &str) -> bool {
    let name = flag.strip_suffix('+').unwrap_or(flag);
    match role {
        Role::Server => SERVER.contains(&name) || !AGENT.contains(&name),
        Role::Agent => AGENT.contains(&name),
    }
}

/// A flag's items in a configuration, with those of `flag+`.
pub(super) fn items(config: &Map<String, Value>, flag: &str) -> Vec<String> {
    let added = format!("{flag}+");
    let values = [flag, &added].into_iter().filter_map(|flag| config.get(flag));
    let all = values.flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    all.filter_map(Value::as_str).map(Into::into).collect()
}

/// Whether a flag is set, as Go reads one.
pub(super) fn is_true(config: &Map<String, Value>, flag: &str) -> bool {
    match config.get(flag) {
        Some(Value::Bool(set)) => *set,
        Some(Value::Number(number)) => number.as_u64() == Some(1),
        Some(Value::String(text)) => matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"),
        _ => false,
    }
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_the_flag_that_was_meant() {
        assert_eq!(closest("tls-sans"), Some("tls-san"));
        assert_eq!(closest("flanel-backend"), Some("flannel-backend"));
        assert_eq!(closest("no-such-flag-at-all"), None);
        assert!(is_known("kubelet-arg+") && is_known("tls-san") && !is_known("tls-sans"));
    }
}
