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
    pub(crate) fn begin(path: &Path, mode: u32) -> io::Result<Self> {
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

    /// Takes its place if nothing is there.
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
        std::os::unix::fs::fchown(self.file.as_file(), Some(old.uid()), Some(old.gid()))
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
