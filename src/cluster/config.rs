//! The `config.yaml` that a node gets: what k3arm needs, what the profile chooses, and the user's flags over both.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::{Identity, K3s, NodeName, Profile, Release, Role};

/// Where k3s looks for its settings.
pub const CONFIG_PATH: &str = "/etc/rancher/k3s/config.yaml";
/// Port of the API server.
pub const API_PORT: u16 = 6443;

/// Flags that make a node part of this cluster: a user who sets one of them would get something else than k3arm says.
pub const OWNED_FLAGS: [&str; 17] = [
    "c",
    "d",
    "s",
    "t",
    "agent-token",
    "agent-token-file",
    "cluster-init",
    "cluster-reset",
    "config",
    "data-dir",
    "datastore-endpoint",
    "docker",
    "https-listen-port",
    "node-name",
    "server",
    "token",
    "token-file",
];

/// What a node's settings depend on.
#[derive(Debug, Clone)]
pub struct NodeSettings<'a> {
    /// The cluster's k3s settings.
    pub k3s: &'a K3s,
    /// The release, where the image's tag tells it.
    pub release: Option<&'a Release>,
    /// Server or agent.
    pub role: Role,
    /// Name in Kubernetes.
    pub name: &'a NodeName,
    /// Under which the other nodes reach it.
    pub address: Ipv4Addr,
    /// The interface of that address, for flannel.
    pub interface: Option<&'a str>,
    /// Kubernetes labels, `key=value`.
    pub labels: Vec<String>,
    /// Kubernetes taints.
    pub taints: &'a [String],
    /// Bytes of memory that the node may have.
    pub memory: u64,
    /// Bytes of memory of its host that it may not have.
    pub withheld: u64,
    /// The host has the legacy cgroup hierarchy.
    pub legacy_cgroup: bool,
    /// Address of the server.
    pub server: Ipv4Addr,
}

impl NodeSettings<'_> {
    /// All flags but the tokens.
    pub fn config(&self) -> Map<String, Value> {
        let profile = self.k3s.profile.for_memory(self.memory);
        let mut config = match self.role {
            Role::Server => profile.server_config(),
            Role::Agent => Map::new(),
        };
        config.insert("node-name".into(), json!(self.name));
        config.insert("node-ip".into(), json!(self.address));
        if let Some(interface) = self.interface {
            config.insert("flannel-iface".into(), json!(interface));
        }
        match self.role {
            Role::Server => config.insert("tls-san".into(), json!([self.address])),
            Role::Agent => config.insert("server".into(), json!(format!("https://{}:{API_PORT}", self.server))),
        };
        insert_list(&mut config, "node-label", &self.labels);
        insert_list(&mut config, "node-taint", self.taints);
        if self.role == Role::Server {
            insert_list(&mut config, "kube-controller-manager-arg", &profile.controller_manager_args(self.release));
        }
        insert_list(&mut config, "kubelet-arg", &self.kubelet_args(profile));
        self.k3s.merge_into(&mut config, self.role);
        config
    }

    /// The file with its tokens, as YAML.
    pub fn file(&self, identity: &Identity) -> String {
        let mut config = self.config();
        match self.role {
            Role::Server => {
                config.insert("token".into(), json!(identity.server_token.expose()));
                config.insert("agent-token".into(), json!(identity.agent_token.expose()));
            }
            Role::Agent => {
                config.insert("token".into(), json!(identity.join_token().expose()));
            }
        }
        // JSON is YAML, and this spelling of it has no cases that quote badly.
        config.iter().map(|(flag, value)| format!("{}: {value}\n", json!(flag))).collect()
    }

    /// The kubelet sees all of the machine's memory: what the node's container may not have is not to be given to pods, nor what
    /// k3s takes. From 1.35 it ends on the legacy hierarchy unless it is told not to.
    fn kubelet_args(&self, profile: Profile) -> Vec<String> {
        let mut args = profile.kubelet_args();
        if self.withheld > 0 || profile.reserves() {
            // By a limit, not by the memory of the machine, of which the next kernel tells a little more or less.
            let most = if self.withheld > 0 { self.memory.saturating_sub(LEAST_FOR_PODS) } else { u64::MAX };
            let taken = profile.taken_by_k3s(self.role).min(most);
            let reserved = self.withheld.saturating_add(taken);
            args.push(format!("{RESERVED}=memory={}Ki", reserved.div_ceil(1024)));
        }
        if self.legacy_cgroup && self.release.is_none_or(|release| release.minor() >= (1, 35)) {
            args.push("fail-cgroupv1=false".into());
        }
        args
    }
}

impl K3s {
    /// The flags of a server with so many bytes of memory, the profile's and the user's together.
    pub fn server_config(&self, memory: u64) -> Map<String, Value> {
        let mut config = self.profile.for_memory(memory).server_config();
        self.merge_into(&mut config, Role::Server);
        config
    }

