//! The engine effect against a real dockerd, whose socket is `K3ARM_TEST_DOCKER`; without it these tests are skipped.
//! The test must share the engine's network (it serves an image on loopback):
//! `K3ARM_TEST_DOCKER=/proc/$PID/root/run/docker.sock nsenter -t $PID -n cargo test --test docker`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod prewarm;
mod registry;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k3arm::cluster::names::LABEL_CLUSTER;
use k3arm::cluster::{ContainerSpec, NodeFile, Secret};
use k3arm::docker::{Engine, Error, Follow, OneShot, Since};
use k3arm::host::{ImageStore, NodeState};
use k3arm::oci::{Digest, Reference};
use registry::Image;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

async fn engine() -> Option<Engine> {
    let Some(socket) = std::env::var_os("K3ARM_TEST_DOCKER") else {
        eprintln!("SKIPPED: K3ARM_TEST_DOCKER is not set");
        return None;
    };
    Some(Engine::connect(Path::new(&socket)).await.unwrap())
}

/// Which digest an engine has to be asked for.
async fn wanted(engine: &Engine, image: &Image) -> Digest {
    match engine.facts().await.unwrap().store {
        ImageStore::Classic => image.expected.manifest.clone(),
        ImageStore::Containerd => image.expected.index.clone().unwrap(),
    }
}

/// Pulls it and gives the temporary name.
async fn pull(engine: &Engine, image: &Image) -> (Result<(), Error>, String) {
    let (address, _) = image.serve().await;
    let name = format!("{address}/k3arm-{SECRET}/{}", image.expected.reference.repository());
    let digest = wanted(engine, image).await;
    let pulled = engine.pull(&name, &digest, &image.platform, &|_| {}).await;
    (pulled, format!("{name}@{digest}"))
}

/// Pulled and tagged; gives its ID.
async fn prepared(engine: &Engine, salt: &str) -> (Image, String) {
    let image = Image::new(salt).await;
    let (pulled, name) = pull(engine, &image).await;
    pulled.unwrap();
    let id = engine.holds(&image.expected).await.unwrap().unwrap().to_string();
    engine.tag(&id, &image.expected.reference).await.unwrap();
    engine.untag(&name).await.unwrap();
    (image, id)
}

fn spec(name: &str, image: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        name: format!("k3arm-test-{name}"),
        image: image.into(),
        entrypoint: vec!["/bin/sh".into(), "-c".into()],
        command: vec![script.into()],
        environment: BTreeMap::from([("WORD".into(), "it is = there".into())]),
        labels: BTreeMap::from([(LABEL_CLUSTER.into(), format!("test-{name}"))]),
        volumes: BTreeMap::from([
            ("/etc/rancher".into(), format!("k3arm-test-{name}-etc")),
            ("/var/lib/rancher/k3s".into(), format!("k3arm-test-{name}-data")),
        ]),
        memory: None,
        read_only_binds: vec!["/lib/modules".into()],
    }
}

async fn remove(engine: &Engine, spec: &ContainerSpec) {
    engine.remove(&spec.name, &spec.volumes.values().cloned().collect::<Vec<_>>()).await.unwrap();
}

async fn drop_image(engine: &Engine, image: &Image) {
    engine.untag(&image.expected.reference.to_string()).await.unwrap();
    assert_eq!(engine.holds(&image.expected).await.unwrap(), None);
}

#[tokio::test]
async fn an_engine_says_what_it_is() {
    let Some(engine) = engine().await else { return };
    let facts = engine.facts().await.unwrap();
    eprintln!("{facts:#?}");
    assert!(facts.version.split('.').count() >= 2 && facts.api_version.starts_with("1."));
    assert_eq!((facts.os.as_str(), facts.rootless, facts.disk.free), ("linux", false, None));
    assert!(!facts.id.is_empty() && facts.root_dir.starts_with('/') && !facts.storage_driver.is_empty());
}

