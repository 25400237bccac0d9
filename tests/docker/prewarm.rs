//! What prewarm needs of an engine: layers it has, images loaded from tars, files in volumes, holders.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use k3arm::cluster::names::LABEL_IMAGES;
use k3arm::docker::{Engine, Error, FileKind, FileStat, HolderSpec};
use k3arm::host::ImageStore;
use k3arm::oci::{Digest, chain_ids};
use tokio_tar::Builder;

use crate::registry::{Compression, Image, add_file};
use crate::{drop_image, engine, prepared, remove, spec};

/// In pieces of 64 KiB.
fn streamed(tar: Vec<u8>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut tar = Bytes::from(tar);
    stream::iter(std::iter::from_fn(move || (!tar.is_empty()).then(|| Ok(tar.split_to(tar.len().min(64 << 10))))))
}

async fn load(engine: &Engine, image: &Image) -> Result<(), Error> {
    engine.load(streamed(image.tar().await), &|line| eprintln!("{line:?}")).await
}

/// Without the layers below the topmost.
fn without_lower(image: Image) -> Image {
    let lower: Vec<Digest> = image.layers[..image.layers.len() - 1].to_vec();
    lower.iter().fold(image, |image, layer| image.without(layer))
}

async fn is_containerd(engine: &Engine) -> bool {
    engine.facts().await.unwrap().store == ImageStore::Containerd
}

async fn takes_zstd(engine: &Engine) -> bool {
    let version = engine.facts().await.unwrap().version;
    version.split('.').next().unwrap().parse::<u32>().unwrap() >= 23
}

#[tokio::test]
async fn one_tar_loads_into_either_store_in_any_compression() {
    let Some(engine) = engine().await else { return };
    let base = Image::new("load-base").await;
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let image = base.on_top("load-full", compression).await;
        assert_eq!(engine.holds(&image.expected).await.unwrap(), None);
        let loaded = load(&engine, &image).await;
        if compression == Compression::Zstd && !takes_zstd(&engine).await {
            eprintln!("zstd: {loaded:?}");
            assert!(matches!(loaded, Err(Error::Load { .. })), "{loaded:?}");
            continue;
        }
        loaded.unwrap();
        let id = engine.holds(&image.expected).await.unwrap().unwrap();
        let index = image.expected.index.clone().unwrap();
        assert_eq!(id, if is_containerd(&engine).await { index } else { image.expected.config.clone() });
        let facts = engine.image(&image.expected.reference).await.unwrap().unwrap();
        assert_eq!(facts.repo_tags, ["k3arm-test/load-full:v1"]);
        let by_digest = if is_containerd(&engine).await { vec![format!("k3arm-test/load-full@{id}")] } else { vec![] };
        assert_eq!(facts.repo_digests, by_digest);
        load(&engine, &image).await.unwrap();
        drop_image(&engine, &image).await;
    }
}

#[tokio::test]
async fn a_tar_may_leave_out_what_the_engine_has_and_is_refused_otherwise() {
    let Some(engine) = engine().await else { return };
    let base = Image::new("part-base").await.compressed("part-base", Compression::Gzip);
    let top = base.on_top("part-top", Compression::Gzip).await;
    // The engine has nothing of it.
    let refused = load(&engine, &without_lower(top.clone())).await;
    eprintln!("without layers: {refused:?}");
    assert!(matches!(refused, Err(Error::Load { .. })), "{refused:?}");
    assert_eq!(engine.holds(&top.expected).await.unwrap(), None);
    load(&engine, &top).await.unwrap();
    assert!(engine.holds(&top.expected).await.unwrap().is_some(), "sent in full after the refusal");
    drop_image(&engine, &top).await;

    // It has the layers below.
    load(&engine, &base).await.unwrap();
    assert!(engine.chains().await.unwrap().contains(chain_ids(&base.diff_ids).last().unwrap()));
    load(&engine, &without_lower(top.clone())).await.unwrap();
    let id = engine.holds(&top.expected).await.unwrap().unwrap().to_string();
    let chains = engine.chains().await.unwrap();
    assert!(chain_ids(&top.diff_ids).iter().all(|chain| chains.contains(chain)));
    drop_image(&engine, &base).await;
    let files = spec("part", &id, "cat /top /salt");
    engine.create(&files).await.unwrap();
    assert_eq!(engine.stat(&files.name, "/top").await.unwrap().unwrap().size, "part-top".len() as u64);
    assert_eq!(engine.stat(&files.name, "/salt").await.unwrap().unwrap().size, "part-base".len() as u64);
    remove(&engine, &files).await;
    drop_image(&engine, &top).await;
    let chains = engine.chains().await.unwrap();
    assert!(chain_ids(&top.diff_ids).iter().all(|chain| !chains.contains(chain)));
}

