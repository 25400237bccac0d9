//! By a pull: the host's own engine asks our mirror, through a port that the session forwards.

use super::{Course, unavailable};
use crate::apply::failure;
use crate::docker::Error;
use crate::host::ImageStore;
use crate::mirror::{Door, Mirror};
use crate::oci::Digest;
use crate::plan::{Failure, ImageOnHost};
use crate::probe::Connection;

/// An engine that was cut off in the middle of a pull joins the next one to what is left of the first, and both fail.
const ATTEMPTS: u32 = 3;

/// Has the engine pull the image and gives it its canonical name; returns the bytes that were handed out.
pub(super) async fn pull(course: &Course<'_>, mirror: &Mirror) -> Result<u64, Failure> {
    let Course { delivery, connection, supply, .. } = course;
    let door = mirror.door();
    let path = door.publish((*supply).clone());
    if let Some(variant) = course.variant {
        door.publish(variant.clone());
    }
    let port = connection.session.reverse(mirror.address()).await;
    let port = port.map_err(|e| Failure::new(&e, e.hint()).on(&connection.host.name))?;
    let name = format!("127.0.0.1:{port}/{path}");
    let published = delivery.image.pull_digest();
    match &delivery.travels_as {
        None => patiently(course, &name, published, &door).await?,
        Some(variant) => {
            patiently(course, &name, &variant.manifest.digest, &door).await?;
            if delivery.image.store == ImageStore::Containerd {
                // The layers are unpacked now: under the published digest nothing but documents moves.
                patiently(course, &name, published, &door).await?;
            }
        }
    }
    let pulled = match (&delivery.travels_as, delivery.image.store) {
        (Some(variant), ImageStore::Classic) => &variant.manifest.digest,
        _ => published,
    };
    settle_names(&delivery.image, &format!("{name}@{pulled}"), connection).await?;
    Ok(door.served())
}

/// Pulls by this digest, again where the engine gave up for no reason of ours.
async fn patiently(course: &Course<'_>, name: &str, digest: &Digest, door: &Door) -> Result<(), Failure> {
    let mut attempts = 1;
    while let Err(failure) = attempt(course, name, digest, door).await? {
        if attempts == ATTEMPTS {
            return Err(failure);
        }
        attempts += 1;
        tracing::debug!(host = %course.connection.host.name, "pulling again: {}", failure.message);
    }
    Ok(())
}

/// Pulls under the temporary name, telling how far it is. The inner failure is worth another attempt: the engine gave up,
/// although the mirror gave all that it was asked for.
async fn attempt(
    course: &Course<'_>,
    name: &str,
    digest: &Digest,
    door: &Door,
) -> Result<Result<(), Failure>, Failure> {
    let Course { delivery, connection, meter, .. } = course;
    let (image, quiet) = (&delivery.image, |_| ());
    let pull = connection.engine.pull(name, digest, &image.platform, &quiet);
    let result = tokio::select! {
        result = meter.during(|| door.served(), pull) => result,
        // Engines ask for a minute for a blob that cannot be had; the mirror knows better.
        cause = door.gave_up() => return Err(unavailable(&cause, connection)),
    };
    match (result, door.take_error()) {
        (Ok(()), _) => Ok(Ok(())),
        // The engine only saw its connection end; the mirror knows why.
        (Err(_), Some(cause)) => Err(unavailable(&cause, connection)),
        (Err(error @ Error::Pull { .. }), None) => Ok(Err(failure(connection, &error))),
        (Err(error), None) => Err(failure(connection, &error)),
    }
}

/// Gives the image its canonical name and removes temporary ones.
async fn settle_names(image: &ImageOnHost, pulled: &str, connection: &Connection) -> Result<(), Failure> {
    let engine = &connection.engine;
    let fail = |error| failure(connection, &error);
    engine.tag(pulled, &image.reference).await.map_err(fail)?;
    engine.untag(pulled).await.map_err(fail)?;
    sweep(image, connection).await
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
