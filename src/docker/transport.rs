//! HTTP over the engine's socket: one connection a request, bounded in bytes and in time.
//!
//! bollard's own unix client reads answers of any length; behind the forward stands a machine that may be broken or
//! hostile, so every connection here ends with an error after so many bytes, whoever reads from it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::BollardRequest;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::error::{Failure, without_secret};

/// The door to one engine's socket.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    socket: Arc<Path>,
}

impl Transport {
    /// The most that one answer may be, in bytes, where it is read as a whole.
    const LIMIT: usize = 16 << 20;
    /// The same for the progress of a pull: 10 lines of 250 bytes a second and layer make less in 24 hours.
    const LIMIT_PROGRESS: u64 = 1 << 30;
    /// Connecting to a local socket is immediate unless the other side's queue is full.
    const CONNECT: Duration = Duration::from_secs(10);

    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.into() }
    }

    /// GET, and the answer as JSON. Fields that are not in `T` are ignored.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, within: Duration) -> Result<T, Failure> {
        self.ask(Method::GET, path, within).await
    }

    /// A request without a body, and its answer as JSON.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        within: Duration,
    ) -> Result<T, Failure> {
        let whole = async {
            let response = self.open(method, path).await?;
            read_json(response).await
        };
        tokio::time::timeout(within, whole).await.unwrap_or(Err(Failure::Timeout(within)))
    }

    /// A request without a body; the answer's body is the caller's to read. Bounded in bytes only by the reader.
    pub(super) async fn open(&self, method: Method, path: &str) -> Result<Response<Incoming>, Failure> {
        tracing::trace!(%method, path = without_secret(path), "engine");
        let request =
            Request::builder().method(method).uri(path).header("host", "docker").body(Full::new(Bytes::new()));
        let request = request.map_err(|source| Failure::Malformed(source.into()))?;
        let response = self.send(request, u64::MAX).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn send<B>(&self, request: Request<B>, limit: u64) -> Result<Response<Incoming>, Failure>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connect = tokio::time::timeout(Self::CONNECT, UnixStream::connect(&self.socket)).await;
        let stream = connect.map_err(|_| Failure::Timeout(Self::CONNECT))?.map_err(Failure::Connect)?;
        let io = TokioIo::new(Bounded { stream, left: limit });
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(Failure::Http)?;
        // Ends by itself when the answer was read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "the connection to the engine ended");
            }
        });
        sender.send_request(request).await.map_err(Failure::Http)
    }
}

impl Transport {
    /// One of bollard's requests. (The trait that it wants is private; a closure over this will do.)
    pub(super) async fn carry(self, request: BollardRequest) -> Result<Response<Incoming>, bollard::errors::Error> {
        let (mut parts, body) = request.into_parts();
        tracing::trace!(method = %parts.method, path = without_secret(parts.uri.path()), "engine");
        // The tar of a download is bounded by who reads it.
        let limit = match parts.uri.path() {
            "/images/create" => Self::LIMIT_PROGRESS,
            path if path.ends_with("/archive") => u64::MAX,
            _ => Self::LIMIT as u64,
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse::<Uri>()?;
        parts.headers.insert("host", hyper::header::HeaderValue::from_static("docker"));
        self.send(Request::from_parts(parts, body), limit).await.map_err(Failure::into_bollard)
    }
}

/// What an error answer says; its body is `{"message": …}` or plain text.
async fn refusal(response: Response<Incoming>) -> Failure {
    #[derive(serde::Deserialize)]
    struct Wire {
        message: String,
    }
    let status = response.status();
    let body = tokio::time::timeout(Transport::CONNECT, Limited::new(response.into_body(), 64 << 10).collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<Wire>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |wire| wire.message);
    Failure::Status(status, message)
}

/// The whole answer as JSON.
pub(super) async fn read_json<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Failure> {
    let body = read_whole(response.into_body()).await?;
    serde_json::from_slice(&body).map_err(|source| Failure::Malformed(source.into()))
}

async fn read_whole(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, Transport::LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(source) => Err(match source.downcast::<hyper::Error>() {
            Ok(error) => Failure::Http(*error),
            Err(other) => Failure::Malformed(other),
        }),
    }
}

/// A stream that fails once `left` bytes were read from it.
struct Bounded {
    stream: UnixStream,
    left: u64,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = (buffer.filled().len() - before) as u64;
        match self.left.checked_sub(read) {
            Some(left) => {
                self.left = left;
                poll
            }
            None => Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, "the engine's answer has no end"))),
        }
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Failure {
    fn into_bollard(self) -> bollard::errors::Error {
        match self {
            Self::Http(err) => bollard::errors::Error::HyperResponseError { err },
            Self::Connect(err) => bollard::errors::Error::IOError { err },
            Self::Status(status, message) => {
                bollard::errors::Error::DockerResponseServerError { status_code: status.as_u16(), message }
            }
            Self::Timeout(_) => bollard::errors::Error::RequestTimeoutError,
            other => bollard::errors::Error::IOError { err: io::Error::other(other) },
        }
    }

    /// The same failure, seen through bollard.
    pub(super) fn from_bollard(error: bollard::errors::Error, within: Duration) -> Self {
        use bollard::errors::Error;
        match error {
            Error::HyperResponseError { err } => Self::Http(err),
            Error::IOError { err } => Self::Connect(err),
            Error::RequestTimeoutError => Self::Timeout(within),
            Error::DockerResponseServerError { status_code, message } => {
                Self::Status(StatusCode::from_u16(status_code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), message)
            }
            Error::DockerStreamError { error } => Self::Stream(error),
            other => Self::Malformed(other.into()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
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
}
