//! What is written, and how it ends when it cannot be.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use k3arm::archive::{Blob, Contents, Error, Flaw, Form, Wrapping};
use k3arm::oci::{Descriptor, Digest};
use k3arm::store::Source;

use crate::images::*;
use crate::supply::{Fake, Fault, content};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_again() {
    let contents = fleet();
    let bytes = written(&contents, Form::Layout).await;
    let archive = opened(&bytes).await.unwrap();
    assert_eq!(names(archive.images()), ["docker.io/rancher/k3s:v1", "docker.io/rancher/mirrored-pause:3.10.2"]);
    let [k3s, pause] = archive.images() else { panic!("two images") };
    assert_eq!(complete(&archive, &k3s.root).await, ["linux/amd64 200000 700", "linux/arm64 200000 512"]);
    assert_eq!(complete(&archive, &pause.root).await, ["linux/arm64 512 0"]);
    let swapped = Contents { images: contents.images.iter().rev().cloned().collect(), ..contents };
    assert!(written(&swapped, Form::Layout).await == bytes, "the order of what is put in makes no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tar_is_a_plain_image_layout_with_every_blob_once() {
    let contents = fleet();
    let entries = listed(&written(&contents, Form::Layout).await).await;
    let text = |index: usize| String::from_utf8(entries[index].2.clone()).unwrap();
    let heads: Vec<String> = entries[..4].iter().map(|(kind, name, _)| format!("{kind} {name}")).collect();
    assert_eq!(heads, ["-644 oci-layout", "-644 index.json", "d755 blobs", "d755 blobs/sha256"]);
    assert_eq!(text(0), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let entry = |at: usize, name: &str| {
        let Descriptor { media_type, digest, size, .. } = contents.images[at].root.descriptor().clone();
        let annotations =
            format!(r#"{{"io.containerd.image.name":"{name}","org.opencontainers.image.ref.name":"{name}"}}"#);
        let kind = media_type.0;
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size},"annotations":{annotations}}}"#)
    };
    let (k3s, pause) = (entry(1, "docker.io/rancher/k3s:v1"), entry(0, "docker.io/rancher/mirrored-pause:3.10.2"));
    let head = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#;
    assert_eq!(text(1), format!("{head}{k3s},{pause}]}}"));
    let blobs = &entries[4..];
    for (kind, name, content) in blobs {
        assert_eq!(
            (kind.as_str(), name.as_str()),
            ("-644", format!("blobs/sha256/{}", Digest::of(content).hex()).as_str())
        );
    }
    let sizes: Vec<usize> = blobs.iter().map(|(_, _, content)| content.len()).collect();
    let unique: BTreeSet<&String> = blobs.iter().map(|(_, name, _)| name).collect();
    assert_eq!((blobs.len(), unique.len()), (11, 11), "an index, three manifests and configs, four layers");
    assert_eq!(sizes[7..], [200_000, 700, 512, 0], "layers come last");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hybrid_is_what_docker_load_reads() {
    let [shared, own] = [content(3000), content(9)];
    let left_out = BTreeSet::from([Digest::of(&shared)]);
    let digest = Digest::of(b"x");
    let names = ["docker.io/library/busybox:1", &format!("ghcr.io/a/b:2@{digest}"), "rancher/k3s"];
    let images = names.map(|name| single(name, image("arm64", &[shared.clone(), own.clone()])));
    let contents = Contents { images: images.to_vec(), left_out };
    let bytes = written(&contents, Form::Hybrid).await;
    let entries = listed(&bytes).await;
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let config = path(&images[0].images[0].config.descriptor().digest);
    let loadable = |name| {
        let layers = [path(&Digest::of(&shared)), path(&Digest::of(&own))];
        serde_json::json!({"Config": config, "RepoTags": [name], "Layers": layers})
    };
    let (_, name, manifest) = &entries[2];
    assert_eq!(name, "manifest.json");
    let expected = ["busybox:1", "rancher/k3s:latest", "ghcr.io/a/b:2"].map(loadable);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(manifest).unwrap(), serde_json::json!(expected));
    assert_eq!(entries.len(), 5 + 3, "a manifest, a config and the layer that is not left out");
    assert!(!entries.iter().any(|(_, name, _)| *name == path(&Digest::of(&shared))));
    let archive = opened(&bytes).await.unwrap();
    assert!(archive.has(&described(LAYER, &own)) && !archive.has(&described(LAYER, &shared)));
    assert!(archive.present(&archive.images()[0].root).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_layer_never_looks_like_a_whole_tar() {
    let size = 300_000;
    for fault in [Fault::Refuse, Fault::Cut(90_000), Fault::End(200_000), Fault::Flip(5), Fault::Excess] {
        let (_folder, store) = new_store();
        let [first, last] = [content(size), content(10)];
        let sources = [Fake::new(&first, [fault.clone()]), Fake::new(&last, [])];
        let sources = sources.map(|source| source as Arc<dyn Source>).into_iter();
        let image = image_from("arm64", &[first, last], sources);
        let contents = Contents { images: vec![single("a/b:1", image)], ..Contents::default() };
        let packed = contents.pack(Form::Hybrid).unwrap();
        let (bytes, error) = drained(packed.stream(&store)).await;
        assert!(matches!(error, Some(Error::Blob { .. })), "{fault:?}: {error:?}");
        assert!((bytes.len() as u64) < packed.size() - 10, "{fault:?}: {} bytes", bytes.len());
        let flaw = flaw(&bytes).await;
        assert!(matches!(flaw, Flaw::CutOff { .. }), "{fault:?}: {flaw:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_receivers_cost_one_fetch() {
    let (_folder, store) = new_store();
    let layer = content(500_000);
    let source = Fake::new(&layer, []);
    let image = image_from("arm64", &[layer], [source.clone() as Arc<dyn Source>].into_iter());
    let contents = Contents { images: vec![single("a/b:1", image)], ..Contents::default() };
    let packed = contents.pack(Form::Hybrid).unwrap();
    let (one, other) = tokio::join!(drained(packed.stream(&store)), drained(packed.stream(&store)));
    assert!(one.0 == other.0 && one.1.is_none() && other.1.is_none());
    assert_eq!(source.opened(), [0]);
}

#[test]
fn contents_that_contradict_themselves_are_refused() {
    let same = |sizes: &[usize]| single("a/b:1", image("arm64", &layers(sizes)));
    let contents = Contents { images: vec![same(&[1]), same(&[2])], ..Contents::default() };
    assert!(
        matches!(contents.pack(Form::Layout), Err(Error::SameName { reference }) if reference.repository() == "a/b")
    );
    let platforms = fleet().pack(Form::Hybrid);
    assert!(matches!(&platforms, Err(Error::Platforms { images: 2, .. })), "{platforms:?}");
    let mut lying = same(&[5, 6]);
    lying.images[0].layers[1].descriptor.digest = lying.images[0].layers[0].descriptor.digest.clone();
    let contents = Contents { images: vec![lying], ..Contents::default() };
    assert!(matches!(contents.pack(Form::Layout), Err(Error::Described { .. })));
    let wrong = Blob::new(described("x", b"abc"), Bytes::from_static(b"abd"));
    assert!(matches!(wrong, Err(Error::Described { .. })));
}

#[tokio::test]
async fn a_stream_becomes_a_file_in_another_tar() {
    let inner = content(1000);
    let pieces =
        |bytes: &Bytes| stream::iter(bytes.chunks(300).map(Bytes::copy_from_slice).map(Ok).collect::<Vec<_>>());
    let wrapping = || Wrapping::new().file("var/lib/images/.cache.json", 0o600, b"{}").unwrap();
    let wrapped = wrapping().around("var/lib/images/k3arm.tar", 0o644, 1000).unwrap();
    let (bytes, error) = drained(wrapped.stream(pieces(&inner))).await;
    assert!(error.is_none() && bytes.len() as u64 == wrapped.size() && bytes.len() % 512 == 0);
    let entries = listed(&bytes).await;
    let heads: Vec<String> = entries.iter().map(|(kind, name, _)| format!("{kind} {name}")).collect();
    let folders = ["d755 var", "d755 var/lib", "d755 var/lib/images"];
    assert_eq!(heads[..3], folders);
    assert_eq!(heads[3..], ["-600 var/lib/images/.cache.json", "-644 var/lib/images/k3arm.tar"]);
    assert!(entries[3].2 == b"{}" && entries[4].2 == inner);
    for wrong in [999, 1001] {
        let wrapped = wrapping().around("a", 0o644, wrong).unwrap();
        let (bytes, error) = drained(wrapped.stream(pieces(&inner))).await;
        assert!(matches!(error, Some(Error::Length { expected, .. }) if expected == wrong), "{error:?}");
        assert!((bytes.len() as u64) < wrapped.size() - 1024, "the end of the tar is not there");
    }
    let broken = pieces(&inner).take(2).chain(stream::iter([Err(Error::Path { path: "x".into() })]));
    let (_, error) = drained(wrapped.stream(broken)).await;
    assert!(matches!(error, Some(Error::Path { .. })), "its own error: {error:?}");
    for path in ["/a", "a/../b", "", "a/", &"a".repeat(101)] {
        assert!(matches!(Wrapping::new().around(path, 0o644, 1), Err(Error::Path { .. })), "{path}");
    }
}
