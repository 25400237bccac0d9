//! One way to send everything, and when it would be done.
//!
//! For a host, the bytes on its link by the link's rate, and the bytes still to be fetched for it by the uplink's, run
//! beside each other; whichever takes longer counts. What is made first puts a wait before that: all that is to be fetched
//! by the rate of the uplink, then all that is to be compressed, one after the other. That is more than it will be, and
//! what it is compared with is less: errors are on the side of leaving layers as they are.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::HostName;
use crate::oci::{Digest, Yield, ZstdLevel};

use super::{Figures, HostFigures, LayerFigures, Route};

/// How much more than the wait the links must save.
const MARGIN: f64 = 1.2;

/// A form that is less than 2 % smaller is not kept when it is made.
const WORTH: f64 = 0.98;

/// What one core leaves to compressing while it also fetches and sends.
const PART_OF_ONE_CORE: f64 = 0.5;

#[derive(Debug, Clone)]
pub(super) struct Trial<'a> {
    figures: &'a Figures,
    /// Whether forms in the store are used.
    uses_held: bool,
    /// What is made, for whom, and the seconds before it is there.
    made: BTreeMap<&'a Digest, ZstdLevel>,
    group: BTreeSet<&'a HostName>,
    wait: Option<f64>,
}

impl<'a> Trial<'a> {
    pub(super) fn as_published(figures: &'a Figures) -> Self {
        Self { figures, uses_held: false, made: BTreeMap::new(), group: BTreeSet::new(), wait: Some(0.0) }
    }

    fn as_held(figures: &'a Figures) -> Self {
        Self { uses_held: true, ..Self::as_published(figures) }
    }

    /// zstd for everyone who takes it.
    pub(super) fn everywhere(figures: &'a Figures, level: ZstdLevel) -> Self {
        let group: BTreeSet<_> =
            figures.hosts.iter().filter(|(_, host)| host.takes_zstd).map(|(name, _)| name).collect();
        let is_wanted = |layer: &LayerFigures| layer.wanted_by.iter().any(|host| group.contains(host));
        let layers = figures.layers.iter().filter(|(_, layer)| is_wanted(layer) && held_size(layer).is_none());
        let made = layers.map(|(digest, _)| (digest, level)).collect();
        Self { made, group, ..Self::as_held(figures) }.with_wait()
    }

    /// As it is held, but `made` is made for those hosts of `candidates` that clearly win by it.
    fn made_for(self, made: BTreeMap<&'a Digest, ZstdLevel>, candidates: &[&'a HostName]) -> Self {
        let all = Self { made, group: candidates.iter().copied().collect(), ..self.clone() }.with_wait();
        let wins = |host: &&&HostName| {
            let gain = |wait: f64| self.end(host).zip(all.moved(host)).map(|(now, then)| now - then >= wait * MARGIN);
            all.gets_made(host) && all.wait.and_then(gain).unwrap_or(false)
        };
        let group: BTreeSet<_> = candidates.iter().filter(wins).copied().collect();
        let is_wanted = |layer: &Digest| {
            self.figures.layers.get(layer).is_some_and(|one| group.iter().any(|h| one.wanted_by.contains(*h)))
        };
        let made =
            all.made.iter().filter(|(layer, _)| is_wanted(layer)).map(|(layer, level)| (*layer, *level)).collect();
        // Those who do not win no longer delay the others.
        Self { made, group, ..self }.with_wait()
    }

    fn with_wait(mut self) -> Self {
        self.wait = self.time_to_make();
        self
    }

    /// Seconds until everything is made; `None` where a figure is missing.
    fn time_to_make(&self) -> Option<f64> {
        let cores = if self.figures.cores <= 1 { PART_OF_ONE_CORE } else { 1.0 };
        let layers = self.made.iter().filter_map(|(digest, level)| Some((self.figures.layers.get(*digest)?, *level)));
        let compressing =
            layers.clone().map(|(layer, level)| Some(layer.size as f64 / (known(layer, level)?.rate * cores)));
        let compressing = compressing.sum::<Option<f64>>()?;
        let needs_fetch = layers.into_iter().any(|(layer, _)| !layer.is_held);
        // The uplink is everybody's: other layers may come first.
        let all = self.figures.layers.values().filter(|layer| !layer.is_held).map(|layer| layer.size as f64).sum();
        let fetching = if needs_fetch { time(all, self.figures.uplink)? } else { 0.0 };
        Some(fetching + compressing)
    }

    fn route(&self, digest: &Digest, layer: &LayerFigures, name: &HostName) -> Route {
        if !self.uses_held || !self.figures.hosts.get(name).is_some_and(|host| host.takes_zstd) {
            return Route::AsPublished;
        }
        match (held_size(layer), self.made.get(digest)) {
            (Some(_), _) => Route::Held,
            (None, Some(level)) if self.group.contains(name) => Route::Make(*level),
            _ => Route::AsPublished,
        }
    }

    pub(super) fn routes(&self) -> BTreeMap<Digest, BTreeMap<Route, BTreeSet<HostName>>> {
        let of_layer = |digest: &Digest, layer: &LayerFigures| {
            let mut routes: BTreeMap<Route, BTreeSet<HostName>> = BTreeMap::new();
            for host in &layer.wanted_by {
                routes.entry(self.route(digest, layer, host)).or_default().insert(host.clone());
            }
            routes
        };
        self.figures.layers.iter().map(|(digest, layer)| (digest.clone(), of_layer(digest, layer))).collect()
    }

    fn gets_made(&self, host: &HostName) -> bool {
        let wanted =
            |digest: &&Digest| self.figures.layers.get(*digest).is_some_and(|one| one.wanted_by.contains(host));
        self.group.contains(host) && self.made.keys().any(wanted)
    }

    /// Seconds that a host's transfers take once they can begin; `None` where a rate is missing.
    fn moved(&self, name: &HostName) -> Option<f64> {
        let (mut sent, mut fetched) = (0.0, 0.0);
        for (digest, layer) in self.figures.layers.iter().filter(|(_, layer)| layer.wanted_by.contains(name)) {
            let route = self.route(digest, layer, name);
            sent += match route {
                Route::AsPublished => layer.size as f64,
                Route::Held => held_size(layer)? as f64,
                Route::Make(level) => (layer.size as f64 * known(layer, level)?.ratio).ceil().min(layer.size as f64),
            };
            if route == Route::AsPublished && !layer.is_held {
                fetched += layer.size as f64;
            }
        }
        let rate = self.figures.hosts.get(name)?.rate;
        Some(time(sent, rate)?.max(time(fetched, self.figures.uplink)?))
    }

    /// Seconds until a host has all.
    pub(super) fn end(&self, host: &HostName) -> Option<f64> {
        let wait = if self.gets_made(host) { self.wait? } else { 0.0 };
        Some(wait + self.moved(host)?)
    }

    /// Seconds until every host has all, of those that can be predicted.
    pub(super) fn run(&self) -> Option<f64> {
        self.figures.hosts.keys().filter_map(|host| self.end(host)).reduce(f64::max)
    }

    /// To be compared: the end of the run first, then that of each host.
    fn cost(&self) -> (f64, f64) {
        let ends = self.figures.hosts.keys().filter_map(|host| self.end(host));
        (self.run().unwrap_or(0.0), ends.sum())
    }
}

