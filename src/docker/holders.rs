//! Holders: containers that are never started and keep a volume, and through them files can be put into it.
//!
//! The API puts files into containers only, not into volumes. A volume that a container refers to is not swept away by
//! a `docker volume prune`; the holder itself is by a `docker container prune`, like a node that is stopped.

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RenameContainerOptionsBuilder};

use super::containers::small_log;
use super::{Engine, Error, ImageId, segment};
use crate::cluster::names::LABEL_IMAGES;

/// What a holder shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderSpec {
    /// The container's name.
    pub name: String,
    /// Any image's ID; nothing of it is run.
    pub image: ImageId,
    /// Where in the container, and which volume: path → name. One that is not there is made.
    pub volumes: BTreeMap<String, String>,
    /// For the container and for volumes that are made with it; [`LABEL_IMAGES`] must be among them.
    pub labels: BTreeMap<String, String>,
}

/// A holder on an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The container's ID.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// The container's labels.
    pub labels: BTreeMap<String, String>,
    /// Where in the container, and which volume: path → name. Those that its image asks for are here, too.
    pub volumes: BTreeMap<String, String>,
}

impl Engine {
    /// Makes a holder and its volumes, and gives its ID. It has no network and nothing to run.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken, [`Error::NotFound`] without the image.
    pub async fn create_holder(&self, spec: &HolderSpec) -> Result<String, Error> {
        let options = CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let request = self.docker.create_container(Some(options), body(spec));
        Ok(self.carry_out(&format!("create container {}", spec.name), Self::DISK, request).await?.id)
    }

    /// All containers with [`LABEL_IMAGES`], by name. They are removed with [`Self::remove`].
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn holders(&self) -> Result<Vec<Holder>, Error> {
        let mut holders = Vec::new();
        for listed in self.labelled(LABEL_IMAGES).await? {
            match self.inspect(&listed.id).await {
                Ok(inspected) => holders.push(inspected.into_holder()),
                // Removed since it was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        holders.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(holders)
    }

    /// Gives the container `id` (or its name) another name.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken, [`Error::NotFound`] if there is no such container.
    pub async fn rename(&self, id: &str, name: &str) -> Result<(), Error> {
        let options = RenameContainerOptionsBuilder::default().name(name).build();
        let id_segment = segment(id);
        let request = self.docker.rename_container(&id_segment, options);
        self.carry_out(&format!("rename container {id} to {name}"), Self::ANSWER, request).await
    }
}

fn body(spec: &HolderSpec) -> ContainerCreateBody {
    let labels: std::collections::HashMap<_, _> = spec.labels.clone().into_iter().collect();
    let mounts = spec.volumes.iter().map(|(path, name)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.clone()),
        target: Some(path.clone()),
        volume_options: Some(MountVolumeOptions {
            // What the image has at that path has no place in it.
            no_copy: Some(true),
            labels: Some(labels.clone()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    });
    ContainerCreateBody {
        image: Some(spec.image.to_string()),
        // Engines refuse a container with nothing to run.
        entrypoint: Some(vec!["k3arm-holder".into()]),
        cmd: Some(Vec::new()),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            mounts: Some(mounts.collect()),
            log_config: Some(small_log()),
            ..HostConfig::default()
        }),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn a_holder_has_a_volume_and_nothing_to_do() {
        let spec = HolderSpec {
            name: "k3arm-images-home".into(),
            image: Digest::of(b""),
            volumes: BTreeMap::from([("/images".into(), "k3arm-images-home".into())]),
            labels: BTreeMap::from([(LABEL_IMAGES.into(), "home".into())]),
        };
        insta::assert_json_snapshot!(serde_json::to_value(body(&spec)).unwrap());
    }
}
