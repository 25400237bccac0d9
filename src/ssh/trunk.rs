//! A trunk: one exec channel that carries every bridged connection of a session, by a relay of ours at its other end.
//!
//! Each connection has a window in both directions, so that one whose end does not read holds up no other, and neither
//! side keeps more for it. A trunk stays for the next connection; it makes room when it carries nothing and somebody
//! waits for a channel, and the next connection starts another.

use std::collections::BTreeMap;
use std::future::pending;
use std::io::{self, Cursor};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Semaphore, mpsc};

use super::carry::begin;
use super::channels::Channels;
use super::error::Error;
use super::frames::{Frame, WINDOW};
use super::run::Job;
use super::tail::Tail;

/// Frames that wait to be written.
const QUEUE: usize = 8;

/// How often it is looked whether an idle trunk's channel is wanted.
const TICK: Duration = Duration::from_millis(250);

/// The trunks of a session; one at a time.
#[derive(Debug)]
pub(super) struct Trunks {
    channels: Arc<Channels>,
    job: Arc<Job>,
    current: tokio::sync::Mutex<Option<Arc<Trunk>>>,
}

impl Trunks {
    pub(super) fn new(channels: Arc<Channels>, job: Job) -> Self {
        Self { channels, job: Arc::new(job), current: tokio::sync::Mutex::new(None) }
    }

    /// A connection to `to` on the host, a path or `address port`; over a new trunk if there is none.
    pub(super) async fn open(&self, to: &str) -> Option<(Stream, Events)> {
        let mut current = self.current.lock().await;
        let opened = match current.as_ref().and_then(Trunk::open) {
            None => Trunk::open(current.insert(Trunk::start(self.channels.clone(), self.job.clone()))),
            opened => opened,
        };
        drop(current);
        let (stream, events) = opened?;
        stream.send(Frame::Open(to.into())).await.then_some((stream, events))
    }
}

/// A relay's channel and the connections that it carries.
#[derive(Debug)]
struct Trunk {
    frames: mpsc::Sender<(u32, Frame)>,
    carried: Arc<Carried>,
    next: AtomicU32,
}

impl Trunk {
    /// Starts one; it ends when nobody holds it any more.
    fn start(channels: Arc<Channels>, job: Arc<Job>) -> Arc<Self> {
        let (frames, to_send) = mpsc::channel(QUEUE);
        let carried = Arc::new(Carried(Mutex::new(Some(BTreeMap::new()))));
        let trunk = Self { frames, carried: carried.clone(), next: AtomicU32::new(1) };
        tokio::spawn(async move {
            let end = run(&channels, &job, to_send, &carried).await;
            tracing::debug!(?end, "a trunk has ended");
            carried.close();
        });
        Arc::new(trunk)
    }

    /// A place for another connection; none if the trunk has ended.
    fn open(this: &Arc<Self>) -> Option<(Stream, Events)> {
        let number = this.next.fetch_add(1, Ordering::Relaxed);
        let (told, events) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(WINDOW as usize));
        let far = Far { told, credit: credit.clone(), owed: WINDOW, ended: false };
        this.carried.lock().as_mut()?.insert(number, far);
        Some((Stream { number, trunk: this.clone(), credit }, events))
    }
}

/// What the host sends on a connection; it ends with the trunk. No more than a window can wait in it.
pub(super) type Events = mpsc::UnboundedReceiver<Frame>;

/// One connection's place in a trunk, until it is dropped. Only [`Frame::Gone`] tells the host that it is.
#[derive(Debug)]
pub(super) struct Stream {
    number: u32,
    trunk: Arc<Trunk>,
    /// Bytes that the host still takes.
    credit: Arc<Semaphore>,
}

impl Stream {
    /// Sends a frame, data when the host takes it; false if the connection or the trunk has ended.
    pub(super) async fn send(&self, frame: Frame) -> bool {
        if let Frame::Data(data) = &frame {
            let Ok(length) = u32::try_from(data.len()) else { return false };
            let Ok(credit) = self.credit.acquire_many(length).await else { return false };
            credit.forget();
        }
        self.trunk.frames.send((self.number, frame)).await.is_ok()
    }

    /// Lets the host send `more` bytes.
    pub(super) async fn grant(&self, more: u32) -> bool {
        if let Some(far) = self.trunk.carried.lock().as_mut().and_then(|all| all.get_mut(&self.number)) {
            far.owed = far.owed.saturating_add(more);
        }
        self.send(Frame::Credit(more)).await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(all) = self.trunk.carried.lock().as_mut() {
            all.remove(&self.number);
        }
    }
}

/// The connections of a trunk by number; none once it has ended.
#[derive(Debug)]
struct Carried(Mutex<Option<BTreeMap<u32, Far>>>);

/// What is known of a connection's other end.
#[derive(Debug)]
struct Far {
    told: mpsc::UnboundedSender<Frame>,
    credit: Arc<Semaphore>,
    /// Bytes that it may still send.
    owed: u32,
    ended: bool,
}

