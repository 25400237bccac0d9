//! The one download of a blob: a task that fills the file and tells readers how far they may read.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::oci::{Descriptor, Digest};

use super::layout::{self, Identity};
use super::partial::{Ingest, Partial, Settled};
use super::{Error, Observer, Shared, Source, SourceStream, Store, blocking, lock};

/// The end of a blob that readers do not get before its digest was checked, in bytes.
const HOLD_BACK: u64 = 64 << 10;

/// How long upstream may send nothing. Longer than the registry client's own patience, which reconnects in between.
const IDLE: Duration = Duration::from_secs(120);

/// How long another process that holds the lock may make no progress: longer than its own upstream may be silent.
const FOLLOW_IDLE: Duration = Duration::from_secs(150);

/// How often the file of another process is looked at: the kernel does not tell when a lock gets free.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);

/// How often a partial file may vanish under us before we give up.
const ATTEMPTS: usize = 20;

/// How far a download has come, as its readers see it.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The file to read from; there before `readable` grows.
    pub(super) file: Option<Arc<File>>,
    /// Bytes from the start that may be read.
    pub(super) readable: u64,
    /// Set at the end; when it is well, `readable` is the blob's size.
    pub(super) end: Option<Result<(), Error>>,
}

/// A running or ended download. Its task ends with it: readers keep it alive.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) descriptor: Descriptor,
    pub(super) state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Download {
    pub(super) fn start(store: &Store, descriptor: &Descriptor, source: Arc<dyn Source>) -> Self {
        let (sender, state) = watch::channel(State::default());
        let job = Job {
            shared: store.shared.clone(),
            observer: store.observer.clone(),
            descriptor: descriptor.clone(),
            source,
            state: sender,
        };
        Self { descriptor: descriptor.clone(), state, task: tokio::spawn(job.run()) }
    }

    /// Whether a new reader of `descriptor` can join: a failed download is not joined, but started again.
    pub(super) fn can_serve(&self, descriptor: &Descriptor) -> bool {
        self.descriptor.size == descriptor.size
            && match self.state.borrow().end {
                Some(Ok(())) => true,
                Some(Err(_)) => false,
                None => self.state.has_changed().is_ok(),
            }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Job {
    shared: Arc<Shared>,
    observer: Option<Observer>,
    descriptor: Descriptor,
    source: Arc<dyn Source>,
    state: watch::Sender<State>,
}

impl Job {
    async fn run(self) {
        let end = self.provide().await;
        if let Err(error) = &end {
            tracing::debug!(digest = %self.descriptor.digest, %error, "blob failed");
        }
        let size = self.descriptor.size;
        self.state.send_modify(|state| {
            state.readable = if end.is_ok() { size } else { state.readable };
            state.end = Some(end);
        });
    }

    async fn provide(&self) -> Result<(), Error> {
        if self.is_held().await? {
            return Ok(());
        }
        match self.acquire().await? {
            Some(partial) => self.fetch(partial).await,
            None => Ok(()),
        }
    }

    /// The usual case after the first run: the blob is in its place and not damaged. No lock is needed to see that.
    async fn is_held(&self) -> Result<bool, Error> {
        let (path, size) = (self.shared.layout.blob(self.digest()), self.descriptor.size);
        let known = lock(&self.shared.verified).get(self.digest()).cloned();
        let wanted = self.digest().clone();
        let found = self.blocking(move || look(&path, size, &wanted, known.as_ref())).await?;
        // What is wrong with the file is judged under the lock, later.
        let Some((file, identity)) = found.ok().flatten() else { return Ok(false) };
        self.verified(identity);
        self.show(Arc::new(file));
        Ok(true)
    }

    /// Gets the lock of the partial file, reading along while another process has it. `None`: the blob is held.
    async fn acquire(&self) -> Result<Option<Partial>, Error> {
        for _ in 0..ATTEMPTS {
            let path = self.shared.layout.partial(self.digest());
            let partial = self.blocking(move || Partial::open(&path)).await??;
            self.show(partial.reader());
            self.follow(&partial).await?;
            let (layout, wanted) = (self.shared.layout.clone(), self.descriptor.clone());
            let (partial, settled) = self
                .blocking(move || {
                    let settled = partial.settle(&layout, &wanted);
                    (partial, settled)
                })
                .await?;
            let has_readers_of_another_file = match settled? {
                Settled::Ours => return Ok(Some(partial)),
                Settled::Held(blob) if self.readable() == 0 || partial.is(&blob) => {
                    self.keep_held(blob);
                    return Ok(None);
                }
                Settled::Held(_) => true,
                Settled::Gone => self.readable() > 0,
            };
            if has_readers_of_another_file {
                return Err(Error::Discarded { digest: self.digest().clone() });
            }
        }
        Err(self.busy(Duration::ZERO))
    }

    /// Reads along until the lock is ours, which is when the other process has finished, failed or died.
    async fn follow(&self, partial: &Partial) -> Result<(), Error> {
        let failed = |error: io::Error| Error::io("locking", &self.shared.layout.partial(self.digest()), error);
        let mut ticks = interval(FOLLOW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = (0, Instant::now());
        while !partial.try_lock().map_err(failed)? {
            let size = partial.size().map_err(failed)?;
            if size != last.0 {
                last = (size, Instant::now());
                self.advance(size);
            }
            if last.1.elapsed() > FOLLOW_IDLE {
                return Err(self.busy(last.1.elapsed()));
            }
            ticks.tick().await;
        }
        Ok(())
    }

    async fn fetch(&self, partial: Partial) -> Result<(), Error> {
        let (layout, wanted) = (self.shared.layout.clone(), self.descriptor.clone());
        let mut ingest = self.blocking(move || Ingest::resume(partial, &layout, &wanted)).await??;
        self.advance(ingest.written());
        if ingest.written() < self.descriptor.size {
            let mut stream = self.open(ingest.written()).await?;
            while ingest.written() < self.descriptor.size {
                let bytes = self.next(&mut stream, ingest.written()).await?;
                ingest = self.append(ingest, bytes).await?;
            }
        }
        let identity = self.blocking(move || ingest.finish()).await??;
        self.verified(identity);
        Ok(())
    }

    async fn open(&self, offset: u64) -> Result<SourceStream, Error> {
        tracing::debug!(digest = %self.digest(), offset, "fetching blob");
        let opened = timeout(IDLE, self.source.open(&self.descriptor, offset)).await;
        opened.map_err(|_| self.stalled(offset))?.map_err(|error| Error::from_upstream(self.digest(), error))
    }

    async fn next(&self, stream: &mut SourceStream, received: u64) -> Result<Bytes, Error> {
        match timeout(IDLE, stream.next()).await.map_err(|_| self.stalled(received))? {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(error)) => Err(Error::from_upstream(self.digest(), error)),
            None => Err(Error::Short { digest: self.digest().clone(), expected: self.descriptor.size, received }),
        }
    }

    /// The writer travels into the blocking thread and back: if this task is aborted meanwhile, the lock ends with the
    /// write, not before it.
    async fn append(&self, mut ingest: Ingest, bytes: Bytes) -> Result<Ingest, Error> {
        let arrived = bytes.len() as u64;
        let found = ingest.written().saturating_add(arrived);
        if found > self.descriptor.size {
            let path = self.shared.layout.partial(self.digest());
            self.blocking(move || layout::remove(&path)).await??;
            return Err(Error::WrongSize { digest: self.digest().clone(), expected: self.descriptor.size, found });
        }
        let ingest = self.blocking(move || ingest.append(&bytes).map(|()| ingest)).await??;
        self.shared.fetched.fetch_add(arrived, Ordering::Relaxed);
        self.advance(ingest.written());
        Ok(ingest)
    }

    fn keep_held(&self, blob: File) {
        if let Ok(identity) = Identity::of(&blob) {
            self.verified(identity);
        }
        if self.readable() == 0 {
            self.show(Arc::new(blob));
        }
    }

    fn verified(&self, identity: Identity) {
        lock(&self.shared.verified).insert(self.digest().clone(), identity);
    }

    fn show(&self, file: Arc<File>) {
        self.state.send_modify(|state| state.file = Some(file));
    }

    /// Lets readers go up to `written`, but not to the end.
    fn advance(&self, written: u64) {
        let readable = written.min(self.descriptor.size.saturating_sub(HOLD_BACK));
        self.state.send_modify(|state| state.readable = state.readable.max(readable));
        if let Some(observer) = &self.observer {
            observer(self.digest(), written);
        }
    }

    fn readable(&self) -> u64 {
        self.state.borrow().readable
    }

    fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    fn stalled(&self, received: u64) -> Error {
        Error::Stalled { digest: self.digest().clone(), waited: IDLE, received }
    }

    fn busy(&self, waited: Duration) -> Error {
        Error::Busy { path: self.shared.layout.partial(self.digest()), waited }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        blocking(self.digest(), work).await
    }
}

/// The file at `path` if it is the blob: of the right size, and either hashed before by this process or hashed now.
pub(super) fn look(
    path: &std::path::Path,
    size: u64,
    wanted: &Digest,
    known: Option<&Identity>,
) -> io::Result<Option<(File, Identity)>> {
    let mut file = File::open(path)?;
    let identity = Identity::of(&file)?;
    if identity.size() != size {
        return Ok(None);
    }
    let is_right = known == Some(&identity) || layout::hash(&mut file)? == *wanted;
    Ok(is_right.then_some((file, identity)))
}