#[tokio::test]
async fn an_image_is_pulled_by_digest_named_and_recognised() {
    let Some(engine) = engine().await else { return };
    let image = Image::new("pulled").await;
    let (address, asked) = image.serve().await;
    let name = format!("{address}/k3arm-{SECRET}/k3arm-test/pulled");
    let digest = wanted(&engine, &image).await;
    let lines = Mutex::new(Vec::new());
    assert_eq!(engine.holds(&image.expected).await.unwrap(), None);
    engine.pull(&name, &digest, &image.platform, &|line| lines.lock().unwrap().push(line)).await.unwrap();
    assert!(lines.lock().unwrap().iter().any(|line| line.status.contains("ull complete")), "{lines:?}");
    assert_eq!(asked.lock().unwrap().iter().filter(|path| path.contains("/blobs/")).count(), 2);
    let id = engine.holds(&image.expected).await.unwrap().unwrap();
    let temporary = format!("{name}@{digest}");
    assert!(engine.temporary_names().await.unwrap().contains(&temporary));

    engine.tag(&id.to_string(), &image.expected.reference).await.unwrap();
    engine.untag(&temporary).await.unwrap();
    assert!(!engine.temporary_names().await.unwrap().contains(&temporary));
    assert_eq!(engine.holds(&image.expected).await.unwrap(), Some(id.clone()));
    let facts = engine.image(&image.expected.reference).await.unwrap().unwrap();
    eprintln!("{facts:#?}");
    assert_eq!((facts.id, facts.repo_tags), (id, vec!["k3arm-test/pulled:v1".to_string()]));
    assert_eq!((facts.os.as_str(), facts.architecture.as_str()), ("linux", image.platform.architecture()));

    // Again: nothing is fetched, and a name that is gone can be removed.
    let fetched = asked.lock().unwrap().len();
    engine.pull(&name, &digest, &image.platform, &|_| {}).await.unwrap();
    assert!(asked.lock().unwrap()[fetched..].iter().all(|path| !path.contains("/blobs/")));
    engine.untag(&temporary).await.unwrap();
    engine.untag(&temporary).await.unwrap();
    drop_image(&engine, &image).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_held() {
    let Some(engine) = engine().await else { return };
    let image = Image::new("absent").await;
    assert_eq!(engine.holds(&image.expected).await.unwrap(), None);
    assert_eq!(engine.image(&image.expected.reference).await.unwrap(), None);
    let by_digest: Reference = format!("k3arm-test/absent@{}", image.expected.manifest).parse().unwrap();
    assert_eq!(engine.image(&by_digest).await.unwrap(), None);
    assert!(engine.tag("k3arm-test/absent:v1", &by_digest).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_pull_that_fails_says_why() {
    let Some(engine) = engine().await else { return };
    for part in ["layer", "manifest"] {
        let image = Image::new("broken").await;
        let missing = if part == "layer" { image.layer.clone() } else { wanted(&engine, &image).await };
        let image = image.without(&missing);
        let error = pull(&engine, &image).await.0.unwrap_err();
        eprintln!("without its {part}: {error:?}");
        assert!(matches!(error, Error::Pull { .. }) && !error.to_string().contains(SECRET), "{error:?}");
        assert_eq!(engine.holds(&image.expected).await.unwrap(), None);
    }
    let image = Image::new("broken").await;
    let nowhere = engine.pull("127.0.0.1:9/a/b", &image.expected.manifest, &image.platform, &|_| {}).await;
    eprintln!("nobody listens: {nowhere:?}");
    assert!(matches!(nowhere, Err(Error::Pull { .. })), "{nowhere:?}");
}

#[tokio::test]
async fn the_last_name_of_a_used_image_stays() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "used").await;
    let spec = spec("used", &id, "true");
    engine.create(&spec).await.unwrap();
    let error = engine.untag(&image.expected.reference.to_string()).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    assert!(engine.holds(&image.expected).await.unwrap().is_some());
    remove(&engine, &spec).await;
    drop_image(&engine, &image).await;
}

#[tokio::test]
async fn files_go_into_volumes_before_the_first_start() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "files").await;
    let script = "cd /etc/rancher/k3s && cat config.yaml && stat -c '%a %u %n' config.yaml . /var/lib/rancher/k3s/server \
                  /var/lib/rancher/k3s/server/token; echo $WORD; ls /lib/modules >/dev/null && echo bound";
    let spec = spec("files", &id, script);
    let container = engine.create(&spec).await.unwrap();
    let file = |path: &str, mode, content: &str| NodeFile { path: path.into(), mode, content: Secret::new(content) };
    let files = [
        file("/etc/rancher/k3s/config.yaml", 0o600, "token: hush\n"),
        file("/var/lib/rancher/k3s/server/token", 0o640, "K10"),
    ];
    engine.put_files(&container, &files).await.unwrap();
    let read = |path: &'static str, limit| engine.get_file(&spec.name, path, limit);
    assert_eq!(read("/etc/rancher/k3s/config.yaml", 100).await.unwrap().unwrap().expose(), "token: hush\n");
    assert_eq!(read("/etc/rancher/k3s/none", 100).await.unwrap(), None);
    assert!(matches!(read("/etc/rancher/k3s/config.yaml", 5).await, Err(Error::Malformed { .. })));
    assert!(matches!(read("/etc/rancher/k3s", 100).await, Err(Error::Malformed { .. })));
    assert!(matches!(read("/bin/sh", 100).await, Err(Error::Malformed { .. })));
    assert!(engine.get_file("k3arm-test-nobody", "/a", 9).await.unwrap_err().is_not_found());
    assert!(engine.put_files("k3arm-test-nobody", &files).await.unwrap_err().is_not_found());

    engine.start(&container).await.unwrap();
    let seen = [
        "token: hush",
        "600 0 config.yaml",
        "755 0 .",
        "700 0 /var/lib/rancher/k3s/server",
        "640 0 /var/lib/rancher/k3s/server/token",
        "it is = there",
        "bound",
    ];
    let mut logs = engine.logs(&container, Since::Start, Follow::Yes).await.unwrap();
    for line in seen {
        assert_eq!(logs.next().await.unwrap().unwrap(), line);
    }
    drop(logs);
    assert_eq!(read("/etc/rancher/k3s/config.yaml", 100).await.unwrap().unwrap().expose(), "token: hush\n");
    remove(&engine, &spec).await;
    drop_image(&engine, &image).await;
}

