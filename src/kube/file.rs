//! The user's own kubeconfig: our three entries in or out, everything else as it was.
//!
//! Written as kubectl does: under `<file>.lock`, and over a temporary file that takes the old one's place, so that a
//! reader sees the old or the new one and a crash loses neither. Comments are lost, as with kubectl.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Error, Kubeconfig, entry_name};
use crate::files::{self, NewFile};

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
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(files::folder(file));
    made.map_err(failed("make the directory of", file))?;
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

/// Only the user may read it: there are keys in it.
fn replace(target: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let mut new = NewFile::begin(target, files::PRIVATE_MODE)?;
        new.write_all(text.as_bytes())?;
        new.replace()
    };
    write().map_err(failed("write", target))
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
#[path = "file_tests.rs"]
mod tests;
