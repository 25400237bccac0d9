//! Images to put into archives, and what is done with them in most tests.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use k3arm::archive::{Archive, Blob, Contents, Entry, Error, Flaw, Form, Image, Layer, NamedImage};
use k3arm::oci::{Descriptor, Digest, Document, MediaType, Reference};
use k3arm::store::{Source, Store};
use tempfile::TempDir;

use crate::supply::{Fake, content, descriptor, read};

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) fn described(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor { media_type: MediaType(media_type.into()), ..descriptor(bytes) }
}

pub(crate) fn blob(media_type: &str, bytes: impl Into<Bytes>) -> Blob {
    let bytes = bytes.into();
    Blob::new(described(media_type, &bytes), bytes).unwrap()
}

pub(crate) fn config(architecture: &str, layers: &[Bytes]) -> String {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let diff_ids = serde_json::to_string(&diff_ids).unwrap();
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":{diff_ids}}}}}"#
    )
}

/// An image of uncompressed layers that come from `Fake`s.
pub(crate) fn image(architecture: &str, layers: &[Bytes]) -> Image {
    let sources = layers.iter().map(|layer| Fake::new(layer, []) as Arc<dyn Source>);
    image_from(architecture, layers, sources)
}

pub(crate) fn image_from(
    architecture: &str,
    layers: &[Bytes],
    sources: impl Iterator<Item = Arc<dyn Source>>,
) -> Image {
    let config = blob("application/vnd.oci.image.config.v1+json", config(architecture, layers));
    let descriptors: Vec<Descriptor> = layers.iter().map(|layer| described(LAYER, layer)).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": config.descriptor(), "layers": descriptors});
    let layers = descriptors.into_iter().zip(sources).map(|(descriptor, source)| Layer { descriptor, source });
    Image { manifest: blob(MediaType::OCI_MANIFEST, manifest.to_string()), config, layers: layers.collect() }
}

pub(crate) fn index_of(images: &[(&str, &Image)]) -> Blob {
    let entry = |(architecture, image): &(&str, &Image)| {
        let mut entry = serde_json::to_value(image.manifest.descriptor()).unwrap();
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        entry
    };
    let manifests: Vec<_> = images.iter().map(entry).collect();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests});
    blob(MediaType::OCI_INDEX, index.to_string())
}

pub(crate) fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

pub(crate) fn single(name: &str, image: Image) -> Entry {
    Entry { reference: reference(name), root: image.manifest.clone(), images: vec![image] }
}

/// A layer of its own for each size, so that equal sizes are shared layers.
pub(crate) fn layers(sizes: &[usize]) -> Vec<Bytes> {
    sizes.iter().map(|size| content(*size)).collect()
}

/// An image of two platforms that share a layer, and another one that shares one too.
pub(crate) fn fleet() -> Contents {
    let (amd64, arm64) = (image("amd64", &layers(&[200_000, 700])), image("arm64", &layers(&[200_000, 512])));
    let root = index_of(&[("amd64", &amd64), ("arm64", &arm64)]);
    let k3s = Entry { reference: reference("rancher/k3s:v1"), root, images: vec![amd64, arm64] };
    let pause = single("rancher/mirrored-pause:3.10.2", image("arm64", &layers(&[512, 0])));
    Contents { images: vec![pause, k3s], left_out: BTreeSet::new() }
}

pub(crate) fn new_store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

/// All that a stream gives, and the error that it ends with.
pub(crate) async fn drained(stream: impl Stream<Item = Result<Bytes, Error>>) -> (Vec<u8>, Option<Error>) {
    let (mut all, mut error) = (Vec::new(), None);
    let mut stream = std::pin::pin!(stream);
    while let Some(item) = stream.next().await {
        assert!(error.is_none(), "something comes after the error");
        match item {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(found) => error = Some(found),
        }
    }
    (all, error)
}

pub(crate) async fn written(contents: &Contents, form: Form) -> Vec<u8> {
    let (_folder, store) = new_store();
    let packed = contents.pack(form).unwrap();
    let (bytes, error) = drained(packed.stream(&store)).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(bytes.len() as u64, packed.size());
    assert!(drained(packed.stream(&store)).await.0 == bytes, "a second stream has the same bytes");
    bytes
}

/// What another reader of tars finds: kind and mode, name, content.
pub(crate) async fn listed(tar: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let mut entries = tokio_tar::Archive::new(tar).entries().unwrap();
    let mut found = Vec::new();
    while let Some(entry) = entries.next().await {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let kind = if header.entry_type().is_dir() { 'd' } else { '-' };
        let kind = format!("{kind}{:o}", header.mode().unwrap());
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut entry, &mut content).await.unwrap();
        found.push((kind, name, content));
    }
    found
}

pub(crate) async fn opened(bytes: &[u8]) -> Result<Archive, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    std::fs::write(&path, bytes).unwrap();
    Archive::open(&path, folder.path()).await
}

pub(crate) async fn flaw(bytes: &[u8]) -> Flaw {
    let error = opened(bytes).await.map(|archive| archive.images().to_vec()).unwrap_err();
    error.flaw().unwrap_or_else(|| panic!("{error:?}")).clone()
}

/// Every byte of every complete image, through a store that checks it: `platform size size …` for each image.
pub(crate) async fn complete(archive: &Archive, root: &Descriptor) -> Vec<String> {
    let (_folder, store) = new_store();
    let mut found = Vec::new();
    for (platform, manifest) in archive.present(root).await.unwrap() {
        let bytes = archive.document(&manifest.digest).await.unwrap().unwrap();
        let Document::Manifest(image) = Document::parse(&manifest.media_type, &bytes).unwrap() else {
            panic!("an index")
        };
        let mut line = platform.to_string();
        for layer in &image.layers {
            let (bytes, end) = read(store.open_blob(layer, Arc::new(archive.clone())).await.unwrap()).await;
            end.unwrap();
            assert_eq!((Digest::of(&bytes), bytes.len() as u64), (layer.digest.clone(), layer.size));
            line += &format!(" {}", layer.size);
        }
        found.push(line);
    }
    found
}

pub(crate) fn names(images: &[NamedImage]) -> Vec<String> {
    images.iter().map(|image| image.reference.as_ref().map_or_else(|| "-".into(), ToString::to_string)).collect()
}
