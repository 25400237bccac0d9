//! The mirror as a client sees it on the wire: raw TCP, so that a test sees where a connection ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod supply;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use k3arm::mirror::{Door, Mirror, Published};
use k3arm::oci::{Descriptor, Digest, MediaType};
use k3arm::store::{Error, Source, Store};
use supply::{Fake, Fault, PIECE, content, descriptor};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const MIB: usize = 1 << 20;

struct Stage {
    _folder: TempDir,
    store: Store,
    mirror: Mirror,
    door: Door,
    path: String,
    manifest: Bytes,
    layer: Bytes,
    source: Arc<Fake>,
}

/// A mirror with one image of one layer published.
fn stage(layer: &Bytes, faults: impl IntoIterator<Item = Fault>) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mirror = Mirror::start(store.clone()).unwrap();
    let (door, source) = (mirror.door(), Fake::new(layer, faults));
    let manifest = Bytes::from_static(br#"{"schemaVersion":2}"#);
    let path = door.publish(published(&manifest, layer, source.clone()));
    Stage { _folder: folder, store, mirror, door, path, manifest, layer: layer.clone(), source }
}

fn published(manifest: &Bytes, layer: &Bytes, source: Arc<dyn Source>) -> Published {
    let media_type = MediaType(MediaType::OCI_MANIFEST.into());
    Published {
        reference: "rancher/k3s:v1".parse().unwrap(),
        documents: vec![(Descriptor { media_type, ..descriptor(manifest) }, manifest.clone())],
        blobs: vec![descriptor(layer)],
        source,
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    fn length(&self) -> usize {
        self.header("content-length").unwrap().parse().unwrap()
    }
}

impl Stage {
    fn blob(&self) -> String {
        format!("/v2/{}/blobs/{}", self.path, Digest::of(&self.layer))
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// One request on a connection of its own; the body is all that comes before the connection ends.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        self.raw(head.as_bytes()).await
    }

    async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.mirror.address()).await.unwrap();
        // A server that refuses the rest of a request may close before it was sent.
        let _ = stream.write_all(request).await;
        let mut all = Vec::new();
        let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await;
        let _ = ended.expect("the connection ends");
        parse(all)
    }
}

