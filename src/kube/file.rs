//! The user's own kubeconfig: our three entries in or out, everything else as it was.
//!
//! Written as kubectl does: under `<file>.lock`, and over a temporary file that takes the old one's place, so that a
//! reader sees the old or the new one and a crash loses neither. Comments are lost, as with kubectl.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Error, Kubeconfig, entry_name};

/// What becomes of `current-context`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CurrentContext {
    /// It stays what it is, even nothing.
    Keep,
    /// It becomes the merged one.
    Switch,
}

/// More is not a kubeconfig that a person uses.
const LIMIT: u64 = 16 << 20;
/// kubectl holds the lock for milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_STEP: Duration = Duration::from_millis(50);

/// Where kubectl writes: the first file of `KUBECONFIG`, else `~/.kube/config`.
///
/// # Errors
/// [`Error::NoHome`].
pub fn default_file() -> Result<PathBuf, Error> {
    choose(&std::env::var_os("KUBECONFIG").unwrap_or_default(), etcetera::home_dir().ok()).ok_or(Error::NoHome)
}

fn choose(kubeconfig: &OsStr, home: Option<PathBuf>) -> Option<PathBuf> {
    let first = std::env::split_paths(kubeconfig).find(|path| !path.as_os_str().is_empty());
    first.or_else(|| Some(home?.join(".kube").join("config")))
}

/// Puts the cluster, user and context of `kubeconfig` into `file`, in place of those of the same names. `false`: they
/// were there already and the file was not touched. A missing file is made, mode 0600; a symlink is followed.
///
/// # Errors
/// [`Error::Broken`] if the file is no kubeconfig, [`Error::Locked`] after 5 s, [`Error::File`].
pub async fn merge_into(file: &Path, kubeconfig: &Kubeconfig, current: CurrentContext) -> Result<bool, Error> {
    let kubeconfig = kubeconfig.clone();
    edit_apart(file, move |document| {
        for (list, entry) in kubeconfig.entries() {
            put(document, list, entry)?;
        }
        if current == CurrentContext::Switch {
            document["current-context"] = kubeconfig.name().into();
        }
        Ok(())
    })
    .await
}

/// Takes the entries of `cluster` out of `file`, and unsets `current-context` if it names them. `false`: there were
/// none.
///
/// # Errors
/// As [`merge_into`].
pub async fn remove_from(file: &Path, cluster: &str) -> Result<bool, Error> {
    let name = entry_name(cluster);
    if !fs::exists(file).unwrap_or(true) {
        return Ok(false);
    }
    edit_apart(file, move |document| {
        for list in ["clusters", "users", "contexts"] {
            if let Some(entries) = entries(document, list)? {
                entries.retain(|entry| entry["name"] != name.as_str());
            }
        }
        if document["current-context"] == name.as_str() {
            document["current-context"] = "".into();
        }
        Ok(())
    })
    .await
}

/// What is wrong with a file.
type Wrong = String;

/// On a thread where blocking does no harm.
async fn edit_apart(
    file: &Path,
    change: impl FnOnce(&mut Value) -> Result<(), Wrong> + Send + 'static,
) -> Result<bool, Error> {
    let name = file.to_path_buf();
    let edited = tokio::task::spawn_blocking(move || edit(&name, change)).await;
    edited.unwrap_or_else(|panic| Err(failed("write", file)(io::Error::other(panic))))
}

fn edit(file: &Path, change: impl FnOnce(&mut Value) -> Result<(), Wrong>) -> Result<bool, Error> {
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(failed("make the directory of", file))?;
    }
    let _lock = Lock::take(file)?;
    let target = follow(file)?;
    let broken = |what| Error::Broken { file: file.to_path_buf(), what };
    let before = match read(&target)? {
        Some(text) => parse(&text).map_err(broken)?,
        None => empty(),
    };
    let mut after = before.clone();
    change(&mut after).map_err(broken)?;
    if after == before {
        return Ok(false);
    }
    let text = serde_saphyr::to_string(&after).map_err(|error| failed("write", file)(io::Error::other(error)))?;
    replace(&target, &text)?;
    Ok(true)
}

fn empty() -> Value {
    serde_json::json!({ "apiVersion": "v1", "kind": "Config", "preferences": {}, "clusters": [], "users": [],
        "contexts": [], "current-context": "" })
}