    fn merge_into(&self, config: &mut Map<String, Value>, role: Role) {
        self.config.iter().for_each(|(flag, value)| merge(config, flag, value, role));
        // Traefik is a chart: whoever wants it back needs what installs charts.
        if role == Role::Server && !self.config.contains_key(CHARTS) && !disabled(config).contains("traefik") {
            config.remove(CHARTS);
        }
    }
}

/// Bytes below a limit that are never reserved: the kubelet ends where it has to reserve more than there is, its own threshold of 100 MiB
/// included, and DNS asks for 70 MiB.
const LEAST_FOR_PODS: u64 = 180 << 20;

/// The flag that leaves out what installs charts.
const CHARTS: &str = "disable-helm-controller";

/// The parts that a server is told to leave out.
pub(super) fn disabled(config: &Map<String, Value>) -> BTreeSet<String> {
    let parts = super::flags::items(config, "disable");
    parts.iter().flat_map(|item| item.split(',')).map(|part| part.trim().to_string()).collect()
}

fn insert_list(config: &mut Map<String, Value>, flag: &str, items: &[String]) {
    if !items.is_empty() {
        config.insert(flag.into(), json!(items));
    }
}

/// The user's value over ours: scalars replace, lists are joined, `name=value` items replace those of their name; what is to
/// be disabled is the user's list alone, so that parts can be had again (`disable+` adds to ours).
fn merge(config: &mut Map<String, Value>, flag: &str, value: &Value, role: Role) {
    if !super::flags::is_for(role, flag) {
        return;
    }
    let (Some(Value::Array(ours)), theirs) = (config.get_mut(flag).filter(|_| flag != "disable"), items(value)) else {
        config.insert(flag.into(), value.clone());
        return;
    };
    let is_reserved = |item: &Value| item.as_str().map(item_name) == Some(RESERVED);
    let reserved = ours.iter().find(|item| is_reserved(item)).cloned();
    let names: Vec<&str> = theirs.iter().filter_map(Value::as_str).map(item_name).collect();
    ours.retain(|item| !item.as_str().is_some_and(|item| names.contains(&item_name(item))));
    ours.extend(theirs.iter().map(|item| match &reserved {
        Some(reserved) if is_reserved(item) => with_reserved(reserved, item),
        _ => item.clone(),
    }));
}

/// The kubelet's `system-reserved=cpu=100m,memory=1Gi`: whoever reserves one resource does not give up what we reserve of another.
const RESERVED: &str = "system-reserved";

fn with_reserved(ours: &Value, theirs: &Value) -> Value {
    let parts = |item: &'_ Value| -> Vec<String> {
        let list = item.as_str().and_then(|item| item.split_once('=')).map_or("", |(_, list)| list);
        list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect()
    };
    let mut reserved = parts(theirs);
    for part in parts(ours) {
        if !reserved.iter().any(|reserved| item_name(reserved) == item_name(&part)) {
            reserved.push(part);
        }
    }
    json!(format!("{RESERVED}={}", reserved.join(",")))
}

fn items(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        single => vec![single.clone()],
    }
}

