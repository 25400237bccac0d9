//! Directories for control sockets: private, short, and swept of what killed runs left.
//!
//! A directory belongs to the process that holds the lock on the file in it, so that no process ID has to be trusted.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::error::Error;
use super::lost::Served;

/// A unix socket's path has 104 bytes at most (macOS; 108 on Linux) with its zero, and `ssh` binds under the name with
/// 17 characters more first. Below the root come `/k3armXXXXXX/c`, 14 characters.
const ROOT_LENGTH: usize = 104 - 1 - 17 - 14;

/// A directory without a lock is left alone for as long as its owner may need to take it.
const UNLOCKED_GRACE: Duration = Duration::from_secs(600);

/// In a directory: the destination, and which process there serves the connection.
const SERVED: &str = "served";

/// How the name of such a note begins when its connection is gone and the host may not know.
const LOST: &str = "lost-";

/// sshd has noticed by then, by sending something or by asking.
const FORGET: Duration = Duration::from_secs(24 * 3600);

/// One connection's directory; removed on drop.
#[derive(Debug)]
pub(super) struct ControlDir {
    folder: tempfile::TempDir,
    forwards: AtomicU32,
    _lock: File,
}

impl ControlDir {
    /// Makes a directory below `wanted`, or below `/tmp/k3arm-UID` where that path is too long for a socket.
    pub(super) async fn create(wanted: &Path) -> Result<Self, Error> {
        let root = root(wanted);
        let error = |source| Error::ControlDirectory { path: root.clone(), source };
        private(&root).map_err(error)?;
        sweep(&root).await;
        let folder = tempfile::Builder::new().prefix("k3arm").tempdir_in(&root).map_err(error)?;
        let unnamed = folder.path().join("new");
        let lock = File::create_new(&unnamed).map_err(error)?;
        lock.try_lock().map_err(|e| error(e.into()))?;
        fs::rename(&unnamed, folder.path().join("lock")).map_err(error)?;
        Ok(Self { folder, forwards: AtomicU32::new(0), _lock: lock })
    }

    /// Removes the directory now, whoever still holds it.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir_all(self.folder.path());
    }

    /// Writes down which process at `destination` serves the connection.
    pub(super) fn note(&self, destination: &str, served: &Served) {
        if let Err(error) = fs::write(self.folder.path().join(SERVED), format!("{destination}\n{served}\n")) {
            tracing::debug!(%error, "it is not written down which process serves the session");
        }
    }

    /// The host may not learn that the connection is gone: the next session is to tell it.
    pub(super) fn keep_note(&self) {
        keep_note(self.folder.path());
    }

    /// What hosts may still hold of lost connections to `destination`, each with its note.
    pub(super) fn lost(&self, destination: &str) -> Vec<(PathBuf, Served)> {
        let entries = self.folder.path().parent().and_then(|root| fs::read_dir(root).ok());
        let read = |note: PathBuf| {
            let text = is_lost(&note).then(|| fs::read_to_string(&note).ok()).flatten()?;
            let (to, served) = text.split_once('\n')?;
            Some((note, Served::parse(served).filter(|_| to == destination)?))
        };
        entries.into_iter().flatten().flatten().filter_map(|entry| read(entry.path())).take(64).collect()
    }

    /// The master's control socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("c")
    }

    /// A path for another forwarded socket.
    pub(super) fn next_forward(&self) -> PathBuf {
        self.folder.path().join(format!("f{}", self.forwards.fetch_add(1, Ordering::Relaxed)))
    }
}

/// `wanted`, if sockets below it have a name that fits and that `ssh` gives no meaning to.
fn root(wanted: &Path) -> PathBuf {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(byte);
    let bytes = wanted.as_os_str().as_encoded_bytes();
    if wanted.is_absolute() && bytes.len() <= ROOT_LENGTH && bytes.iter().all(plain) {
        return wanted.into();
    }
    format!("/tmp/k3arm-{}", rustix::process::getuid().as_raw()).into()
}

