//! One image onto one host, by either way; whichever it was, the engine then holds exactly what was resolved.

mod load;
mod pull;

use super::meter::Meter;
use super::{Worked, Workshop};
use crate::mirror::Published;
use crate::plan::{Delivery, Failure, ImageOnHost, Progress, Via};
use crate::probe::{Connection, held_as_named};

/// An image, where it goes, and what it is taken from.
struct Course<'a> {
    delivery: &'a Delivery,
    connection: &'a Connection,
    supply: &'a Published,
    /// The form in which it travels, if that is not the published one.
    variant: Option<&'a Published>,
    meter: &'a Meter<'a>,
}

pub(super) async fn prewarm(
    delivery: &Delivery,
    connection: &Connection,
    workshop: &Workshop<'_>,
    meter: &Meter<'_>,
) -> Result<Worked, Failure> {
    let (image, host) = (&delivery.image, &connection.host.name);
    let goods = workshop.goods()?;
    let supply = goods.supply(image)?;
    let (familiar, via) = (image.reference.familiar(), delivery.via);
    let doing = match via {
        Via::Pull => "pulling",
        Via::Load => "loading",
    };
    workshop.events.on(host, Progress::Started { what: format!("{doing} {familiar}") });
    let variant = delivery.travels_as.as_ref().and_then(|image| goods.variants.get(&image.manifest.digest));
    let course = Course { delivery, connection, supply, variant, meter };
    let bytes = match via {
        Via::Pull => pull::pull(&course, goods.mirror).await?,
        Via::Load => load::load(&course, goods).await?,
    };
    check(image, connection).await?;
    connection.flush().await;
    Ok(Worked { subject: familiar, status: if via == Via::Pull { "pulled" } else { "loaded" }, bytes })
}

/// Whether the engine holds what was resolved under its canonical name.
async fn check(image: &ImageOnHost, connection: &Connection) -> Result<(), Failure> {
    let held = held_as_named(connection, image).await?;
    if held.as_ref() == Some(image.id()) {
        return Ok(());
    }
    Err(Failure {
        host: Some(connection.host.name.clone()),
        message: format!(
            "after the transfer the engine holds {} as {}, not {}",
            held.map_or("nothing".to_string(), |id| id.to_string()),
            image.reference.familiar(),
            image.id()
        ),
        hint: Some("another program may have changed the tag meanwhile: run the command again".into()),
    })
}

/// A blob could not be had from the registry or kept in the store.
pub(super) fn unavailable(cause: &crate::store::Error, connection: &Connection) -> Failure {
    let registry = cause.upstream().and_then(|error| error.downcast_ref::<crate::registry::Error>());
    let hint = cause.hint().or_else(|| registry.and_then(|error| error.hint()));
    Failure::new(cause, hint).on(&connection.host.name)
}
