//! Images for a node's own containerd: one archive in the folder from which k3s imports before its kubelet starts.

use std::collections::BTreeSet;
use std::time::Duration;

use super::meter::Meter;
use super::sending::{self, Sent};
use super::{Worked, Workshop, failure, packing};
use crate::archive::{Form, Wrapping};
use crate::cluster::names::IMAGES_PATH;
use crate::docker::HolderSpec;
use crate::oci::Reference;
use crate::plan::{Failure, ImageOnHost, Placement, Progress};
use crate::probe::Connection;

/// Where k3s looks for archives.
const ARCHIVE: &str = "var/lib/rancher/k3s/agent/images/k3arm.tar";
/// What k3s remembers of archives that it has imported; it does so only where this file was there before.
const IMPORTED: &str = "var/lib/rancher/k3s/agent/images/.cache.json";

/// How long a node may take to label its images and to remove a file: each start of its 200 MB program takes seconds on a
/// small board.
const KEEP: Duration = Duration::from_secs(600);

/// k3s unpins what it has pinned itself when the archive is gone; what carries containerd's own mark alone it leaves.
const KEEP_SCRIPT: &str = include_str!("keep-images.sh");

/// Fills a holder. It has its final name only when everything is in it; what a cut run leaves has another one.
pub(super) async fn place_ahead(
    placement: &Placement,
    connection: &Connection,
    workshop: &Workshop<'_>,
    meter: &Meter<'_>,
) -> Result<Worked, Failure> {
    let fail = |error| failure(connection, &error);
    let (engine, host, name) = (&connection.engine, &connection.host.name, &placement.name);
    workshop.events.on(host, Progress::Started { what: format!("placing {} images", placement.images.len()) });
    let filling = format!("{name}-filling");
    workshop.journal.filling(host, &filling, name);
    let holder = HolderSpec {
        name: filling.clone(),
        image: placement.holder_image.clone(),
        volumes: [(IMAGES_PATH.to_string(), name.clone())].into(),
        labels: placement.labels.clone(),
    };
    let id = engine.create_holder(&holder).await.map_err(fail)?;
    let bytes = place(&placement.images, &id, connection, workshop, meter).await?;
    connection.flush().await;
    engine.rename(&id, name).await.map_err(fail)?;
    workshop.journal.filled(host, &filling);
    Ok(Worked { subject: name.clone(), status: "placed", bytes })
}

/// Puts the archive into a container, which need not have been started; returns the bytes that were sent.
pub(super) async fn place(
    images: &[ImageOnHost],
    container: &str,
    connection: &Connection,
    workshop: &Workshop<'_>,
    meter: &Meter<'_>,
) -> Result<u64, Failure> {
    let here = |e: crate::archive::Error| Failure::new(&e, e.hint()).on(&connection.host.name);
    let goods = workshop.goods()?;
    let packed = packing::contents(images, BTreeSet::new(), goods).await?.pack(Form::Layout).map_err(here)?;
    let wrapping = Wrapping::new().file(IMPORTED, 0o644, b"{}").map_err(here)?;
    let wrapped = wrapping.around(ARCHIVE, 0o644, packed.size()).map_err(here)?;
    let sent = Sent::default();
    let tar = sent.counting(wrapped.stream(packed.stream(goods.store)));
    let placed = meter.during(|| sent.bytes(), connection.engine.put_archive(container, tar)).await;
    placed.map_err(|error| sending::failure(&error, connection))?;
    Ok(sent.bytes())
}

/// Pins the images that the node has imported, as k3s pins those of its archives, and removes the archive: an SD card has
/// no room for a second copy.
pub(super) async fn keep(
    container: &str,
    images: &[Reference],
    connection: &Connection,
    workshop: &Workshop<'_>,
) -> Result<Worked, Failure> {
    let fail = |error| failure(connection, &error);
    let host = &connection.host.name;
    workshop.events.on(host, Progress::Started { what: format!("pinning {} images", images.len()) });
    let names = images.iter().map(|image| format!("'{}'", image.on_engine())).collect::<Vec<_>>().join(" ");
    let script = KEEP_SCRIPT.replace("@IMAGES@", &names);
    let ran = connection.engine.exec(container, &["/bin/sh", "-c", &script], KEEP).await;
    match ran.map_err(fail)? {
        (0, _) => {
            connection.flush().await;
            Ok(Worked { subject: format!("{} images", images.len()), status: "kept", bytes: 0 })
        }
        (_, output) => Err(Failure {
            host: Some(host.clone()),
            message: format!(
                "the node's images could not be pinned: {}",
                output.lines().last().unwrap_or("no reason given")
            ),
            hint: Some(
                "the cluster works; the archive of its images stays in the node and takes its place twice".into(),
            ),
        }),
    }
}