/// An empty file is an empty kubeconfig, as for kubectl. The parser's message is not used: it quotes what it read.
fn parse(text: &str) -> Result<Value, Wrong> {
    if text.trim().is_empty() {
        return Ok(empty());
    }
    let document: Value = serde_saphyr::from_str(text).map_err(|_| "it is not YAML")?;
    let is_kubeconfig =
        document.is_object() && document.get("kind").is_none_or(|kind| kind == "Config" || kind.is_null());
    if is_kubeconfig { Ok(document) } else { Err("it is not of kind Config".into()) }
}

/// The entries of a list; `None` where there is no list (or a null, as kubectl writes for an empty one).
fn entries<'a>(document: &'a mut Value, list: &str) -> Result<Option<&'a mut Vec<Value>>, Wrong> {
    match document.get_mut(list) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(entries)) => Ok(Some(entries)),
        Some(_) => Err(format!("its {list} are not a list")),
    }
}

/// Replaces the entry of the same name, or adds one at the end.
fn put(document: &mut Value, list: &str, entry: Value) -> Result<(), Wrong> {
    let Some(entries) = entries(document, list)? else {
        document[list] = Value::Array(vec![entry]);
        return Ok(());
    };
    match entries.iter_mut().find(|old| old["name"] == entry["name"]) {
        Some(old) => *old = entry,
        None => entries.push(entry),
    }
    Ok(())
}

fn failed(attempt: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Error {
    let file = file.to_path_buf();
    move |source| Error::File { attempt, file, source }
}

fn read(file: &Path) -> Result<Option<String>, Error> {
    use std::io::Read;
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("read", file))?,
    };
    let mut text = String::new();
    opened.take(LIMIT + 1).read_to_string(&mut text).map_err(failed("read", file))?;
    if text.len() as u64 > LIMIT {
        return Err(Error::Broken { file: file.to_path_buf(), what: format!("it is longer than {LIMIT} bytes") });
    }
    Ok(Some(text))
}

/// The file that `file` leads to, which need not exist.
fn follow(file: &Path) -> Result<PathBuf, Error> {
    const HOPS: usize = 40;
    let mut target = file.to_path_buf();
    for _ in 0..HOPS {
        match fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(target),
        }
    }
    Err(failed("follow the links of", file)(io::ErrorKind::InvalidInput.into()))
}

/// A new file, mode 0600 and of the old one's owner, in the place of the old one.
fn replace(target: &Path, text: &str) -> Result<(), Error> {
    let directory = target.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut new = tempfile::Builder::new().prefix(".k3arm-kubeconfig-").tempfile_in(directory)?;
        new.write_all(text.as_bytes())?;
        keep_owner(target, new.as_file())?;
        new.as_file().sync_all()?;
        new.persist(target)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(failed("write", target))
}

