//! Named volumes: which are ours, and removing one.

use std::collections::BTreeMap;

use bollard::query_parameters::RemoveVolumeOptions;
use serde::Deserialize;

use super::{Engine, Error, segment};
use crate::cluster::names::{LABEL_CLUSTER, is_named_volume};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    volumes: Option<Vec<WireVolume>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVolume {
    name: String,
    labels: Option<BTreeMap<String, String>>,
}

impl Engine {
    /// Volumes that carry the cluster label or whose name begins with `k3arm-`, with their labels.
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn volumes(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        let wire: Wire = self.get("/volumes", "list volumes").await?;
        let all = wire.volumes.into_iter().flatten().map(|volume| (volume.name, volume.labels.unwrap_or_default()));
        Ok(all.filter(|(name, labels)| is_named_volume(name) || labels.contains_key(LABEL_CLUSTER)).collect())
    }

    /// Removes a volume; one that is not there is removed already.
    ///
    /// # Errors
    /// [`Error::Conflict`] while a container uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let attempt = format!("remove volume {name}");
        let name_segment = segment(name);
        let request = self.docker.remove_volume(&name_segment, None::<RemoveVolumeOptions>);
        super::gone(self.carry_out(&attempt, Self::DISK, request).await)
    }
}