fn parse(all: Vec<u8>) -> Answer {
    let Some(end) = all.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Answer { status: 0, head: String::from_utf8_lossy(&all).into(), body: Vec::new() };
    };
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: all[end + 4..].to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_finds_a_registry_and_its_image() {
    let stage = stage(&content(MIB), []);
    let base = stage.get("/v2/").await;
    assert_eq!((base.status, &base.body[..]), (200, &b"{}"[..]));
    assert_eq!(base.header("docker-distribution-api-version"), Some("registry/2.0"));
    let digest = Digest::of(&stage.manifest);
    for target in [digest.to_string(), "v1".to_string()] {
        let path = format!("/v2/{}/manifests/{target}", stage.path);
        let (answer, head) = (stage.get(&path).await, stage.ask("HEAD", &path, "").await);
        assert_eq!((answer.status, &answer.body[..]), (200, &stage.manifest[..]));
        assert_eq!(answer.header("content-type"), Some(MediaType::OCI_MANIFEST));
        assert_eq!(answer.header("docker-content-digest"), Some(&*digest.to_string()));
        assert_eq!((head.status, head.length(), head.body.len()), (200, stage.manifest.len(), 0));
    }
    let head = stage.ask("HEAD", &stage.blob(), "").await;
    assert_eq!((head.status, head.length(), head.body.len()), (200, MIB, 0));
    assert!(stage.source.opened().is_empty(), "a HEAD fetches nothing");
    let answer = stage.get(&stage.blob()).await;
    assert!(answer.status == 200 && answer.length() == MIB && answer.body == stage.layer);
    assert_eq!(answer.header("docker-content-digest"), Some(&*Digest::of(&stage.layer).to_string()));
    assert_eq!(stage.door.served(), (MIB + 2 * stage.manifest.len()) as u64);
    assert!(stage.door.take_error().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_is_unguessable_and_a_hosts_own() {
    let stage = stage(&content(10), []);
    let (secret, repository) = stage.path.split_once('/').unwrap();
    let digits = secret.strip_prefix("k3arm-").unwrap();
    assert!(digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{secret}");
    assert_eq!(repository, "rancher/k3s");
    let other = stage.mirror.door();
    let other_path = other.publish(published(&stage.manifest, &content(11), stage.source.clone()));
    assert_ne!(other_path, stage.path);
    let foreign = format!("/v2/{other_path}/blobs/{}", Digest::of(&stage.layer));
    assert_eq!(stage.get(&foreign).await.status, 404, "what was not published at this door");
    let mut wrong = secret.to_string();
    wrong.replace_range(37.., if secret.ends_with('0') { "1" } else { "0" });
    let nowhere = stage.get("/nothing").await;
    for path in [format!("/v2/{wrong}/rancher/k3s"), "/v2/rancher/k3s".into(), "/v2/k3arm-/rancher/k3s".into()] {
        for item in ["manifests/v1".to_string(), format!("blobs/{}", Digest::of(&stage.layer))] {
            let answer = stage.get(&format!("{path}/{item}")).await;
            assert_eq!((answer.status, &answer.body), (404, &nowhere.body), "no difference to a path that never was");
        }
    }
    assert!(!format!("{:?} {:?}", stage.mirror, stage.door).contains(digits), "Debug keeps the secret");
    let gone = format!("/v2/{other_path}/manifests/v1");
    assert_eq!(stage.get(&gone).await.status, 200);
    drop(other);
    assert_eq!(stage.get(&gone).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_refused() {
    let stage = stage(&content(10), []);
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        for path in ["/v2/".to_string(), stage.blob(), format!("/v2/{}/blobs/uploads/", stage.path)] {
            assert_eq!(stage.ask(method, &path, "Content-Length: 0\r\n").await.status, 405, "{method} {path}");
        }
    }
    for path in ["manifests/v2", "tags/list", "blobs/x", "", "manifests/../../v2/"] {
        assert_eq!(stage.get(&format!("/v2/{}/{path}", stage.path)).await.status, 404, "{path}");
    }
    assert_eq!(stage.get("/v2/_catalog").await.status, 404);
    let answer = stage.get(&format!("/v2/{}/blobs/{}", stage.path, Digest::of(b"other"))).await;
    assert!(answer.status == 404 && String::from_utf8_lossy(&answer.body).contains(r#""code":"BLOB_UNKNOWN""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_served_as_engines_ask_for_them() {
    let stage = stage(&content(MIB), []);
    let tag = format!("\"{}\"", Digest::of(&stage.layer));
    for (headers, status, wanted, range) in [
        ("Range: bytes=1000-\r\n".to_string(), 206, 1000..MIB, Some("bytes 1000-1048575/1048576")),
        ("Range: bytes=0-0\r\n".into(), 206, 0..1, Some("bytes 0-0/1048576")),
        ("Range: bytes=1048576-\r\n".into(), 416, 0..0, Some("bytes */1048576")),
        (format!("Range: bytes=5-9\r\nIf-Range: {tag}\r\n"), 206, 5..10, Some("bytes 5-9/1048576")),
        ("Range: bytes=5-9\r\nIf-Range: \"other\"\r\n".into(), 200, 0..MIB, None),
        ("Range: nonsense\r\n".into(), 200, 0..MIB, None),
    ] {
        let answer = stage.ask("GET", &stage.blob(), &headers).await;
        assert_eq!((answer.status, answer.header("content-range")), (status, range), "{headers}");
        assert!(answer.body == stage.layer[wanted] && answer.length() == answer.body.len(), "{headers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_hosts_cost_one_fetch() {
    let stage = stage(&content(2 * MIB), []);
    let (doors, paths): (Vec<_>, Vec<_>) = (0..16)
        .map(|_| stage.mirror.door())
        .map(|door| {
            let path = door.publish(published(&stage.manifest, &stage.layer, stage.source.clone()));
            (door, format!("/v2/{path}/blobs/{}", Digest::of(&stage.layer)))
        })
        .unzip();
    let answers = join_all(paths.iter().map(|path| stage.get(path))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == stage.layer));
    assert_eq!(stage.source.opened(), [0]);
    assert!(doors.iter().all(|door| door.served() == 2 * MIB as u64));
    assert_eq!(stage.door.served(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_read_holds_no_other() {
    // More than the kernel's buffers take.
    let stage = stage(&content(20 * MIB), []);
    let mut slow = TcpStream::connect(stage.mirror.address()).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", stage.blob());
    slow.write_all(request.as_bytes()).await.unwrap();
    let fast = stage.get(&stage.blob()).await;
    assert!(fast.body == stage.layer);
    assert!(stage.door.served() < 40 * MIB as u64, "the slow one's bytes are not in memory");
    let mut all = Vec::new();
    slow.read_to_end(&mut all).await.unwrap();
    assert!(parse(all).body == stage.layer && stage.source.opened() == [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_slow_link_lower_layers_go_first() {
    let [lower, upper] = [content(40 * MIB), content(20 * MIB)];
    let stage = stage(&lower, []);
    let path = stage.door.publish(Published {
        blobs: vec![descriptor(&lower), descriptor(&upper)],
        ..published(&stage.manifest, &upper, Fake::new(&upper, []))
    });
    let upper_path = format!("/v2/{path}/blobs/{}", Digest::of(&upper));
    assert!(stage.get(&stage.blob()).await.status == 200 && stage.get(&upper_path).await.body == upper);

    let before = stage.door.served();
    let mut slow = TcpStream::connect(stage.mirror.address()).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", stage.blob());
    slow.write_all(request.as_bytes()).await.unwrap();
    let (mut buffer, mut taken) = (vec![0; 256 << 10], 0);
    let mut waiting = std::pin::pin!(stage.get(&upper_path));
    let answer = loop {
        // A link of some 25 MiB a second.
        let pause = tokio::time::sleep(Duration::from_millis(10));
        let read = tokio::join!(slow.read(&mut buffer), pause).0.unwrap();
        taken += read;
        if read == 0 {
            break waiting.await;
        }
        // The last of it is in the kernel's buffers long before it is read.
        if (MIB..20 * MIB).contains(&taken) {
            let sent = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
            tokio::select! { biased; _ = &mut waiting => panic!("the upper one was first"), () = sent => {} }
        }
    };
    assert!(taken > lower.len() && answer.body == upper);
    assert_eq!(stage.door.served() - before, (lower.len() + upper.len()) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_the_first_byte_is_told_by_the_status() {
    let stage = stage(&content(MIB), [Fault::Refuse]);
    let answer = stage.get(&stage.blob()).await;
    assert_eq!(answer.status, 502);
    assert!(String::from_utf8_lossy(&answer.body).contains("could not be fetched"), "{answer:?}");
    let error = stage.door.take_error().unwrap();
    assert_eq!(error.upstream().unwrap().to_string(), "upstream refused");
    assert!(stage.door.take_error().is_none());
    assert!(stage.get(&stage.blob()).await.body == stage.layer, "and the next one goes well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_upstream_cuts_the_answer_and_an_engine_goes_on_by_range() {
    let gate = Arc::new(Semaphore::new(16));
    let stage = stage(&content(MIB), [Fault::Gate(gate.clone())]);
    let mut stream = TcpStream::connect(stage.mirror.address()).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", stage.blob());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = vec![0; 8 * PIECE];
    stream.read_exact(&mut first).await.unwrap();
    let arrived = async {
        while stage.store.fetched() < 16 * PIECE as u64 {
            tokio::task::yield_now().await
        }
    };
    timeout(Duration::from_secs(20), arrived).await.expect("16 pieces arrive");
    gate.close();
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("the connection is cut");
    let answer = parse([first, rest].concat());
    assert!(answer.status == 200 && answer.length() == MIB && answer.body.len() < MIB, "{}", answer.body.len());
    assert!(matches!(stage.door.take_error(), Some(Error::Upstream { .. })));
    let more = stage.ask("GET", &stage.blob(), &format!("Range: bytes={}-\r\n", answer.body.len())).await;
    assert!([answer.body, more.body].concat() == stage.layer);
    assert_eq!(stage.source.opened(), [0, 16 * PIECE as u64]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_never_complete_an_answer() {
    for size in [5, MIB] {
        let stage = stage(&content(size), [Fault::Flip(2)]);
        let blob = stage.blob();
        let answer = stage.get(&blob).await;
        match answer.status {
            200 => assert!(answer.length() == size && answer.body.len() < size, "{}", answer.body.len()),
            status => assert_eq!(status, 502),
        }
        assert!(matches!(stage.door.take_error(), Some(Error::WrongDigest { .. })));
        assert!(stage.get(&blob).await.body == stage.layer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pulls_is_told_when_asking_again_does_not_help() {
    let stage = stage(&content(MIB), [Fault::Refuse, Fault::Refuse, Fault::Refuse]);
    for _ in 0..2 {
        stage.get(&stage.blob()).await;
    }
    assert!(timeout(Duration::from_millis(50), stage.door.gave_up()).await.is_err());
    stage.get(&stage.blob()).await;
    let error = timeout(Duration::from_secs(5), stage.door.gave_up()).await.expect("three are enough");
    assert!(matches!(error, Error::Upstream { .. }), "{error:?}");
    // A blob of another size than published: no attempt can change that.
    let door = stage.mirror.door();
    let short = stage.layer.slice(1..);
    let path = door.publish(published(&stage.manifest, &short, Fake::new(&stage.layer, [])));
    stage.get(&format!("/v2/{path}/blobs/{}", Digest::of(&short))).await;
    let error = timeout(Duration::from_secs(5), door.gave_up()).await.expect("one is enough");
    assert!(matches!(error, Error::WrongSize { .. }), "{error:?}");
}

/// Virtual time runs on when nobody has work: all patience ends at once.
#[tokio::test(start_paused = true)]
async fn nobody_holds_a_connection_for_ever() {
    let stage = stage(&content(20 * MIB), []);
    let blob = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", stage.blob());
    for (said, what) in
        [("", "silence"), ("GET /v2/ HT", "half a head"), ("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", "idle")]
    {
        let mut stream = TcpStream::connect(stage.mirror.address()).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let ended = timeout(Duration::from_secs(400), stream.read_to_end(&mut Vec::new())).await;
        let _ = ended.unwrap_or_else(|_| panic!("{what} lasts"));
    }
    tokio::time::resume();
    let mut stream = TcpStream::connect(stage.mirror.address()).await.unwrap();
    stream.write_all(blob.as_bytes()).await.unwrap();
    stream.read_u8().await.unwrap();
    tokio::time::pause();
    let tasks = tokio::runtime::Handle::current().metrics();
    let is_cut = async {
        while tasks.num_alive_tasks() > 1 {
            tokio::time::sleep(Duration::from_secs(1)).await
        }
    };
    timeout(Duration::from_secs(1000), is_cut).await.expect("a client that reads nothing is cut off");
    assert!(stage.door.served() < stage.layer.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_fails_at_once() {
    let stage = stage(&content(10), []);
    let started = std::time::Instant::now();
    // The start of a TLS handshake, which engines try first; then a head without end.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    assert_eq!(stage.raw(&hello).await.status, 400);
    let endless = [&b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: "[..], &vec![b'a'; 1 << 20]].concat();
    assert!(matches!(stage.raw(&endless).await.status, 0 | 431));
    let many = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(1000));
    assert!(matches!(stage.raw(many.as_bytes()).await.status, 0 | 431));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(stage.get("/v2/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_mirror_is_dropped_nothing_of_it_is_left() {
    let Stage { mirror, door, path, layer, _folder, .. } = stage(&content(8 * MIB), []);
    let address = mirror.address();
    let mut pulling = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v2/{path}/blobs/{} HTTP/1.1\r\nHost: x\r\n\r\n", Digest::of(&layer));
    pulling.write_all(request.as_bytes()).await.unwrap();
    pulling.read_u8().await.unwrap();
    assert!(timeout(Duration::from_millis(50), door.closed()).await.is_err(), "it runs");
    drop(mirror);
    timeout(Duration::from_secs(5), door.closed()).await.expect("the door notices");
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(5), pulling.read_to_end(&mut rest)).await.expect("the pull is cut");
    assert!(rest.len() < layer.len());
    assert!(TcpStream::connect(address).await.is_err());
    let tasks = tokio::runtime::Handle::current().metrics();
    let none_left = async {
        while tasks.num_alive_tasks() > 0 {
            tokio::task::yield_now().await
        }
    };
    timeout(Duration::from_secs(5), none_left).await.expect("no task is left");
}

#[test]
fn without_a_runtime_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Mirror::start(Store::open(folder.path()).unwrap()).is_err());
}

#[test]
fn hostile_requests_are_answered_or_cut_and_never_stop_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stage = runtime.block_on(async { stage(&content(10), []) });
    let request = "(GET|HEAD|POST|[A-Z]{1,3}) (/v2/|/|\\PC|[a-z0-9:%?#./]|manifests|blobs|sha256:){0,20} HTTP/1.[01]\r\n\
                   ((Range: bytes=|Host: |If-Range: |\\PC{1,5}: )[-0-9a-z,]{0,20}\r\n){0,5}(Connection: close\r\n)?\r\n";
    proptest::proptest!(proptest::prelude::ProptestConfig::with_cases(200), |(request in request, rest: Vec<u8>)| {
        runtime.block_on(async {
            let mut stream = TcpStream::connect(stage.mirror.address()).await.unwrap();
            let _ = stream.write_all(&[request.as_bytes(), &rest].concat()).await;
            let _ = stream.shutdown().await;
            let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await.expect("it ends");
        });
    });
    assert_eq!(runtime.block_on(stage.get("/v2/")).status, 200);
}
