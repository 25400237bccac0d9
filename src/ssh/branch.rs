//! One connection over a trunk: between a connection here and its place in the trunk, both ways, until its end.
//!
//! The end of either direction is passed on while the other goes on; it is over when both have ended.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::carry::TICK;
use super::frames::{Frame, WINDOW};
use super::near::{Hears, Near};
use super::trunk::{Events, Stream};

const BUFFER: usize = 32 * 1024;

/// The host is let send more when so much has been taken.
const GRANT: u32 = WINDOW / 4;

/// Carries `near` over its place in a trunk.
pub(super) async fn carry(near: Near, (stream, events): (Stream, Events)) {
    let ended = Ended::default();
    let delivered = tokio::select! {
        delivered = deliver(events, near.write, &stream, &ended) => delivered,
        never = pass_on(near.read, &stream, &ended) => match never {},
    };
    if delivered.is_err() {
        stream.send(Frame::Gone).await;
    }
}

/// Whether the end of what is said here has been passed on.
#[derive(Default)]
struct Ended {
    yes: AtomicBool,
    news: Notify,
}

/// Delivers what the host sends until both directions have ended or the host's end is gone.
///
/// # Errors
/// Nobody here wants it any more.
async fn deliver(mut events: Events, mut write: Box<dyn Hears>, stream: &Stream, ended: &Ended) -> io::Result<()> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut taken) = (false, 0);
    while !(said && ended.yes.load(Ordering::Acquire)) {
        tokio::select! {
            event = events.recv() => match event {
                Some(Frame::Data(data)) => {
                    write.write_all(&data).await?;
                    taken += u32::try_from(data.len()).unwrap_or(WINDOW);
                    if taken >= GRANT {
                        stream.grant(std::mem::take(&mut taken)).await;
                    }
                }
                Some(Frame::End) => {
                    said = true;
                    let _ = write.shutdown().await;
                }
                Some(_) | None => return Ok(()),
            },
            () = ended.news.notified() => {}
            _ = ticks.tick() => {
                if write.hung_up() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
    }
    Ok(())
}

/// Passes on what is said here, and the end of it.
async fn pass_on(mut read: Box<dyn AsyncRead + Send + Unpin>, stream: &Stream, ended: &Ended) -> Infallible {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = read.read(&mut buffer).await {
        if !stream.send(Frame::Data(buffer[..count].to_vec())).await {
            break;
        }
    }
    stream.send(Frame::End).await;
    ended.yes.store(true, Ordering::Release);
    ended.news.notify_one();
    pending().await
}
