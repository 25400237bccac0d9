//! What k3s leaves in a host's network: interfaces and iptables rules. Host networking makes them the host's own.

use std::time::Duration;

use super::{Worked, failure};
use crate::docker::OneShot;
use crate::plan::Failure;
use crate::probe::Connection;

/// Deletes only what carries k3s' names: its chains, the rules that jump to them, its interfaces.
const SCRIPT: &str = include_str!("clear-network.sh");

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the clearing on the host's network, in a container of the node's own image: the SSH user is not root.
pub(super) async fn clear(image: &str, connection: &Connection) -> Result<Worked, Failure> {
    // What a killed run had made for this, and not yet started.
    connection.engine.sweep_one_shots().await.map_err(|e| failure(connection, &e))?;
    let once = OneShot { image: image.into(), script: SCRIPT.into(), host_network: true, privileged: true };
    let (code, output) = match connection.engine.run_once(&once, DEADLINE).await {
        Ok(ended) => ended,
        // The user removed the image: the rest of the node shall go all the same.
        Err(error) if error.is_not_found() => {
            return Ok(Worked {
                subject: "network".into(),
                status: "left until a reboot: the node's image is gone",
                bytes: 0,
            });
        }
        Err(error) => return Err(failure(connection, &error)),
    };
    if code == 0 {
        return Ok(Worked { subject: "network".into(), status: "cleared", bytes: 0 });
    }
    Err(Failure {
        host: Some(connection.host.name.clone()),
        message: format!("k3s' interfaces and iptables rules could not all be removed: {}", output.trim()),
        hint: Some("run the command again; a reboot of the host removes them too".into()),
    })
}
