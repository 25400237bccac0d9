//! A plan carried out, with all that its steps need: the store, the mirror over it, and the count of what is fetched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::apply::{Applied, Goods, Journal, Workshop, apply};
use crate::host::HostName;
use crate::mirror::Mirror;
use crate::oci::Digest;
use crate::plan::{Action, Delivery, Events, Failure, Outcome, Plan, Progress, Report};
use crate::probe::Fleet;
use crate::records::Rates;
use crate::store::{Observer, Store};

use super::Environment;
use super::compression::Variants;
use super::pinning::Resolved;

/// How often it is told what has come from upstream.
const TICK: Duration = Duration::from_millis(250);

/// Where the images of a plan come from.
pub(super) struct Cargo<'a> {
    pub(super) resolved: &'a Resolved,
    /// In forms of our own.
    pub(super) variants: &'a Variants,
}

/// Carries out a plan whose images come from what was resolved.
pub(super) async fn carry_out(
    plan: &Plan,
    fleet: &Fleet,
    cargo: Cargo<'_>,
    journal: &Journal,
    environment: &Environment,
) -> Result<Report, Failure> {
    let Cargo { resolved, variants } = cargo;
    let store = Store::open(&environment.store).map_err(|e| Failure::new(&e, e.hint()))?;
    resolved.keep(&store).await?;
    let fetching = Fetching::of(plan, &store, &environment.events).map(Arc::new);
    let store = match &fetching {
        Some(fetching) => store.with_observer(fetching.observer()),
        None => store,
    };
    let mirror = Mirror::start(store.clone()).map_err(|e| Failure::new(&e, None))?;
    let supplies = resolved.published();
    let goods = Goods { mirror: &mirror, store: &store, supplies: &supplies, variants };
    let workshop = Workshop { fleet, goods: Some(&goods), events: &environment.events, journal };
    let Applied { report, rates } = apply(plan, &workshop).await;
    remember_placed(plan, &report, fleet, environment)?;
    remember(fetching.as_deref(), rates, fleet, environment);
    Ok(report)
}

/// Carries out a plan that brings no image.
pub(super) async fn carry_out_bare(plan: &Plan, fleet: &Fleet, environment: &Environment) -> Report {
    let journal = Journal::default();
    apply(plan, &Workshop { fleet, goods: None, events: &environment.events, journal: &journal }).await.report
}

/// Remembers which images this run has brought to which engine.
fn remember_placed(plan: &Plan, report: &Report, fleet: &Fleet, environment: &Environment) -> Result<(), Failure> {
    let came = |host: &HostName, delivery: &Delivery| {
        let subject = delivery.image.reference.familiar();
        let same = |outcome: &&Outcome| outcome.host == *host && outcome.subject == subject;
        report.outcomes.iter().filter(same).any(|outcome| outcome.failure.is_none())
    };
    let mut by_host: BTreeMap<&HostName, Vec<&Delivery>> = BTreeMap::new();
    for step in plan.steps() {
        if let Action::Prewarm(delivery) = &step.action
            && came(&step.host, delivery)
        {
            by_host.entry(&step.host).or_default().push(delivery);
        }
    }
    let records = &environment.records;
    for (host, deliveries) in by_host {
        let Some(connection) = fleet.get(host) else { continue };
        let destination = &connection.host.destination;
        let mut placed = records.placed(destination).unwrap_or_default();
        placed.extend(deliveries.iter().map(|one| (one.image.reference.clone(), one.image.id().clone())));
        records.set_placed(destination, placed).map_err(|e| Failure::new(&e, None))?;
    }
    Ok(())
}

/// Remembers how fast the links were. Where blobs had to be fetched first, hosts may have waited for them: then only the
/// uplink's rate says something.
fn remember(fetching: Option<&Fetching>, hosts: BTreeMap<HostName, f64>, fleet: &Fleet, environment: &Environment) {
    let of_host = |(host, rate): (HostName, f64)| Some((fleet.get(&host)?.host.destination.to_string(), rate));
    let measured = match fetching {
        Some(fetching) => Rates { uplink: fetching.rate(), hosts: BTreeMap::new() },
        None => Rates { uplink: None, hosts: hosts.into_iter().filter_map(of_host).collect() },
    };
    if measured != Rates::default()
        && let Err(error) = environment.records.remember_rates(measured)
    {
        tracing::debug!(%error, "the links' rates are not remembered");
    }
}

/// What comes from upstream in this run: every blob once, whatever the number of hosts.
struct Fetching {
    events: Events,
    /// The blobs and their sizes.
    wanted: BTreeMap<Digest, u64>,
    total: u64,
    arrived: Mutex<(BTreeMap<Digest, u64>, Option<Instant>)>,
    /// When the first bytes came and how many had come by then; when the last did.
    pace: Mutex<Option<[(Instant, u64); 2]>>,
}

/// What comes in less time says nothing about the uplink.
const LEAST: Duration = Duration::from_secs(3);

impl Fetching {
    /// `None` if nothing has to be fetched.
    fn of(plan: &Plan, store: &Store, events: &Events) -> Option<Self> {
        let wanted: BTreeMap<Digest, u64> = plan
            .steps()
            .flat_map(|step| step.action.travelling_layers())
            .filter(|blob| !store.has(blob))
            .map(|blob| (blob.digest.clone(), blob.size))
            .collect();
        let total = wanted.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
        (total > 0).then(|| {
            events.overall(Progress::Bytes { done: 0, total });
            Self { events: events.clone(), wanted, total, arrived: Mutex::default(), pace: Mutex::default() }
        })
    }

    fn observer(self: &Arc<Self>) -> Observer {
        let shared = self.clone();
        Arc::new(move |digest, written| shared.arrived(digest, written))
    }

    /// Bytes per second from upstream, if enough came to tell.
    fn rate(&self) -> Option<f64> {
        let [(began, from), (ended, to)] = (*self.pace.lock().unwrap_or_else(PoisonError::into_inner))?;
        let time = ended.duration_since(began);
        (time >= LEAST).then(|| to.saturating_sub(from) as f64 / time.as_secs_f64())
    }

    fn arrived(&self, digest: &Digest, written: u64) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let (blobs, told) = &mut *arrived;
        blobs.insert(digest.clone(), written);
        let done = blobs.values().fold(0, |sum: u64, written| sum.saturating_add(*written)).min(self.total);
        let now = (Instant::now(), done);
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        *pace = Some([pace.map_or(now, |[first, _]| first), now]);
        drop(pace);
        if self.wanted.get(digest) == Some(&written) || told.is_none_or(|told| told.elapsed() >= TICK) {
            *told = Some(Instant::now());
            self.events.overall(Progress::Bytes { done, total: self.total });
        }
    }
}
