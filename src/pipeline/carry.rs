//! A plan carried out, with all that its steps need: the store, the mirror over it, and the count of what is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::apply::{Journal, Workshop, apply};
use crate::mirror::Mirror;
use crate::oci::{Descriptor, Digest};
use crate::plan::{Action, Events, Failure, Plan, Progress, Report};
use crate::probe::Fleet;
use crate::store::{Observer, Store};

use super::Environment;
use super::pinning::Resolved;

/// How often it is told what has come from upstream.
const TICK: Duration = Duration::from_millis(250);

/// Carries out a plan whose images come from what was resolved.
pub(super) async fn carry_out(
    plan: &Plan,
    fleet: &Fleet,
    resolved: &Resolved,
    journal: &Journal,
    environment: &Environment,
) -> Result<Report, Failure> {
    let store = Store::open(&environment.store).map_err(|e| Failure::new(&e, e.hint()))?;
    resolved.keep(&store).await?;
    let store = match Fetching::of(plan, &store, &environment.events) {
        Some(fetching) => store.with_observer(fetching.observer()),
        None => store,
    };
    let mirror = Mirror::start(store.clone()).map_err(|e| Failure::new(&e, None))?;
    let supplies = resolved.published();
    let workshop =
        Workshop { fleet, mirror: Some(&mirror), store: Some(&store), supplies: &supplies, events: &environment.events, journal };
    Ok(apply(plan, &workshop).await)
}

/// What comes from upstream in this run: every blob once, whatever the number of hosts.
struct Fetching {
    events: Events,
    total: u64,
    arrived: Mutex<(BTreeMap<Digest, u64>, Option<Instant>)>,
}

impl Fetching {
    /// `None` if nothing has to be fetched.
    fn of(plan: &Plan, store: &Store, events: &Events) -> Option<Self> {
        let wanted: BTreeSet<(&Digest, u64)> = plan
            .steps()
            .flat_map(|step| travelling(&step.action))
            .filter(|blob| !store.has(blob))
            .map(|blob| (&blob.digest, blob.size))
            .collect();
        let total = wanted.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
        (total > 0).then(|| {
            events.overall(Progress::Bytes { done: 0, total });
            Self { events: events.clone(), total, arrived: Mutex::default() }
        })
    }

    fn observer(self) -> Observer {
        let shared = Arc::new(self);
        Arc::new(move |digest, written| shared.arrived(digest, written))
    }

    fn arrived(&self, digest: &Digest, written: u64) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let (blobs, told) = &mut *arrived;
        blobs.insert(digest.clone(), written);
        let done = blobs.values().fold(0, |sum: u64, written| sum.saturating_add(*written)).min(self.total);
        if done == self.total || told.is_none_or(|told| told.elapsed() >= TICK) {
            *told = Some(Instant::now());
            self.events.overall(Progress::Bytes { done, total: self.total });
        }
    }
}

/// Layers that a step sends to its host.
fn travelling(action: &Action) -> Vec<&Descriptor> {
    match action {
        Action::Prewarm(delivery) => delivery.missing_layers().iter().collect(),
        Action::CreateNode(node) => node.images.iter().flat_map(|image| &image.image.layers).collect(),
        _ => Vec::new(),
    }
}