#[tokio::test]
async fn a_node_is_made_listed_stopped_and_removed() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "life").await;
    let spec = spec("life", &id, "trap 'exit 7' TERM; echo begun; while :; do sleep 0.1; done");
    let container = engine.create(&spec).await.unwrap();
    assert_eq!(engine.state(&spec.name).await.unwrap(), NodeState::Created);
    let again = engine.create(&spec).await.unwrap_err();
    assert!(matches!(again, Error::Conflict { .. }), "{again:?}");
    let node = engine.nodes().await.unwrap().into_iter().find(|node| node.id == container).unwrap();
    assert_eq!((&node.name, &node.image, &node.state), (&spec.name, &id, &NodeState::Created));
    assert!(spec.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value)), "{node:?}");
    assert!(spec.volumes.values().all(|volume| node.volumes.contains(volume)), "{node:?}");
    let volumes = engine.volumes().await.unwrap();
    assert_eq!(volumes.get("k3arm-test-life-data"), Some(&spec.labels));
    let busy = engine.remove_volume("k3arm-test-life-data").await.unwrap_err();
    assert!(matches!(busy, Error::Conflict { .. }), "{busy:?}");

    engine.start(&container).await.unwrap();
    engine.start(&container).await.unwrap();
    let mut logs = engine.logs(&container, Since::LastStart, Follow::Yes).await.unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap(), "begun");
    assert_eq!(engine.state(&container).await.unwrap(), NodeState::Running);
    let waiting = tokio::spawn({
        let (engine, container) = (engine.clone(), container.clone());
        async move { engine.wait(&container).await.unwrap() }
    });
    engine.stop(&container, Duration::from_secs(20)).await.unwrap();
    engine.stop(&container, Duration::from_secs(20)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 7);
    assert_eq!(engine.state(&container).await.unwrap(), NodeState::Exited(7));
    assert!(logs.next().await.is_none());
    remove(&engine, &spec).await;
    remove(&engine, &spec).await;
    assert!(engine.state(&container).await.unwrap_err().is_not_found());
    assert!(!engine.volumes().await.unwrap().keys().any(|name| name.contains("life")));
    let anonymous = node.volumes.iter().find(|name| !name.starts_with("k3arm")).unwrap();
    let socket = std::env::var("K3ARM_TEST_DOCKER").unwrap();
    let docker = bollard::Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION).unwrap();
    assert!(docker.inspect_volume(anonymous).await.is_err(), "the image's own volume is left");
    drop_image(&engine, &image).await;
}

#[tokio::test]
async fn what_cannot_be_created_or_started_says_why() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "refused").await;
    let no_image = spec("refused", &format!("sha256:{}", "0".repeat(64)), "true");
    assert!(engine.create(&no_image).await.unwrap_err().is_not_found());
    let no_bind = ContainerSpec { read_only_binds: vec!["/not/there".into()], ..spec("refused", &id, "true") };
    let error = engine.create(&no_bind).await.unwrap_err();
    assert!(matches!(&error, Error::Api { status: 400, message, .. } if message.contains("/not/there")), "{error:?}");
    let no_program = ContainerSpec { entrypoint: vec!["/no/program".into()], ..spec("refused", &id, "true") };
    engine.create(&no_program).await.unwrap();
    let error = engine.start(&no_program.name).await.unwrap_err();
    eprintln!("{error}");
    assert!(error.to_string().contains("/no/program"), "{error:?}");
    remove(&engine, &no_program).await;
    assert!(engine.start("k3arm-test-nobody").await.unwrap_err().is_not_found());
    drop_image(&engine, &image).await;
}

