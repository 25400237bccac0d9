//! By a load: one archive through the engine's socket, for engines that cannot pull from us.
//!
//! The archive is an image layout and a `docker save` in one, so both image stores take it. What the engine holds is left
//! out; where it then does not hold the image after all, everything is sent.

use std::collections::BTreeSet;

use super::Course;
use crate::apply::sending::{self, Sent};
use crate::apply::{Goods, packing};
use crate::archive::Form;
use crate::docker::Error;
use crate::oci::Digest;
use crate::plan::Failure;
use crate::probe::held_as_named;

/// Sends the image, in full if need be; returns the bytes that were sent.
pub(super) async fn load(course: &Course<'_>, goods: &Goods<'_>) -> Result<u64, Failure> {
    let Course { delivery, connection, .. } = course;
    let layers = &delivery.image.image.layers;
    let held = layers.iter().take(delivery.held_layers).map(|layer| layer.digest.clone());
    // A layer may stand twice in an image, below what is held and above it.
    let missing: BTreeSet<&Digest> = delivery.missing_layers().iter().map(|layer| &layer.digest).collect();
    let left_out: BTreeSet<Digest> = held.filter(|digest| !missing.contains(digest)).collect();
    let sent = Sent::default();
    let is_partial = !left_out.is_empty();
    match attempt(course, left_out, &sent, goods).await {
        Ok(()) if !is_partial => return Ok(sent.bytes()),
        Ok(()) if held_as_named(connection, &delivery.image).await?.is_some() => return Ok(sent.bytes()),
        Err(Refused::Elsewhere(failure)) => return Err(failure),
        Err(Refused::ByEngine(failure)) if !is_partial => return Err(failure),
        _ => tracing::debug!(host = %connection.host.name, "the engine wants all layers"),
    }
    match attempt(course, BTreeSet::new(), &sent, goods).await {
        Ok(()) => Ok(sent.bytes()),
        Err(Refused::ByEngine(failure) | Refused::Elsewhere(failure)) => Err(failure),
    }
}

/// Why a load did not come to its end.
enum Refused {
    /// The engine did not like the archive; it may like a fuller one.
    ByEngine(Failure),
    /// Anything else.
    Elsewhere(Failure),
}

async fn attempt(
    course: &Course<'_>,
    left_out: BTreeSet<Digest>,
    sent: &Sent,
    goods: &Goods<'_>,
) -> Result<(), Refused> {
    let Course { delivery, connection, meter, .. } = course;
    let contents = packing::contents([&delivery.image], left_out, goods).await.map_err(Refused::Elsewhere)?;
    let packed = contents.pack(Form::Hybrid);
    let packed = packed.map_err(|e| Refused::Elsewhere(Failure::new(&e, e.hint()).on(&connection.host.name)))?;
    let quiet = |_| ();
    let tar = sent.counting(packed.stream(goods.store));
    let loaded = meter.during(|| sent.bytes(), connection.engine.load(tar, &quiet)).await;
    loaded.map_err(|error| {
        let failure = sending::failure(&error, connection);
        if matches!(error, Error::Load { .. }) { Refused::ByEngine(failure) } else { Refused::Elsewhere(failure) }
    })
}