/// Run by sudo, the user's file must stay the user's.
fn keep_owner(target: &Path, new: &File) -> io::Result<()> {
    let (Ok(old), now) = (fs::metadata(target), new.metadata()?) else { return Ok(()) };
    if (old.uid(), old.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(new, Some(old.uid()), Some(old.gid()))
}

/// kubectl's lock: a file that exists while somebody writes.
struct Lock {
    path: PathBuf,
}

impl Lock {
    fn take(file: &Path) -> Result<Self, Error> {
        let mut name = file.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match File::options().write(true).create_new(true).open(&path) {
                Ok(_) => return Ok(Self { path }),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("lock", file)(error)),
                Err(_) if Instant::now() >= deadline => {
                    return Err(Error::Locked { file: file.to_path_buf(), lock: path });
                }
                Err(_) => std::thread::sleep(LOCK_STEP),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, lock = %self.path.display(), "a lock is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;
    use crate::kube::kubeconfig::tests::k3s_yaml;

    const FOREIGN: &str = r#"
apiVersion: v1
kind: Config
preferences: {colors: true}
extensions: [{name: x, extension: {a: [1, "yes", 'on', ~, 0.5, "012", "1e3", "null"]}}]
clusters:
- {name: work, cluster: {server: "https://work", certificate-authority: /ca.pem, x-new: 1}}
- {name: k3arm-home, cluster: {server: "https://old"}}
users:
- {name: work, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, args: [eks, "no"], env: null}}}
contexts:
- {name: work, context: {cluster: work, user: work, namespace: "off"}}
current-context: work
"#;

    fn home() -> Kubeconfig {
        Kubeconfig::parse(&k3s_yaml()).unwrap().rename("home").with_server("https://10.0.0.1:6443")
    }

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        (directory, file)
    }

    fn value(file: &Path) -> Value {
        serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    }

    /// Everything but the entries of that name and the current context.
    fn others(mut document: Value, name: &str) -> Value {
        for list in ["clusters", "users", "contexts"] {
            let entries = document[list].as_array_mut().map(std::mem::take).unwrap_or_default();
            document[list] = entries.into_iter().filter(|entry| entry["name"] != name).collect();
        }
        document["current-context"] = Value::Null;
        document
    }

    #[tokio::test]
    async fn a_merge_touches_nothing_that_is_not_ours_and_a_second_one_nothing_at_all() {
        let (directory, file) = directory();
        fs::write(&file, FOREIGN).unwrap();
        assert!(merge_into(&file, &home(), CurrentContext::Keep).await.unwrap());
        let (before, after): (Value, Value) = (serde_saphyr::from_str(FOREIGN).unwrap(), value(&file));
        assert_eq!(others(after.clone(), "k3arm-home"), others(before, "k3arm-home"));
        assert_eq!(after["current-context"], "work");
        let server = after["clusters"].as_array().unwrap().iter().find(|entry| entry["name"] == "k3arm-home").unwrap();
        assert_eq!(server["cluster"]["server"], "https://10.0.0.1:6443");
        assert_eq!(after["users"].as_array().unwrap().len(), 2);

        let written = fs::metadata(&file).unwrap();
        assert_eq!(written.permissions().mode() & 0o777, 0o600);
        assert!(!merge_into(&file, &home(), CurrentContext::Keep).await.unwrap());
        assert_eq!(fs::metadata(&file).unwrap().ino(), written.ino(), "not even written again");
        assert!(merge_into(&file, &home(), CurrentContext::Switch).await.unwrap());
        assert_eq!(value(&file)["current-context"], "k3arm-home");

        assert!(remove_from(&file, "home").await.unwrap());
        assert!(!remove_from(&file, "home").await.unwrap());
        assert_eq!(value(&file)["current-context"], "");
        assert!(!fs::read_to_string(&file).unwrap().contains("k3arm-home"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no lock and no temporary file is left");
    }

    #[test]
    fn the_first_named_file_is_used() {
        let chosen = |kubeconfig: &str, home: Option<&str>| choose(kubeconfig.as_ref(), home.map(PathBuf::from));
        assert_eq!(chosen("", Some("/home/pi")), Some("/home/pi/.kube/config".into()));
        assert_eq!(chosen(":/a:/b", Some("/home/pi")), Some("/a".into()));
        assert_eq!(chosen("", None), None);
    }

    #[tokio::test]
    async fn a_missing_file_is_made_and_an_empty_one_filled() {
        let (directory, _) = directory();
        let file = directory.path().join("new/kube/config");
        assert!(!remove_from(&file, "home").await.unwrap());
        assert!(merge_into(&file, &home(), CurrentContext::Switch).await.unwrap());
        assert_eq!(Kubeconfig::parse(&fs::read_to_string(&file).unwrap()).unwrap(), home());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        for text in ["", "\n", "apiVersion: v1\nclusters: null\nkind: Config\nusers: null\n"] {
            fs::write(&file, text).unwrap();
            assert!(merge_into(&file, &home(), CurrentContext::Switch).await.unwrap());
            assert_eq!(Kubeconfig::parse(&fs::read_to_string(&file).unwrap()).unwrap(), home());
        }
    }

    #[tokio::test]
    async fn what_is_no_kubeconfig_is_left_alone() {
        let (_directory, file) = directory();
        for text in ["a: [", "[]", "text", "kind: Pod", "clusters: 5", "users: {a: b}", "- a\n- b", "a: 1\na: 2"] {
            fs::write(&file, text).unwrap();
            let error = merge_into(&file, &home(), CurrentContext::Keep).await.unwrap_err();
            assert!(matches!(error, Error::Broken { .. }) && error.hint().is_some(), "{text}: {error:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        fs::write(&file, b"\xff\xfe").unwrap();
        assert!(merge_into(&file, &home(), CurrentContext::Keep).await.is_err());
        assert_eq!(fs::read(&file).unwrap(), b"\xff\xfe");
    }

    #[tokio::test]
    async fn a_symlink_stays_one() {
        let (directory, file) = directory();
        std::os::unix::fs::symlink("dotfiles-kube", &file).unwrap();
        assert!(merge_into(&file, &home(), CurrentContext::Keep).await.unwrap());
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
        assert!(fs::symlink_metadata(directory.path().join("dotfiles-kube")).unwrap().is_file());
        assert!(!merge_into(&file, &home(), CurrentContext::Keep).await.unwrap());
        let round = directory.path().join("round");
        std::os::unix::fs::symlink("round", &round).unwrap();
        assert!(matches!(merge_into(&round, &home(), CurrentContext::Keep).await, Err(Error::File { .. })));
    }

    #[tokio::test]
    async fn a_lock_is_waited_for() {
        let (directory, file) = directory();
        let lock = directory.path().join("config.lock");
        fs::write(&lock, "").unwrap();
        let error = merge_into(&file, &home(), CurrentContext::Keep).await.unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error:?}");
        assert_eq!(
            error.hint().unwrap(),
            format!("if no kubectl is writing to it, remove the lock: rm {}", lock.display())
        );
        assert!(lock.exists() && !file.exists());
        let kubeconfig = home();
        let merging = merge_into(&file, &kubeconfig, CurrentContext::Keep);
        let (merged, ()) = tokio::join!(merging, async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            fs::remove_file(&lock).unwrap();
        });
        assert!(merged.unwrap());
    }

    #[tokio::test]
    async fn merges_at_once_lose_nothing() {
        let (_directory, file) = directory();
        let names: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
        let merges = names.iter().map(|name| {
            let (file, kubeconfig) = (file.clone(), home().rename(name));
            tokio::spawn(async move { merge_into(&file, &kubeconfig, CurrentContext::Switch).await.unwrap() })
        });
        for merge in merges.collect::<Vec<_>>() {
            assert!(merge.await.unwrap());
        }
        assert_eq!(value(&file)["clusters"].as_array().unwrap().len(), 8);
    }

    /// Any JSON, with strings that YAML 1.1 or 1.2 could take for something else.
    fn anything() -> impl Strategy<Value = Value> {
        let tricky = prop::sample::select(vec![
            "",
            "yes",
            "no",
            "on",
            "off",
            "Y",
            "n",
            "~",
            "null",
            "012",
            "0o7",
            "0x1f",
            "1_000",
            "1e3",
            ".5",
            "1:30",
            "-",
            "- a",
            "a: b",
            "# c",
            "a #b",
            " a ",
            "\ta",
            "a\nb\n",
            "|",
            ">",
            "&a",
            "*a",
            "!t",
            "%d",
            "@x",
            "`y`",
            "'",
            "\"",
            "\\",
            "{a}",
            "[b",
            ",",
            "?",
            ":",
            "2026-11-23",
            "=",
            "<<",
            "---",
            "...",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "é",
            "\u{0}",
            "\u{1b}",
            "true",
            "FALSE",
            ".inf",
            ".nan",
            "+1",
            "0b1",
            "\r\n",
            "a\r",
            "long long long long long long \
             long long long long long long long long long long long long long long long long long long long long long",
        ]);
        let text = prop_oneof![tricky.prop_map(String::from), "\\PC{0,60}", any::<String>()];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9f64..1e9).prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn foreign_entries_survive_a_merge_and_a_removal(
            extra in anything(),
            entries in prop::collection::vec(("[a-z]{1,8}|k3arm-home", anything()), 0..4),
            keys in prop::collection::btree_map("[a-z]{1,8}", anything(), 0..3),
        ) {
            let mut before = Value::Object(keys.into_iter().filter(|(key, _)| !["clusters", "users", "contexts", "kind"]
                .contains(&key.as_str())).collect());
            before["extra"] = extra;
            for (list, inner) in [("clusters", "cluster"), ("users", "user"), ("contexts", "context")] {
                let list_of = entries.iter().map(|(name, value)| serde_json::json!({ "name": name, inner: value }));
                before[list] = list_of.collect();
            }
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("config");
            fs::write(&file, serde_saphyr::to_string(&before).unwrap()).unwrap();
            prop_assert_eq!(&value(&file), &before, "writing and reading gives the same");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(merge_into(&file, &home(), CurrentContext::Switch)).unwrap();
            prop_assert_eq!(others(value(&file), "k3arm-home"), others(before.clone(), "k3arm-home"));
            runtime.block_on(remove_from(&file, "home")).unwrap();
            prop_assert_eq!(others(value(&file), ""), others(before, "k3arm-home"));
        }
    }
}
