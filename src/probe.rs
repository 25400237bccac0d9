//! Host → Facts: connects, reads everything that planning may use, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::docker::{Engine, Expected, Holder};
use crate::host::{
    EngineSocket, Facts, HolderFacts, Host, HostName, ImageStore, MachineFacts, disk_script, machine_script,
    parse_disk, parse_machine,
};
use crate::oci::Digest;
use crate::plan::{Failure, ImageOnHost};
use crate::ssh::{Limits, Options, Session};

/// A script of a few file reads; a busy Pi may take seconds for it.
const LIMITS: Limits = Limits { output: 256 << 10, time: Duration::from_secs(30) };

/// A host that answers: its one session, and its engine behind it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The host.
    pub host: Host,
    /// The session that everything goes through.
    pub session: Session,
    /// The engine, behind a socket that the session forwards.
    pub engine: Engine,
}

/// How long a host may take to write to its disk what it holds in memory: a slow SD card and all of a board's memory.
const FLUSH: Limits = Limits { output: 4 << 10, time: Duration::from_secs(120) };

impl Connection {
    /// Has the host write to its disk what it still holds in memory. Engines do not: after a power cut, images and files that
    /// they had reported as done can be empty, and they do not notice. A host that cannot do it is as safe as it was before.
    pub async fn flush(&self) {
        if let Err(error) = self.session.run("sync", None, FLUSH).await {
            tracing::debug!(host = %self.host.name, %error, "not flushed to the disk");
        }
    }
}

/// The hosts that answer, by name.
pub type Fleet = BTreeMap<HostName, Connection>;

/// Connects to a host and reads its facts.
///
/// # Errors
/// A [`Failure`] that names the host, what stands in the way, and what to do about it.
pub async fn probe(host: &Host, options: &Options) -> Result<(Connection, Facts), Failure> {
    let session = Session::connect(host, options).await.map_err(|e| Failure::new(&e, e.hint()).on(&host.name))?;
    let (machine, socket) = machine(host, &session).await?;
    let engine = engine(host, &session, socket).await?;
    let facts = facts(host, &session, &engine, machine).await?;
    Ok((Connection { host: host.clone(), session, engine }, facts))
}

async fn machine(host: &Host, session: &Session) -> Result<(MachineFacts, EngineSocket), Failure> {
    let run = session.run(machine_script(), None, LIMITS).await;
    let output = run.map_err(|e| Failure::new(&e, e.hint()).on(&host.name))?;
    parse_machine(&output.stdout, SystemTime::now()).map_err(|e| Failure::new(&e, None).on(&host.name))
}

async fn engine(host: &Host, session: &Session, socket: EngineSocket) -> Result<Engine, Failure> {
    let failure = |message: String, hint: String| Failure { host: Some(host.name.clone()), message, hint: Some(hint) };
    let path = match socket {
        EngineSocket::Ready(path) => path,
        EngineSocket::Denied { path, user } => {
            return Err(failure(
                format!("user {user} may not use Docker: {path} is not writable for it"),
                format!(
                    "on the host: `sudo usermod -aG docker {user}`, then run this again (a new login picks the group up)"
                ),
            ));
        }
        EngineSocket::Missing { path } => {
            return Err(failure(
                format!("no Docker engine: there is no socket {path}"),
                "on the host: `sudo systemctl start docker`, or install it first (`sudo apt install docker.io`)".into(),
            ));
        }
    };
    let forwarded = session.forward_socket(&path).await.map_err(|e| Failure::new(&e, e.hint()).on(&host.name))?;
    Engine::connect(&forwarded).await.map_err(|e| Failure::new(&e, e.hint()).on(&host.name))
}

async fn facts(host: &Host, session: &Session, engine: &Engine, mut machine: MachineFacts) -> Result<Facts, Failure> {
    let asked = tokio::try_join!(engine.facts(), engine.nodes(), engine.volumes(), engine.holders());
    let (mut engine, nodes, volumes, holders) = asked.map_err(|e| Failure::new(&e, e.hint()).on(&host.name))?;
    machine.forget_k3s_in(nodes.iter().map(|node| node.id.as_str()));
    engine.disk_free = disk_free(session, &engine.root_dir).await;
    Ok(Facts {
        machine,
        engine,
        nodes,
        volumes,
        images: BTreeMap::new(),
        layers: Default::default(),
        can_reverse: None,
        holders: holders.into_iter().map(holder_facts).collect(),
    })
}

fn holder_facts(holder: Holder) -> HolderFacts {
    let Holder { id, name, labels, volumes } = holder;
    HolderFacts { id, name, labels, volumes: volumes.into_values().collect() }
}

/// Bytes free where the engine keeps its data; `None` where that cannot be read.
async fn disk_free(session: &Session, root: &str) -> Option<u64> {
    let output = session.run(&disk_script(root), None, LIMITS).await.ok()?;
    parse_disk(&output.stdout).ok()?
}

/// What the engine is asked about an image.
fn expected(image: &ImageOnHost) -> Expected {
    Expected {
        reference: image.reference.clone(),
        index: image.index.clone(),
        manifest: image.image.manifest.digest.clone(),
        config: image.image.config.digest.clone(),
    }
}

/// The ID of this image if the engine holds all of it and its canonical name means it.
///
/// # Errors
/// The engine did not answer.
pub async fn held_as_named(connection: &Connection, image: &ImageOnHost) -> Result<Option<Digest>, Failure> {
    let fail = |e: crate::docker::Error| Failure::new(&e, e.hint()).on(&connection.host.name);
    let Some(named) = connection.engine.image(&image.reference).await.map_err(fail)? else { return Ok(None) };
    let expected = expected(image);
    let mut held = connection.engine.holds(&expected).await.map_err(fail)?;
    if held.is_none() && image.store == ImageStore::Containerd {
        // Its layers may have come in another compression: then it runs, and only its own blobs are not there.
        held = connection.engine.unpacked(&expected, image.image.layers.len()).await.map_err(fail)?;
    }
    Ok(held.filter(|id| *id == named.id))
}

/// What a host's engine holds, and by which ways images can come to it.
#[derive(Debug)]
pub struct Held {
    images: BTreeMap<String, Digest>,
    layers: BTreeSet<Digest>,
    can_reverse: bool,
}

impl Held {
    /// Adds it to what is known of the host.
    pub fn into_facts(self, facts: &mut Facts) {
        facts.images = self.images;
        facts.layers = self.layers;
        facts.can_reverse = Some(self.can_reverse);
    }
}

/// Which of `images` the engine holds completely, by canonical name; and, if it lacks any, which layers of them it has.
///
/// # Errors
/// The engine did not answer.
pub async fn images(connection: &Connection, images: &[ImageOnHost]) -> Result<Held, Failure> {
    let mut held = Held { images: BTreeMap::new(), layers: BTreeSet::new(), can_reverse: true };
    for image in images {
        if let Some(id) = held_as_named(connection, image).await? {
            held.images.insert(image.reference.to_string(), id);
        }
    }
    if held.images.len() < images.len() {
        let host = &connection.host.name;
        let layers = async { connection.engine.chains().await.map_err(|e| Failure::new(&e, e.hint()).on(host)) };
        let reverse = async { connection.session.can_reverse().await.map_err(|e| Failure::new(&e, e.hint()).on(host)) };
        (held.layers, held.can_reverse) = tokio::try_join!(layers, reverse)?;
    }
    Ok(held)
}
