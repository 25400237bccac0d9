//! The lock file beside a cluster file: `k3arm.yaml` has `k3arm.lock`, any `NAME.yaml` has `NAME.lock`.
//!
//! An effect of its own and not part of `records`: records are a cache of this machine in k3arm's own folder, the lock belongs
//! to the user, is committed with the cluster file, and may say what a run has to do. It uses the `oci` nouns. It refuses to
//! read more than a lock can have, and to take what is not a lock for none: a damaged file is an error.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::files::{self, NewFile};
use crate::oci::{Lock, LockError, MAX_LOCK_BYTES};

/// Where a cluster's lock is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockFile {
    path: PathBuf,
}

/// Whether writing changed the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It says exactly this already, and was not touched.
    Unchanged,
    /// It is new or replaced.
    Changed,
}

/// Why the lock file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("the lock file {} could not be {action}", path.display())]
    Io {
        /// `read` or `written`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// What is there is not a lock; it was left as it is.
    #[error("{} is not a lock: {source}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LockError,
    },
}

impl Error {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        let (action, path, source) = match self {
            Self::Broken { source, .. } => return Some(source.hint().into()),
            Self::Io { action, path, source } => (*action, path, source),
        };
        let folder = files::folder(path).display();
        Some(match (action, source.kind()) {
            ("written", ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => format!(
                "the lock is kept beside the cluster file: make {folder} writable, or use a copy of the cluster file in a folder of yours"
            ),
            ("written", ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => format!("free some space in {folder}"),
            (_, ErrorKind::PermissionDenied) => format!("look at its rights: ls -l {}", path.display()),
            _ => return None,
        })
    }
}

impl LockFile {
    /// The lock file of a cluster file: in the same folder, `.lock` for `.yaml` or `.yml`, else after the whole name.
    pub fn beside(cluster_file: &Path) -> Self {
        let is_yaml = cluster_file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml {
            return Self { path: cluster_file.with_extension("lock") };
        }
        let mut path = cluster_file.as_os_str().to_owned();
        path.push(".lock");
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock; `None` where there is no file.
    ///
    /// # Errors
    /// [`Error`]: it is there and cannot be read, or is no lock.
    pub fn read(&self) -> Result<Option<Lock>, Error> {
        let Some(text) = self.text()? else { return Ok(None) };
        Lock::parse(&text).map(Some).map_err(|source| Error::Broken { path: self.path.clone(), source })
    }

    /// Writes the lock over what was there, at once: a reader sees the old one or the new one. The file keeps its owner and
    /// its permissions, a link stays a link; a new file gets those of any other file that the user makes.
    ///
    /// # Errors
    /// [`Error`]; the old file is untouched.
    pub fn write(&self, lock: &Lock) -> Result<Written, Error> {
        let text = lock.to_text();
        if self.text().is_ok_and(|old| old.as_ref() == Some(&text)) {
            return Ok(Written::Unchanged);
        }
        self.replace(text.as_bytes()).map_err(|source| self.failed("written", source))?;
        Ok(Written::Changed)
    }

    fn text(&self) -> Result<Option<String>, Error> {
        let failed = |source| self.failed("read", source);
        // A pipe would be waited for.
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            Ok(found) if !found.is_file() => return Err(failed(io::Error::other("it is not a file"))),
            Ok(_) => {}
        }
        let file = File::open(&self.path).map_err(failed)?;
        let mut text = String::new();
        file.take(MAX_LOCK_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        Ok(Some(text))
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut new = NewFile::begin(&target, files::USUAL_MODE)?;
        if let Ok(old) = fs::metadata(&target) {
            new.keep_permissions(&old)?;
        }
        new.write_all(text)?;
        new.replace()
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::Io { action, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    /// A lock with one image, `content` its manifest.
    fn lock(content: &str) -> Lock {
        let digest = crate::oci::Digest::of(content.as_bytes());
        let blob = format!(r#"{{"digest":"{digest}","mediaType":"a/b","size":1}}"#);
        let manifest = blob.replace("a/b", crate::oci::MediaType::OCI_MANIFEST);
        let platform = format!(r#"{{"manifest":{manifest},"config":{blob},"layers":[]}}"#);
        let image = format!(r#"{{"reference":"a/b:1","platforms":{{"linux/arm64":{platform}}}}}"#);
        Lock::parse(&format!(r#"{{"version":1,"images":{{"a/b:1":{image}}}}}"#)).unwrap()
    }

    fn file(folder: &Path) -> LockFile {
        LockFile::beside(&folder.join("home.yaml"))
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn its_name_is_the_cluster_files() {
        let path = |file: &str| LockFile::beside(Path::new(file)).path().to_str().unwrap().to_string();
        assert_eq!(path("k3arm.yaml"), "k3arm.lock");
        assert_eq!(path("/a/b.c/my.home.yml"), "/a/b.c/my.home.lock");
        assert_eq!(path("./cluster"), "./cluster.lock");
        assert_eq!(path("k3arm.lock"), "k3arm.lock.lock", "never the cluster file itself");
    }

    #[test]
    fn what_is_written_is_read_back_and_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        assert_eq!(file.read().unwrap(), None);
        assert_eq!(file.write(&lock("a")).unwrap(), Written::Changed);
        let inode = fs::metadata(file.path()).unwrap().ino();
        assert_eq!(file.write(&lock("a")).unwrap(), Written::Unchanged);
        assert_eq!(fs::metadata(file.path()).unwrap().ino(), inode);
        assert_eq!(file.write(&lock("b")).unwrap(), Written::Changed);
        assert_eq!(file.read().unwrap(), Some(lock("b")));
        assert_eq!(names(folder.path()), ["home.lock"], "no temporary file is left");
    }

    #[test]
    fn rights_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let file = file(folder.path());
        file.write(&lock("a")).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "").unwrap();
        assert_eq!(mode(file.path()), mode(&other), "a new one is like any new file");
        fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
        file.write(&lock("b")).unwrap();
        assert_eq!(mode(file.path()), 0o640);

        let real = folder.path().join("real");
        fs::rename(file.path(), &real).unwrap();
        std::os::unix::fs::symlink("real", file.path()).unwrap();
        file.write(&lock("c")).unwrap();
        assert!(fs::symlink_metadata(file.path()).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(real).unwrap(), lock("c").to_text());
    }

    #[test]
    fn a_damaged_file_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        fs::write(file.path(), "{\"version\": 9}").unwrap();
        let error = file.read().unwrap_err();
        assert!(error.to_string().contains("home.lock is not a lock: it has version 9"), "{error}");
        assert!(error.hint().unwrap().contains("newer k3arm"));
        fs::write(file.path(), b"\xff\xfe").unwrap();
        assert!(matches!(file.read(), Err(Error::Io { action: "read", .. })));
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert!(matches!(file.read(), Err(Error::Io { action: "read", .. })));
        assert!(matches!(file.write(&lock("a")), Err(Error::Io { action: "written", .. })));
    }

    #[test]
    fn a_folder_that_cannot_be_written_has_a_hint() {
        let path = PathBuf::from("/mnt/k3arm.lock");
        for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
            let error = Error::Io { action: "written", path: path.clone(), source: kind.into() };
            assert!(error.hint().unwrap().contains("make /mnt writable"), "{error}");
        }
        // The same from a real file system, also for root: nothing can be made in /proc.
        let error = LockFile::beside(Path::new("/proc/self/k3arm.yaml")).write(&lock("a")).unwrap_err();
        assert!(matches!(error, Error::Io { action: "written", .. }), "{error:?}");
    }
}
