//! Uploads to engines that take them slowly, refuse them, or say nothing; and what becomes of our own errors.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::docker::transport::tests::Fake;

const PIECE: usize = 64 << 10;

/// `count` pieces, and how many of them were taken from it.
fn pieces(count: usize) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let stream = stream::iter(0..count).map(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from_static(&[7; PIECE]))
    });
    (stream, taken)
}

/// An engine that says `answer` when it has seen the end of the body, or, if not `reads`, before it has read any of it.
fn engine(answer: &'static str, reads: bool) -> Fake {
    Fake::serving(move |request, mut stream| async move {
        if !request.contains("/images/load") && !request.contains("/archive") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nOK").await;
            return;
        }
        let mut end = [0; 7];
        let mut piece = vec![0; PIECE];
        while reads && !end.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut piece).await.unwrap_or_default() {
                0 => break,
                n => {
                    let last = [&end[..], &piece[..n]].concat();
                    end.copy_from_slice(&last[last.len() - 7..]);
                }
            }
        }
        let _ = stream.write_all(answer.as_bytes()).await;
    })
}

async fn load(
    fake: &Fake,
    tar: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> (Result<(), Error>, Vec<PullProgress>) {
    let lines = Mutex::new(Vec::new());
    let loaded = fake.engine().await.unwrap().load(tar, &|line| lines.lock().unwrap().push(line)).await;
    (loaded, lines.into_inner().unwrap())
}

#[tokio::test]
async fn progress_is_told_and_good_ends_are_good() {
    let answer = "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"Loading layer\",\"progressDetail\":{\"current\":5,\"total\":9},\"id\":\"ab\"}\r\n\
                  \r\n{\"stream\":\"Loaded image: a:b\\n\"}";
    let (loaded, lines) = load(&engine(answer, true), pieces(100).0).await;
    loaded.unwrap();
    let layer = PullProgress { layer: "ab".into(), status: "Loading layer".into(), current: Some(5), total: Some(9) };
    let [first, last] = lines.try_into().unwrap();
    assert_eq!((first, last.status.as_str()), (layer, "Loaded image: a:b"));
}

#[tokio::test]
async fn what_the_engine_says_against_it_is_an_error() {
    let missing = "HTTP/1.1 200 OK\r\n\r\n{\"errorDetail\":{\"message\":\"open /x: no such file\"},\"error\":\"open /x: no such file\"}\r\n";
    let (error, _) = load(&engine(missing, true), pieces(1).0).await;
    assert!(matches!(&error, Err(Error::Load { message }) if message == "open /x: no such file"), "{error:?}");
    let words = "HTTP/1.1 200 OK\r\n\r\n{\"stream\":\"Loaded image: a\\n\"}\n{\"stream\":\"Error unpacking image a: not found\\n\"}\n";
    let (error, lines) = load(&engine(words, true), pieces(1).0).await;
    assert!(matches!(error, Err(Error::Load { .. })) && lines.len() == 1, "{error:?}");
    let full = "HTTP/1.1 200 OK\r\n\r\n{\"errorDetail\":{\"message\":\"write /a: no space left on device\"}}\n";
    let (error, _) = load(&engine(full, true), pieces(1).0).await;
    assert!(matches!(error, Err(Error::NoSpace { .. })), "{error:?}");
    let (error, _) = load(&engine("HTTP/1.1 200 OK\r\n\r\nnonsense\n", true), pieces(1).0).await;
    assert!(matches!(error, Err(Error::Malformed { .. })), "{error:?}");
    let (error, _) = load(&engine("", true), pieces(1).0).await;
    assert!(matches!(error, Err(Error::Disconnected { .. })), "{error:?}");
}

#[tokio::test]
async fn an_engine_that_refuses_and_hangs_up_early_is_heard() {
    for (answer, is_right) in [
        (
            "HTTP/1.1 500 No\r\n\r\n{\"message\":\"sick\"}",
            (|e| matches!(e, Error::Api { message, .. } if message == "sick")) as fn(&Error) -> bool,
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\n{\"errorDetail\":{\"message\":\"sick\"}}\n",
            |e| matches!(e, Error::Load { message } if message == "sick"),
        ),
    ] {
        for _ in 0..50 {
            let (tar, taken) = pieces(10_000);
            let error = load(&engine(answer, false), tar).await.0.unwrap_err();
            assert!(is_right(&error), "{error:?}");
            assert!(taken.load(Ordering::SeqCst) < 1000, "all was sent to nobody");
        }
    }
}

#[tokio::test]
async fn an_engine_that_stops_listening_before_it_has_said_why_is_heard() {
    let fake = Fake::serving(|request, stream| async move {
        let stream = stream.into_std().unwrap();
        if request.contains("/load") {
            stream.shutdown(std::net::Shutdown::Read).unwrap();
        }
        let mut stream = tokio::net::UnixStream::from_std(stream).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = stream.write_all(b"{\"errorDetail\":{\"message\":\"sick\"}}\n").await;
    });
    let error = load(&fake, pieces(10_000).0).await.0.unwrap_err();
    assert!(matches!(&error, Error::Load { message } if message == "sick"), "{error:?}");
}

#[tokio::test]
async fn the_streams_own_error_comes_back_as_it_was() {
    let broken = || pieces(3).0.chain(stream::iter([Err(io::Error::from_raw_os_error(5))]));
    // The engine's answer to a body that ends too early must not hide it.
    let answer = "HTTP/1.1 200 OK\r\n\r\n{\"errorDetail\":{\"message\":\"unexpected EOF\"}}\n";
    let error = load(&engine(answer, true), broken()).await.0.unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error:?}");
    assert_eq!(error.into_source::<io::Error>().unwrap().raw_os_error(), Some(5));
    let fake = engine("HTTP/1.1 200 OK\r\n\r\n", true);
    let error = fake.engine().await.unwrap().put_archive("c", broken()).await.unwrap_err();
    assert_eq!(error.into_source::<io::Error>().unwrap().raw_os_error(), Some(5));
    let other = Error::Load { message: "x".into() };
    assert!(matches!(other.into_source::<io::Error>(), Err(Error::Load { .. })));
}

#[tokio::test]
async fn a_line_without_an_end_holds_no_memory() {
    let fake = Fake::serving(|request, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while request.contains("/load") && stream.write_all(&[b'x'; PIECE]).await.is_ok() {}
    });
    let error = load(&fake, pieces(1).0).await.0.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
}

