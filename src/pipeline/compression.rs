//! In which form layers travel: as they were published, or recompressed in fewer bytes, by the figures of this run.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::economy::{
    Decision, Figures, HostFigures, LayerFigures, Recompress, Route, decide, knows_zstd, takes_zstd, worth_sampling,
};
use crate::host::{Facts, HostName};
use crate::mirror::Published;
use crate::oci::{Compression, Descriptor, Digest, PlatformImage, ZstdLevel};
use crate::plan::{Action, Delivery, Failure, Progress, Step, Via};
use crate::recompress::{Form, Layer, Recompressor, Sampling, variant};
use crate::store::{Source, SourceError, SourceStream, Store};

use super::pinning::Resolved;
use super::{Environment, Probed};

/// Levels that are tried on a sample, the cheapest first.
const LEVELS: [u8; 3] = [9, 15, 19];

/// What the decision is made about.
pub(super) struct Compressing<'a> {
    pub(super) wish: Recompress,
    pub(super) resolved: &'a Resolved,
    pub(super) probed: &'a Probed,
    /// Only tell what would be made.
    pub(super) dry_run: bool,
    pub(super) environment: &'a Environment,
}

/// Images in other forms, by the digests of their manifests.
pub(super) type Variants = BTreeMap<Digest, Published>;

impl Compressing<'_> {
    /// Decides, makes what has to be made, and lets deliveries travel in the forms that they now have.
    pub(super) async fn settle(&self, steps: &mut [Step]) -> Result<Variants, Failure> {
        let mut variants = Variants::new();
        if self.wish == Recompress::Off || (!self.environment.store.exists() && self.dry_run) {
            return Ok(variants);
        }
        let store = Store::open(&self.environment.store).map_err(|e| Failure::new(&e, e.hint()))?;
        let recompressor = Recompressor::new(store.clone());
        let layers = self.layers(steps);
        let mut figures = self.figures(steps, &layers, &store, &recompressor).await?;
        if self.wish == Recompress::Auto {
            self.sample(&mut figures, &layers, &recompressor).await?;
        }
        let decision = decide(&figures, self.wish);
        self.make(&decision, &layers, &recompressor).await?;
        for step in steps {
            let Some(delivery) = compressible(&mut step.action) else { continue };
            let made = self.made(delivery, &step.host, &decision, &recompressor).await?;
            let Some(variant) = variant(&delivery.image.image, &made) else { continue };
            let published = published(delivery, &variant.image, variant.manifest);
            variants.insert(variant.image.manifest.digest.clone(), published);
            delivery.travels_as = Some(variant.image);
        }
        Ok(variants)
    }

    /// All layers that some host lacks and could get in another form, by digest as published.
    fn layers(&self, steps: &mut [Step]) -> BTreeMap<Digest, (Layer, Arc<dyn Source>)> {
        let mut layers = BTreeMap::new();
        for step in steps {
            let Some(delivery) = compressible(&mut step.action) else { continue };
            let Some(supply) = self.resolved.supplies.get(&delivery.image.reference.to_string()) else { continue };
            for layer in Layer::of(&delivery.image.image).split_off(delivery.held_layers) {
                layers.insert(layer.descriptor.digest.clone(), (layer, supply.source.clone()));
            }
        }
        layers
    }

    async fn figures(
        &self,
        steps: &mut [Step],
        layers: &BTreeMap<Digest, (Layer, Arc<dyn Source>)>,
        store: &Store,
        recompressor: &Recompressor,
    ) -> Result<Figures, Failure> {
        let rates = self.environment.records.rates();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut figures = Figures { uplink: rates.uplink, cores, ..Figures::default() };
        for (digest, (layer, _)) in layers {
            let made = match found(recompressor, layer).await? {
                Some(Form::AsPublished) => continue,
                Some(Form::Made(made)) => Some(made.size),
                None => None,
            };
            let (size, is_held) = (layer.descriptor.size, store.has(&layer.descriptor));
            let layer = LayerFigures { size, is_held, made, ..LayerFigures::default() };
            figures.layers.insert(digest.clone(), layer);
        }
        for step in steps {
            let Some(delivery) = compressible(&mut step.action) else { continue };
            let facts = self.probed.facts.get(&step.host);
            let connection = self.probed.fleet.get(&step.host);
            let host = HostFigures {
                rate: connection.and_then(|connection| rates.of(&connection.host.destination)),
                takes_zstd: facts.is_some_and(|facts| self.takes_zstd(facts)),
            };
            figures.hosts.insert(step.host.clone(), host);
            for layer in delivery.missing_layers() {
                if let Some(figures) = figures.layers.get_mut(&layer.digest) {
                    figures.wanted_by.insert(step.host.clone());
                }
            }
        }
        Ok(figures)
    }

    /// On containerd's store a second pull is needed, and the published blobs are then not there: only where it is asked for.
    fn takes_zstd(&self, facts: &Facts) -> bool {
        match self.wish {
            Recompress::Zstd(_) => knows_zstd(&facts.engine),
            Recompress::Auto | Recompress::Off => takes_zstd(&facts.engine),
        }
    }

    async fn sample(
        &self,
        figures: &mut Figures,
        layers: &BTreeMap<Digest, (Layer, Arc<dyn Source>)>,
        recompressor: &Recompressor,
    ) -> Result<(), Failure> {
        let levels: Vec<ZstdLevel> = LEVELS.iter().filter_map(|level| ZstdLevel::new(*level)).collect();
        for (digest, budget) in worth_sampling(figures) {
            let Some((layer, source)) = layers.get(&digest) else { continue };
            let sampling = Sampling { levels: levels.clone(), budget };
            let yields = recompressor.sample(layer, source.clone(), &sampling).await;
            let yields = yields.map_err(|e| Failure::new(&e, e.hint()))?;
            tracing::debug!(layer = %digest, ?yields, "what recompressing would bring");
            if let Some(figures) = figures.layers.get_mut(&digest) {
                figures.yields = yields;
            }
        }
        Ok(())
    }

    /// Makes the forms that were decided on, one after the other: each uses all cores.
    async fn make(
        &self,
        decision: &Decision,
        layers: &BTreeMap<Digest, (Layer, Arc<dyn Source>)>,
        recompressor: &Recompressor,
    ) -> Result<(), Failure> {
        let events = &self.environment.events;
        for (digest, level) in decision.to_make() {
            let Some((layer, source)) = layers.get(&digest) else { continue };
            let (size, short) = (layer.descriptor.size, digest.short());
            let what = format!("layer {short}, {:.1} MB, to zstd:{level}", size as f64 / 1e6);
            if self.dry_run {
                events.overall(Progress::Warning { what: format!("would recompress {what} first ({})", decision.run) });
                continue;
            }
            events.overall(Progress::Started { what: format!("recompressing {what}") });
            let told = events.clone();
            let progress = move |_: &Digest, done: u64| told.overall(Progress::Bytes { done, total: size });
            let maker = recompressor.clone().with_progress(Arc::new(progress));
            let form = maker.make(layer, Compression::Zstd(level), source.clone()).await;
            match form {
                Ok(Form::Made(made)) => {
                    let what = format!("layer {short}: {:.1} MB as zstd", made.size as f64 / 1e6);
                    events.overall(Progress::Done { what });
                }
                Ok(Form::AsPublished) => {
                    let what = format!("layer {short} stays as it is: zstd saves nothing");
                    events.overall(Progress::Done { what });
                }
                // Nobody asked for it: what cannot be made smaller travels as it was published.
                Err(error) if self.wish == Recompress::Auto => {
                    let why = Failure::new(&error, error.hint());
                    events.overall(Progress::Warning { what: format!("layer {short} is sent as published: {why}") });
                }
                Err(error) => return Err(Failure::new(&error, error.hint())),
            }
        }
        Ok(())
    }

    /// The layers that this host gets in another form, by digest as published.
    async fn made(
        &self,
        delivery: &Delivery,
        host: &HostName,
        decision: &Decision,
        recompressor: &Recompressor,
    ) -> Result<BTreeMap<Digest, Descriptor>, Failure> {
        let mut made = BTreeMap::new();
        for layer in Layer::of(&delivery.image.image).split_off(delivery.held_layers) {
            if decision.route(&layer.descriptor.digest, host) != Route::AsPublished
                && let Some(Form::Made(form)) = found(recompressor, &layer).await?
            {
                made.insert(layer.descriptor.digest, form);
            }
        }
        Ok(made)
    }
}

