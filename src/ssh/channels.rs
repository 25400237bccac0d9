//! Exec channels of the one connection: how they are opened, and how scripts and relays share them.
//!
//! sshd allows so many at a time (MaxSessions, 10 by default; forwards are not counted) and says no to more. Six scripts
//! at a time are safely below that, and so is the trunk beside them (`trunk`): one channel for all bridged connections,
//! which makes room for a script when it carries none. So two channels are enough for everything; with one, scripts
//! and connections take turns.
//!
//! Only where every connection needs a channel of its own (`carry`), and keeps it perhaps for minutes, how many sshd
//! really allows is counted once, by opening them. Then
//!
//! - every script and every relay holds one turn of that many, and turns are given in the order of asking;
//! - relays take six at most, and always leave a third of what is allowed, one at least, to scripts: scripts never wait
//!   for a relay. With `MaxSessions 1` there is no third to leave, and both take their turns in order;
//! - a connection that finds no turn waits for [`QUEUE`] and is then closed, so that its program is told;
//! - a connection to a port that has been silent ends when another waits: an API's idle connection must not keep the
//!   engine's from coming about.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::error::Error;
use super::master::Life;
use super::run::{Job, Output, Streams};

/// What sshd allows by default.
const CHANNELS: usize = 10;

/// Scripts at a time; sshd counts one for a moment after its end.
const SCRIPTS: usize = 6;

/// Relays at a time.
const RELAYS: usize = 6;

/// For how long sshd may refuse a channel.
const REFUSALS: Duration = Duration::from_secs(10);

/// For how long a connection may wait for its relay's turn.
const QUEUE: Duration = Duration::from_secs(60);

/// After it, sshd no longer counts what has just ended.
const SETTLED: Duration = Duration::from_millis(250);

/// Reads until its input ends; every login shell starts it alike.
const IDLE: &str = "cat";

/// A channel's program.
pub(super) type Child<'a> = openssh::Child<&'a openssh::Session>;

/// A relay's right to a channel; given back on drop.
#[derive(Debug)]
pub(super) struct Turn<'a>(#[expect(dead_code, reason = "held, never read")] [SemaphorePermit<'a>; 2]);

/// The channels of a connection.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) mux: openssh::Session,
    pub(super) life: Life,
    all: Semaphore,
    scripts: Semaphore,
    relays: Semaphore,
    counted: OnceCell<()>,
    waiting: AtomicUsize,
    /// Whether it was said that there are too few.
    told: AtomicBool,
}

impl Channels {
    pub(super) fn new(mux: openssh::Session, life: Life) -> Self {
        let (all, scripts, relays) = (Semaphore::new(CHANNELS), Semaphore::new(SCRIPTS), Semaphore::new(0));
        let (counted, waiting, told) = (OnceCell::new(), AtomicUsize::new(0), AtomicBool::new(false));
        Self { mux, life, all, scripts, relays, counted, waiting, told }
    }

    /// Runs `job` when it is a script's turn.
    pub(super) async fn run(&self, job: &Job, limit: usize) -> Result<Output, Error> {
        let _script = self.scripts.acquire().await;
        self.run_first(job, limit).await
    }

    /// Runs `job` however many scripts wait: for the one forward that is being set up.
    pub(super) async fn run_first(&self, job: &Job, limit: usize) -> Result<Output, Error> {
        let _channel = self.channel().await;
        self.exchange(job, limit).await
    }

