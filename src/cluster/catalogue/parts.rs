//! Which parts of k3s a cluster starts, and under which names it asks for their images.
//!
//! Source: `pkg/cli/server`, `pkg/agent/config`, `pkg/daemons/control` and `manifests` of k3s 1.31 to 1.36.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::K3s;
use super::super::config::disabled;
use super::super::flags::{is_true, items};
use crate::oci::Reference;

/// A part of k3s that comes as an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// Holds the namespaces of every pod.
    Pause,
    /// DNS.
    Coredns,
    /// The job that installs a HelmChart; Traefik is one.
    KlipperHelm,
    /// A pod on every node for each LoadBalancer service.
    KlipperLb,
    /// Makes volumes.
    LocalPathProvisioner,
    /// The provisioner's helper, on the node of the volume.
    Busybox,
    /// The Ingress controller.
    Traefik,
    /// `kubectl top`.
    MetricsServer,
}

impl Component {
    pub(super) const ALL: [Self; 8] = [
        Self::Pause,
        Self::Coredns,
        Self::KlipperHelm,
        Self::KlipperLb,
        Self::LocalPathProvisioner,
        Self::Busybox,
        Self::Traefik,
        Self::MetricsServer,
    ];

    /// The component of an image, by the last part of its repository: `coredns`, or `coredns` after a dash as in
    /// `mirrored-coredns-coredns`.
    pub fn of(image: &Reference) -> Option<Self> {
        let name = image.repository().rsplit('/').next()?;
        let is_named = |component: &Self| {
            let before = name.strip_suffix(component.name());
            before.is_some_and(|before| before.is_empty() || before.ends_with('-'))
        };
        Self::ALL.into_iter().find(is_named)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Coredns => "coredns",
            Self::KlipperHelm => "klipper-helm",
            Self::KlipperLb => "klipper-lb",
            Self::LocalPathProvisioner => "local-path-provisioner",
            Self::Busybox => "busybox",
            Self::Traefik => "traefik",
            Self::MetricsServer => "metrics-server",
        }
    }
}

/// What the server's flags, the profile's and the user's together, make of the parts.
pub(super) struct Parts {
    /// Items of `disable`.
    disabled: BTreeSet<String>,
    helm_controller: bool,
    network_policies: bool,
    /// `system-default-registry`.
    registry: Option<String>,
    /// `pause-image`.
    pause: Option<(&'static str, String)>,
    /// `helm-job-image`, or its successor.
    helm_job: Option<(&'static str, String)>,
    /// The profile leaves none out.
    pub(super) has_all: bool,
    pub(super) server_runs_pods: bool,
}

impl Parts {
    pub(super) fn of(k3s: &K3s, server_memory: u64) -> Self {
        let profile = k3s.profile.for_memory(server_memory);
        let flags = k3s.server_config(server_memory);
        let registry = text(&flags, "system-default-registry");
        let of_argument = |argument: &String| {
            let (name, image) = argument.trim_start_matches('-').split_once('=')?;
            (name == "default-job-image").then(|| ("helm-controller-arg", image.to_string()))
        };
        let helm_job = items(&flags, "helm-controller-arg").iter().rev().find_map(of_argument);
        Self {
            disabled: disabled(&flags),
            helm_controller: !is_true(&flags, "disable-helm-controller"),
            network_policies: !is_true(&flags, "disable-network-policy"),
            pause: text(&flags, "pause-image").map(|image| ("pause-image", pause(image, registry.as_deref()))),
            helm_job: helm_job.or_else(|| Some(("helm-job-image", text(&flags, "helm-job-image")?))),
            registry,
            has_all: profile.has_parts(),
            server_runs_pods: !is_true(&flags, "disable-agent"),
        }
    }

    /// What the user does without, of what k3s does by its own defaults.
    pub(super) fn missed(&self) -> Vec<&'static str> {
        let parts = [
            (self.starts(Component::Traefik), "no Ingress controller"),
            (self.starts(Component::KlipperLb), "no LoadBalancer services"),
            (self.starts(Component::MetricsServer), "no `kubectl top`"),
            (self.starts(Component::LocalPathProvisioner), "no default StorageClass"),
            (self.network_policies, "NetworkPolicy is not enforced"),
            (self.helm_controller, "no HelmChart resources"),
        ];
        parts.into_iter().filter(|(is_there, _)| !is_there).map(|(_, missed)| missed).collect()
    }

    /// Whether the cluster starts the component. `disable-cloud-controller` alone leaves the load balancer running: k3s then
    /// starts the controller for it alone.
    pub(super) fn starts(&self, component: Component) -> bool {
        let runs = |part: &str| !self.disabled.contains(part);
        match component {
            Component::Pause => true,
            Component::Coredns => runs("coredns"),
            // Traefik is the only chart that k3s brings.
            Component::KlipperHelm | Component::Traefik => self.helm_controller && runs("traefik"),
            Component::KlipperLb => runs("servicelb"),
            Component::LocalPathProvisioner | Component::Busybox => runs("local-storage"),
            Component::MetricsServer => runs("metrics-server"),
        }
    }

    /// The user's own image for a component, and the flag that says so.
    pub(super) fn renamed(&self, component: Component) -> Option<(&'static str, &str)> {
        let renamed = match component {
            Component::Pause => self.pause.as_ref(),
            Component::KlipperHelm => self.helm_job.as_ref(),
            _ => None,
        };
        renamed.map(|(flag, image)| (*flag, image.as_str()))
    }

    /// An image of the list as k3s asks for it: from `system-default-registry` if there is one. (`airgap-extra-registry` gives
    /// imported images more names, and changes none.)
    pub(super) fn named(&self, image: &Reference) -> Result<Reference, String> {
        let Some(registry) = &self.registry else { return Ok(image.clone()) };
        let rest = image.to_string().split_off(image.registry().len());
        format!("{registry}{rest}").parse().map_err(|error: crate::oci::ReferenceError| error.to_string())
    }
}

/// k3s puts the registry before the user's image too, unless it is there.
fn pause(image: String, registry: Option<&str>) -> String {
    match registry {
        Some(registry) if !image.starts_with(registry) => format!("{registry}/{image}"),
        _ => image,
    }
}

fn text(flags: &Map<String, Value>, flag: &str) -> Option<String> {
    flags.get(flag)?.as_str().filter(|text| !text.is_empty()).map(Into::into)
}