impl Carried {
    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<u32, Far>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all connections, which then end, and takes no more.
    fn close(&self) {
        if let Some(all) = self.lock().take() {
            all.values().for_each(|far| far.credit.close());
        }
    }

    /// Closes if there is no connection.
    fn close_if_idle(&self) -> bool {
        let mut all = self.lock();
        let idle = all.as_ref().is_none_or(BTreeMap::is_empty);
        if idle {
            *all = None;
        }
        idle
    }

    /// Passes a frame on to its connection; one that is not known has ended here and need not be told.
    fn take(&self, number: u32, frame: Frame) -> Result<(), Error> {
        let mut all = self.lock();
        let Some(far) = all.as_mut().and_then(|all| all.get_mut(&number)) else { return Ok(()) };
        match &frame {
            Frame::Data(data) => {
                let sent = u32::try_from(data.len()).ok().filter(|_| !far.ended);
                far.owed = sent.and_then(|sent| far.owed.checked_sub(sent)).ok_or_else(odd)?;
            }
            Frame::Credit(more) => {
                if far.credit.available_permits() + *more as usize > WINDOW as usize {
                    return Err(odd());
                }
                far.credit.add_permits(*more as usize);
                return Ok(());
            }
            Frame::End if far.ended => return Ok(()),
            Frame::End => far.ended = true,
            Frame::Gone => far.credit.close(),
            Frame::Open(_) => return Err(odd()),
        }
        let _ = far.told.send(frame);
        Ok(())
    }
}

fn odd() -> Error {
    Error::Local(io::Error::new(io::ErrorKind::InvalidData, "the relay sent what it may not"))
}

/// Runs the relay until the connection, the relay or the last user of the trunk is gone.
async fn run(
    channels: &Channels,
    job: &Job,
    frames: mpsc::Receiver<(u32, Frame)>,
    carried: &Carried,
) -> Result<(), Error> {
    let _channel = channels.channel().await;
    let mut child = channels.spawn(job).await?;
    let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) = pipes else {
        return Err(Error::Local(io::Error::other("no pipes to the channel")));
    };
    let said = Tail::default();
    let carry = async {
        let (_, first) = begin(job, &mut stdin, &mut stdout).await?;
        tokio::select! {
            end = write(stdin, frames) => end,
            end = read(Cursor::new(first).chain(stdout), carried) => end,
            () = idle(channels, carried) => Ok(()),
        }
    };
    let listen = async {
        said.fill(stderr).await;
        pending().await
    };
    let end = tokio::select! { end = carry => end, never = listen => never };
    if !said.text().is_empty() {
        tracing::debug!("a trunk's relay said: {}", said.text().trim());
    }
    end
}

async fn write(mut stdin: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<(u32, Frame)>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while let Some((number, frame)) = frames.recv().await {
        bytes.clear();
        frame.write(number, &mut bytes);
        stdin.write_all(&bytes).await.map_err(Error::Local)?;
    }
    Ok(())
}

async fn read(stdout: impl AsyncRead + Unpin, carried: &Carried) -> Result<(), Error> {
    let mut stdout = BufReader::with_capacity(64 * 1024, stdout);
    loop {
        let (number, frame) = Frame::read(&mut stdout).await.map_err(Error::Local)?;
        carried.take(number, frame)?;
    }
}

/// Ends when there is nothing to carry and somebody waits for a channel.
async fn idle(channels: &Channels, carried: &Carried) {
    loop {
        tokio::time::sleep(TICK).await;
        if channels.are_wanted() && carried.close_if_idle() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried() -> (Carried, Events) {
        let (told, events) = mpsc::unbounded_channel();
        let far = Far { told, credit: Arc::new(Semaphore::new(10)), owed: 100, ended: false };
        (Carried(Mutex::new(Some(BTreeMap::from([(1, far)])))), events)
    }

    #[test]
    fn a_relay_that_sends_more_than_it_may_is_cut_off() {
        let (all, mut events) = carried();
        all.take(1, Frame::Data(vec![0; 60])).expect("allowed");
        assert!(all.take(1, Frame::Data(vec![0; 60])).is_err());
        assert!(all.take(1, Frame::Credit(WINDOW)).is_err());
        all.take(2, Frame::Data(vec![0; 60])).expect("no longer known");
        all.take(1, Frame::End).expect("allowed");
        all.take(1, Frame::End).expect("said before");
        assert!(all.take(1, Frame::Data(vec![0])).is_err(), "after its end");
        assert_eq!(events.try_recv().expect("told"), Frame::Data(vec![0; 60]));
        assert_eq!(events.try_recv().expect("told"), Frame::End);
        assert!(events.try_recv().is_err());
    }

    #[test]
    fn only_an_idle_trunk_makes_room() {
        let (all, mut events) = carried();
        assert!(!all.close_if_idle());
        all.close();
        assert!(events.try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Disconnected));
        assert!(all.close_if_idle() && all.lock().is_none());
    }
}