/// Makes sure that `root` is a directory of ours that nobody else can enter.
fn private(root: &Path) -> io::Result<()> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(root)?;
    if !found.is_dir() || found.uid() != rustix::process::getuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a directory of this user"));
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(root, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Ends masters and removes directories whose owner is gone. What cannot be removed is left: it harms nobody.
async fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        if is_lost(&folder) && age(&folder).is_some_and(|age| age > FORGET) {
            let _ = fs::remove_file(&folder);
        }
        let ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("k3arm"));
        let Some(lock) = ours.then(|| orphan(&folder)).flatten() else { continue };
        tracing::debug!(folder = %folder.display(), "sweeping a control directory without an owner");
        keep_note(&folder);
        end_master(&folder.join("c")).await;
        let _ = fs::remove_dir_all(&folder);
        drop(lock);
    }
}

/// The lock of `folder`, if nobody holds it.
fn orphan(folder: &Path) -> Option<Option<File>> {
    match File::open(folder.join("lock")) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Some(Some(file)),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
        },
        Err(_) => (age(folder)? > UNLOCKED_GRACE).then_some(None),
    }
}

fn age(path: &Path) -> Option<Duration> {
    fs::symlink_metadata(path).ok()?.modified().ok()?.elapsed().ok()
}

fn is_lost(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(LOST))
}

/// Puts the note of a directory, should it have one, beside it.
fn keep_note(folder: &Path) {
    if let Some(name) = folder.file_name() {
        let _ = fs::rename(folder.join(SERVED), folder.with_file_name(format!("{LOST}{}", name.to_string_lossy())));
    }
}

/// Asks the master behind `socket` to end, should one still be there.
async fn end_master(socket: &Path) {
    if !socket.exists() {
        return;
    }
    let mut ssh = super::master::control_command(socket);
    ssh.args(["-O", "exit", "x"]).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = tokio::time::timeout(Duration::from_secs(5), ssh.status()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_sockets_cannot_have_is_replaced() {
        let uid = rustix::process::getuid().as_raw();
        let fallback = PathBuf::from(format!("/tmp/k3arm-{uid}"));
        assert_eq!(root(Path::new("/run/user/1000/k3arm")), PathBuf::from("/run/user/1000/k3arm"));
        assert_eq!(root(Path::new(&format!("/{}", "a".repeat(ROOT_LENGTH)))), fallback);
        assert_eq!(root(Path::new("/home/a b")), fallback);
        assert_eq!(root(Path::new("/home/%h")), fallback);
        assert_eq!(root(Path::new("relative")), fallback);
    }

    #[tokio::test]
    async fn orphans_are_swept_and_living_ones_are_not() {
        let root = tempfile::tempdir().expect("a directory");
        let living = ControlDir::create(root.path()).await.expect("made");
        let orphan = root.path().join("k3armdead00");
        fs::create_dir(&orphan).expect("made");
        fs::write(orphan.join("lock"), "").expect("written");
        let stranger = root.path().join("k3armnew000");
        fs::create_dir(&stranger).expect("made");
        let _second = ControlDir::create(root.path()).await.expect("made");
        assert!(living.socket().parent().is_some_and(Path::exists));
        assert!(!orphan.exists());
        assert!(stranger.exists(), "it may be about to take its lock");
        assert_eq!(fs::metadata(root.path()).expect("there").mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn the_note_of_a_lost_connection_is_found_for_its_destination_alone() {
        let served = |id: u32| Served::parse(&format!("0b2f3c1e-53a5-4d7a-8f0e-6f6f0b1c2d3e {id} 7")).expect("good");
        let root = tempfile::tempdir().expect("a directory");
        let ended = ControlDir::create(root.path()).await.expect("made");
        ended.note("pi@pi1", &served(10));
        ended.remove();
        let lost = ControlDir::create(root.path()).await.expect("made");
        lost.note("pi@pi1", &served(11));
        lost.keep_note();
        lost.remove();
        let killed = root.path().join("k3armdead00");
        fs::create_dir(&killed).expect("made");
        fs::write(killed.join("lock"), "").expect("written");
        fs::write(killed.join(SERVED), format!("pi@pi1\n{}\n", served(12))).expect("written");
        let dir = ControlDir::create(root.path()).await.expect("made");
        dir.note("pi@pi1", &served(13));
        let mut found: Vec<Served> = dir.lost("pi@pi1").into_iter().map(|(_, served)| served).collect();
        found.sort_by_key(Served::to_string);
        assert_eq!(found, [served(11), served(12)]);
        assert_eq!(dir.lost("pi@pi2"), []);
    }

    #[test]
    fn a_link_in_the_place_of_the_root_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/tmp", folder.path().join("root")).expect("linked");
        assert!(private(&folder.path().join("root")).is_err());
    }
}