#[tokio::test]
async fn layers_in_another_compression_are_shared_and_the_containerd_store_hides_it() {
    let Some(engine) = engine().await else { return };
    let base = Image::new("other-base").await;
    let top = base.on_top("other-top", Compression::Gzip).await;
    load(&engine, &base).await.unwrap();
    load(&engine, &without_lower(top.clone())).await.unwrap();
    let expected = top.expected.clone();
    let held = engine.holds(&expected).await.unwrap();
    if is_containerd(&engine).await {
        assert_eq!(held, None);
        assert_eq!(engine.unpacked(&expected, 2).await.unwrap(), expected.index);
        assert_eq!(engine.unpacked(&expected, 3).await.unwrap(), None);
        let spec = spec("other", &expected.index.clone().unwrap().to_string(), "true");
        engine.create(&spec).await.unwrap();
        remove(&engine, &spec).await;
    } else {
        assert_eq!(held.as_ref(), Some(&expected.config));
    }
    // A layer that is nowhere is not unpacked.
    let nowhere = base.on_top("nowhere", Compression::Gzip).await;
    let nowhere = nowhere.layers.clone().iter().fold(nowhere, |image, layer| image.without(layer));
    assert!(matches!(load(&engine, &nowhere).await, Err(Error::Load { .. })));
    assert_eq!(engine.unpacked(&nowhere.expected, 2).await.unwrap(), None);
    for image in [&base, &top, &nowhere] {
        engine.untag(&image.expected.reference.to_string()).await.unwrap();
    }
}

#[tokio::test]
async fn a_broken_load_says_whose_fault_it_was() {
    let Some(engine) = engine().await else { return };
    let image = Image::new("broken-load").await;
    let half = image.tar().await.split_at(300_000).0.to_vec();
    let broken = streamed(half).chain(stream::iter([Err(io::Error::other("the cellar is flooded"))]));
    let error = engine.load(broken, &|_| {}).await.unwrap_err();
    assert_eq!(error.into_source::<io::Error>().unwrap().to_string(), "the cellar is flooded");
    assert_eq!(engine.holds(&image.expected).await.unwrap(), None);
    // No tar, and so long that the engine answers before it has all of it.
    let garbage = stream::iter(0..1000).map(|_| Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 64 << 10])));
    let error = engine.load(garbage, &|_| {}).await.unwrap_err();
    eprintln!("garbage: {error}");
    assert!(matches!(error, Error::Load { .. }), "{error:?}");
    // A file that is still coming is dropped.
    let begun = big_file("a", 8 << 20).await[..4 << 20].to_vec();
    let pending = streamed(begun).chain(stream::pending());
    assert!(tokio::time::timeout(Duration::from_secs(2), engine.load(pending, &|_| {})).await.is_err());
    engine.untag(&image.expected.reference.to_string()).await.unwrap();
}

#[tokio::test]
async fn sixty_images_are_looked_through_quickly() {
    let Some(engine) = engine().await else { return };
    let base = Image::new("many").await;
    load(&engine, &base).await.unwrap();
    let mut images = Vec::new();
    for n in 0..60 {
        let image = without_lower(base.on_top(&format!("many-{n}"), Compression::None).await);
        engine.load(streamed(image.tar().await), &|_| {}).await.unwrap();
        images.push(image);
    }
    let begun = Instant::now();
    let chains = engine.chains().await.unwrap();
    let took = begun.elapsed();
    eprintln!("60 images: {} chains in {took:?}", chains.len());
    assert!(images.iter().all(|image| chain_ids(&image.diff_ids).iter().all(|chain| chains.contains(chain))));
    assert!(took < Duration::from_secs(10), "{took:?}");
    for image in images.iter().chain([&base]) {
        engine.untag(&image.expected.reference.to_string()).await.unwrap();
    }
}

