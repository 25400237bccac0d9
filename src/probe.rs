//! Host → Facts: connects, reads everything that planning may use, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::docker::{Engine, Expected, Holder};
use crate::host::{
    DiskFacts, EngineSocket, Facts, Finding, HolderFacts, Host, HostName, ImageStore, MachineFacts, Reach, Target,
    disk_script, machine_script, parse_disk, parse_machine, parse_reach, reach_script, rules,
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

/// A host that answers, whatever its engine does.
#[derive(Debug)]
pub struct Reached {
    /// The host.
    pub host: Host,
    /// Its session.
    pub session: Session,
    /// What it says of itself.
    pub machine: MachineFacts,
    socket: EngineSocket,
}

/// A host with an engine that cannot be used.
#[derive(Debug)]
pub struct Closed {
    /// The host.
    pub reached: Reached,
    /// What stands in the way.
    pub finding: Finding,
}

/// Connects to a host and reads its facts.
///
/// # Errors
/// A [`Failure`] that names the host, what stands in the way, and what to do about it.
pub async fn probe(host: &Host, options: &Options) -> Result<(Connection, Facts), Failure> {
    reach(host, options).await?.open().await.map_err(|closed| closed.finding.into())
}

/// Connects to a host, and lets it tell what it is.
///
/// # Errors
/// It cannot be reached, or does not answer as a Linux machine does.
pub async fn reach(host: &Host, options: &Options) -> Result<Reached, Failure> {
    let fail = |e: crate::ssh::Error| Failure::new(&e, e.hint()).on(&host.name);
    let session = Session::connect(host, options).await.map_err(fail)?;
    let asked = SystemTime::now();
    let output = session.run(machine_script(), None, LIMITS).await.map_err(fail)?;
    let parsed = parse_machine(&output.stdout, asked..=SystemTime::now());
    let (machine, socket) = parsed.map_err(|e| Failure::new(&e, None).on(&host.name))?;
    Ok(Reached { host: host.clone(), session, machine, socket })
}

impl Reached {
    /// Asks its engine, too.
    ///
    /// # Errors
    /// The engine cannot be used; the host is still reached.
    pub async fn open(self) -> Result<(Connection, Facts), Box<Closed>> {
        let engine = match self.engine().await {
            Ok(engine) => engine,
            Err(finding) => return Err(Box::new(Closed { reached: self, finding: *finding })),
        };
        match facts(&self.host, &self.session, &engine, self.machine.clone()).await {
            Ok(facts) => Ok((Connection { host: self.host, session: self.session, engine }, facts)),
            Err(failure) => {
                let finding = no_answer(&self.host, failure);
                Err(Box::new(Closed { reached: self, finding }))
            }
        }
    }

    /// The user who may not use its engine.
    pub fn denied(&self) -> Option<&str> {
        match &self.socket {
            EngineSocket::Denied { user, .. } => Some(user),
            _ => None,
        }
    }

    async fn engine(&self) -> Result<Engine, Box<Finding>> {
        let path = self.socket.usable(&self.host.name)?;
        let fail = |error: &dyn std::error::Error, hint| Box::new(no_answer(&self.host, Failure::new(error, hint)));
        let forwarded = self.session.forward_socket(path).await.map_err(|e| fail(&e, e.hint()))?;
        Engine::connect(&forwarded).await.map_err(|e| fail(&e, e.hint()))
    }
}

/// An engine that is there and does not answer as it should.
fn no_answer(host: &Host, failure: Failure) -> Finding {
    let finding = rules::ENGINE_MISSING.on(&host.name, failure.message);
    match failure.hint {
        Some(hint) => finding.with_hint(hint),
        None => finding,
    }
}

/// What tells this start of a host from all others; `None` where it cannot be read.
pub async fn boot_id(session: &Session) -> Option<String> {
    let output = session.run("cat /proc/sys/kernel/random/boot_id", None, LIMITS).await.ok()?;
    Some(output.stdout.trim().to_string()).filter(|id| !id.is_empty())
}

/// What a host gets from ports of others.
///
/// # Errors
/// The host did not end it, or answered something else.
pub async fn try_ports(connection: &Connection, targets: &[Target]) -> Result<Vec<Reach>, Failure> {
    let host = &connection.host.name;
    let output = connection.session.run(&reach_script(targets), None, LIMITS).await;
    let output = output.map_err(|e| Failure::new(&e, e.hint()).on(host))?;
    parse_reach(host, targets, &output.stdout).map_err(|e| Failure::new(&e, None).on(host))
}

async fn facts(host: &Host, session: &Session, engine: &Engine, mut machine: MachineFacts) -> Result<Facts, Failure> {
    let itself = async {
        let mut facts = engine.facts().await?;
        facts.disk = disk(session, &facts.root_dir).await.unwrap_or_default();
        if let Some(images) = &mut facts.images {
            images.disk = disk(session, &images.dir).await.unwrap_or_default();
        }
        facts.images = facts.images.filter(|images| images.disk.device != facts.disk.device);
        Ok(facts)
    };
    let asked = tokio::try_join!(itself, engine.nodes(), engine.volumes(), engine.holders());
    let (engine, nodes, volumes, holders) = asked.map_err(|e| Failure::new(&e, e.hint()).on(&host.name))?;
    machine.forget_k3s_in(nodes.iter().map(|node| node.id.as_str()));
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

/// The disk that the engine keeps its data on; `None` where that cannot be read.
async fn disk(session: &Session, root: &str) -> Option<DiskFacts> {
    let output = session.run(&disk_script(root), None, LIMITS).await.ok()?;
    parse_disk(&output.stdout).ok()
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
