//! The Docker engine of a host, through a unix socket: the host's own, or the end of a forward to it.
//!
//! The only door to Docker's API. It carries out single wishes (pull this digest, create this container) and reports
//! what is there; what to wish for is decided by others. Engines 20.10 to 29, both image stores. Requests carry no API
//! version, so an engine answers in its own; what is read from it is read tolerantly (every field may be missing,
//! unknown ones are ignored), what is written goes through bollard's types.
//!
//! Everything is bounded: answers in bytes and, streams aside, in time. Nothing is retried here.

mod archives;
mod chains;
mod containers;
mod error;
mod exec;
mod files;
mod holders;
mod images;
mod inventory;
mod load;
mod logs;
mod once;
mod progress;
mod pull;
mod save;
mod states;
mod transport;
mod upload;
mod volumes;

use std::path::Path;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

pub use archives::{FileKind, FileStat};
pub use error::{Cause, Error};
pub use holders::{Holder, HolderSpec};
pub use images::{Expected, ImageFacts, ImageId};
pub use inventory::HeldImage;
pub use logs::{Follow, LINE_LIMIT, Logs, Since};
pub use once::{OUTPUT_LIMIT, OneShot};
pub use pull::PullProgress;
pub use states::ContainerStatus;

use crate::host::{DiskFacts, EngineFacts, ImagePlace, ImageStore};
use error::Failure;
use transport::Transport;

/// One engine.
#[derive(Clone)]
pub struct Engine {
    transport: Transport,
    docker: Docker,
}

impl Engine {
    /// A Pi 1 GiB under load answers a list of containers in seconds; a minute is a machine in trouble.
    const ANSWER: Duration = Duration::from_secs(60);
    /// bollard has one deadline for all requests; ours differ, see [`Self::carry_out`].
    const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
    const PING: Duration = Duration::from_secs(15);

    /// The engine behind `socket`, once it has answered.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], [`Error::NotAnswering`] (nobody listens, or a forward that ends at once),
    /// [`Error::Timeout`] after 15 s.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let attempt = "reach Docker";
        let transport = Transport::new(socket);
        let carrier = transport.clone();
        let docker = Docker::connect_with_custom_transport(
            move |request| carrier.clone().carry(request),
            Some("http://docker"),
            Self::FOR_EVER.as_secs(),
            API_DEFAULT_VERSION,
        );
        let docker = docker.map_err(|error| Failure::from_bollard(error, Self::ANSWER).during(attempt))?;
        let ping = transport.open(hyper::Method::GET, "/_ping");
        let answer = tokio::time::timeout(Self::PING, ping).await.unwrap_or(Err(Failure::Timeout(Self::PING)));
        answer.map_err(|failure| failure.during(attempt).at_first_contact())?;
        Ok(Self { transport, docker })
    }

    /// What the engine says of itself. `disk` is empty: the API does not tell it.
    ///
    /// # Errors
    /// [`Error`], when it does not answer or not with what the API promises.
    pub async fn facts(&self) -> Result<EngineFacts, Error> {
        let version: Version = self.get("/version", "ask Docker for its version").await?;
        let info: Info = self.get("/info", "ask Docker what it is").await?;
        Ok(EngineFacts {
            version: version.version,
            api_version: version.api_version,
            os: version.os,
            arch: version.arch,
            store: info.store(),
            images: info.images_dir().map(|dir| ImagePlace { dir: dir.into(), disk: DiskFacts::default() }),
            storage_driver: info.driver.unwrap_or_default(),
            root_dir: info.docker_root_dir.unwrap_or_default(),
            disk: DiskFacts::default(),
            rootless: info.security_options.iter().flatten().any(|option| option_is(option, "rootless")),
            id: info.id.unwrap_or_default(),
        })
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str, attempt: &str) -> Result<T, Error> {
        self.transport.get(path, Self::ANSWER).await.map_err(|failure| failure.during(attempt))
    }

    /// The engine's images. containerd's store finds nothing at all where an image goes while it is listed: then it is
    /// asked again.
    async fn listed_images<T: serde::de::DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        const LISTS: usize = 5;
        for _ in 1..LISTS {
            match self.get("/images/json", "list images").await {
                Err(error) if error.is_not_found() => tracing::debug!(%error, "an image went while it was listed"),
                listed => return listed,
            }
        }
        self.get("/images/json", "list images").await
    }

    /// Carries out one of bollard's requests with a deadline.
    async fn carry_out<T>(
        &self,
        attempt: &str,
        within: Duration,
        request: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        let answer = tokio::time::timeout(within, request).await;
        let answer = answer.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError));
        answer.map_err(|error| Failure::from_bollard(error, within).during(attempt))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// What is not there is removed.