/// A tar of one file of `size` bytes.
async fn big_file(path: &str, size: usize) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    add_file(&mut tar, path, &vec![7; size]).await;
    tar.into_inner().await.unwrap()
}

#[tokio::test]
async fn a_long_tar_is_unpacked_into_a_volume_and_its_file_says_how_much_came() {
    let Some(engine) = engine().await else { return };
    const SIZE: usize = 64 << 20;
    let (image, id) = prepared(&engine, "archive").await;
    let holder = holder("archive", &id);
    engine.create_holder(&holder).await.unwrap();
    let name = &holder.name;
    let stat = |path: &'static str| engine.stat(name, path);
    assert_eq!(stat("/images/big").await.unwrap(), None);
    let tar = big_file("images/big", SIZE).await;
    engine.put_archive(name, streamed(tar.clone())).await.unwrap();
    assert_eq!(stat("/images/big").await.unwrap(), Some(FileStat { size: SIZE as u64, kind: FileKind::Regular }));
    assert_eq!(stat("/images").await.unwrap().unwrap().kind, FileKind::Directory);
    assert_eq!(stat("/bin/sh").await.unwrap().unwrap().kind, FileKind::Other);

    // One that ends too early, and one that breaks off: what had come is there.
    let short = tar[..tar.len() / 2].to_vec();
    let early = engine.put_archive(name, streamed(short.clone())).await;
    eprintln!("a short tar: {early:?}, then {:?}", stat("/images/big").await);
    assert!(matches!(early, Err(Error::Api { .. })), "{early:?}");
    assert!(stat("/images/big").await.unwrap().unwrap().size < SIZE as u64);
    engine.put_archive(name, streamed(tar)).await.unwrap();
    let broken = streamed(short).chain(stream::iter([Err(io::Error::other("the cellar is flooded"))]));
    let error = engine.put_archive(name, broken).await.unwrap_err();
    assert_eq!(error.into_source::<io::Error>().unwrap().to_string(), "the cellar is flooded");
    let deadline = Instant::now() + Duration::from_secs(30);
    while stat("/images/big").await.unwrap().is_some_and(|stat| stat.size == SIZE as u64) {
        assert!(Instant::now() < deadline, "the first part has not replaced the whole");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("a broken stream: {:?}", stat("/images/big").await);

    let nobody = engine.put_archive("k3arm-test-nobody", streamed(big_file("a", 8 << 20).await)).await.unwrap_err();
    assert!(matches!(&nobody, Error::NotFound { message, .. } if !message.is_empty()), "{nobody:?}");
    assert!(engine.stat("k3arm-test-nobody", "/a").await.unwrap_err().is_not_found());
    engine.remove(name, &holder.volumes.values().cloned().collect::<Vec<_>>()).await.unwrap();
    drop_image(&engine, &image).await;
}

fn holder(name: &str, image: &str) -> HolderSpec {
    HolderSpec {
        name: format!("k3arm-test-{name}-images"),
        image: image.parse().unwrap(),
        volumes: BTreeMap::from([("/images".into(), format!("k3arm-test-{name}-images"))]),
        labels: BTreeMap::from([
            (LABEL_IMAGES.into(), name.into()),
            (k3arm::cluster::names::LABEL_CLUSTER.into(), name.into()),
        ]),
    }
}

#[tokio::test]
async fn holders_are_listed_renamed_and_no_nodes() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "holder").await;
    let spec = holder("holder", &id);
    let container = engine.create_holder(&spec).await.unwrap();
    let again = engine.create_holder(&spec).await.unwrap_err();
    assert!(matches!(again, Error::Conflict { .. }), "{again:?}");
    let find = || async { engine.holders().await.unwrap().into_iter().find(|holder| holder.id == container) };
    let held = find().await.unwrap();
    assert_eq!((&held.name, held.volumes.get("/images")), (&spec.name, spec.volumes.get("/images")));
    assert!(spec.labels.iter().all(|(key, value)| held.labels.get(key) == Some(value)), "{held:?}");
    assert_eq!(engine.volumes().await.unwrap().get("k3arm-test-holder-images"), Some(&spec.labels));
    assert!(engine.nodes().await.unwrap().iter().all(|node| node.id != container));

    engine.rename(&container, "k3arm-test-renamed").await.unwrap();
    assert_eq!(find().await.unwrap().name, "k3arm-test-renamed");
    engine.create_holder(&spec).await.unwrap();
    let taken = engine.rename(&container, &spec.name).await.unwrap_err();
    assert!(matches!(taken, Error::Conflict { .. }), "{taken:?}");
    assert!(engine.rename("k3arm-test-nobody", "k3arm-test-x").await.unwrap_err().is_not_found());
    engine.remove(&container, &[]).await.unwrap();
    engine.remove(&spec.name, &spec.volumes.values().cloned().collect::<Vec<_>>()).await.unwrap();
    drop_image(&engine, &image).await;
}

