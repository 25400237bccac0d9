//! What is read: image layouts, what docker save writes, folders, streams.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use k3arm::archive::{Archive, Contents, Entry, Error, Flaw, Form, Image, NamedImage};
use k3arm::oci::{Descriptor, Digest, Document, MediaType};
use k3arm::store::{self, Source};
use tokio_tar::EntryType;

use crate::images::*;
use crate::supply::{content, read};
use crate::tars::{Raw, gzip, old_save};

#[tokio::test(flavor = "multi_thread")]
async fn an_old_docker_save_gets_the_manifests_that_it_lacks() {
    let archive = opened(&old_save()).await.unwrap();
    assert_eq!(names(archive.images()), ["docker.io/library/busybox:1", "docker.io/rancher/a:latest", "-"]);
    let roots: Vec<&Descriptor> = archive.images().iter().map(|image| &image.root).collect();
    assert!(roots[0] == roots[1] && roots[0] != roots[2]);
    assert_eq!(complete(&archive, roots[0]).await, ["linux/arm64 2048 700"]);
    assert_eq!(complete(&archive, roots[2]).await, ["linux/arm64 2048 701"]);
    let manifest = archive.document(&roots[0].digest).await.unwrap().unwrap();
    let (base, one) = (content(2048), content(700));
    let config = config("arm64", &[base.clone(), one.clone()]);
    let layer =
        |bytes: &[u8]| format!(r#"{{"mediaType":"{LAYER}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len());
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{},{}]}}"#,
        MediaType::OCI_MANIFEST,
        Digest::of(config.as_bytes()),
        config.len(),
        layer(&base),
        layer(&one)
    );
    assert_eq!(manifest, expected);
    assert_eq!(archive.document(&Digest::of(config.as_bytes())).await.unwrap().unwrap(), config);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_layers_of_a_docker_save_are_called_what_they_are() {
    let plain = [content(4000), content(90)];
    let packed = [gzip(&plain[0]), zstd::encode_all(&plain[1][..], 1).unwrap()];
    let manifest = r#"[{"Config":"sha256:c","RepoTags":["a/b:1"],"Layers":["l.tar.gz","l.tar.zst"]}]"#;
    let bytes = Raw::default()
        .file("sha256:c", config("arm", &plain))
        .file("l.tar.gz", &packed[0])
        .file("l.tar.zst", &packed[1])
        .file("manifest.json", manifest)
        .end();
    let archive = opened(&bytes).await.unwrap();
    let root = &archive.images()[0].root;
    assert_eq!(complete(&archive, root).await, [format!("linux/arm/v7 {} {}", packed[0].len(), packed[1].len())]);
    let bytes = archive.document(&root.digest).await.unwrap().unwrap();
    let Document::Manifest(manifest) = Document::parse(&root.media_type, &bytes).unwrap() else { panic!("an index") };
    let kinds: Vec<&str> =
        manifest.layers.iter().map(|layer| layer.media_type.0.strip_prefix(LAYER).unwrap()).collect();
    assert_eq!(kinds, ["+gzip", "+zstd"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_layer_is_found_by_the_store() {
    let bytes = Raw::default()
        .file("c.json", config("arm64", &[content(3000)]))
        .file("l.tar", content(3001).slice(1..))
        .file("manifest.json", r#"[{"Config":"c.json","RepoTags":["a/b:1"],"Layers":["l.tar"]}]"#)
        .end();
    let archive = opened(&bytes).await.unwrap();
    let (_folder, store) = new_store();
    let layer = described(LAYER, &content(3000));
    let (_, end) = read(store.open_blob(&layer, Arc::new(archive)).await.unwrap()).await;
    assert!(matches!(end, Err(store::Error::WrongDigest { .. })), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_may_be_dotted_and_long_and_come_from_extended_headers() {
    let layer = content(600);
    let image = image("arm64", std::slice::from_ref(&layer));
    let root = image.manifest.descriptor();
    let mut named = serde_json::to_value(root).unwrap();
    named["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "1.2"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [named]}).to_string();
    let [manifest, config] = [&image.manifest, &image.config].map(|blob| blob.descriptor().digest.hex().to_string());
    let contents =
        written(&Contents { images: vec![single("a/b:1", image)], ..Contents::default() }, Form::Layout).await;
    let bytes_of = |hex: &str, all: &[(String, String, Vec<u8>)]| {
        all.iter().find(|(_, name, _)| name.ends_with(hex)).unwrap().2.clone()
    };
    let all = listed(&contents).await;
    let long = format!("./blobs/sha256/{config}\0");
    let size = layer.len().to_string();
    let bytes = Raw::default()
        .entry(EntryType::XGlobalHeader, "pax_global_header", "", b"17 comment=hello\n")
        .entry(EntryType::Directory, "./", "", b"")
        .file("./oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("./index.json", index)
        .file(&format!("./blobs//sha256/{manifest}"), bytes_of(&manifest, &all))
        .entry(EntryType::GNULongName, "././@LongLink", "", long.as_bytes())
        .file("cut", bytes_of(&config, &all))
        .pax(&[("path", &format!("blobs/sha256/{}", Digest::of(&layer).hex())), ("size", &size), ("mtime", "1.5")])
        .file("another", &layer)
        .entry(EntryType::Fifo, "pipe", "", b"")
        .end();
    let archive = opened(&bytes).await.unwrap();
    let [NamedImage { reference: None, tag: Some(tag), root }] = archive.images() else {
        panic!("{:?}", archive.images())
    };
    assert_eq!(tag, "1.2");
    assert_eq!(complete(&archive, root).await, ["linux/arm64 600"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_and_incomplete_indexes_show_what_is_here() {
    let [amd64, arm64, missing] = [10, 11, 12].map(|size| image("riscv64", &layers(&[size])));
    let inner = index_of(&[("amd64", &amd64), ("riscv64", &missing)]);
    let mut entries = vec![serde_json::to_value(inner.descriptor()).unwrap()];
    entries.push(serde_json::to_value(arm64.manifest.descriptor()).unwrap());
    // An index that has itself as an entry cannot be made; one that is named twice can.
    entries.push(entries[0].clone());
    let root = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
    let root = blob(MediaType::OCI_INDEX, root.to_string());
    let nested = Image { manifest: inner, ..arm64.clone() };
    let gone = missing.layers[0].descriptor.digest.clone();
    let entry = Entry { reference: reference("a/b:1"), root, images: vec![nested, amd64, arm64, missing] };
    let contents = Contents { images: vec![entry], left_out: BTreeSet::from([gone]) };
    let archive = opened(&written(&contents, Form::Layout).await).await.unwrap();
    // What no index says, the config says.
    assert_eq!(complete(&archive, &archive.images()[0].root).await, ["linux/amd64 10", "linux/riscv64 11"]);
    let unknown = described(MediaType::OCI_INDEX, b"{}");
    assert!(archive.present(&unknown).await.unwrap().is_empty());
    assert_eq!(archive.document(&unknown.digest).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_and_the_store_itself_are_archives_too() {
    let (_folder, store) = new_store();
    let contents = fleet();
    for entry in &contents.images {
        store.record(&entry.reference, entry.root.descriptor()).await.unwrap();
    }
    let tar = written(&contents, Form::Layout).await;
    for (_, name, content) in listed(&tar).await.into_iter().filter(|(_, name, _)| name.starts_with("blobs/sha256/")) {
        std::fs::write(store.root().join(name), content).unwrap();
    }
    let archive = Archive::open(store.root(), store.root()).await.unwrap();
    let [pause, k3s] = archive.images() else { panic!("two images") };
    assert_eq!(pause.reference, Some(reference("rancher/mirrored-pause:3.10.2")));
    assert_eq!(complete(&archive, &k3s.root).await, ["linux/amd64 200000 700", "linux/arm64 200000 512"]);
    let manifest = &contents.images[0].root.descriptor().digest;
    std::fs::write(store.path(manifest), b"{}").unwrap();
    let error = archive.document(manifest).await.unwrap_err();
    assert!(matches!(error.flaw(), Some(Flaw::WrongDigest { digest, .. }) if digest == manifest), "{error:?}");
    std::fs::remove_file(store.root().join("index.json")).unwrap();
    let error = Archive::open(store.root(), store.root()).await.unwrap_err();
    assert!(matches!(error.flaw(), Some(Flaw::NoImages)) && error.hint().is_some(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_archives_and_streams_are_the_same_images() {
    let layout = written(&fleet(), Form::Layout).await;
    for tar in [layout, old_save()] {
        let plain = opened(&tar).await.unwrap();
        let packed = [gzip(&tar), zstd::encode_all(&tar[..], 3).unwrap()];
        for bytes in packed.iter().chain([&tar]) {
            let spool = tempfile::tempdir().unwrap();
            let pieces: Vec<Result<Bytes, Error>> =
                bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let streamed = Archive::from_stream("docker:x", stream::iter(pieces), spool.path()).await.unwrap();
            for archive in [opened(bytes).await.unwrap(), streamed] {
                assert_eq!(archive.images(), plain.images());
                let root = &archive.images()[0].root;
                assert_eq!(complete(&archive, root).await, complete(&plain, root).await);
            }
            assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "nothing is left behind");
        }
    }
    let cut = stream::iter([Ok(Bytes::from_static(b"x")), Err("the engine went away")]);
    let error = Archive::from_stream("docker:x", cut, &std::env::temp_dir()).await.unwrap_err();
    assert!(error.to_string().contains("docker:x") && matches!(error, Error::Stream { .. }));
    let nowhere =
        Archive::from_stream("docker:x", stream::iter([Ok::<_, Error>(Bytes::new())]), Path::new("/proc/k3arm")).await;
    assert!(matches!(nowhere, Err(Error::Io { path, .. }) if path == Path::new("/proc/k3arm")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_given_from_any_offset_and_only_in_its_size() {
    let archive = opened(&written(&fleet(), Form::Layout).await).await.unwrap();
    let bytes = content(200_000);
    let layer = described(LAYER, &bytes);
    for offset in [0, 1, 131_072, 199_999, 200_000, u64::MAX] {
        let stream = archive.open(&layer, offset).await.unwrap();
        let found: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert!(found.concat() == bytes[(offset as usize).min(bytes.len())..], "{offset}");
    }
    let longer = Descriptor { size: 200_001, ..layer.clone() };
    assert!(!archive.has(&longer) && archive.has(&layer));
    let refused = |error: store::SourceError| error.downcast::<Error>().unwrap().flaw().unwrap().clone();
    let wrong = refused(archive.open(&longer, 0).await.err().unwrap());
    assert!(matches!(wrong, Flaw::WrongSize { expected: 200_001, found: 200_000, .. }), "{wrong:?}");
    let missing = refused(archive.open(&described(LAYER, b"nothing"), 0).await.err().unwrap());
    assert!(matches!(missing, Flaw::Missing { .. }), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named() {
    let disk = tempfile::tempdir().unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "k3arm-test"]).arg(disk.path()).status();
    if !mount.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "mounting a tmpfs needs root");
        eprintln!("SKIPPED: the test of a full disk needs root to mount a tmpfs");
        return;
    }
    let bytes = content(1 << 20);
    let packed = disk.path().with_extension("tar.gz");
    std::fs::write(&packed, gzip(&bytes)).unwrap();
    let unpacked = Archive::open(&packed, disk.path()).await;
    let pieces = stream::iter([Ok::<_, Error>(bytes)]);
    let streamed = Archive::from_stream("docker:x", pieces, disk.path()).await;
    let unmounted = Command::new("umount").arg(disk.path()).status();
    std::fs::remove_file(&packed).unwrap();
    assert!(unmounted.unwrap().success(), "nothing holds the disk: the files are gone");
    for error in [unpacked.unwrap_err(), streamed.unwrap_err()] {
        let folder = disk.path().display().to_string();
        assert!(matches!(error, Error::NoSpace { .. }) && error.hint().unwrap().contains(&folder), "{error:?}");
    }
}