/// The best of: nothing is made; or, at each level, what the slowest host wants, what the two slowest want, and so on.
pub(super) fn best_trial(figures: &Figures) -> Trial<'_> {
    let held = Trial::as_held(figures);
    let takes = |(_, host): &(&HostName, &HostFigures)| host.takes_zstd && host.rate.is_some();
    let slowest_last = figures.hosts.iter().filter(takes).filter_map(|(name, _)| Some((held.end(name)?, name)));
    let mut candidates: Vec<(f64, &HostName)> = slowest_last.collect();
    candidates.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let hosts: Vec<&HostName> = candidates.into_iter().map(|(_, name)| name).collect();
    let levels: BTreeSet<ZstdLevel> =
        figures.layers.values().flat_map(|layer| layer.yields.iter().map(|one| one.level)).collect();
    let mut best = held.clone();
    for level in levels {
        for count in 1..=hosts.len() {
            let made = promising(figures, level, &hosts[..count]);
            let trial = held.clone().made_for(made, &hosts);
            let (now, then) = (best.cost(), trial.cost());
            // Work that lets the run end no earlier is not done, whomever it would please.
            if then.0 < now.0 || (then.0 == now.0 && then.1 < now.1 && !best.made.is_empty()) {
                best = trial;
            }
        }
    }
    best
}

/// The layers that one of these hosts wants and that, by themselves, save more on its link than they cost.
fn promising<'a>(figures: &'a Figures, level: ZstdLevel, hosts: &[&HostName]) -> BTreeMap<&'a Digest, ZstdLevel> {
    let is_promising = |layer: &LayerFigures| {
        let Some(known) = known(layer, level).filter(|known| known.ratio <= WORTH) else { return false };
        let rates = hosts
            .iter()
            .filter(|host| layer.wanted_by.contains(**host))
            .filter_map(|host| figures.hosts.get(*host)?.rate);
        let slowest = rates.fold(f64::INFINITY, f64::min);
        held_size(layer).is_none() && (1.0 - known.ratio) / slowest >= MARGIN / known.rate
    };
    figures.layers.iter().filter(|(_, layer)| is_promising(layer)).map(|(digest, _)| (digest, level)).collect()
}

/// A smaller form in the store.
fn held_size(layer: &LayerFigures) -> Option<u64> {
    layer.made.filter(|made| *made < layer.size)
}

/// What is known of a level, if it makes sense.
fn known(layer: &LayerFigures, level: ZstdLevel) -> Option<&Yield> {
    let is_sound = |one: &&Yield| one.rate > 0.0 && one.ratio > 0.0 && one.rate.is_finite() && one.ratio.is_finite();
    layer.yields.iter().filter(is_sound).find(|one| one.level == level)
}

/// Seconds for so many bytes; none take none at whatever rate.
fn time(bytes: f64, rate: Option<f64>) -> Option<f64> {
    if bytes == 0.0 {
        return Some(0.0);
    }
    rate.filter(|rate| *rate > 0.0 && rate.is_finite()).map(|rate| bytes / rate)
}