/// A variant, published beside the image that it was made of, from which it has what is not our own.
fn published(delivery: &Delivery, image: &PlatformImage, manifest: Bytes) -> Published {
    Published {
        reference: delivery.image.reference.clone(),
        documents: vec![(image.manifest.clone(), manifest)],
        blobs: std::iter::once(&image.config).chain(&image.layers).cloned().collect(),
        source: Arc::new(Nowhere),
    }
}

/// A delivery that may travel in another form. An archive for `docker load` holds the published one: its name is in it.
fn compressible(action: &mut Action) -> Option<&mut Delivery> {
    match action {
        Action::Prewarm(delivery) if delivery.via == Via::Pull => Some(delivery),
        _ => None,
    }
}

/// What is known of a layer as zstd: the smallest form in the store, or that there is nothing to gain.
async fn found(recompressor: &Recompressor, layer: &Layer) -> Result<Option<Form>, Failure> {
    let Some(any) = ZstdLevel::new(1) else { return Ok(None) };
    recompressor.find(layer, Compression::Zstd(any)).await.map_err(|e| Failure::new(&e, e.hint()))
}

/// A source of blobs that only the store has.
struct Nowhere;

impl Source for Nowhere {
    fn open<'a>(&'a self, descriptor: &'a Descriptor, _: u64) -> BoxFuture<'a, Result<SourceStream, SourceError>> {
        Box::pin(async move {
            Err(format!("{} was made here and is lost: run the command again", descriptor.digest).into())
        })
    }
}
