//! Figures → how each layer travels to each host: as published, in a smaller form that is there, or in one that is made first.
//!
//! A layer as published streams to the hosts while it is still being fetched. One that is compressed anew has to be complete
//! before a manifest can name its digest: everything that a host gets under that manifest waits for it. So the rule of
//! `auto` is: a smaller form that is there is used; a new one is made only where, for each host that gets it, the link
//! saves a clear margin more than the wait costs, and where the whole run ends earlier for it. What is not known is taken
//! for the worst: without the rates nothing is made.
//!
//! Pure: rates, speeds and what the store holds are measured by others.

mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::host::{EngineFacts, HostName, ImageStore};
use crate::oci::{Compression, Digest, Yield, ZstdLevel};

use trial::{Trial, best_trial};

/// The first Docker that takes layers of zstd.
const FIRST_WITH_ZSTD: u32 = 23;

/// The part of a run that may be spent on finding out what compressing would bring.
const SAMPLING_PART: f64 = 0.01;

/// Not more than this, however long the run.
const MAX_SAMPLING: f64 = 4.0;

/// What real programs lose at most, by a third and a bit: what could be won at best, before anything was tried.
const BEST_RATIO: f64 = 0.6;

/// Savings below this, in seconds, are not looked for.
const LEAST_GAIN: f64 = 2.0;

/// What the user wants: `auto`, `off`, `zstd` or `zstd:LEVEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompress {
    /// What makes the run faster by the figures.
    #[default]
    Auto,
    /// Everything as published.
    Off,
    /// zstd of this level for every host that takes it, whatever the wait.
    Zstd(ZstdLevel),
}

/// Why something is not a [`Recompress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not auto, off, zstd or zstd:LEVEL with a level from 1 to 22")]
pub struct RecompressError(String);

/// All that the decision is made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// The layers that hosts lack, each once, by digest as published.
    pub layers: BTreeMap<Digest, LayerFigures>,
    /// The hosts that lack some.
    pub hosts: BTreeMap<HostName, HostFigures>,
    /// Bytes per second from upstream, where it was measured.
    pub uplink: Option<f64>,
    /// Cores of this machine. A single one also has to encrypt what is sent meanwhile, which goes first: then
    /// compressing is reckoned with half of it.
    pub cores: usize,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerFigures {
    /// Bytes as published.
    pub size: u64,
    /// Whether the store holds it as published.
    pub is_held: bool,
    /// Bytes of the smallest zstd form in the store, if there is one.
    pub made: Option<u64>,
    /// What making one would cost and bring; nothing where it is not known or not wanted.
    pub yields: Vec<Yield>,
    /// The hosts that lack it.
    pub wanted_by: BTreeSet<HostName>,
}

/// One host.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HostFigures {
    /// Bytes per second to it, where that was measured.
    pub rate: Option<f64>,
    /// See [`takes_zstd`].
    pub takes_zstd: bool,
}

/// How a layer travels to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// As it was published.
    AsPublished,
    /// In the zstd form that the store holds.
    Held,
    /// In a zstd form of this level, which is made first.
    Make(ZstdLevel),
}

/// When something will have arrived, in seconds from the start; `None` where a rate is not known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Prediction {
    /// With everything as published.
    pub as_published: Option<f64>,
    /// As decided.
    pub decided: Option<f64>,
}

/// What was decided, and what it is expected to bring.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// For each layer, who gets it how.
    pub routes: BTreeMap<Digest, BTreeMap<Route, BTreeSet<HostName>>>,
    /// For each host, the end of its transfers. Unpacking is the engine's and is not counted.
    pub hosts: BTreeMap<HostName, Prediction>,
    /// The last host's end, among those that can be predicted.
    pub run: Prediction,
}

/// Whether this engine can unpack layers of zstd: Docker from 23.0 on.
pub fn knows_zstd(engine: &EngineFacts) -> bool {
    let major = engine.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= FIRST_WITH_ZSTD)
}