fn item_name(item: &str) -> &str {
    item.split_once('=').map_or(item, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(k3s: &K3s, role: Role) -> Map<String, Value> {
        node_settings(k3s, role).config()
    }

    fn node_settings(k3s: &K3s, role: Role) -> NodeSettings<'_> {
        static NAME: std::sync::LazyLock<NodeName> = std::sync::LazyLock::new(|| "pi1".parse().unwrap());
        NodeSettings {
            k3s,
            release: None,
            role,
            name: &NAME,
            address: Ipv4Addr::new(10, 0, 0, 1),
            interface: Some("eth0"),
            labels: vec!["disk=ssd".into()],
            taints: &[],
            memory: 1 << 30,
            withheld: 0,
            legacy_cgroup: true,
            server: Ipv4Addr::new(10, 0, 0, 1),
        }
    }

    fn with(config: Value) -> K3s {
        K3s { config: config.as_object().cloned().unwrap_or_default(), ..K3s::default() }
    }

    #[test]
    fn the_users_flags_win_item_by_item() {
        let k3s = with(json!({
            "kubelet-arg": ["fail-cgroupv1=true", "max-pods=20"], "tls-san": "pi.example", "flannel-iface": "wlan0"
        }));
        let config = settings(&k3s, Role::Server);
        let args = config["kubelet-arg"].as_array().unwrap();
        assert!(args.contains(&json!("fail-cgroupv1=true")) && !args.contains(&json!("fail-cgroupv1=false")));
        assert!(args.iter().any(|arg| arg.as_str().unwrap().starts_with("eviction-hard")), "ours is kept");
        assert_eq!(config["tls-san"], json!(["10.0.0.1", "pi.example"]));
        assert_eq!(config["flannel-iface"], json!("wlan0"));
    }

    #[test]
    fn parts_that_are_left_out_can_be_had_again() {
        let disabled = |config| settings(&with(config), Role::Server)["disable"].clone();
        assert_eq!(disabled(json!({"disable": ["traefik"]})), json!(["traefik"]));
        assert_eq!(disabled(json!({"disable": []})), json!([]));
        assert!(disabled(json!({"disable+": ["coredns"]})).as_array().unwrap().contains(&json!("traefik")));
        let charts = |config| settings(&with(config), Role::Server).get(CHARTS).cloned();
        assert_eq!(charts(json!({})), Some(json!(true)));
        assert_eq!(charts(json!({"disable": ["servicelb"]})), None, "Traefik is one");
        assert_eq!(charts(json!({"disable": "servicelb, traefik"})), Some(json!(true)));
        assert_eq!(charts(json!({"disable": [], CHARTS: true})), Some(json!(true)), "the user's own word");
    }

    #[test]
    fn memory_that_the_node_may_not_have_is_not_given_to_pods() {
        let k3s = with(json!({}));
        let config = NodeSettings { withheld: (100 << 20) + 1, ..node_settings(&k3s, Role::Agent) }.config();
        let args = config["kubelet-arg"].as_array().unwrap();
        assert!(args.contains(&json!(format!("system-reserved=memory={}Ki", 102_401 + (60 << 10)))), "{args:?}");
        for (all, memory) in [(466, 466), (466, 300), (466, 250), (466, 100), (8000, 200)] {
            let (memory, withheld) = (memory << 20, (all - memory) << 20);
            let tiny = K3s { profile: Profile::Tiny, ..K3s::default() };
            let config = NodeSettings { memory, withheld, ..node_settings(&tiny, Role::Server) }.config();
            let args = config["kubelet-arg"].as_array().unwrap();
            let reserved = args.iter().find_map(|arg| arg.as_str()?.strip_prefix("system-reserved=memory=")).unwrap();
            let reserved: u64 = reserved.strip_suffix("Ki").unwrap().parse().unwrap();
            assert!((reserved << 10) + (100 << 20) <= all << 20, "the kubelet ends: {memory} of {all}");
        }
        let full = K3s { profile: Profile::Full, ..K3s::default() };
        assert!(
            !settings(&full, Role::Server).contains_key("kubelet-arg")
                || !settings(&full, Role::Server)["kubelet-arg"].to_string().contains(RESERVED),
            "k3s' own defaults"
        );
        let limited = NodeSettings { withheld: 100 << 20, ..node_settings(&full, Role::Server) }.config();
        assert!(limited["kubelet-arg"].to_string().contains("system-reserved=memory=532480Ki"), "{limited:?}");
    }

    #[test]
    fn a_small_servers_controllers_are_named_where_their_names_are_known() {
        let k3s = with(json!({}));
        let named = |release: Option<&str>, role| {
            let release: Option<Release> = release.map(|release| release.parse().unwrap());
            let settings = NodeSettings { release: release.as_ref(), ..node_settings(&k3s, role) };
            settings.config().contains_key("kube-controller-manager-arg")
        };
        assert!(named(Some("v1.36.2+k3s1"), Role::Server));
        assert!(!named(Some("v1.36.2+k3s1"), Role::Agent));
        assert!(!named(Some("v1.99.0+k3s1"), Role::Server) && !named(None, Role::Server));
    }

    #[test]
    fn who_reserves_processor_time_leaves_memory_reserved() {
        let reserved = |theirs: &str| {
            let k3s = with(json!({"kubelet-arg": [theirs]}));
            let config = NodeSettings { withheld: 100 << 20, ..node_settings(&k3s, Role::Agent) }.config();
            let args = config["kubelet-arg"].as_array().unwrap();
            args.iter().filter_map(Value::as_str).filter(|arg| arg.starts_with(RESERVED)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(reserved("system-reserved=cpu=100m"), "system-reserved=cpu=100m,memory=163840Ki");
        assert_eq!(reserved("system-reserved=cpu=100m, memory=1Gi"), "system-reserved=cpu=100m,memory=1Gi");
        assert_eq!(reserved("system-reserved=memory=1Gi"), "system-reserved=memory=1Gi");
        assert_eq!(reserved("max-pods=20"), "system-reserved=memory=163840Ki");
    }

    #[test]
    fn a_small_server_leaves_parts_out_and_an_agent_is_not_told() {
        let k3s = with(json!({"cluster-cidr": "10.9.0.0/16", "node-label": "a=b", "no-such-flag": 1}));
        let server = settings(&k3s, Role::Server);
        assert!(server.contains_key("no-such-flag"), "a newer k3s may know it, and a server only warns");
        assert!(server["disable"].as_array().unwrap().contains(&json!("traefik")));
        let agent = settings(&k3s, Role::Agent);
        assert!(!agent.contains_key("disable") && !agent.contains_key("cluster-cidr"));
        assert!(!agent.contains_key("no-such-flag"), "an agent ends on a flag that it does not know");
        assert_eq!(agent["server"], json!("https://10.0.0.1:6443"));
        assert_eq!(agent["node-label"], json!(["disk=ssd", "a=b"]));
    }
}
