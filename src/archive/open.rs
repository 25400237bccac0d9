//! An archive as a source of images.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream, StreamExt};

use crate::oci::{Config, Descriptor, Digest, Document, MAX_MANIFEST_BYTES, Platform};
use crate::store::{Source, SourceError, SourceStream};

use super::entries::Tar;
use super::place::{Located, Place};
use super::{Error, Flaw, NamedImage, names, saved, spool};

/// The most that is read from an archive at once, in bytes.
const CHUNK: u64 = 128 << 10;

/// Images in a file or a folder, or that came as a stream. Clones share it.
#[derive(Clone)]
pub struct Archive {
    content: Arc<Content>,
}

struct Content {
    name: PathBuf,
    images: Vec<NamedImage>,
    place: Place,
}

impl Archive {
    /// Opens the archive at `path`: a tar of an OCI image layout, also with Docker's `manifest.json` or without; an
    /// older `docker save`; a folder that is an image layout. A compressed tar (gzip, zstd) is unpacked to an unnamed
    /// temporary file in the folder `spool`, which should be one with space: the store's.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the [`Flaw`], [`Error::NoSpace`], [`Error::Io`].
    pub async fn open(path: &Path, spool: &Path) -> Result<Self, Error> {
        let spool = spool.to_path_buf();
        blocking(path, move |path| {
            let found = std::fs::metadata(path).map_err(|error| Error::io("opening", path, error))?;
            match () {
                () if found.is_dir() => Self::read_folder(path),
                // To open a pipe may take for ever.
                () if !found.is_file() => Err(Error::Invalid { archive: path.into(), flaw: Flaw::NoImages }),
                () => {
                    let file = File::open(path).map_err(|error| Error::io("opening", path, error))?;
                    Self::read_tar(spool::unpacked(file, path, &spool)?, path)
                }
            }
        })
        .await
    }

    /// Opens what `stream` brings, such as an engine's answer to `GET /images/get`, after writing it to an unnamed
    /// temporary file in the folder `spool`. `name` is for messages: `docker:busybox`.
    ///
    /// # Errors
    /// As [`Archive::open`], and [`Error::Stream`] when the stream fails.
    pub async fn from_stream<S, E>(name: &str, stream: S, spool: &Path) -> Result<Self, Error>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<SourceError>,
    {
        let name = Path::new(name);
        let file = spool::spooled(stream, name, spool).await?;
        let spool = spool.to_path_buf();
        blocking(name, move |name| Self::read_tar(spool::unpacked(file, name, &spool)?, name)).await
    }

    fn read_tar(file: File, name: &Path) -> Result<Self, Error> {
        let tar = Tar::new(file, name)?;
        let entries = tar.entries()?;
        let index = entries.find("index.json").filter(|_| entries.find("oci-layout").is_some());
        let (images, place) = match index {
            Some(span) => {
                let bytes = tar.read("index.json", span, MAX_MANIFEST_BYTES)?;
                let images = names::of_index(&bytes).map_err(|flaw| tar.invalid(flaw))?;
                (images, Place::of_layout(tar, &entries))
            }
            None => saved::read(tar, &entries)?,
        };
        Ok(Self::new(name, images, place))
    }

    fn read_folder(path: &Path) -> Result<Self, Error> {
        let invalid = |flaw| Error::Invalid { archive: path.to_path_buf(), flaw };
        let index = path.join("index.json");
        let is_layout = path.join("oci-layout").is_file() && index.is_file();
        let index = is_layout.then_some(index).ok_or_else(|| invalid(Flaw::NoImages))?;
        let (mut bytes, limit) = (Vec::new(), MAX_MANIFEST_BYTES);
        let read = File::open(&index).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        let size = read.map_err(|error| Error::io("reading", &index, error))? as u64;
        if size > limit {
            return Err(invalid(Flaw::TooLarge { name: "index.json".into(), size, limit }));
        }
        let images = names::of_index(&bytes).map_err(invalid)?;
        Ok(Self::new(path, images, Place::Folder(path.to_path_buf())))
    }

    fn new(name: &Path, images: Vec<NamedImage>, place: Place) -> Self {
        Self { content: Arc::new(Content { name: name.to_path_buf(), images, place }) }
    }

    /// Its path, or what it is called in messages.
    pub fn name(&self) -> &Path {
        &self.content.name
    }

    /// The images in it, in its order.
    pub fn images(&self) -> &[NamedImage] {
        &self.content.images
    }

