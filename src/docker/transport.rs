//! HTTP over the engine's socket: one connection a request, bounded in bytes and in time.
//!
//! bollard's own unix client reads answers of any length; behind the forward stands a machine that may be broken or
//! hostile, so every connection here ends with an error after so many bytes, whoever reads from it. A request that is
//! dropped before its answer came ends its connection, however much of it was still to be sent.

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
use hyper::http::request;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::error::{Cause, Failure, without_secret};
use super::upload::Upload;

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
        self.open_with(request(method, path), Bytes::new()).await
    }

    /// The same with a body of JSON.
    pub(super) async fn open_json(&self, path: &str, body: &serde_json::Value) -> Result<Response<Incoming>, Failure> {
        let head = request(Method::POST, path).header("content-type", "application/json");
        self.open_with(head, Bytes::from(body.to_string())).await
    }

    async fn open_with(&self, head: request::Builder, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let request = head.body(Full::new(body)).map_err(|source| Failure::Malformed(source.into()))?;
        let response = self.send(request, u64::MAX).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// A request with a tar that is streamed, however long; the answer's body is progress. It may begin before all is
    /// sent: the connection must be held until the body was read, and ends when it is dropped.
    pub(super) async fn upload(
        &self,
        method: Method,
        path: &str,
        body: Upload,
    ) -> Result<(Incoming, Connection), Failure> {
        let pulse = body.pulse();
        let head = request(method, path).header("content-type", "application/x-tar");
        let request = head.body(body).map_err(|source| Failure::Malformed(source.into()))?;
        let stream = self.connect(Self::LIMIT_PROGRESS).await?;
        let (response, connection) = exchange(stream, request).await?;
        if response.status().is_success() {
            return Ok((response.into_body(), connection));
        }
        pulse.stop();
        Err(refusal(response).await)
    }

    async fn send<B>(&self, request: Request<B>, limit: u64) -> Result<Response<Incoming>, Failure>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Cause>,
    {
        let (response, connection) = exchange(self.connect(limit).await?, request).await?;
        connection.let_go();
        Ok(response)
    }

    async fn connect(&self, limit: u64) -> Result<Bounded, Failure> {
        let connect = tokio::time::timeout(Self::CONNECT, UnixStream::connect(&self.socket)).await;
        let stream = connect.map_err(|_| Failure::Timeout(Self::CONNECT))?.map_err(Failure::Connect)?;
        Ok(Bounded { stream, left: limit })
    }
}

fn request(method: Method, path: &str) -> request::Builder {
    tracing::trace!(%method, path = without_secret(path), "engine");
    Request::builder().method(method).uri(path).header("host", "docker")
}

async fn exchange<B>(stream: Bounded, request: Request<B>) -> Result<(Response<Incoming>, Connection), Failure>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Cause>,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::Http)?;
    let connection = Connection(Some(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "the connection to the engine ended");
        }
    })));
    Ok((sender.send_request(request).await.map_err(Failure::Http)?, connection))
}

/// What drives a connection; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Connection(Option<JoinHandle<()>>);

impl Connection {
    /// It ends by itself when the answer was read or dropped.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
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
    let mut body = Vec::new();
    // What was said before a connection broke was said.
    let _ = tokio::time::timeout(Transport::CONNECT, read_some(response.into_body(), &mut body)).await;
    let message = serde_json::from_slice::<Wire>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |wire| wire.message);
    Failure::Status(status, message)
}

/// Until it ends, breaks or has more than any message.
async fn read_some(mut body: Incoming, read: &mut Vec<u8>) {
    const MESSAGE: usize = 64 << 10;
    while let Some(Ok(frame)) = body.frame().await
        && read.len() < MESSAGE
    {
        read.extend(frame.into_data().unwrap_or_default());
    }
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
#[path = "transport_tests.rs"]
pub(super) mod tests;
