//! Archives that are cut, damaged or made to harm.

use futures_util::StreamExt;
use k3arm::archive::{Contents, Flaw, Form};
use k3arm::store::Source;
use proptest::prelude::{ProptestConfig, any, prop};
use tokio_tar::{EntryType, Header};

use crate::images::*;
use crate::supply::content;
use crate::tars::{Raw, old_save};

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_cut_anywhere_is_refused() {
    for tar in [written(&fleet(), Form::Layout).await, old_save()] {
        let last = tar.len() - 1024;
        for length in (0..=last).step_by(512).chain([1, 511, last - 1, 700]) {
            let flaw = flaw(&tar[..length]).await;
            assert!(matches!(flaw, Flaw::CutOff { size } if size == length as u64), "{length}: {flaw:?}");
        }
        assert!(opened(&tar[..last + 512]).await.is_ok(), "one block of zeros is an end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_no_archive_of_images_has_are_refused() {
    let file = |name: &str| Raw::default().file(name, "x").end();
    for name in ["/a", "../a", "a/../../b", "a/.."] {
        let flaw = flaw(&file(name)).await;
        assert!(matches!(&flaw, Flaw::Name { name: found } if found == name), "{flaw:?}");
    }
    let long = Raw::default().pax(&[("path", &"a/".repeat(200))]).file("x", "").end();
    assert!(matches!(flaw(&long).await, Flaw::Name { .. }));
    let link = |kind, target: &str| Raw::default().entry(kind, "a/b", target, b"").end();
    for (kind, target) in [(EntryType::Symlink, "../../b"), (EntryType::Symlink, "/b"), (EntryType::Link, "../b")] {
        assert!(matches!(flaw(&link(kind, target)).await, Flaw::Name { .. }), "{target}");
    }
    let twice = Raw::default().file("a", "x").file("./a", "x").end();
    assert!(matches!(flaw(&twice).await, Flaw::Twice { name } if name == "a"));
    let fat = Raw::default().entry(EntryType::Symlink, "a", "b", b"content").end();
    let sparse = Raw::default().entry(EntryType::GNUSparse, "a", "", b"content").end();
    let size = Raw::default().pax(&[("size", "18446744073709551615")]).file("a", "").end();
    let damaged = [fat, sparse, b"#!/bin/sh\n".repeat(60)];
    for bytes in damaged {
        assert!(matches!(flaw(&bytes).await, Flaw::Damaged { at: 0, .. }));
    }
    assert!(matches!(flaw(&size).await, Flaw::CutOff { .. }));
    let extended = Raw::default().entry(EntryType::XHeader, "x", "", &[b' '; 65 << 10]).end();
    assert!(matches!(flaw(&extended).await, Flaw::TooLarge { .. }));
    assert!(matches!(flaw(&file("some.txt")).await, Flaw::NoImages));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_make_no_sense_are_refused() {
    let manifest = |text: &str| {
        Raw::default()
            .file("c.json", config("arm64", &[content(5)]))
            .file("l", content(5))
            .file("manifest.json", text)
            .end()
    };
    for text in ["{}", "[{}]", r#"[{"Config":"l","Layers":["l"]}]"#, r#"[{"Config":"c.json","Layers":[]}]"#] {
        let flaw = flaw(&manifest(text)).await;
        assert!(matches!(flaw, Flaw::Document { .. }), "{text}: {flaw:?}");
    }
    let missing = [r#"[{"Config":"none","Layers":[]}]"#, r#"[{"Config":"c.json","Layers":["none"]}]"#];
    for text in missing {
        assert!(matches!(flaw(&manifest(text)).await, Flaw::Missing { name } if name == "none"));
    }
    assert!(matches!(flaw(&manifest(r#"[{"Config":"../x","Layers":[]}]"#)).await, Flaw::Name { .. }));
    let many = format!("[{}]", vec![r#"{"Config":"c.json"}"#; 1025].join(","));
    assert!(matches!(flaw(&manifest(&many)).await, Flaw::TooMany { limit: 1024, .. }));
    let large = Raw::default().file("oci-layout", "{}").file("index.json", vec![b' '; (4 << 20) + 1]).end();
    assert!(matches!(flaw(&large).await, Flaw::TooLarge { limit: 4_194_304, .. }));
    let index = Raw::default().file("oci-layout", "{}").file("index.json", "[]").end();
    assert!(matches!(flaw(&index).await, Flaw::Document { name, .. } if name == "index.json"));
    let links = Raw::default()
        .entry(EntryType::Symlink, "manifest.json", "m", b"")
        .entry(EntryType::Symlink, "m", "manifest.json", b"")
        .end();
    assert!(matches!(flaw(&links).await, Flaw::NoImages), "links in a circle");
}

/// Everything that can be asked of an archive, with an end.
async fn exercised(bytes: &[u8]) {
    let Ok(archive) = opened(bytes).await else { return };
    for image in archive.images() {
        let _ = archive.document(&image.root.digest).await;
        let _ = archive.has(&image.root);
        let _ = archive.present(&image.root).await;
        if let Ok(stream) = archive.open(&image.root, 0).await {
            let size: usize =
                stream.map(|piece| piece.map_or(0, |piece| piece.len())).fold(0, |a, b| async move { a + b }).await;
            assert!(size <= bytes.len());
        }
    }
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let within = std::time::Duration::from_secs(20);
    runtime.block_on(async { tokio::time::timeout(within, future).await.expect("it ends") });
}

/// The checksum of each header is made right again: what is behind it is to be reached.
fn repaired(mut tar: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at + 512 <= tar.len() && tar[at..at + 512].iter().any(|byte| *byte != 0) {
        let mut header = Header::from_byte_slice(&tar[at..at + 512]).clone();
        header.set_cksum();
        tar[at..at + 512].copy_from_slice(header.as_bytes());
        let size = header.raw_entry_size().unwrap_or(0).min(tar.len() as u64) as usize;
        at += 512 + size.next_multiple_of(512);
    }
    tar
}

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        run(exercised(&bytes));
        run(exercised(&repaired(bytes)));
    }

    #[test]
    fn damaged_archives_never_panic(
        is_old in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        swap in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
    ) {
        run(async {
            let contents = Contents { images: vec![single("a/b:1", image("arm64", &layers(&[900, 30])))], ..Contents::default() };
            let mut tar = if is_old { old_save() } else { written(&contents, Form::Hybrid).await };
            for (at, byte) in changes {
                let at = at.index(tar.len());
                tar[at] = byte;
            }
            if let Some((one, other)) = swap {
                let blocks = tar.len() / 512;
                let (one, other) = (one.index(blocks) * 512, other.index(blocks) * 512);
                for byte in 0..512 {
                    tar.swap(one + byte, other + byte);
                }
            }
            tar.truncate(cut.map_or(tar.len(), |cut| cut.index(tar.len())));
            exercised(&tar).await;
            exercised(&repaired(tar)).await;
        });
    }
}
