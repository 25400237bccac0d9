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

/// A unix socket's path has 104 bytes at most (macOS; 108 on Linux) with its zero, and `ssh` binds under the name with
/// 17 characters more first. Below the root come `/k3armXXXXXX/c`, 14 characters.
const ROOT_LENGTH: usize = 104 - 1 - 17 - 14;

/// A directory without a lock is left alone for as long as its owner may need to take it.
const UNLOCKED_GRACE: Duration = Duration::from_secs(600);

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
        let ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("k3arm"));
        let Some(lock) = ours.then(|| orphan(&folder)).flatten() else { continue };
        tracing::debug!(folder = %folder.display(), "sweeping a control directory without an owner");
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
        Err(_) => {
            let age = fs::symlink_metadata(folder).ok()?.modified().ok()?.elapsed().ok()?;
            (age > UNLOCKED_GRACE).then_some(None)
        }
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

    #[test]
    fn a_link_in_the_place_of_the_root_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/tmp", folder.path().join("root")).expect("linked");
        assert!(private(&folder.path().join("root")).is_err());
    }
}