/// Takes nothing; tells when its connection has ended.
fn deaf() -> (Fake, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (ended, end) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::serving(move |request, mut stream| {
        let ended = ended.clone();
        async move {
            if !request.contains("/images/load") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nOK").await;
                return;
            }
            // Writable until the other side is closed.
            while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let _ = ended.send(());
        }
    });
    (fake, end)
}

#[tokio::test]
async fn no_more_is_asked_of_the_stream_than_is_taken_and_dropping_ends_the_request() {
    let (fake, mut ended) = deaf();
    let engine = fake.engine().await.unwrap();
    let (tar, taken) = pieces(10_000);
    let loading = tokio::time::timeout(Duration::from_millis(500), engine.load(tar, &|_| {}));
    assert!(loading.await.is_err());
    assert!(taken.load(Ordering::SeqCst) < 50, "{taken:?} pieces are held in memory");
    tokio::time::timeout(Duration::from_secs(10), ended.recv()).await.unwrap().unwrap();
}

/// An engine that has taken everything, or nothing, and says no more.
fn silent(reads: bool) -> Fake {
    Fake::serving(move |request, mut stream| async move {
        if !request.contains("/images/load") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nOK").await;
            return;
        }
        let mut piece = vec![0; PIECE];
        while reads && stream.read(&mut piece).await.is_ok_and(|n| n > 0) {}
        std::future::pending::<()>().await;
    })
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_silent_for_too_long_is_given_up() {
    let within = |error| match error {
        Error::Timeout { within, .. } => within.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(within(load(&silent(false), pieces(1000).0).await.0.unwrap_err()), 180);
    // It has everything: 32 MiB more to unpack, 64 s more to do it.
    assert_eq!(within(load(&silent(true), pieces(512).0).await.0.unwrap_err()), 180 + 64);
}

#[tokio::test(start_paused = true)]
async fn our_own_silence_is_not_the_engines() {
    let slow = stream::once(async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        io::Result::Ok(Bytes::from_static(b"at last"))
    });
    let answer = "HTTP/1.1 200 OK\r\n\r\n{\"stream\":\"Loaded\"}\n";
    load(&engine(answer, true), slow).await.0.unwrap();
}
