//! Answers: from a request to status, headers and body, as the OCI distribution spec has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::response::Builder;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::oci::{Descriptor, Digest, MediaType};
use crate::store::{self, BlobReader};

use super::door::{Blob, Doors, Found, Room};
use super::request::{Item, Target, Wanted};
use super::turns::Turn;

/// A body; an error in it cuts the connection.
pub(super) type Body = UnsyncBoxBody<Bytes, store::Error>;

/// How long an answer waits for the first bytes of a blob, to be able to say what is wrong by its status. Then it
/// starts, because clients wait for headers less patiently than for bytes.
const FIRST_BYTES: Duration = Duration::from_secs(10);

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Answers a request; `activity` is told of every sign of life.
pub(super) async fn answer<B>(doors: &Doors, request: &Request<B>, activity: Arc<Notify>) -> Response<Body> {
    activity.notify_one();
    let is_head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        _ => return failure(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only"),
    };
    let Some(target) = Target::parse(request.uri().path()) else { return unknown() };
    let Target::Item { door, repository, item } = target else { return base() };
    let Some(room) = doors.room(door) else { return unknown() };
    match room.find(repository, &item) {
        Some(Found::Document(digest, media_type, bytes)) => document(&room, &digest, &media_type, bytes, is_head),
        Some(Found::Blob(blob)) => {
            let wanted = wanted(request, &blob.descriptor);
            let answer = Answer { doors, room, blob, activity };
            if is_head { answer.head() } else { answer.body(wanted).await }
        }
        None if matches!(item, Item::Blob(_)) => failure(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown"),
        None => failure(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn wanted<B>(request: &Request<B>, blob: &Descriptor) -> Wanted {
    let text = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_about_another = text(header::IF_RANGE).is_some_and(|known| known != etag(&blob.digest));
    Wanted::parse(text(header::RANGE).filter(|_| !is_about_another), blob.size)
}

/// A blob on its way to a host.
struct Answer<'a> {
    doors: &'a Doors,
    room: Arc<Room>,
    blob: Blob,
    activity: Arc<Notify>,
}

impl Answer<'_> {
    fn head(&self) -> Response<Body> {
        let answer = self.headers(StatusCode::OK).header(header::CONTENT_LENGTH, self.blob.descriptor.size);
        finish(answer, empty())
    }

    async fn body(self, wanted: Wanted) -> Response<Body> {
        let size = self.blob.descriptor.size;
        let (answer, range) = match wanted {
            Wanted::Whole => (self.headers(StatusCode::OK), 0..size),
            Wanted::Part(range) => {
                let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                (self.headers(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, text), range)
            }
            Wanted::Unsatisfiable => {
                let answer = self.headers(StatusCode::RANGE_NOT_SATISFIABLE);
                return finish(answer.header(header::CONTENT_RANGE, format!("bytes */{size}")), empty());
            }
        };
        let answer = answer.header(header::CONTENT_LENGTH, range.end - range.start);
        let turn = self.room.turns.begin(self.blob.place, self.doors.store.has(&self.blob.descriptor));
        let opened = self.doors.store.open_blob(&self.blob.descriptor, self.blob.source.clone()).await;
        match opened.map(|reader| reader.range(range)) {
            Ok(reader) => self.stream(answer, reader, turn).await,
            Err(error) => self.refuse(&error),
        }
    }

    async fn stream(self, answer: Builder, mut reader: BlobReader, turn: Turn) -> Response<Body> {
        let first = match timeout(FIRST_BYTES, reader.next()).await {
            Ok(Some(Err(error))) => return self.refuse(&error),
            Ok(first) => first,
            Err(_) => None,
        };
        let Self { room, activity, blob, .. } = self;
        let pieces = stream::iter(first).chain(reader);
        let frames = stream::unfold((pieces, turn), move |(mut pieces, turn)| {
            let (activity, room, digest) = (activity.clone(), room.clone(), blob.descriptor.digest.clone());
            async move {
                turn.taken();
                activity.notify_one();
                let piece = pieces.next().await?;
                activity.notify_one();
                match &piece {
                    Ok(bytes) => {
                        turn.come(&activity).await;
                        room.count(bytes.len());
                    }
                    Err(error) => room.failed(&digest, error),
                }
                Some((piece.map(Frame::data), (pieces, turn)))
            }
        });
        finish(answer, StreamBody::new(frames).boxed_unsync())
    }

    /// Nothing was sent yet, so the reason can be told.
    fn refuse(&self, error: &store::Error) -> Response<Body> {
        self.room.failed(&self.blob.descriptor.digest, error);
        failure(StatusCode::BAD_GATEWAY, "UNKNOWN", &error.to_string())
    }

    fn headers(&self, status: StatusCode) -> Builder {
        headers(status, "application/octet-stream", &self.blob.descriptor.digest).header(header::ACCEPT_RANGES, "bytes")
    }
}

fn base() -> Response<Body> {
    finish(bare(StatusCode::OK, "application/json"), full("{}"))
}

fn document(room: &Room, digest: &Digest, media_type: &MediaType, bytes: Bytes, is_head: bool) -> Response<Body> {
    let answer = headers(StatusCode::OK, &media_type.0, digest).header(header::CONTENT_LENGTH, bytes.len());
    if !is_head {
        room.count(bytes.len());
    }
    finish(answer, if is_head { empty() } else { full(bytes) })
}

/// The same answer for a wrong secret and for a path that no registry has.
fn unknown() -> Response<Body> {
    failure(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry")
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let errors = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    let answer = bare(status, "application/json");
    let answer =
        if status == StatusCode::METHOD_NOT_ALLOWED { answer.header(header::ALLOW, "GET, HEAD") } else { answer };
    finish(answer, full(errors.to_string()))
}

fn headers(status: StatusCode, content_type: &str, digest: &Digest) -> Builder {
    bare(status, content_type).header(CONTENT_DIGEST, digest.to_string()).header(header::ETAG, etag(digest))
}

fn bare(status: StatusCode, content_type: &str) -> Builder {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(API_VERSION, "registry/2.0")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// A header that cannot be written (a media type with a line break in it) makes the answer a failure.
fn finish(answer: Builder, body: Body) -> Response<Body> {
    answer.body(body).unwrap_or_else(|_| {
        let mut answer = Response::new(empty());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> Body {
    full(Bytes::new())
}
