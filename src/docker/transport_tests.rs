//! Sockets that are no engines, and answers that have no end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::docker::{Engine, Error};

/// A socket where everybody is told `answer`; with `endless`, its last byte again and again.
pub(crate) struct Fake {
    directory: tempfile::TempDir,
}

impl Fake {
    fn new(answer: &'static [u8], endless: bool) -> Self {
        Self::serving(move |_, mut stream| async move {
            let _ = stream.write_all(answer).await;
            let last = [*answer.last().unwrap_or(&b' '); 65536];
            while endless && stream.write_all(&last).await.is_ok() {}
        })
    }

    /// Each connection is served with its request's first line.
    pub(crate) fn serving<F>(serve: impl Fn(String, UnixStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                tokio::spawn(serve(text.lines().next().unwrap_or_default().into(), stream));
            }
        });
        Self { directory }
    }

    pub(crate) async fn engine(&self) -> Result<Engine, Error> {
        Engine::connect(&self.directory.path().join("socket")).await
    }
}

#[tokio::test]
async fn sockets_that_are_no_engines_are_told_apart() {
    let nothing = Engine::connect(Path::new("/nowhere/docker.sock")).await.unwrap_err();
    assert!(matches!(nothing, Error::NotAnswering { .. }) && nothing.hint().is_some(), "{nothing:?}");
    let silent = Fake::new(b"", false).engine().await.unwrap_err();
    assert!(matches!(silent, Error::NotAnswering { .. }), "{silent:?}");
    let ssh = Fake::new(b"SSH-2.0-OpenSSH_9.2\r\n", false).engine().await.unwrap_err();
    assert!(matches!(ssh, Error::Malformed { .. }), "{ssh:?}");
    let sick = Fake::new(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nsick", false).engine().await.unwrap_err();
    assert!(matches!(&sick, Error::Api { status: 500, message, .. } if message == "sick"), "{sick:?}");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_says_nothing_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = Engine::connect(&path).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn answers_without_an_end_end() {
    let fake = Fake::new(b"HTTP/1.1 200 OK\r\n\r\n[1,1", true);
    let engine = fake.engine().await.unwrap();
    let listed = engine.temporary_names().await.unwrap_err();
    assert!(matches!(listed, Error::Malformed { .. }), "{listed:?}");
    let removed = engine.untag("a:b").await.unwrap_err();
    assert!(matches!(removed, Error::Malformed { .. }), "{removed:?}");
    let created = engine.create(&crate::docker::containers::tests::spec()).await.unwrap_err();
    assert!(matches!(created, Error::Malformed { .. }), "{created:?}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_a_lost_connection() {
    let fake = Fake::new(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[", false);
    let engine = fake.engine().await.unwrap();
    let cut = engine.temporary_names().await.unwrap_err();
    assert!(matches!(cut, Error::Disconnected { .. }), "{cut:?}");
}

#[tokio::test]
async fn a_log_that_never_ends_a_line_holds_no_memory() {
    use futures_util::StreamExt;
    let fake = Fake::new(b"HTTP/1.1 200 OK\r\n\r\n\x01\0\0\0\0\xff\xff\xffx", true);
    let engine = fake.engine().await.unwrap();
    let logs = engine.logs("a", crate::docker::Since::Start, crate::docker::Follow::Yes).await.unwrap();
    // 16 MB of x, and then x is no stream.
    let items: Vec<_> = logs.collect().await;
    assert!(matches!(items.as_slice(), [Err(Error::Malformed { .. })]), "{items:?}");
}