    /// Whether it has a blob of this digest and size. The content is not looked at; reading it does that.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        self.content.place.size(&descriptor.digest) == Some(descriptor.size)
    }

    /// An index, a manifest or a config, checked against its digest; `None` if it is not in the archive.
    ///
    /// # Errors
    /// [`Flaw::TooLarge`], [`Flaw::WrongDigest`], [`Error::Io`].
    pub async fn document(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        let (content, digest) = (self.content.clone(), digest.clone());
        blocking(&self.content.name, move |name| content.place.document(name, &digest)).await
    }

    /// The images of `root` that are complete here: manifest, config and all layers. Indexes may be nested.
    ///
    /// # Errors
    /// As [`Archive::document`], and [`Flaw::Document`] for one that is here and cannot be read.
    pub async fn present(&self, root: &Descriptor) -> Result<Vec<(Platform, Descriptor)>, Error> {
        let mut present = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![root.clone()];
        // Each document is read once, so that this ends.
        while let Some(descriptor) = open.pop() {
            let is_new = seen.insert(descriptor.digest.clone());
            let is_document = descriptor.media_type.is_index() || descriptor.media_type.is_manifest();
            let Some(bytes) = (if is_new && is_document { self.document(&descriptor.digest).await? } else { None })
            else {
                continue;
            };
            match self.parsed(&descriptor, &bytes)? {
                // The last one is taken first.
                Document::Index(index) => open.extend(index.manifests.into_iter().rev()),
                Document::Manifest(manifest) => {
                    if manifest.blobs().all(|blob| self.has(blob)) {
                        present.extend(self.with_platform(descriptor, &manifest.config).await?);
                    }
                }
            }
        }
        Ok(present)
    }

    fn parsed(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Document, Error> {
        Document::parse(&descriptor.media_type, bytes).map_err(|error| {
            let flaw = Flaw::Document { name: descriptor.digest.to_string(), source: Arc::new(error) };
            Error::Invalid { archive: self.content.name.clone(), flaw }
        })
    }

    /// The platform is what an index says, else what the config says; nothing for what no engine runs.
    async fn with_platform(
        &self,
        manifest: Descriptor,
        config: &Descriptor,
    ) -> Result<Option<(Platform, Descriptor)>, Error> {
        let platform = match &manifest.platform {
            Some(platform) => Some(platform.clone()),
            None => {
                let bytes = self.document(&config.digest).await?;
                bytes.and_then(|bytes| Config::parse(&bytes).ok()).map(|config| config.platform)
            }
        };
        Ok(platform.filter(|platform| platform.os() != "unknown").map(|platform| (platform, manifest)))
    }
}

impl Source for Archive {
    fn open<'a>(&'a self, descriptor: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<SourceStream, SourceError>> {
        let (content, wanted) = (self.content.clone(), descriptor.clone());
        Box::pin(async move {
            let located = blocking(&self.content.name, move |name| content.locate(name, &wanted)).await?;
            Ok(chunks(self.content.name.clone(), located, offset).boxed())
        })
    }
}

impl Content {
    fn locate(&self, name: &Path, wanted: &Descriptor) -> Result<Located, Error> {
        let invalid = |flaw| Error::Invalid { archive: name.to_path_buf(), flaw };
        let located = self.place.locate(&wanted.digest).map_err(|error| Error::io("reading", name, error))?;
        let located = located.ok_or_else(|| invalid(Flaw::Missing { name: wanted.digest.to_string() }))?;
        if located.size() != wanted.size {
            let (digest, expected, found) = (wanted.digest.clone(), wanted.size, located.size());
            return Err(invalid(Flaw::WrongSize { digest, expected, found }));
        }
        Ok(located)
    }
}

fn chunks(name: PathBuf, located: Located, offset: u64) -> impl Stream<Item = Result<Bytes, SourceError>> + Send {
    stream::try_unfold(offset, move |offset| {
        let (name, located) = (name.clone(), located.clone());
        async move {
            if offset >= located.size() {
                return Ok(None);
            }
            let read =
                move |name: &Path| located.read(offset, CHUNK).map_err(|error| Error::io("reading", name, error));
            let bytes = blocking(&name, read).await?;
            let next = offset + bytes.len() as u64;
            Ok(Some((bytes, next)))
        }
    })
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("name", &self.content.name).finish_non_exhaustive()
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    name: &Path,
    work: impl FnOnce(&Path) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let owned = name.to_path_buf();
    let done = tokio::task::spawn_blocking(move || work(&owned)).await;
    done.unwrap_or_else(|_| Err(Error::Interrupted { archive: name.to_path_buf() }))
}
