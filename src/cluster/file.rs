//! The cluster file, as people write it: read, written, and described for editors.

mod fault;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Cluster, ClusterName, K3s, Member, MembersError, NodeName, OWNED_FLAGS, Profile, Quantity, Release, Role, Selector,
    Source, flags,
};
use crate::host::{Destination, Host, HostName};
use crate::oci::Reference;

pub use fault::Fault;

/// The file's own shape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: ApiVersion,
    kind: Kind,
    metadata: Metadata,
    #[serde(default)]
    k3s: K3sEntry,
    hosts: Vec<HostEntry>,
    #[serde(default)]
    images: Vec<Reference>,
}

#[derive(Serialize, Deserialize)]
enum ApiVersion {
    #[serde(rename = "k3arm.dev/v1alpha1")]
    V1Alpha1,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Cluster,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: ClusterName,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct K3sEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Release>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Reference>,
    #[serde(default)]
    profile: Profile,
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostEntry {
    name: NodeName,
    ssh: Destination,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Ipv4Addr>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    taints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Quantity>,
}

/// Why a text is not a cluster file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not YAML, or not of the file's shape.
    #[error(transparent)]
    Text(#[from] Fault),
    /// `version`, `channel` and `image` exclude each other.
    #[error("k3s: only one of version, channel and image can be given")]
    Source,
    /// Not a channel.
    #[error(transparent)]
    Channel(#[from] super::ReleaseError),
    /// Two digests under one name, of which a node can keep one.
    #[error("images: {0} is named with two digests")]
    Digests(String),
    /// The node's own image among those of the pods.
    #[error("images: {0} is the nodes' own image (k3s.image): only what runs in pods belongs there")]
    NodeImage(String),
    /// See [`Cluster::check`].
    #[error(transparent)]
    Members(#[from] MembersError),
}

impl Cluster {
    /// Reads a cluster file.
    ///
    /// # Errors
    /// [`FileError`], with the place where the text is wrong.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let document: Document = serde_saphyr::from_str(text).map_err(|error| Fault::of(&error, text))?;
        let Document { api_version: ApiVersion::V1Alpha1, kind: Kind::Cluster, metadata, k3s, hosts, images } =
            document;
        let members = hosts.into_iter().map(HostEntry::member).collect();
        let k3s = k3s.k3s()?;
        let images = each_once(images, &k3s.source)?;
        let cluster = Self { name: metadata.name, k3s, members, images };
        cluster.check()?;
        Ok(cluster)
    }

    /// The file that describes this cluster, with everything in it that was left to its default.
    pub fn to_file(&self) -> Value {
        let document = Document {
            api_version: ApiVersion::V1Alpha1,
            kind: Kind::Cluster,
            metadata: Metadata { name: self.name.clone() },
            k3s: K3sEntry::of(&self.k3s),
            hosts: (1..).zip(&self.members).map(HostEntry::of).collect(),
            images: self.images.clone(),
        };
        json!(document)
    }
}

/// The JSON schema of the cluster file (draft 2020-12), for editors: what may stand where, and what it means.
pub fn schema() -> Value {
    let mut schema: Value = serde_json::from_str(include_str!("file/schema.json")).unwrap_or_default();
    // k3s takes its flags in YAML too; those that k3arm sets itself are refused.
    let settable = flags::SERVER.iter().chain(&flags::AGENT).filter(|flag| !OWNED_FLAGS.contains(flag));
    let flags: Map<String, Value> = settable.map(|flag| (flag.to_string(), json!({}))).collect();
    schema["properties"]["k3s"]["properties"]["config"]["properties"] = Value::Object(flags);
    schema
}

/// The images in the user's order, without those that are there again.
fn each_once(images: Vec<Reference>, source: &Source) -> Result<Vec<Reference>, FileError> {
    let mut once: Vec<Reference> = Vec::new();
    for image in images {
        // A node knows an image by its name and tag.
        let name = image.on_engine();
        if matches!(source, Source::Image(node) if node.on_engine() == name) {
            return Err(FileError::NodeImage(image.familiar()));
        }
        match once.iter().find(|earlier| earlier.on_engine() == name) {
            None => once.push(image),
            Some(earlier) if *earlier == image => {}
            Some(_) => return Err(FileError::Digests(name.familiar())),
        }
    }
    Ok(once)
}

impl HostEntry {
    fn of((number, member): (usize, &Member)) -> Self {
        let name = member.node_name.clone().or_else(|| member.host.name.as_str().to_lowercase().parse().ok());
        Self {
            name: name.unwrap_or_else(|| NodeName::numbered(number)),
            ssh: member.host.destination.clone(),
            role: member.role,
            address: member.address,
            labels: member.labels.clone(),
            taints: member.taints.clone(),
            memory: member.memory,
        }
    }

    fn member(self) -> Member {
        Member {
            host: Host { name: HostName::new(self.name.as_str()), destination: self.ssh },
            node_name: Some(self.name),
            role: self.role,
            address: self.address,
            labels: self.labels,
            taints: self.taints,
            memory: self.memory,
        }
    }
}

impl K3sEntry {
    fn of(k3s: &K3s) -> Self {
        let (mut version, mut channel, mut image) = (None, None, None);
        match &k3s.source {
            Source::Release(Selector::Release(release)) => version = Some(release.clone()),
            Source::Release(Selector::Channel(name)) => channel = Some(name.clone()),
            Source::Image(reference) => image = Some(reference.clone()),
        }
        Self {
            version,
            channel,
            image,
            profile: k3s.profile,
            config: k3s.config.clone(),
            environment: k3s.environment.clone(),
        }
    }

    fn k3s(self) -> Result<K3s, FileError> {
        let source = match (self.version, self.channel, self.image) {
            (None, None, None) => Source::default(),
            (Some(release), None, None) => Source::Release(Selector::Release(release)),
            (None, Some(channel), None) => Source::Release(channel.parse()?),
            (None, None, Some(image)) => Source::Image(image),
            _ => return Err(FileError::Source),
        };
        Ok(K3s { source, profile: self.profile, config: self.config, environment: self.environment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
apiVersion: k3arm.dev/v1alpha1
kind: Cluster
metadata: { name: home }
k3s: { version: v1.36.2+k3s1, profile: small, config: { write-kubeconfig-mode: '0640' } }
hosts:
  - { name: pi1, ssh: pi@pi1.local, role: server }
  - { name: pi2, ssh: 'ssh://pi@10.0.0.12:2222', role: agent, labels: { disk: ssd }, taints: ['a=b:NoSchedule'], memory: 768Mi }
";

    #[test]
    fn a_file_is_read() {
        let cluster = Cluster::parse(FILE).unwrap();
        assert_eq!((cluster.name.as_str(), cluster.members.len()), ("home", 2));
        assert_eq!(cluster.k3s.source, Source::Release("v1.36.2+k3s1".parse().unwrap()));
        assert_eq!(cluster.members[1].labels["disk"], "ssd");
        assert_eq!(cluster.members[0].host.name.as_str(), "pi1");
        assert_eq!(cluster.members[1].memory, Some(Quantity(768 << 20)));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = |from: &str, to: &str| Cluster::parse(&FILE.replace(from, to)).unwrap_err().to_string();
        assert!(wrong("role: agent", "role: worker").contains("line 7"), "{}", wrong("role: agent", "role: worker"));
        assert!(wrong("profile", "profil").contains("profil"));
        assert!(wrong("name: home", "name: Home").contains("Home"));
        assert!(wrong("role: server", "role: agent").contains("one server"));
        assert!(wrong("name: pi2", "name: pi1").contains("pi1 is named twice"));
        assert!(wrong("version: v1.36.2+k3s1", "version: v1.36.2+k3s1, channel: stable").contains("only one"));
        assert!(Cluster::parse("").is_err());
    }

    /// The cluster of the file with this list of images.
    fn with_images(images: &str) -> Result<Cluster, FileError> {
        Cluster::parse(&format!("{FILE}images:\n{images}"))
    }

    #[test]
    fn images_are_read_and_kept_once() {
        assert!(Cluster::parse(FILE).unwrap().images.is_empty());
        let digest = crate::oci::Digest::of(b"");
        let text =
            format!("  - ghcr.io/me/app:1.2\n  - busybox\n  - docker.io/library/busybox:latest\n  - a/b@{digest}\n");
        let images: Vec<String> = with_images(&text).unwrap().images.iter().map(Reference::familiar).collect();
        assert_eq!(images, ["ghcr.io/me/app:1.2", "busybox:latest", &format!("a/b@{digest}")]);
    }

    #[test]
    fn images_that_are_wrong_are_named() {
        let wrong = |images: &str| with_images(images).unwrap_err().to_string();
        let bad = wrong("  - busybox\n  - Not/AnImage\n");
        assert!(bad.contains("line 10") && bad.contains("Not/AnImage"), "{bad}");
        assert!(wrong("  - a@sha256:12\n").contains("is not a digest"));
        assert!(wrong("  busybox: 1\n").contains("line 9"), "{}", wrong("  busybox: 1\n"));
        let digests = [b"a", b"b"].map(|bytes| crate::oci::Digest::of(bytes));
        let two = wrong(&format!("  - a:1@{}\n  - a:1@{}\n", digests[0], digests[1]));
        assert_eq!(two, "images: a:1 is named with two digests");
        let file = FILE.replace("version: v1.36.2+k3s1", "image: ghcr.io/me/k3s:mine");
        let twice = Cluster::parse(&format!("{file}images: [ghcr.io/me/k3s:mine]\n")).unwrap_err().to_string();
        assert!(twice.contains("ghcr.io/me/k3s:mine is the nodes' own image"), "{twice}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let images = "images: [busybox]\n";
        let cluster = Cluster::parse(&format!("{FILE}{images}")).unwrap();
        assert_eq!(Cluster::parse(&cluster.to_file().to_string()).unwrap(), cluster);
    }

    /// The names that the reader knows at a place, asked by one that it does not.
    fn known(text: &str) -> Vec<String> {
        let message = Cluster::parse(text).unwrap_err().to_string();
        let (_, names) = message.split_once("here are ").unwrap_or_else(|| panic!("{message}"));
        names.split(", ").map(Into::into).collect()
    }

    #[test]
    fn the_schema_knows_what_the_reader_knows() {
        let schema = schema();
        let keys = |pointer: &str| -> Vec<String> {
            schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
        };
        let same = |mut known: Vec<String>, mut keys: Vec<String>| {
            known.sort();
            keys.sort();
            assert_eq!(known, keys);
        };
        same(known("zzz: 1\n"), keys("/properties"));
        same(known("metadata: { zzz: 1 }\n"), keys("/properties/metadata/properties"));
        same(known("k3s: { zzz: 1 }\n"), keys("/properties/k3s/properties"));
        same(known("hosts: [{ zzz: 1 }]\n"), keys("/properties/hosts/items/properties"));
        let values = |pointer: &str| -> Vec<String> {
            let values = schema.pointer(pointer).unwrap().as_array().unwrap();
            values.iter().map(|value| value.as_str().unwrap().to_string()).collect()
        };
        same(known("k3s: { profile: zzz }\n"), values("/properties/k3s/properties/profile/enum"));
        same(known("hosts: [{ role: zzz }]\n"), values("/properties/hosts/items/properties/role/enum"));
        let flags = keys("/properties/k3s/properties/config/properties");
        assert!(flags.contains(&"write-kubeconfig-mode".to_string()) && !flags.contains(&"token".to_string()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = Cluster::parse(&text);
            let _ = with_images(&text);
        }
    }
}
