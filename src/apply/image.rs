//! One image onto one host: pulled by the host's own engine, from our mirror, through the session.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{Worked, Workshop, failure};
use crate::docker::Error;
use crate::mirror::Door;
use crate::plan::{Failure, ImageOnHost, Progress};
use crate::probe::{Connection, held_as_named};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);
/// An engine that was cut off in the middle of a pull joins the next one to what is left of the first, and both fail.
const ATTEMPTS: u32 = 3;

pub(super) async fn prewarm(
    image: &ImageOnHost,
    connection: &Connection,
    workshop: &Workshop<'_>,
) -> Result<Worked, Failure> {
    let host = &connection.host.name;
    let missing =
        || Failure { host: Some(host.clone()), message: format!("nothing supplies {}", image.reference), hint: None };
    let mirror = workshop.mirror.ok_or_else(missing)?;
    let supply = workshop.supplies.get(&image.reference.to_string()).ok_or_else(missing)?;
    let familiar = image.reference.familiar();
    workshop.events.on(host, Progress::Started { what: format!("pulling {familiar}") });

    let door = mirror.door();
    let path = door.publish(supply.clone());
    let port = connection.session.reverse(mirror.address()).await;
    let port = port.map_err(|e| Failure::new(&e, e.hint()).on(host))?;
    let name = format!("127.0.0.1:{port}/{path}");
    let mut attempts = 1;
    while let Err(failure) = pull(image, &name, connection, workshop, &door).await? {
        if attempts == ATTEMPTS {
            return Err(failure);
        }
        attempts += 1;
        tracing::debug!(host = %connection.host.name, "pulling again: {}", failure.message);
    }
    settle_names(image, &name, connection).await?;
    Ok(Worked { subject: familiar, status: "pulled", bytes: door.served() })
}

/// Pulls under the temporary name, telling how far it is. The inner failure is worth another attempt: the engine gave up,
/// although the mirror gave all that it was asked for.
async fn pull(
    image: &ImageOnHost,
    name: &str,
    connection: &Connection,
    workshop: &Workshop<'_>,
    door: &Door,
) -> Result<Result<(), Failure>, Failure> {
    let quiet = |_| ();
    let pull = connection.engine.pull(name, image.pull_digest(), &image.platform, &quiet);
    let mut pull = std::pin::pin!(pull);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let total = image.image.compressed_size;
    let result = loop {
        tokio::select! {
            result = &mut pull => break result,
            // Engines ask for a minute for a blob that cannot be had; the mirror knows better.
            cause = door.gave_up() => return Err(unavailable(&cause, connection)),
            _ = ticks.tick() => {
                let done = door.served().min(total);
                workshop.events.on(&connection.host.name, Progress::Bytes { done, total });
            }
        }
    };
    match (result, door.take_error()) {
        (Ok(()), _) => Ok(Ok(())),
        // The engine only saw its connection end; the mirror knows why.
        (Err(_), Some(cause)) => Err(unavailable(&cause, connection)),
        (Err(error @ Error::Pull { .. }), None) => Ok(Err(failure(connection, &error))),
        (Err(error), None) => Err(failure(connection, &error)),
    }
}

/// A blob could not be had from the registry or kept in the store.
fn unavailable(cause: &crate::store::Error, connection: &Connection) -> Failure {
    let registry = cause.upstream().and_then(|error| error.downcast_ref::<crate::registry::Error>());
    let hint = cause.hint().or_else(|| registry.and_then(|error| error.hint()));
    Failure::new(cause, hint).on(&connection.host.name)
}

/// Gives the image its canonical name, checks that the engine holds what was resolved, and removes temporary names.
async fn settle_names(image: &ImageOnHost, name: &str, connection: &Connection) -> Result<(), Failure> {
    let engine = &connection.engine;
    let fail = |error| failure(connection, &error);
    let pulled = format!("{name}@{}", image.pull_digest());
    engine.tag(&pulled, &image.reference).await.map_err(fail)?;
    let held = held_as_named(connection, image).await?;
    engine.untag(&pulled).await.map_err(fail)?;
    sweep(image, connection).await?;
    if held.as_ref() == Some(image.id()) {
        return Ok(());
    }
    Err(Failure {
        host: Some(connection.host.name.clone()),
        message: format!(
            "after the pull the engine holds {} as {}, not {}",
            held.map_or("nothing".to_string(), |id| id.to_string()),
            image.reference.familiar(),
            image.id()
        ),
        hint: Some("another program may have changed the tag meanwhile: run the command again".into()),
    })
}

/// Temporary names of this repository that a killed run left. The canonical name holds the image by now.
async fn sweep(image: &ImageOnHost, connection: &Connection) -> Result<(), Failure> {
    let fail = |error| failure(connection, &error);
    let repository = format!("/{}", image.reference.repository());
    for name in connection.engine.temporary_names().await.map_err(fail)? {
        let path = name.split_once('@').map_or(name.as_str(), |(path, _)| path);
        if path.ends_with(&repository) {
            connection.engine.untag(&name).await.map_err(fail)?;
        }
    }
    Ok(())
}