fn gone(removed: Result<(), Error>) -> Result<(), Error> {
    removed.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

/// `name=rootless` or `name=rootless,key=value`.
fn option_is(option: &str, name: &str) -> bool {
    option.split(',').any(|pair| pair.strip_prefix("name=") == Some(name))
}

/// Everything but unreserved characters; a name from elsewhere must not become another path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for image names, which have slashes, colons and an `@` of their own.
const IMAGE_NAME: &AsciiSet = &SEGMENT.remove(b'/').remove(b':').remove(b'@');

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

fn image_path(name: &str) -> String {
    utf8_percent_encode(name, IMAGE_NAME).to_string()
}

#[derive(Debug, Deserialize)]
struct Version {
    #[serde(rename = "Version")]
    version: String,
    #[serde(rename = "ApiVersion")]
    api_version: String,
    #[serde(rename = "Os", default)]
    os: String,
    #[serde(rename = "Arch", default)]
    arch: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(rename = "ID")]
    id: Option<String>,
    driver: Option<String>,
    driver_status: Option<Vec<Vec<String>>>,
    docker_root_dir: Option<String>,
    security_options: Option<Vec<String>>,
    containerd: Option<Containerd>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Containerd {
    address: Option<String>,
}

/// A containerd of the system's, which Docker did not start itself, and where it keeps images unless it is told otherwise.
const SYSTEM_CONTAINERD: &str = "/run/containerd/containerd.sock";
const SYSTEM_CONTAINERD_ROOT: &str = "/var/lib/containerd";

impl Info {
    /// Where images are, if not in the engine's own folder. Engines before 27 do not tell which containerd they use; those that
    /// keep images in it unasked are newer.
    fn images_dir(&self) -> Option<&'static str> {
        let address = self.containerd.as_ref()?.address.as_deref()?;
        let is_systems = address.trim_start_matches("/var") == SYSTEM_CONTAINERD;
        (is_systems && self.store() == ImageStore::Containerd).then_some(SYSTEM_CONTAINERD_ROOT)
    }

    /// The containerd store names its kind of driver in `DriverStatus`.
    fn store(&self) -> ImageStore {
        let is_snapshotter = |pair: &Vec<String>| {
            pair.first().is_some_and(|key| key == "driver-type")
                && pair.get(1).is_some_and(|value| value == "io.containerd.snapshotter.v1")
        };
        match self.driver_status.iter().flatten().any(is_snapshotter) {
            true => ImageStore::Containerd,
            false => ImageStore::Classic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_and_rootless_are_read_from_what_engines_print() {
        let info: Info = serde_json::from_str(
            r#"{"ID":"a","Driver":"overlayfs","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]],
                "SecurityOptions":["name=seccomp,profile=builtin","name=rootless"],"New":{"x":1}}"#,
        )
        .unwrap();
        assert_eq!((info.store(), info.images_dir()), (ImageStore::Containerd, None));
        let with_containerd = |status: &str, address: &str| -> Info {
            let text =
                format!(r#"{{"DriverStatus":[["driver-type","{status}"]],"Containerd":{{"Address":"{address}"}}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let (snapshotter, system) = ("io.containerd.snapshotter.v1", "/run/containerd/containerd.sock");
        assert_eq!(with_containerd(snapshotter, system).images_dir(), Some("/var/lib/containerd"));
        assert_eq!(with_containerd("", system).images_dir(), None, "the classic store");
        let its_own = "/var/run/docker/containerd/containerd.sock";
        assert_eq!(with_containerd(snapshotter, its_own).images_dir(), None);
        assert!(info.security_options.iter().flatten().any(|option| option_is(option, "rootless")));
        let classic: Info = serde_json::from_str(r#"{"DriverStatus":[["Backing Filesystem","extfs"]]}"#).unwrap();
        assert_eq!(classic.store(), ImageStore::Classic);
        assert!(!option_is("name=seccomp,profile=rootless", "rootless"));
    }

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(segment("../a?b#c/d"), "..%2Fa%3Fb%23c%2Fd");
        assert_eq!(image_path("127.0.0.1:5/a/b@sha256:00"), "127.0.0.1:5/a/b@sha256:00");
        assert_eq!(image_path("a?force=1"), "a%3Fforce%3D1");
    }
}
