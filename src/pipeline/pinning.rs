//! References → digests: what each one stands for now, or stood for when the lock was written, and what is behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::archive::Archive;
use crate::cluster::{Release, Selector, Source};
use crate::mirror::Published;
use crate::oci::{
    Config, Descriptor, Document, Lock, Manifest, PinnedImage, Platform, PlatformImage, Reference, ReferenceError,
};
use crate::plan::{Failure, Progress};
use crate::registry::Fetched;
use crate::resolve as resolution;
use crate::store::Store;

use super::origin::{Origin, fetched, held};
use super::{Environment, Stop};

/// Where releases of k3s are published.
const REPOSITORY: &str = "docker.io/rancher/k3s";

/// Images that are looked up at the same time: enough to hide a registry's distance, few enough to be polite.
const AT_ONCE: usize = 4;

/// An image that is wanted, and where it is to be taken from.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// As the user wrote it.
    pub(super) source: Source,
    /// Where it comes from.
    pub(super) origin: Origin,
}

impl Wish {
    /// All images of an archive that have a name.
    pub(super) fn all_of(archive: &Arc<Archive>) -> Result<Vec<Self>, Failure> {
        let named = archive.images().iter().filter_map(|image| image.reference.clone());
        let wish = |reference| Self { source: Source::Image(reference), origin: Origin::Archive(archive.clone()) };
        let wishes: Vec<Self> = named.map(wish).collect();
        let nothing = || Failure {
            host: None,
            message: format!("no image in {} has a full name", archive.name().display()),
            hint: Some(
                "name it when it is made: `docker save NAME:TAG`, `skopeo copy … oci-archive:FILE:NAME:TAG`".into(),
            ),
        };
        if wishes.is_empty() { Err(nothing()) } else { Ok(wishes) }
    }
}

/// Images that are pinned, and all that is needed to give them to hosts.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) images: Vec<PinnedImage>,
    pub(super) supplies: BTreeMap<String, Supply>,
    /// What was pinned, by how the user wrote it.
    pub(super) lock: Lock,
    by_source: BTreeMap<String, usize>,
}

/// What stands behind a pinned image: its documents as they came, and where its layers come from.
pub(super) struct Supply {
    pub(super) reference: Reference,
    /// The index or the only manifest first, then the manifests of the chosen platforms.
    pub(super) documents: Vec<(Descriptor, Bytes)>,
    pub(super) configs: Vec<(Descriptor, Bytes)>,
    pub(super) source: Arc<dyn crate::store::Source>,
}

impl Resolved {
    /// What a source stands for.
    pub(super) fn of(&self, source: &Source) -> Option<&PinnedImage> {
        self.images.get(*self.by_source.get(&source.to_string())?)
    }

    /// Puts all documents into the store, so that a later run needs to ask nobody for them.
    pub(super) async fn keep(&self, store: &Store) -> Result<(), Failure> {
        let fail = |e: crate::store::Error| Failure::new(&e, e.hint());
        for supply in self.supplies.values() {
            for (_, bytes) in supply.documents.iter().chain(&supply.configs) {
                store.write(bytes.clone()).await.map_err(fail)?;
            }
            if let Some((root, _)) = supply.documents.first() {
                store.record(&supply.reference, root).await.map_err(fail)?;
            }
        }
        Ok(())
    }

    /// What the mirror can give, by the name that an engine keeps the image under.
    pub(super) fn published(&self) -> BTreeMap<String, Published> {
        let one = |image: &PinnedImage| {
            let name = image.reference.on_engine().to_string();
            let published = self.supplies.get(&name)?.published(image);
            Some((name, published))
        };
        self.images.iter().filter_map(one).collect()
    }
}

impl Supply {
    fn published(&self, image: &PinnedImage) -> Published {
        let blobs = image.platforms.values().flat_map(|image| std::iter::once(&image.config).chain(&image.layers));
        Published {
            reference: self.reference.clone(),
            documents: self.documents.clone(),
            blobs: blobs.cloned().collect(),
            source: self.source.clone(),
        }
    }
}

