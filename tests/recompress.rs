//! Layers compressed anew: of every form, from upstreams that fail, with results that are found again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod supply;

use std::fs;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use k3arm::oci::{Compression, Descriptor, Digest, LayerForm, MediaType, ZstdLevel};
use k3arm::recompress::{Error, Form, Layer, Machine, Recompressor, Sampling};
use k3arm::store::Store;
use supply::{Fake, Fault, content};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const KIB: usize = 1 << 10;
const MACHINE: Machine = Machine { cores: 1, memory: 1 << 30 };

fn zstd_level(level: u8) -> Compression {
    Compression::Zstd(ZstdLevel::new(level).unwrap())
}

/// Bytes that compress as text does: of 2048 words, the more often the earlier.
fn text(size: usize) -> Vec<u8> {
    let letters = content(11 * 2048);
    let word = |at: &[u8]| at[..2 + usize::from(at[10] % 8)].iter().map(|b| b'a' + b % 26).chain([b' ']).collect();
    let words: Vec<Vec<u8>> = letters.chunks(11).map(word).collect();
    let place = |two: &[u8]| (f64::from(u16::from_le_bytes([two[0], two[1]])) / 65536.0).powi(3) * 2048.0;
    content(size).chunks_exact(2).flat_map(|two| words[place(two) as usize].clone()).take(size).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

struct Bench {
    folder: TempDir,
    store: Store,
    recompressor: Recompressor,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    Bench { recompressor: Recompressor::new(store.clone()).on(MACHINE), folder, store }
}

impl Bench {
    fn files(&self, folder: &str) -> usize {
        fs::read_dir(self.folder.path().join(folder)).map_or(0, Iterator::count)
    }

    /// Blobs, files that arrive or are being made, records.
    fn counts(&self) -> (usize, usize, usize) {
        (self.files("blobs/sha256"), self.files("ingest"), self.files("recompressed"))
    }

    fn unpacked(&self, made: &Descriptor) -> Vec<u8> {
        let blob = fs::read(self.store.path(&made.digest)).unwrap();
        assert_eq!((Digest::of(&blob), blob.len() as u64), (made.digest.clone(), made.size));
        let mut unpacked = Vec::new();
        match made.media_type.layer_form().unwrap() {
            LayerForm::Zstd => unpacked = zstd::stream::decode_all(&blob[..]).unwrap(),
            LayerForm::Gzip => drop(flate2::read::GzDecoder::new(&blob[..]).read_to_end(&mut unpacked).unwrap()),
            LayerForm::Plain => panic!("nothing is made bare"),
        }
        unpacked
    }
}

/// A layer as published, and upstream.
fn layer(form: LayerForm, unpacked: &[u8], blob: Vec<u8>) -> (Layer, Bytes) {
    let descriptor = Descriptor {
        media_type: MediaType::oci_layer(form),
        digest: Digest::of(&blob),
        size: blob.len() as u64,
        platform: None,
        annotations: Default::default(),
    };
    (Layer { descriptor, diff_id: Digest::of(unpacked) }, blob.into())
}

fn gzip_layer(unpacked: &[u8]) -> (Layer, Bytes) {
    layer(LayerForm::Gzip, unpacked, gzip(unpacked))
}

fn made(form: Form) -> Descriptor {
    let Form::Made(made) = form else { panic!("left as published") };
    made
}

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let reached = async {
        while !is_true() {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_layer_becomes_zstd_of_the_same_bytes() {
    let text = text(700 * KIB);
    let (one, two) = text.split_at(300 * KIB);
    let skippable = [&[0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd_frame(one), &zstd_frame(two)].concat();
    for (form, blob) in [
        (LayerForm::Gzip, gzip(&text)),
        (LayerForm::Gzip, [gzip(one), gzip(b""), gzip(two)].concat()),
        (LayerForm::Plain, text.clone()),
        (LayerForm::Zstd, [zstd_frame(one), zstd_frame(two)].concat()),
        (LayerForm::Zstd, skippable),
        // Media types lie; engines look at the bytes, too.
        (LayerForm::Plain, gzip(&text)),
    ] {
        let bench = bench();
        let (layer, blob) = layer(form, &text, blob);
        let source = Fake::new(&blob, []);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let told = bench.recompressor.clone().with_progress(Arc::new(move |_, done| log.lock().unwrap().push(done)));
        let result = made(told.make(&layer, zstd_level(7), source.clone()).await.unwrap());
        assert_eq!(result.media_type.0, "application/vnd.oci.image.layer.v1.tar+zstd");
        assert!(bench.unpacked(&result) == text && result.size < layer.descriptor.size, "{form:?}");
        assert!(seen.lock().unwrap().is_sorted() && seen.lock().unwrap().last() == Some(&layer.descriptor.size));
        // The layer as published stays too: hosts with older engines want it.
        assert_eq!(bench.counts(), (2, 0, 1));
        // In the next run it is only looked up.
        let again = Recompressor::new(Store::open(bench.folder.path()).unwrap());
        let found = again.make(&layer, zstd_level(3), Fake::new(&blob, [Fault::Refuse])).await.unwrap();
        assert_eq!((found, source.opened()), (Form::Made(result), vec![0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_threads_give_the_same_bytes() {
    let text = text(3000 * KIB);
    let (layer, blob) = gzip_layer(&text);
    let several = bench();
    let machine = Machine { cores: 3, memory: 16 << 30 };
    let form =
        several.recompressor.clone().on(machine).make(&layer, zstd_level(10), Fake::new(&blob, [])).await.unwrap();
    assert!(several.unpacked(&made(form)) == text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_levels_keep_to_the_window_of_engines() {
    let text = text(700 * KIB);
    let (layer, blob) = gzip_layer(&text);
    let bench = bench();
    let form = bench.recompressor.make(&layer, zstd_level(19), Fake::new(&blob, [])).await.unwrap();
    let result = made(form);
    let packed = fs::read(bench.store.path(&result.digest)).unwrap();
    let mut decoder = zstd::stream::read::Decoder::new(&packed[..]).unwrap();
    decoder.window_log_max(27).unwrap();
    let mut unpacked = Vec::new();
    decoder.read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == text);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_diff_id_is_an_error_and_leaves_nothing() {
    let bench = bench();
    let (mut layer, blob) = gzip_layer(&text(700 * KIB));
    layer.diff_id = Digest::of(b"another");
    let error = bench.recompressor.make(&layer, zstd_level(3), Fake::new(&blob, [])).await.unwrap_err();
    assert!(matches!(&error, Error::WrongDiffId { expected, .. } if *expected == layer.diff_id), "{error:?}");
    assert_eq!(bench.counts(), (1, 0, 0), "the layer as published is right");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_no_compressor_wrote_are_an_error() {
    let text = text(700 * KIB);
    let whole = gzip(&text);
    let zstd = zstd_frame(&text);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x55;
    for (form, blob) in [
        (LayerForm::Gzip, whole[..whole.len() - 20_000].to_vec()),
        (LayerForm::Gzip, [&whole[..], b"and more"].concat()),
        (LayerForm::Gzip, flipped),
        (LayerForm::Zstd, zstd[..zstd.len() - 20_000].to_vec()),
        (LayerForm::Zstd, [&zstd[..], b"and more"].concat()),
    ] {
        let bench = bench();
        let (layer, blob) = layer(form, &text, blob);
        let error = bench.recompressor.make(&layer, zstd_level(3), Fake::new(&blob, [])).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        until("the draft is gone", || bench.counts() == (1, 0, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_unpacks_to_too_much_is_refused() {
    let text = text(700 * KIB);
    let (layer, blob) = gzip_layer(&text);
    let bench = bench();
    let limited = |limit: usize| bench.recompressor.clone().with_limit(limit as u64);
    let refused = limited(text.len() - 1).make(&layer, zstd_level(3), Fake::new(&blob, [])).await;
    assert!(matches!(refused, Err(Error::TooLarge { limit, .. }) if limit == text.len() as u64 - 1), "{refused:?}");
    made(limited(text.len()).make(&layer, zstd_level(3), Fake::new(&blob, [])).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_upstream_is_told_and_the_next_attempt_goes_on() {
    let bench = bench();
    let (layer, blob) = gzip_layer(&text(700 * KIB));
    let source = Fake::new(&blob, [Fault::Cut(100 * KIB), Fault::Flip(200 * KIB)]);
    let cut = bench.recompressor.make(&layer, zstd_level(3), source.clone()).await.unwrap_err();
    assert!(cut.store().and_then(|error| error.upstream()).is_some(), "{cut:?}");
    // Bytes with another digest: the layer is not believed, whatever it unpacks to.
    let wrong = bench.recompressor.make(&layer, zstd_level(3), source.clone()).await.unwrap_err();
    let is_wrong = matches!(&wrong, Error::Read { source: k3arm::store::Error::WrongDigest { .. }, .. });
    assert!(is_wrong || matches!(wrong, Error::Corrupt { .. }), "{wrong:?}");
    made(bench.recompressor.make(&layer, zstd_level(3), source).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_stops_the_work() {
    let bench = bench();
    let (layer, blob) = gzip_layer(&text(700 * KIB));
    let gate = Arc::new(Semaphore::new(4));
    let (recompressor, source) = (bench.recompressor.clone(), Fake::new(&blob, [Fault::Gate(gate)]));
    let draft = || {
        let names = fs::read_dir(bench.folder.path().join("ingest")).unwrap().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with("draft-")).count()
    };
    let work = tokio::spawn(async move { recompressor.make(&layer, zstd_level(3), source).await });
    until("the work has begun", || draft() == 1).await;
    work.abort();
    until("the work has ended", || draft() == 0).await;
    assert_eq!((bench.files("blobs/sha256"), bench.files("recompressed")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_keeps_nothing_although_the_thread_has_all_it_needs() {
    let bench = bench();
    // A piece of input that the thread is busy with for long.
    let (layer, blob) = gzip_layer(&vec![0; 80_000_000]);
    assert!(layer.descriptor.size >= 64 << 10);
    let given = Arc::new(tokio::sync::Notify::new());
    let (size, is_given) = (layer.descriptor.size, given.clone());
    let progress = Arc::new(move |_: &Digest, done| {
        if done == size {
            is_given.notify_one();
        }
    });
    let recompressor = bench.recompressor.clone().with_progress(progress);
    tokio::select! {
        biased;
        () = given.notified() => {}
        form = recompressor.make(&layer, zstd_level(15), Fake::new(&blob, [])) => panic!("{form:?}"),
    }
    until("the work has ended", || bench.files("ingest") == 0).await;
    assert_eq!(bench.counts(), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_hardly_smaller_is_left_and_remembered() {
    let bench = bench();
    let (dense, blob) = gzip_layer(&content(700 * KIB));
    let source = Fake::new(&blob, []);
    assert_eq!(bench.recompressor.make(&dense, zstd_level(10), source.clone()).await.unwrap(), Form::AsPublished);
    until("nothing but the record", || bench.files("ingest") <= 1 && bench.files("recompressed") == 1).await;
    for (level, known) in [(3, true), (10, true), (11, false)] {
        let found = bench.recompressor.find(&dense, zstd_level(level)).await.unwrap();
        assert_eq!(found, known.then_some(Form::AsPublished), "{level}");
    }
    let (small, blob) = gzip_layer(&text(100 * KIB));
    assert!(small.descriptor.size < 64 << 10);
    let form = bench.recompressor.make(&small, zstd_level(19), Fake::new(&blob, [Fault::Refuse])).await.unwrap();
    assert_eq!((form, bench.files("recompressed")), (Form::AsPublished, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_better_level_is_made_when_it_is_asked_for_and_then_serves_all() {
    let bench = bench();
    let (layer, blob) = gzip_layer(&text(700 * KIB));
    let make = |level| bench.recompressor.make(&layer, zstd_level(level), Fake::new(&blob, []));
    let (low, high) = (made(make(3).await.unwrap()), made(make(12).await.unwrap()));
    assert!(high.size < low.size);
    assert_eq!(made(make(3).await.unwrap()), high);
    // A damaged result is as good as none.
    let mut bytes = fs::read(bench.store.path(&high.digest)).unwrap();
    bytes[1000] ^= 1;
    fs::write(bench.store.path(&high.digest), bytes).unwrap();
    assert_eq!(bench.recompressor.find(&layer, zstd_level(3)).await.unwrap(), Some(Form::Made(low)));
    assert_eq!(bench.recompressor.find(&layer, zstd_level(12)).await.unwrap(), None);
    assert_eq!(made(make(12).await.unwrap()), high);
    assert!(bench.store.holds(&high).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn older_engines_get_gzip_where_it_was_not() {
    let text = text(700 * KIB);
    for (form, blob) in [(LayerForm::Plain, text.clone()), (LayerForm::Zstd, zstd::encode_all(&text[..], 19).unwrap())]
    {
        let bench = bench();
        let (layer, blob) = layer(form, &text, blob);
        let result = made(bench.recompressor.make(&layer, Compression::Gzip, Fake::new(&blob, [])).await.unwrap());
        assert_eq!(result.media_type.0, "application/vnd.oci.image.layer.v1.tar+gzip");
        assert!(bench.unpacked(&result) == text);
        // From zstd it gets larger, and is wanted nevertheless.
        assert_eq!(result.size > layer.descriptor.size, form == LayerForm::Zstd);
    }
    let (layer, blob) = gzip_layer(&text);
    let form = bench().recompressor.make(&layer, Compression::Gzip, Fake::new(&blob, [Fault::Refuse])).await.unwrap();
    assert_eq!(form, Form::AsPublished);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_the_same_time_do_not_disturb_each_other() {
    let bench = bench();
    let text = text(700 * KIB);
    let (layer, blob) = gzip_layer(&text);
    // Another process has its own view of the folder.
    let other = Recompressor::new(Store::open(bench.folder.path()).unwrap()).on(MACHINE);
    let source = Fake::new(&blob, []);
    let (one, two) = tokio::join!(
        bench.recompressor.make(&layer, zstd_level(5), source.clone()),
        other.make(&layer, zstd_level(5), source.clone()),
    );
    let result = made(one.unwrap());
    assert_eq!(made(two.unwrap()), result);
    assert!(bench.unpacked(&result) == text);
    assert_eq!(bench.counts(), (2, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_tells_what_the_whole_will_bring() {
    let bench = bench();
    let text = text(1500 * KIB);
    let (layer, blob) = gzip_layer(&text);
    let source = Fake::new(&blob, []);
    let levels = [3, 7].map(|level| ZstdLevel::new(level).unwrap());
    let sampling = Sampling { levels: levels.to_vec(), budget: Duration::from_secs(600) };
    let sampled = bench.recompressor.sample(&layer, source.clone(), &sampling).await.unwrap();
    assert_eq!(sampled.iter().map(|one| one.level).collect::<Vec<_>>(), levels);
    for one in &sampled {
        let level = Compression::Zstd(one.level);
        let whole = made(bench.recompressor.make(&layer, level, source.clone()).await.unwrap());
        let ratio = whole.size as f64 / layer.descriptor.size as f64;
        assert!((ratio - one.ratio).abs() < 0.02 && one.rate > 0.0, "{ratio} {one:?}");
    }
    let remembered = bench.recompressor.remembered().await.unwrap();
    assert_eq!(remembered.iter().map(|one| one.level).collect::<Vec<_>>(), levels);
    assert!(remembered.iter().all(|one| one.rate > 0.0 && one.ratio < 1.0), "{remembered:?}");
    let no_time = Sampling { budget: Duration::ZERO, ..sampling.clone() };
    assert_eq!(bench.recompressor.sample(&layer, source.clone(), &no_time).await.unwrap(), []);
    let small = bench.recompressor.clone().on(Machine { cores: 1, memory: 1 << 20 });
    assert_eq!(small.sample(&layer, source, &sampling).await.unwrap(), [], "no level fits");
}
