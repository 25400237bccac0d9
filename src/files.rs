//! A file of the user's, written whole or not at all: what was there is replaced at once, or stays as it was.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// What any new file of a user may be before the umask takes its part.
pub(crate) const USUAL_MODE: u32 = 0o666;
/// What only the user may read.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// The folder that a file is in, or is to be made in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file in the making, beside the one that it is to be; gone if it is dropped.
pub(crate) struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Begins what is to be `path`, in a folder that is there. From `mode`, the umask takes its part.
    ///
    /// # Errors
    /// The folder cannot be written to, or something else than a file is there.
    pub(crate) fn begin(path: &Path, mode: u32) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "what is there is not a file"));
        }
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(".k3arm-").permissions(Permissions::from_mode(mode));
        Ok(Self { file: builder.tempfile_in(folder(path))?, path: path.to_path_buf() })
    }

    /// Takes the permissions of `old`, whatever the umask.
    pub(crate) fn keep_permissions(&self, old: &fs::Metadata) -> io::Result<()> {
        self.file.as_file().set_permissions(old.permissions())
    }

    /// Takes the place of what may be there, and its owner: run by sudo, the user's file must stay the user's.
    pub(crate) fn replace(self) -> io::Result<()> {
        if let Ok(old) = fs::metadata(&self.path) {
            self.keep_owner(&old)?;
        }
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path)?;
        File::open(folder(&self.path))?.sync_all()
    }

    /// Takes the place if nothing is there.
    ///
    /// # Errors
    /// `AlreadyExists` if something is.
    pub(crate) fn create(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist_noclobber(&self.path)?;
        File::open(folder(&self.path))?.sync_all()
    }

    fn keep_owner(&self, old: &fs::Metadata) -> io::Result<()> {
        let now = self.file.as_file().metadata()?;
        if (old.uid(), old.gid()) == (now.uid(), now.gid()) {
            return Ok(());
        }
        match std::os::unix::fs::fchown(self.file.as_file(), Some(old.uid()), Some(old.gid())) {
            // Only root can give it away. Who may write to the folder gets a file of their own.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            done => done,
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it");
        let begin = || NewFile::begin(&path, USUAL_MODE).unwrap();
        begin().write_all(b"dropped").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for (text, old) in [("first", None), ("second", Some("first"))] {
            let mut new = begin();
            new.write_all(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old);
            new.replace().unwrap();
        }
        assert_eq!(begin().create().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_a_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for there in [Path::new("/dev/null"), folder.path()] {
            assert!(NewFile::begin(there, USUAL_MODE).is_err(), "{}", there.display());
        }
        assert!(NewFile::begin(&folder.path().join("none").join("it"), USUAL_MODE).is_err());
    }
}