/// Resolves all wishes for all platforms; every failure is told. What `lock` knows is taken from there.
pub(super) async fn pin(
    wishes: &[Wish],
    platforms: &BTreeSet<Platform>,
    lock: Option<&Lock>,
    environment: &Environment,
) -> Result<Resolved, Stop> {
    // Documents that are here already; a run that only looks makes no folder.
    let store = environment.store.exists().then(|| Store::open(&environment.store).ok()).flatten();
    let one = async |wish: &Wish| {
        let pinning = Pinning { wish, platforms, store: store.as_ref(), environment };
        pinning.pin(lock).await.map(|(image, supply)| (wish.source.to_string(), image, supply))
    };
    let mut resolved = Resolved::default();
    let mut failures = Vec::new();
    let mut results = stream::iter(wishes).map(one).buffered(AT_ONCE);
    while let Some(result) = results.next().await {
        match result {
            Ok((source, image, supply)) => {
                resolved.supplies.insert(image.reference.on_engine().to_string(), supply);
                resolved.lock.insert(&source, image.clone());
                resolved.by_source.insert(source, resolved.images.len());
                resolved.images.push(image);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(resolved) } else { Err(Stop::Failures(failures)) }
}

/// One wish on its way to digests.
struct Pinning<'a> {
    wish: &'a Wish,
    platforms: &'a BTreeSet<Platform>,
    store: Option<&'a Store>,
    environment: &'a Environment,
}

impl Pinning<'_> {
    async fn pin(&self, lock: Option<&Lock>) -> Result<(PinnedImage, Supply), Failure> {
        let locked = lock.and_then(|lock| lock.get(&self.wish.source.to_string()));
        let (reference, top) = match locked {
            Some(locked) => (locked.reference.clone(), self.locked(locked).await?),
            None => {
                let reference = reference(self.wish, self.environment).await?;
                let top = self.wish.origin.named(&reference).await?;
                (reference, top)
            }
        };
        let mut supply = Supply {
            reference: reference.clone(),
            documents: vec![(top.descriptor.clone(), top.bytes.clone())],
            configs: Vec::new(),
            source: self.wish.origin.blobs(&reference),
        };
        let images = match &top.document {
            Document::Index(index) => self.of_index(&reference, index, &mut supply).await?,
            Document::Manifest(manifest) => self.single(&reference, &top, manifest, &mut supply).await?,
        };
        Ok((resolution::pin(&reference, &top.descriptor, &top.document, images), supply))
    }

    /// The index, or the only manifest, that the lock names: whatever the tag stands for now.
    async fn locked(&self, locked: &PinnedImage) -> Result<Fetched, Failure> {
        let only = || locked.platforms.values().next().map(|image| &image.manifest);
        let nothing = || Failure {
            host: None,
            message: format!("the lock names no image for {}", locked.reference),
            hint: Some("`--update` writes it anew".into()),
        };
        self.document(&locked.reference, locked.index.as_ref().or_else(only).ok_or_else(nothing)?).await
    }

    async fn of_index(
        &self,
        reference: &Reference,
        index: &crate::oci::Index,
        supply: &mut Supply,
    ) -> Result<BTreeMap<Platform, PlatformImage>, Failure> {
        let chosen = resolution::choose(reference, index, self.platforms).map_err(|e| Failure::new(&e, None))?;
        let mut images = BTreeMap::new();
        for (platform, descriptor) in chosen {
            let fetched = self.document(reference, &descriptor).await?;
            let Document::Manifest(manifest) = fetched.document else { return Err(nested(reference, &platform)) };
            supply.documents.push((fetched.descriptor.clone(), fetched.bytes));
            let config = self.config(reference, &manifest, supply).await?;
            images.insert(platform, one(fetched.descriptor, manifest, config)?);
        }
        Ok(images)
    }

    async fn single(
        &self,
        reference: &Reference,
        top: &Fetched,
        manifest: &Manifest,
        supply: &mut Supply,
    ) -> Result<BTreeMap<Platform, PlatformImage>, Failure> {
        let config = self.config(reference, manifest, supply).await?;
        let platforms = resolution::check_single(reference, &config.platform, self.platforms);
        let image = one(top.descriptor.clone(), manifest.clone(), config)?;
        let platforms = platforms.map_err(|e| Failure::new(&e, None))?;
        Ok(platforms.into_iter().map(|platform| (platform, image.clone())).collect())
    }

    async fn document(&self, reference: &Reference, wanted: &Descriptor) -> Result<Fetched, Failure> {
        match held(self.store, wanted).await {
            Some(bytes) => fetched(wanted, bytes),
            None => self.wish.origin.document(reference, wanted).await,
        }
    }

    /// The config of a manifest; its bytes go to the supply.
    async fn config(&self, reference: &Reference, manifest: &Manifest, supply: &mut Supply) -> Result<Config, Failure> {
        let bytes = match held(self.store, &manifest.config).await {
            Some(bytes) => bytes,
            None => self.wish.origin.config(reference, &manifest.config).await?,
        };
        let config = Config::parse(&bytes).map_err(|e| Failure::new(&e, None))?;
        supply.configs.push((manifest.config.clone(), bytes));
        Ok(config)
    }
}

