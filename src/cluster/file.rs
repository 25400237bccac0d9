//! The cluster file, as people write it, and the names in it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Profile, Release, Selector};
use crate::host::{Destination, Host, HostName};
use crate::oci::Reference;

/// A cluster as the user wants it, from the file or from arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// What it is called.
    pub name: ClusterName,
    /// Which k3s.
    pub k3s: K3s,
    /// Its machines: one server, any number of agents.
    pub members: Vec<Member>,
    /// What its pods will run, placed into the nodes beforehand; every name is there once.
    pub images: Vec<Reference>,
}

/// Which k3s, and how it is set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct K3s {
    /// The image.
    pub source: Source,
    /// How much of it runs.
    pub profile: Profile,
    /// The user's own flags, by k3s' names, over what k3arm sets.
    pub config: Map<String, Value>,
}

/// Where the node image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The published image of a release.
    Release(Selector),
    /// An image that the user names.
    Image(Reference),
}

impl Default for Source {
    fn default() -> Self {
        Self::Release(Selector::Channel("stable".into()))
    }
}

impl FromStr for Source {
    type Err = crate::oci::ReferenceError;

    /// A release in either spelling, a channel, or an image; an image's tag may be spelled like the release, with `+`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(selector) => Ok(Self::Release(selector)),
            Err(_) => text.replace('+', "-").parse().map(Self::Image),
        }
    }
}

impl fmt::Display for Source {
    /// As people write it, and as it can be read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(selector) => fmt::Display::fmt(selector, f),
            Self::Image(reference) => f.write_str(&reference.familiar()),
        }
    }
}

/// One machine of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// How it is reached.
    pub host: Host,
    /// Its name in Kubernetes, if the user chose one; else its host name.
    pub node_name: Option<NodeName>,
    /// Server or agent.
    pub role: Role,
    /// Under which address the other machines reach it, if the user said.
    pub address: Option<Ipv4Addr>,
    /// Kubernetes labels.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes taints, `key=value:Effect`.
    pub taints: Vec<String>,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Control plane, and workloads too.
    Server,
    /// Workloads only.
    Agent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Agent => "agent",
        })
    }
}

/// Why a name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: lower-case letters, digits and - are expected, at most {max}, not first or last -")]
pub struct NameError {
    what: &'static str,
    text: String,
    max: usize,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || $extra.contains(b as char);
                let ends_ok = !text.starts_with(['-', '.']) && !text.ends_with(['-', '.']);
                if text.is_empty() || text.len() > $max || !ends_ok || !text.bytes().all(allowed) {
                    return Err(NameError { what: $what, text: text.into(), max: $max });
                }
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A cluster's name: part of names of containers, volumes and kubeconfig contexts.
    ClusterName, "cluster name", 40, "-"
);
name!(
    /// A node's name in Kubernetes (RFC 1123 subdomain).
    NodeName, "node name", 63, "-."
);

/// The file's own shape.
#[derive(Deserialize)]
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

#[derive(Deserialize)]
enum ApiVersion {
    #[serde(rename = "k3arm.dev/v1alpha1")]
    V1Alpha1,
}

#[derive(Deserialize)]
enum Kind {
    Cluster,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: ClusterName,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct K3sEntry {
    version: Option<Release>,
    channel: Option<String>,
    image: Option<Reference>,
    #[serde(default)]
    profile: Profile,
    #[serde(default)]
    config: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostEntry {
    name: NodeName,
    ssh: Destination,
    role: Role,
    address: Option<Ipv4Addr>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    taints: Vec<String>,
}

/// Why a text is not a cluster file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not YAML, or not of the file's shape; the message says where.
    #[error("{0}")]
    Yaml(String),
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

/// Why a set of machines is no cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Exactly one is needed.
    #[error("a cluster has one server, {0} were given")]
    Servers(usize),
    /// Two entries for one machine.
    #[error("{0} is named twice: a Docker host runs one node")]
    Twice(String),
}

impl Cluster {
    /// Reads a cluster file.
    ///
    /// # Errors
    /// [`FileError`], with line and column where the text is wrong.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let document: Document = serde_saphyr::from_str(text).map_err(|error| FileError::Yaml(error.to_string()))?;
        let Document { api_version: ApiVersion::V1Alpha1, kind: Kind::Cluster, metadata, k3s, hosts, images } =
            document;
        let members = hosts.into_iter().map(HostEntry::member).collect();
        let k3s = k3s.k3s()?;
        let images = each_once(images, &k3s.source)?;
        let cluster = Self { name: metadata.name, k3s, members, images };
        cluster.check()?;
        Ok(cluster)
    }

    /// The member that is the server.
    pub fn server(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.role == Role::Server)
    }

    /// The rules that hold for files and arguments alike.
    ///
    /// # Errors
    /// [`MembersError`].
    pub fn check(&self) -> Result<(), MembersError> {
        let servers = self.members.iter().filter(|member| member.role == Role::Server).count();
        if servers != 1 {
            return Err(MembersError::Servers(servers));
        }
        for (position, member) in self.members.iter().enumerate() {
            let twice = self.members[..position].iter().any(|earlier| {
                earlier.host.destination == member.host.destination || earlier.host.name == member.host.name
            });
            if twice {
                return Err(MembersError::Twice(member.host.name.to_string()));
            }
        }
        Ok(())
    }
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
    fn member(self) -> Member {
        Member {
            host: Host { name: HostName::new(self.name.as_str()), destination: self.ssh },
            node_name: Some(self.name),
            role: self.role,
            address: self.address,
            labels: self.labels,
            taints: self.taints,
        }
    }
}

impl K3sEntry {
    fn k3s(self) -> Result<K3s, FileError> {
        let source = match (self.version, self.channel, self.image) {
            (None, None, None) => Source::default(),
            (Some(release), None, None) => Source::Release(Selector::Release(release)),
            (None, Some(channel), None) => Source::Release(channel.parse()?),
            (None, None, Some(image)) => Source::Image(image),
            _ => return Err(FileError::Source),
        };
        Ok(K3s { source, profile: self.profile, config: self.config })
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
  - { name: pi2, ssh: 'ssh://pi@10.0.0.12:2222', role: agent, labels: { disk: ssd }, taints: ['a=b:NoSchedule'] }
";

    #[test]
    fn a_file_is_read() {
        let cluster = Cluster::parse(FILE).unwrap();
        assert_eq!((cluster.name.as_str(), cluster.members.len()), ("home", 2));
        assert_eq!(cluster.k3s.source, Source::Release("v1.36.2+k3s1".parse().unwrap()));
        assert_eq!(cluster.members[1].labels["disk"], "ssd");
        assert_eq!(cluster.members[0].host.name.as_str(), "pi1");
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
    fn sources_are_printed_as_they_are_written() {
        for text in ["stable", "v1.36", "v1.36.2+k3s1", "ghcr.io/me/k3s:mine", "me/k3s:mine"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = Cluster::parse(&text);
            let _ = with_images(&text);
        }
    }
}