#[tokio::test]
async fn programs_run_in_a_running_container() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "exec").await;
    let spec = spec("exec", &id, "exec sleep 1000");
    let container = engine.create(&spec).await.unwrap();
    let minute = Duration::from_secs(60);
    let early = engine.exec(&container, &["echo"], minute).await.unwrap_err();
    assert!(matches!(early, Error::Conflict { .. }), "{early:?}");
    engine.start(&container).await.unwrap();
    let (code, output) =
        engine.exec(&container, &["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], minute).await.unwrap();
    assert_eq!((code, output.lines().count()), (3, 2), "{output:?}");
    let (code, output) = engine.exec(&spec.name, &["seq", "1", "100000"], minute).await.unwrap();
    assert!(code == 0 && output.starts_with("1\n2\n") && output.len() <= k3arm::docker::OUTPUT_LIMIT);
    let missing = engine.exec(&container, &["/not/there"], minute).await;
    eprintln!("no program: {missing:?}");
    assert!(matches!(&missing, Ok((126 | 127, _)) | Err(Error::Api { .. })), "{missing:?}");
    let slow = engine.exec(&container, &["sleep", "100"], Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(slow, Error::Timeout { .. }), "{slow:?}");
    assert!(engine.exec("k3arm-test-nobody", &["echo"], minute).await.unwrap_err().is_not_found());
    remove(&engine, &spec).await;
    drop_image(&engine, &image).await;
}

#[tokio::test]
async fn images_that_containers_use_are_known_and_stay() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "inventory").await;
    let other = "docker.io/k3arm-test/inventory-other:v2".parse().unwrap();
    let find = || async { engine.images().await.unwrap().into_iter().find(|image| image.id.to_string() == id) };
    let held = find().await.unwrap();
    eprintln!("{held:?}");
    assert_eq!((held.repo_tags.as_slice(), held.used), (["k3arm-test/inventory:v1".to_string()].as_slice(), false));
    assert!(held.size > 500_000, "{held:?}");
    let spec = spec("inventory", &id, "exec sleep 1000");
    let name = image.expected.reference.to_string();
    for state in ["created", "running", "exited"] {
        match state {
            "created" => drop(engine.create(&spec).await.unwrap()),
            "running" => engine.start(&spec.name).await.unwrap(),
            _ => engine.stop(&spec.name, Duration::from_secs(1)).await.unwrap(),
        }
        assert!(find().await.unwrap().used, "{state}");
        engine.tag(&id, &other).await.unwrap();
        engine.untag("k3arm-test/inventory-other:v2").await.unwrap_or_else(|e| panic!("{state}, another name: {e}"));
        for last in [name.as_str(), id.as_str()] {
            let error = engine.untag(last).await.unwrap_err();
            assert!(matches!(error, Error::Conflict { .. }), "{state}, {last}: {error:?}");
        }
        assert_eq!(find().await.unwrap().repo_tags, ["k3arm-test/inventory:v1"], "{state}");
    }
    remove(&engine, &spec).await;
    drop_image(&engine, &image).await;
    assert_eq!(find().await, None);
}
