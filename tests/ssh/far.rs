//! What listens on the host's side, and what is asked of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};

const SIZE: usize = 3_000_000;

/// Every byte, in an order that shows a gap.
pub(crate) fn data(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 + n / 256) as u8).collect()
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

pub(crate) async fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    address
}

pub(crate) fn socket_echo(path: &Path) {
    let listener = UnixListener::bind(path).expect("listens");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
}

/// Takes connections and neither reads, nor speaks, nor hangs up; gives what it keeps.
pub(crate) fn socket_mute(path: &Path) -> Arc<Mutex<Vec<UnixStream>>> {
    let listener = UnixListener::bind(path).expect("listens");
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeping = kept.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            keeping.lock().expect("whole").push(stream);
        }
    });
    kept
}

/// Whether nobody is at the other end any more.
pub(crate) fn is_left(stream: &UnixStream) -> bool {
    stream.try_write(&[]).is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
}

/// Says its last word first and then counts what it hears until that has ended; gives the sum.
pub(crate) fn socket_closes_first(path: &Path) -> tokio::task::JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(path).expect("listens");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        stream.write_all(b"that is all").await.expect("said");
        stream.shutdown().await.expect("ended");
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.expect("heard");
        heard
    })
}

/// Answers the first word and hangs up.
async fn hang_up(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = stream.read(&mut [0; 16]).await;
    let _ = stream.write_all(b"bye").await;
}

pub(crate) fn socket_hangs_up(path: &Path) {
    let listener = UnixListener::bind(path).expect("listens");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            hang_up(stream).await;
        }
    });
}

pub(crate) async fn tcp_hangs_up() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            hang_up(stream).await;
        }
    });
    address
}

/// What one of the two says, and its end, comes here while we have not ended ours.
pub(crate) async fn is_hung_up(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(b"hello").await.expect("sent");
    let mut said = Vec::new();
    let heard = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await;
    heard.expect("in time").expect("heard");
    assert_eq!(said, b"bye");
}

/// Sends some megabytes, ends that direction, and gets all of it back.
pub(crate) async fn works(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let (mut from, mut to) = tokio::io::split(stream);
    let data = data(SIZE);
    let mut back = Vec::new();
    let send = async {
        to.write_all(&data).await?;
        to.shutdown().await
    };
    let (sent, received) = tokio::join!(send, from.read_to_end(&mut back));
    sent.expect("sent");
    received.expect("received");
    assert!(back == data, "{} bytes came back", back.len());
}