    /// A channel's place among all that sshd allows; waits for it.
    pub(super) async fn channel(&self) -> Option<SemaphorePermit<'_>> {
        self.permit(&self.all).await
    }

    /// The turn of a relay; none if there is none in [`QUEUE`].
    pub(super) async fn relay_turn(&self) -> Option<Turn<'_>> {
        let both = async { Some(Turn([self.permit(&self.relays).await?, self.permit(&self.all).await?])) };
        let turn = tokio::time::timeout(QUEUE, both).await.ok().flatten();
        if turn.is_none() && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("all channels that the host's sshd allows (MaxSessions) are busy: connections are given up");
        }
        turn
    }

    /// Whether a script or a connection waits for a channel.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    async fn permit<'a>(&'a self, semaphore: &'a Semaphore) -> Option<SemaphorePermit<'a>> {
        if let Ok(permit) = semaphore.try_acquire() {
            return Some(permit);
        }
        let _waiting = Waiting::new(&self.waiting);
        semaphore.acquire().await.ok()
    }

    /// Counts the channels that sshd allows, if that has not been done, and lets relays have theirs.
    pub(super) async fn allow_relays(&self) {
        let count = async {
            let free = self.all.available_permits();
            let Ok(mut held) = self.all.try_acquire_many(u32::try_from(free).unwrap_or(0)) else { return };
            let opened = self.count(free).await;
            if let Some(refused) = held.split(free - opened) {
                refused.forget();
            }
            let allowed = CHANNELS - free + opened;
            tracing::debug!(allowed, "channels counted");
            self.relays.add_permits(relays_of(allowed));
        };
        self.counted.get_or_init(|| count).await;
    }

    /// How many of `wanted` channels sshd lets us open at once.
    async fn count(&self, wanted: usize) -> usize {
        let mut opened: Vec<Child<'_>> =
            join_all((0..wanted).map(|_| self.open(IDLE))).await.into_iter().flatten().collect();
        if opened.len() < wanted {
            tokio::time::sleep(SETTLED).await;
            let more = join_all((opened.len()..wanted).map(|_| self.open(IDLE))).await;
            opened.extend(more.into_iter().flatten());
        }
        let count = opened.len();
        let ends = opened.into_iter().map(|mut child| {
            drop((child.stdin().take(), child.stdout().take(), child.stderr().take()));
            child.wait()
        });
        let _ = tokio::time::timeout(REFUSALS, join_all(ends)).await;
        count
    }

    async fn exchange(&self, job: &Job, limit: usize) -> Result<Output, Error> {
        let mut child = self.spawn(job).await?;
        let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Error::Local(std::io::Error::other("no pipes to the channel")));
        };
        let (stdout, stderr) = Streams { stdin, stdout, stderr }.exchange(&job.payload, limit).await?;
        let status = match child.wait().await {
            Ok(status) => status.code(),
            // The crate's reading of exit code 127.
            Err(openssh::Error::Remote(_)) => Some(127),
            // A signal, or the end of the connection, which says the same.
            Err(openssh::Error::RemoteProcessTerminated) => match self.mux.check().await {
                Ok(()) => None,
                Err(error) => return Err(self.explain(error).await),
            },
            Err(error) => return Err(self.explain(error).await),
        };
        Ok(Output { status, stdout, stderr })
    }

    /// Opens a channel. sshd may still count one that has just ended, or allow fewer than we think: a refusal is taken
    /// for an answer only if it lasts.
    pub(super) async fn spawn(&self, job: &Job) -> Result<Child<'_>, Error> {
        let refused_for_good = Instant::now() + REFUSALS;
        let mut refused = None;
        loop {
            match self.open(&job.command).await {
                Ok(child) => return Ok(child),
                Err(openssh::Error::SshMux(_)) if self.life.goes_on() && Instant::now() < refused_for_good => {
                    refused.get_or_insert_with(|| Waiting::new(&self.waiting));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(self.explain(error).await),
            }
        }
    }

    async fn open(&self, command: &str) -> Result<Child<'_>, openssh::Error> {
        let mut command = self.mux.raw_command(command);
        command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::piped());
        command.spawn().await
    }

    /// A failed channel is the connection's fault, if that is about to be known as dead.
    pub(super) async fn explain(&self, error: openssh::Error) -> Error {
        match tokio::time::timeout(Duration::from_secs(1), self.life.lost()).await {
            Ok(lost) => lost,
            Err(_) => Error::Exec(error),
        }
    }
}

/// How many of `allowed` channels relays may take.
fn relays_of(allowed: usize) -> usize {
    let left = (allowed / 3).max(1);
    allowed.saturating_sub(left).clamp(1, RELAYS)
}

/// One more that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_always_left_a_channel_if_there_are_two() {
        let relays: Vec<usize> = (0..=10).map(relays_of).collect();
        assert_eq!(relays, [1, 1, 1, 2, 3, 4, 4, 5, 6, 6, 6]);
    }
}
