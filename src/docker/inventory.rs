//! All images that an engine holds, and which of them containers use.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::one_line;
use super::{Engine, Error, ImageId};

/// One image on an engine, also one that is incomplete there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldImage {
    /// Its ID there.
    pub id: ImageId,
    /// `name:tag`, in the short spelling that Docker prints. None, if its names were taken by others.
    pub repo_tags: Vec<String>,
    /// `name@digest`, in the short spelling.
    pub repo_digests: Vec<String>,
    /// Bytes on the host's disk, as the engine counts them: layers that images share count for each; on the containerd
    /// store what is kept compressed counts, too.
    pub size: u64,
    /// Seconds since 1970 when it was built, as it says itself; 0 if it does not.
    pub created: u64,
    /// A container is made of it, running or not.
    pub used: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: ImageId,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    created: i64,
}

#[derive(Debug, Deserialize)]
struct Container {
    #[serde(rename = "ImageID", default)]
    image: String,
}

impl Engine {
    /// All images but the intermediate ones of builds, by ID. (Names are taken from them with [`Self::untag`], which
    /// never takes the last one from an image that is used.)
    ///
    /// # Errors
    /// [`Error`], when the engine does not answer or not with what the API promises.
    pub async fn images(&self) -> Result<Vec<HeldImage>, Error> {
        let images = self.listed_images::<Listed>();
        let containers = self.get::<Vec<Container>>("/containers/json?all=1", "list containers");
        let (images, containers) = tokio::try_join!(images, containers)?;
        let used: BTreeSet<String> = containers.into_iter().map(|container| container.image).collect();
        let mut images: Vec<HeldImage> = images.into_iter().map(|image| image.into_held(&used)).collect();
        images.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(images)
    }
}

impl Listed {
    fn into_held(self, used: &BTreeSet<String>) -> HeldImage {
        HeldImage {
            used: used.contains(&self.id.to_string()),
            id: self.id,
            repo_tags: names(self.repo_tags),
            repo_digests: names(self.repo_digests),
            size: u64::try_from(self.size).unwrap_or_default(),
            created: u64::try_from(self.created).unwrap_or_default(),
        }
    }
}

/// Engines before 24 write `<none>` for no name; the containerd store writes a bare digest for an incomplete image.
fn names(names: Option<Vec<String>>) -> Vec<String> {
    let is_name = |name: &String| !name.contains("<none>") && !name.starts_with("sha256:");
    let mut names: Vec<String> = names.into_iter().flatten().filter(is_name).map(|name| one_line(&name)).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use crate::docker::transport::tests::Fake;
    use crate::oci::Digest;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn images_say_who_uses_them_and_have_no_names_that_are_none() {
        let ids = [Digest::of(b"a"), Digest::of(b"b")];
        let images = serde_json::json!([
            { "Id": ids[0], "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>", ids[0]], "Size": -1 },
            { "Id": ids[1], "RepoTags": ["b:2", "a:1"], "RepoDigests": null, "Size": 5, "Created": 7, "Containers": -1 },
        ]);
        let containers = serde_json::json!([{ "Id": "x" }, { "Id": "y", "ImageID": ids[1], "State": "exited" }]);
        let fake = Fake::serving(move |request, mut stream| {
            let body = if request.contains("/images") { images.to_string() } else { containers.to_string() };
            async move {
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes()).await;
            }
        });
        let mut held = fake.engine().await.unwrap().images().await.unwrap();
        held.sort_by_key(|image| image.created);
        let [nameless, named] = held.try_into().unwrap();
        assert_eq!((nameless.repo_tags.len(), nameless.repo_digests.len()), (0, 0), "{nameless:?}");
        assert_eq!((nameless.size, nameless.used), (0, false));
        assert_eq!(
            (named.repo_tags, named.size, named.created, named.used),
            (vec!["a:1".into(), "b:2".into()], 5, 7, true)
        );
    }
}
