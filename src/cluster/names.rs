//! Names and labels on the hosts. They are the truth about what stands there, so they never change their meaning.

use super::{ClusterName, NodeName};
use crate::host::{HolderFacts, NodeFacts};

/// What the names of all that is made on a host begin with.
const OURS: &str = "k3arm-";

/// The cluster's name.
pub const LABEL_CLUSTER: &str = "k3arm.dev/cluster";
/// Which cluster of that name: [`super::Identity::id`].
pub const LABEL_CLUSTER_ID: &str = "k3arm.dev/cluster-id";
/// The node's name in Kubernetes.
pub const LABEL_NODE: &str = "k3arm.dev/node";
/// `server` or `agent`.
pub const LABEL_ROLE: &str = "k3arm.dev/role";
/// `v1.36.2+k3s1`, or the image's reference where its tag is no release.
pub const LABEL_RELEASE: &str = "k3arm.dev/release";
/// Digest of the index or manifest that the image was resolved to.
pub const LABEL_IMAGE: &str = "k3arm.dev/image-digest";
/// The IPv4 address under which the other nodes know it.
pub const LABEL_ADDRESS: &str = "k3arm.dev/address";
/// A hash of the wanted state, public settings only.
pub const LABEL_SPEC: &str = "k3arm.dev/spec";

/// `k3arm-<cluster>-<node>`; its volumes are called so too, with a suffix.
pub fn container_name(cluster: &ClusterName, node: &NodeName) -> String {
    format!("{OURS}{cluster}-{node}")
}

/// Whether a volume has a name that k3arm gave it; engines make nameless ones for what an image declares.
pub fn is_named_volume(name: &str) -> bool {
    name.starts_with(OURS)
}

/// On a holder, a container that is never started and keeps a node's images until the node is made: a hash of which they
/// are. It is there only when all of them are.
pub const LABEL_IMAGES: &str = "k3arm.dev/images";
/// On a holder: the cluster's name.
pub const LABEL_IMAGES_OF: &str = "k3arm.dev/images-of";

/// The volume in which a node finds its images, and the holder of it.
pub fn images_name(cluster: &ClusterName, node: &NodeName) -> String {
    format!("{}-images", container_name(cluster, node))
}

/// Where the node has that volume.
pub const IMAGES_PATH: &str = "/var/lib/rancher/k3s/agent/images";

/// Whether a node is one of this cluster.
pub fn is_node_of(node: &NodeFacts, cluster: &ClusterName) -> bool {
    node.labels.get(LABEL_CLUSTER).is_some_and(|name| name == cluster.as_str())
}

/// Whether a holder waits for a node of this cluster.
pub fn is_holder_of(holder: &HolderFacts, cluster: &ClusterName) -> bool {
    holder.labels.get(LABEL_IMAGES_OF).is_some_and(|name| name == cluster.as_str())
}

/// The volumes that go with a holder when its images are of no use.
pub fn volumes_of(holder: &HolderFacts) -> Vec<String> {
    holder.volumes.iter().filter(|volume| is_named_volume(volume)).cloned().collect()
}
