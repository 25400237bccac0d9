//! Connections on this machine: where they come in, and their two halves, alike for sockets and ports.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, tcp, unix};

/// Where connections come in.
pub(super) enum Door {
    Socket(UnixListener),
    Port(TcpListener),
}

impl Door {
    pub(super) async fn accept(&self) -> io::Result<Near> {
        Ok(match self {
            Self::Socket(listener) => {
                let (read, write) = listener.accept().await?.0.into_split();
                Near { read: Box::new(read), write: Box::new(write) }
            }
            Self::Port(listener) => {
                let stream = listener.accept().await?.0;
                // Small answers must not wait for each other.
                stream.set_nodelay(true)?;
                let (read, write) = stream.into_split();
                Near { read: Box::new(read), write: Box::new(write) }
            }
        })
    }
}

/// A connection here.
pub(super) struct Near {
    pub(super) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) write: Box<dyn Hears>,
}

/// The writing half of a connection, which knows whether its other end is gone altogether: reading tells only that it
/// has said its last word.
pub(super) trait Hears: AsyncWrite + Send + Sync + Unpin {
    /// Writes nothing, without waiting.
    fn attempt(&self) -> io::Result<usize>;

    /// Whether nobody is there any more. (A port may not know before something is sent.)
    fn hung_up(&self) -> bool {
        self.attempt().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    }
}

impl Hears for unix::OwnedWriteHalf {
    fn attempt(&self) -> io::Result<usize> {
        self.try_write(&[])
    }
}

impl Hears for tcp::OwnedWriteHalf {
    fn attempt(&self) -> io::Result<usize> {
        self.try_write(&[])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_last_word_is_told_apart_from_a_hang_up() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("s");
        let door = Door::Socket(UnixListener::bind(&path).expect("listens"));
        let mut there = UnixStream::connect(&path).await.expect("connects");
        let mut here = door.accept().await.expect("accepted");
        there.shutdown().await.expect("ended");
        assert_eq!(here.read.read(&mut [0]).await.expect("the end"), 0);
        assert!(!here.write.hung_up(), "it still listens");
        drop(there);
        let noticed = async {
            while !here.write.hung_up() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), noticed).await.expect("noticed");
    }
}