#[tokio::test]
async fn a_log_is_read_from_the_last_start_and_a_crash_loop_shows() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "log").await;
    let script = "n=$(cat /etc/rancher/n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/etc/rancher/n; echo run $n; \
                  echo to stderr >&2; [ $n -ge 3 ] || exit 5; seq 1 5000 | tr '\\n' x; echo; echo -n no end; sleep 100";
    let spec = spec("log", &id, script);
    engine.create(&spec).await.unwrap();
    engine.start(&spec.name).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut logs = engine.logs(&spec.name, Since::Start, Follow::Yes).await.unwrap();
    let mut seen = Vec::new();
    while !seen.iter().any(|line| line == "run 3") {
        match tokio::time::timeout_at(deadline.into(), logs.next()).await.unwrap() {
            Some(line) => seen.push(line.unwrap()),
            // It ends with the container's end, until the engine starts it again.
            None => {
                logs = engine.logs(&spec.name, Since::Start, Follow::Yes).await.unwrap();
                seen.clear();
            }
        }
    }
    assert!(seen.iter().filter(|line| *line == "to stderr").count() >= 2, "{seen:?}");
    let status = engine.status(&spec.name).await.unwrap();
    assert_eq!((status.state, status.restarts, status.exit_code), (NodeState::Running, 2, 0));
    let mut last = Vec::new();
    while last.len() < 3 {
        let now = engine.logs(&spec.name, Since::LastStart, Follow::No).await.unwrap();
        last = now.map(Result::unwrap).collect().await;
        assert!(Instant::now() < deadline, "{last:?}");
    }
    let tail = engine.tail(&spec.name, Since::LastStart, 2).await.unwrap();
    assert_eq!(tail, last[1..]);
    last.sort();
    assert!(last.contains(&"run 3".to_string()) && !last.contains(&"run 2".to_string()), "{last:?}");
    assert_eq!(last.iter().map(String::len).max(), Some(k3arm::docker::LINE_LIMIT));
    remove(&engine, &spec).await;
    drop_image(&engine, &image).await;
}

#[tokio::test]
async fn one_shots_run_and_are_gone() {
    let Some(engine) = engine().await else { return };
    let (image, id) = prepared(&engine, "once").await;
    let shot =
        |script: &str| OneShot { image: id.clone(), script: script.into(), host_network: true, privileged: true };
    let minute = Duration::from_secs(60);
    for _ in 0..5 {
        let (code, output) = engine.run_once(&shot("echo out; echo err >&2; exit 3"), minute).await.unwrap();
        assert_eq!((code, output.lines().count()), (3, 2), "{output:?}");
    }
    let (code, output) = engine.run_once(&shot("seq 1 100000"), minute).await.unwrap();
    assert!(code == 0 && output.starts_with("1\n2\n") && output.len() <= k3arm::docker::OUTPUT_LIMIT);
    let error = engine.run_once(&shot("sleep 100"), Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    let cut = tokio::time::timeout(Duration::from_secs(2), engine.run_once(&shot("sleep 100"), minute)).await;
    assert!(cut.is_err());
    assert_eq!(engine.sweep_one_shots().await.unwrap(), 0);
    // All four volumes of the image are gone, too, so that its name can go.
    let deadline = Instant::now() + minute;
    while let Err(error) = engine.untag(&image.expected.reference.to_string()).await {
        assert!(matches!(error, Error::Conflict { .. }) && Instant::now() < deadline, "{error:?}");
    }
    drop_image(&engine, &image).await;
}

/// Compiles only if every future may move between threads, as hosts are worked on in parallel.
#[expect(dead_code)]
fn futures_are_send(engine: &Engine, image: &Image, spec: &ContainerSpec, shot: &OneShot) {
    fn send(_: impl Send) {}
    let (reference, minute) = (&image.expected.reference, Duration::from_secs(60));
    send(Engine::connect(Path::new("")));
    send((engine.facts(), engine.nodes(), engine.volumes(), engine.temporary_names(), engine.sweep_one_shots()));
    send((engine.image(reference), engine.holds(&image.expected), engine.tag("", reference), engine.untag("")));
    send(engine.pull("", &image.layer, &image.platform, &|_| {}));
    send((engine.create(spec), engine.start(""), engine.stop("", minute), engine.remove("", &[]), engine.wait("")));
    send((engine.put_files("", &[]), engine.get_file("", "", 1), engine.state(""), engine.run_once(shot, minute)));
    send((engine.logs("", Since::Start, Follow::No), engine.tail("", Since::Start, 1), engine.remove_volume("")));
    let tar = || futures_util::stream::empty::<Result<bytes::Bytes, Error>>();
    send((engine.chains(), engine.unpacked(&image.expected, 1), engine.images(), engine.load(tar(), &|_| {})));
    send((engine.put_archive("", tar()), engine.stat("", ""), engine.exec("", &[], minute)));
    send((engine.holders(), engine.rename("", "")));
}