/// Whether it then also knows the image as it would have otherwise, as the classic store does. On containerd's store the
/// image gets another name, so there it is never done unasked.
pub fn takes_zstd(engine: &EngineFacts) -> bool {
    engine.store == ImageStore::Classic && knows_zstd(engine)
}

/// Decides for every layer and host.
pub fn decide(figures: &Figures, wish: Recompress) -> Decision {
    let published = Trial::as_published(figures);
    let chosen = match wish {
        Recompress::Off => published.clone(),
        Recompress::Auto => best_trial(figures),
        Recompress::Zstd(level) => Trial::everywhere(figures, level),
    };
    let prediction = |host: &HostName| Prediction { as_published: published.end(host), decided: chosen.end(host) };
    let hosts: BTreeMap<_, _> = figures.hosts.keys().map(|host| (host.clone(), prediction(host))).collect();
    let run = Prediction { as_published: published.run(), decided: chosen.run() };
    Decision { routes: chosen.routes(), hosts, run }
}

/// For which layers it is worth finding out what compressing would bring, and how long that may take: those where a
/// host on a slow link could win seconds, and a hundredth of the time of the run at most.
pub fn worth_sampling(figures: &Figures) -> BTreeMap<Digest, Duration> {
    let total = Trial::as_published(figures).run().map_or(0.0, |run| (run * SAMPLING_PART).min(MAX_SAMPLING));
    let can_win = |layer: &LayerFigures| {
        let rates = layer.wanted_by.iter().filter_map(|host| figures.hosts.get(host)).filter(|host| host.takes_zstd);
        let gain = |rate: f64| layer.size as f64 * (1.0 - BEST_RATIO) / rate;
        let is_known = layer.is_held || figures.uplink.is_some();
        let gains = rates.filter_map(|host| host.rate).filter(|rate| *rate > 0.0).map(gain);
        is_known && layer.made.is_none() && layer.yields.is_empty() && gains.fold(0.0, f64::max) >= LEAST_GAIN
    };
    let worthy: Vec<_> = figures.layers.iter().filter(|(_, layer)| can_win(layer)).collect();
    let bytes: f64 = worthy.iter().map(|(_, layer)| layer.size as f64).sum();
    let budget = |size: u64| Duration::try_from_secs_f64(total * size as f64 / bytes).unwrap_or_default();
    worthy.into_iter().map(|(digest, layer)| (digest.clone(), budget(layer.size))).collect()
}

impl Decision {
    /// How a layer travels to a host.
    pub fn route(&self, layer: &Digest, host: &HostName) -> Route {
        let routes = self.routes.get(layer).into_iter().flatten();
        routes.into_iter().find(|(_, hosts)| hosts.contains(host)).map_or(Route::AsPublished, |(route, _)| *route)
    }

    /// The layers to be compressed first, and how.
    pub fn to_make(&self) -> BTreeMap<Digest, ZstdLevel> {
        let levels = self.routes.iter().flat_map(|(layer, routes)| routes.keys().map(move |route| (layer, route)));
        let made = levels.filter_map(|(layer, route)| match route {
            Route::Make(level) => Some((layer.clone(), *level)),
            Route::AsPublished | Route::Held => None,
        });
        made.collect()
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |seconds: Option<f64>| seconds.map_or("unknown time".into(), |seconds| format!("{seconds:.1} s"));
        write!(f, "{} as decided, {} as published", seconds(self.decided), seconds(self.as_published))
    }
}

impl FromStr for Recompress {
    type Err = RecompressError;

    fn from_str(text: &str) -> Result<Self, RecompressError> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("off", _) => Ok(Self::Off),
            (_, Ok(Compression::Zstd(level))) => Ok(Self::Zstd(level)),
            _ => Err(RecompressError(text.into())),
        }
    }
}

impl fmt::Display for Recompress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Zstd(level) => Compression::Zstd(*level).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
