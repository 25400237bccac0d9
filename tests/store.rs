//! The store against upstreams that fail, readers that dawdle, processes that are killed and disks that are full.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod supply;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use k3arm::oci::Descriptor;
use k3arm::store::{Error, Store};
use supply::{Fake, Fault, PIECE, content, descriptor, read};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const MIB: usize = 1 << 20;

fn new_store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn partial(store: &Store, blob: &Descriptor) -> std::path::PathBuf {
    store.root().join(format!("ingest/sha256-{}", blob.digest.hex()))
}

/// Waits until `is_true`; tests of concurrency wait for a state, not for a time.
async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let reached = async {
        while !is_true() {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(20), reached).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_readers_cost_one_fetch() {
    let (_folder, store) = new_store();
    let content = content(3 * MIB + 7);
    let (blob, source) = (descriptor(&content), Fake::new(&content, []));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let store = store.with_observer(Arc::new(move |_, done| log.lock().unwrap().push(done)));
    let readers = join_all((0..16).map(|_| store.open_blob(&blob, source.clone()))).await;
    for (bytes, end) in join_all(readers.into_iter().map(|reader| read(reader.unwrap()))).await {
        end.unwrap();
        assert!(bytes == content);
    }
    assert_eq!((source.opened(), store.fetched()), (vec![0], blob.size));
    assert!(store.has(&blob) && fs::read(store.path(&blob.digest)).unwrap() == content);
    assert!(!partial(&store, &blob).exists());
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted() && seen.first() == Some(&0) && seen.last() == Some(&blob.size), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_dawdles_holds_nobody() {
    let (_folder, store) = new_store();
    let content = content(4 * MIB);
    let (blob, source) = (descriptor(&content), Fake::new(&content, []));
    let mut slow = store.open_blob(&blob, source.clone()).await.unwrap();
    let first = slow.next().await.unwrap().unwrap();
    let fast = store.open_blob(&blob, source.clone()).await.unwrap();
    assert!(timeout(Duration::from_secs(20), read(fast)).await.unwrap().0 == content);
    let (rest, end) = read(slow).await;
    end.unwrap();
    assert!([&first[..], &rest].concat() == content && source.opened() == [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_given_and_nothing_else() {
    let (_folder, store) = new_store();
    let content = content(MIB);
    let (blob, source) = (descriptor(&content), Fake::new(&content, []));
    for range in [0..10, 200_000..900_000, 1_048_575..1_048_576, 1_000_000..9_999_999, 5..5, 9_999_999..99_999_999] {
        let reader = store.open_blob(&blob, source.clone()).await.unwrap().range(range.clone());
        let (bytes, end) = read(reader).await;
        end.unwrap();
        let cut = |at: u64| (at as usize).min(content.len());
        assert!(bytes == content[cut(range.start)..cut(range.end)], "{range:?}");
    }
    let empty = Bytes::new();
    let (bytes, end) = read(store.open_blob(&descriptor(&empty), Fake::new(&empty, [])).await.unwrap()).await;
    assert!(end.is_ok() && bytes.is_empty() && store.has(&descriptor(&empty)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_reaches_the_readers_and_the_next_fetch_goes_on_there() {
    let (_folder, store) = new_store();
    let (content, other) = (content(2 * MIB), content(MIB));
    let blob = descriptor(&content);
    let source = Fake::new(&content, [Fault::Cut(MIB), Fault::Refuse, Fault::End(MIB / 2)]);
    let readers = join_all((0..3).map(|_| store.open_blob(&blob, source.clone()))).await;
    let unconcerned = store.open_blob(&descriptor(&other), Fake::new(&other, [])).await.unwrap();
    for (bytes, end) in join_all(readers.into_iter().map(|reader| read(reader.unwrap()))).await {
        let error = end.unwrap_err();
        assert!(error.upstream().is_some_and(|cause| cause.to_string() == "upstream was cut"), "{error:?}");
        assert!(bytes.len() <= MIB);
    }
    assert!(read(unconcerned).await.0 == other);
    // A reader that still holds the failed download does not keep others from a new one.
    let mut failed = store.open_blob(&blob, Fake::new(&content, [Fault::Refuse])).await.unwrap();
    while failed.next().await.is_some_and(|chunk| chunk.is_ok()) {}
    let again = |source: Arc<Fake>| async { read(store.open_blob(&blob, source).await.unwrap()).await.1 };
    assert!(matches!(again(source.clone()).await, Err(Error::Upstream { .. })));
    let short = again(source.clone()).await;
    assert!(matches!(short, Err(Error::Short { received: 1_572_864, expected: 2_097_152, .. })), "{short:?}");
    let (bytes, end) = read(store.open_blob(&blob, source.clone()).await.unwrap()).await;
    end.unwrap();
    assert!(bytes == content);
    assert_eq!(source.opened(), [0, MIB as u64, MIB as u64, 3 * MIB as u64 / 2]);
    assert_eq!(store.fetched(), blob.size + other.len() as u64, "no byte twice");
    drop(failed);
}

// One thread: all readers are there before the download starts.
#[tokio::test]
async fn wrong_bytes_are_never_complete_for_anybody() {
    for size in [1, 10, 64 << 10, (64 << 10) + 1, MIB] {
        let (_folder, store) = new_store();
        let content = content(size);
        let blob = descriptor(&content);
        let source = Fake::new(&content, [Fault::Flip(size / 2)]);
        let whole = (0..4).map(|_| store.open_blob(&blob, source.clone()));
        let mut readers: Vec<_> = join_all(whole).await.into_iter().map(Result::unwrap).collect();
        let tail = store.open_blob(&blob, source.clone()).await.unwrap();
        readers.push(tail.range(blob.size - 1..blob.size));
        for (index, (bytes, end)) in join_all(readers.into_iter().map(read)).await.into_iter().enumerate() {
            assert!(matches!(end, Err(Error::WrongDigest { resumed: 0, .. })), "{end:?}");
            assert!(if index == 4 { bytes.is_empty() } else { bytes.len() < size }, "{} of {size}", bytes.len());
        }
        assert!(!store.has(&blob) && !partial(&store, &blob).exists());
        let (bytes, end) = read(store.open_blob(&blob, source.clone()).await.unwrap()).await;
        assert!(end.is_ok() && bytes == content && source.opened() == [0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_that_lies_about_the_size_is_found_out() {
    let (_folder, store) = new_store();
    let content = content(MIB - 5);
    let blob = descriptor(&content);
    let excess = read(store.open_blob(&blob, Fake::new(&content, [Fault::Excess])).await.unwrap()).await.1;
    assert!(matches!(excess, Err(Error::WrongSize { .. })), "{excess:?}");
    read(store.open_blob(&blob, Fake::new(&content, [])).await.unwrap()).await.1.unwrap();
    for size in [blob.size - 1, blob.size + 1] {
        let liar = Descriptor { size, ..blob.clone() };
        let source = Fake::new(&content, []);
        let (bytes, end) = read(store.open_blob(&liar, source.clone()).await.unwrap()).await;
        assert!(matches!(end, Err(Error::WrongSize { found: 1_048_571, .. })), "{end:?}");
        assert!(bytes.is_empty() && source.opened().is_empty() && store.has(&blob), "the good blob stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_is_used() {
    let content = content(MIB);
    let blob = descriptor(&content);
    let damaged = [&[content[0] ^ 1], &content[1..MIB / 2]].concat();
    let long = [&content[..], b"x"].concat();
    let cases: [(&[u8], &[u64], bool); 5] = [
        (&content[..MIB / 2], &[MIB as u64 / 2], true),
        (&content[..], &[], true),
        (&[], &[0], true),
        (&long, &[0], true),
        (&damaged, &[MIB as u64 / 2, 0], false),
    ];
    for (left, opened, is_good) in cases {
        let (_folder, store) = new_store();
        fs::write(partial(&store, &blob), left).unwrap();
        let source = Fake::new(&content, []);
        let (bytes, end) = read(store.open_blob(&blob, source.clone()).await.unwrap()).await;
        if is_good {
            end.unwrap();
            assert!(bytes == content);
        } else {
            assert!(matches!(end, Err(Error::WrongDigest { resumed: 524_288, .. })), "{end:?}");
            assert!(read(store.open_blob(&blob, source.clone()).await.unwrap()).await.0 == content);
        }
        assert_eq!(source.opened(), opened);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_fetched_again_before_anybody_sees_it() {
    let content = content(MIB);
    let blob = descriptor(&content);
    let damaged = [&[content[0] ^ 1], &content[1..]].concat();
    for left in [&damaged[..], &content[..MIB / 2], &[]] {
        let (_folder, store) = new_store();
        fs::write(store.path(&blob.digest), left).unwrap();
        let source = Fake::new(&content, [Fault::Refuse]);
        assert!(read(store.open_blob(&blob, source.clone()).await.unwrap()).await.1.is_err());
        assert!(!store.has(&blob), "nobody is told that it is there");
        for _ in 0..2 {
            let (bytes, end) = read(store.open_blob(&blob, source.clone()).await.unwrap()).await;
            assert!(end.is_ok() && bytes == content);
        }
        assert_eq!(source.opened(), [0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_reader_takes_the_download_with_it_and_leaves_the_bytes() {
    let (_folder, store) = new_store();
    let content = content(MIB);
    let (blob, gate) = (descriptor(&content), Arc::new(Semaphore::new(8)));
    let source = Fake::new(&content, [Fault::Gate(gate)]);
    let reader = store.open_blob(&blob, source.clone()).await.unwrap();
    until("8 pieces", || store.fetched() == 8 * PIECE as u64).await;
    drop(reader);
    let again = read(store.open_blob(&blob, source.clone()).await.unwrap());
    let (bytes, end) = timeout(Duration::from_secs(20), again).await.expect("the lock is free");
    assert!(end.is_ok() && bytes == content);
    assert_eq!(source.opened(), [0, 8 * PIECE as u64]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_in_one_folder_share_a_fetch() {
    let (folder, one) = new_store();
    let other = Store::open(folder.path()).unwrap();
    let content = content(2 * MIB);
    let (blob, gate) = (descriptor(&content), Arc::new(Semaphore::new(32)));
    let first = Fake::new(&content, [Fault::Gate(gate.clone())]);
    let reader = one.open_blob(&blob, first.clone()).await.unwrap();
    until("half of it", || one.fetched() == MIB as u64).await;
    let second = Fake::new(&content, []);
    let mut along = other.open_blob(&blob, second.clone()).await.unwrap();
    let early = along.next().await.unwrap().unwrap();
    assert!(!one.has(&blob) && content.starts_with(&early), "it reads along");
    gate.add_permits(1000);
    let ((all, end), (rest, end_along)) = tokio::join!(read(reader), read(along));
    assert!(end.is_ok() && end_along.is_ok());
    assert!(all == content && [&early[..], &rest].concat() == content);
    assert_eq!((first.opened(), second.opened()), (vec![0], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_along_a_wrong_download_gets_no_end_either() {
    let (folder, one) = new_store();
    let other = Store::open(folder.path()).unwrap();
    let (good, gate) = (content(MIB), Arc::new(Semaphore::new(16)));
    let blob = descriptor(&good);
    let bad = Bytes::from([&[good[0] ^ 1], &good[1..]].concat());
    let reader = one.open_blob(&blob, Fake::new(&bad, [Fault::Gate(gate.clone())])).await.unwrap();
    until("half of it", || one.fetched() == MIB as u64 / 2).await;
    let mut along = other.open_blob(&blob, Fake::new(&good, [])).await.unwrap();
    along.next().await.unwrap().unwrap();
    gate.add_permits(1000);
    let ((_, end), (_, end_along)) = tokio::join!(read(reader), read(along));
    assert!(matches!(end, Err(Error::WrongDigest { .. })), "{end:?}");
    assert!(matches!(end_along, Err(Error::Discarded { .. })), "{end_along:?}");
}

/// Not a test of its own: the process that `a_killed_process_is_taken_over_from` kills.
#[tokio::test]
async fn child_that_is_killed() {
    let Some(root) = std::env::var_os("K3ARM_TEST_STORE") else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    let content = content(2 * MIB);
    let source = Fake::new(&content, [Fault::Hang(MIB)]);
    read(store.open_blob(&descriptor(&content), source).await.unwrap()).await.1.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_taken_over_from() {
    let (folder, store) = new_store();
    let content = content(2 * MIB);
    let blob = descriptor(&content);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed"])
        .env("K3ARM_TEST_STORE", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let path = partial(&store, &blob);
    until("half of it", || fs::metadata(&path).is_ok_and(|found| found.len() == MIB as u64)).await;
    let source = Fake::new(&content, []);
    let mut reader = store.open_blob(&blob, source.clone()).await.unwrap();
    let early = reader.next().await.unwrap().unwrap();
    assert!(source.opened().is_empty(), "the other process has the lock");
    child.kill().unwrap();
    child.wait().unwrap();
    let (rest, end) = read(reader).await;
    end.unwrap();
    assert!([&early[..], &rest].concat() == content);
    assert_eq!((source.opened(), store.fetched()), (vec![MIB as u64], MIB as u64));
}

#[tokio::test(start_paused = true)]
async fn silence_has_an_end() {
    let (folder, store) = new_store();
    let content = content(MIB);
    let blob = descriptor(&content);
    let silent = store.open_blob(&blob, Fake::new(&content, [Fault::Hang(PIECE)])).await.unwrap();
    let (_, end) = timeout(Duration::from_secs(200), read(silent)).await.expect("upstream's silence ends");
    assert!(matches!(end, Err(Error::Stalled { received: 32_768, .. })), "{end:?}");
    let locked = fs::File::open(partial(&store, &blob)).unwrap();
    locked.lock().unwrap();
    let other = Store::open(folder.path()).unwrap();
    let source = Fake::new(&content, []);
    let waiting = read(other.open_blob(&blob, source.clone()).await.unwrap());
    let end = timeout(Duration::from_secs(200), waiting).await.expect("another process's silence ends").1;
    assert!(matches!(end, Err(Error::Busy { .. })) && source.opened().is_empty(), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_what_arrived_is_used_later() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Store::open(&disk.0.path().join("store")).unwrap();
    let content = content(4 * MIB);
    let (blob, source) = (descriptor(&content), Fake::new(&content, []));
    let end = read(store.open_blob(&blob, source.clone()).await.unwrap()).await.1;
    assert!(matches!(&end, Err(error @ Error::NoSpace { .. }) if error.hint().is_some()), "{end:?}");
    let written = store.write(content.slice(..2 * MIB)).await;
    assert!(matches!(written, Err(Error::NoSpace { .. })), "{written:?}");
    disk.resize("8m");
    let (bytes, end) = read(store.open_blob(&blob, source.clone()).await.unwrap()).await;
    assert!(end.is_ok() && bytes == content);
    let opened = source.opened();
    assert!(opened.len() == 2 && opened[1] > MIB as u64 / 2, "{opened:?}");
}

/// A file system of 1 MiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` without the right to mount: said loudly, and a failure where everything must run.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "k3arm-test"]).arg(folder.path()).status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        assert!(std::env::var_os("CI").is_none(), "mounting a tmpfs needs root");
        eprintln!("SKIPPED: the test of a full disk needs root to mount a tmpfs");
        None
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_kept_and_checked() {
    let (_folder, store) = new_store();
    let document = Bytes::from_static(br#"{"schemaVersion":2}"#);
    let described = descriptor(&document);
    assert!(matches!(store.read(&described).await, Err(Error::NotHeld { .. })));
    assert_eq!(store.write(document.clone()).await.unwrap(), described.digest);
    assert_eq!(store.read(&described).await.unwrap(), document);
    for damage in ["{}", r#"{"schemaVersion":3}"#, &" ".repeat(5 << 20)] {
        fs::write(store.path(&described.digest), damage).unwrap();
        assert!(matches!(store.read(&described).await, Err(Error::NotHeld { .. })));
        assert!(!store.has(&described));
    }
    store.write(document.clone()).await.unwrap();
    fs::write(store.path(&described.digest), r#"{"schemaVersion":3}"#).unwrap();
    store.write(document.clone()).await.unwrap();
    assert_eq!(store.read(&described).await.unwrap(), document, "writing heals");
    let large = Descriptor { size: (4 << 20) + 1, ..described };
    assert!(matches!(store.read(&large).await, Err(Error::TooLarge { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_images_are_found_again_whoever_writes_at_the_same_time() {
    let (folder, store) = new_store();
    let names: Vec<_> = (0..20).map(|n| format!("docker.io/rancher/k3s:v{n}").parse().unwrap()).collect();
    let root = descriptor(b"{}");
    let stores: Vec<_> = names.iter().map(|_| Store::open(folder.path()).unwrap()).collect();
    for ended in join_all(stores.iter().zip(&names).map(|(store, name)| store.record(name, &root))).await {
        ended.unwrap();
    }
    let newer = descriptor(b"{ }");
    store.record(&names[3], &newer).await.unwrap();
    let found = store.images().await.unwrap();
    assert_eq!(found.len(), 20);
    assert!(found.iter().all(|(name, image)| (image.digest == newer.digest) == (*name == names[3])));
    fs::write(folder.path().join("index.json"), "[").unwrap();
    assert!(matches!(store.images().await, Err(Error::Index { .. })));
    assert!(matches!(store.record(&names[0], &root).await, Err(Error::Index { .. })));
    assert_eq!(fs::read(folder.path().join("index.json")).unwrap(), b"[", "left as it was");
}