fn one(descriptor: Descriptor, manifest: Manifest, config: Config) -> Result<PlatformImage, Failure> {
    resolution::platform_image(descriptor, manifest, config).map_err(|e| Failure::new(&e, None))
}

fn nested(reference: &Reference, platform: &Platform) -> Failure {
    Failure {
        host: None,
        message: format!("{reference}: the entry for {platform} is an index again, not an image"),
        hint: None,
    }
}

/// The image that a source stands for. A channel is looked up now, so that what is pinned is a release; an archive is asked alone.
pub(super) async fn reference(wish: &Wish, environment: &Environment) -> Result<Reference, Failure> {
    let release = match (&wish.source, &wish.origin) {
        (Source::Image(reference), _) => return Ok(reference.clone()),
        (Source::Release(Selector::Release(release)), _) => release.clone(),
        (Source::Release(Selector::Channel(channel)), Origin::Archive(archive)) => {
            return only_release(channel, archive);
        }
        (Source::Release(Selector::Channel(channel)), Origin::Registry(_)) => latest(channel, environment).await?,
    };
    image_of(&release)
}

fn image_of(release: &Release) -> Result<Reference, Failure> {
    format!("{REPOSITORY}:{}", release.tag()).parse().map_err(|e: ReferenceError| Failure::new(&e, None))
}

/// The release that an image's tag names, if it names one.
pub(super) fn release_of(image: &Reference) -> Option<Release> {
    image.tag()?.parse().ok()
}

/// What a channel was when the archive was made: the one release of k3s in it.
fn only_release(channel: &str, archive: &Archive) -> Result<Reference, Failure> {
    let is_release = |image: &&Reference| {
        release_of(image).is_some_and(|release| image_of(&release).is_ok_and(|of_release| of_release == **image))
    };
    let images = archive.images().iter().filter_map(|image| image.reference.as_ref());
    let releases: Vec<&Reference> = images.filter(is_release).collect();
    match releases[..] {
        [one] => Ok(one.clone()),
        _ => Err(Failure {
            host: None,
            message: format!(
                "{} holds {} releases of k3s: which of them is channel {channel} cannot be told",
                archive.name().display(),
                releases.len()
            ),
            hint: Some("name a version: `--k3s v1.36.3+k3s1`, or `version:` in the cluster file".into()),
        }),
    }
}

async fn latest(channel: &str, environment: &Environment) -> Result<Release, Failure> {
    let channels = environment.registry.channels().await.map_err(|e| Failure::new(&e, e.hint()))?;
    let failure = |message: String| {
        let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
        Failure { host: None, message, hint: Some(format!("there are: {}", names.join(", "))) }
    };
    let found = channels.iter().find(|found| found.name == channel);
    let found = found.ok_or_else(|| failure(format!("k3s has no channel {channel}")))?;
    let latest = found.latest.as_deref().ok_or_else(|| failure(format!("channel {channel} names no release now")))?;
    latest.parse().map_err(|e: crate::cluster::ReleaseError| failure(format!("channel {channel}: {e}")))
}

/// Tells how images were resolved, for logs.
pub(super) fn tell(images: &[PinnedImage], environment: &Environment) {
    for image in images {
        let digest = image.digest().map(|digest| digest.short().to_string()).unwrap_or_default();
        let what = format!("{} is {digest}", image.reference.familiar());
        environment.events.overall(Progress::Done { what });
    }
}
