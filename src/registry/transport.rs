//! One request and its answer: timeouts, redirects, and what a status means. No retry, no authentication.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};
use tokio::time::timeout;

use super::Timeouts;
use super::asked::{Asked, shown};
use super::classify::failed_request;
use super::credentials::{Hidden, Used};
use super::endpoint::{PlainHttp, is_loopback};
use super::error::Error;
use super::rate_limit::RateLimit;
use super::said;
use super::tls::Clients;

/// A registry sends a blob's request to storage, storage perhaps to another region; more is a loop.
const MOST_REDIRECTS: usize = 5;

/// Sends requests.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) clients: Clients,
    pub(super) timeouts: Timeouts,
    pub(super) plain: PlainHttp,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) url: Url,
    pub(super) accept: HeaderValue,
    /// Goes to the origin of `url` only, never further after a redirect.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) range: Option<HeaderValue>,
    /// A form to post; such a request follows no redirect. `None` is a GET.
    pub(super) form: Option<Hidden>,
}

impl Request {
    pub(super) fn get(asked: Asked, url: Url) -> Self {
        let accept = HeaderValue::from_static("*/*");
        Self { asked, url, accept, authorization: None, range: None, form: None }
    }
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) asked: Asked,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whether it comes from another origin than was asked first.
    pub(super) redirected: bool,
    pub(super) body: Body,
}

/// The rest of an answer.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) asked: Asked,
    response: reqwest::Response,
    idle: Duration,
    /// Bytes in all, if the answer says so.
    pub(super) announced: Option<u64>,
    /// Bytes that have arrived.
    pub(super) received: u64,
}

impl Transport {
    /// Sends `request` and follows redirects; whatever the last status is, it is an answer.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, Error> {
        let mut asked = request.asked.clone();
        let mut url = request.url.clone();
        self.allowed(&asked, &url)?;
        let mut redirected = false;
        for _ in 0..=MOST_REDIRECTS {
            // Who was left for another host does not get the authorization again by that host's choice.
            redirected |= url.origin() != request.url.origin();
            let response = self.once(&asked, &request, &url, redirected).await?;
            let Some(next) = next(&asked, &request, &response, &url)? else {
                return Ok(self.answer(asked, response, redirected));
            };
            if !self.plain.follows(&url, &next) {
                return Err(Error::PlainHttpRefused {
                    asked: Box::new(asked),
                    target: next.origin().ascii_serialization(),
                });
            }
            tracing::trace!(from = %shown(&url), to = %shown(&next), "redirect");
            asked = request.asked.redirected(&next);
            url = next;
        }
        Err(Error::Redirect { asked: Box::new(asked), reason: "too many redirects" })
    }

    fn allowed(&self, asked: &Asked, url: &Url) -> Result<(), Error> {
        if self.plain.allows(url) {
            return Ok(());
        }
        Err(Error::PlainHttpRefused { asked: Box::new(asked.clone()), target: url.origin().ascii_serialization() })
    }

    async fn once(&self, asked: &Asked, request: &Request, url: &Url, away: bool) -> Result<reqwest::Response, Error> {
        let client = if is_loopback(url) { &self.clients.loopback } else { &self.clients.outside };
        let method = if request.form.is_some() { Method::POST } else { Method::GET };
        let mut builder = client.request(method, url.clone()).header(ACCEPT, &request.accept);
        if let Some(authorization) = request.authorization.as_ref().filter(|_| !away) {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if let Some(range) = &request.range {
            builder = builder.header(RANGE, range);
        }
        if let Some(form) = &request.form {
            builder = builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.0.clone());
        }
        // Connecting has a limit of its own inside the client; this one is for the headers.
        let waited = self.timeouts.connect + self.timeouts.idle;
        match timeout(waited, builder.send()).await {
            Ok(sent) => sent.map_err(|error| failed_request(asked, error)),
            Err(_) => Err(Error::Timeout { asked: Box::new(asked.clone()), waited }),
        }
    }

    fn answer(&self, asked: Asked, response: reqwest::Response, redirected: bool) -> Answer {
        tracing::trace!(%asked, status = response.status().as_u16(), "answer");
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            redirected,
            body: Body {
                asked: asked.clone(),
                idle: self.timeouts.idle,
                announced: response.content_length(),
                received: 0,
                response,
            },
            asked,
        }
    }
}

/// Where a redirect leads, `None` if the answer is not one.
fn next(asked: &Asked, request: &Request, response: &reqwest::Response, url: &Url) -> Result<Option<Url>, Error> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    // A form holds a secret.
    if !is_redirect || request.form.is_some() {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|location| url.join(location).ok());
    match target.filter(|target| target.has_host() && matches!(target.scheme(), "http" | "https")) {
        Some(target) => Ok(Some(target)),
        None => Err(Error::Redirect { asked: Box::new(asked.clone()), reason: "a redirect to no usable address" }),
    }
}

impl Answer {
    /// The answer itself if its status is 200 or 206, else what the status means. `used` are the rights that were used,
    /// `registry` the name for `docker login`.
    pub(super) async fn accepted(self, registry: &str, used: Used) -> Result<Self, Error> {
        let status = self.status.as_u16();
        if matches!(status, 200 | 206) {
            return Ok(self);
        }
        let asked = Box::new(self.asked);
        let registry = registry.to_string();
        if status == 429 {
            let limit = Box::new(RateLimit::of(&self.headers, SystemTime::now()));
            return Err(Error::RateLimited { asked, registry, used, limit });
        }
        let said = said::read(self.body).await;
        Err(match status {
            404 => Error::NotFound { asked, said },
            401 | 403 => Error::Unauthorized { asked, status, registry, used, said },
            408 | 500..=599 => Error::Server { asked, status, said },
            _ => Error::Status { asked, status, said },
        })
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Body {
    /// The next bytes, `None` at the end as the protocol marks it.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = match timeout(self.idle, self.response.chunk()).await {
            Err(_) => return Err(Error::Timeout { asked: Box::new(self.asked.clone()), waited: self.idle }),
            Ok(Err(error)) => {
                return Err(Error::Truncated {
                    asked: Box::new(self.asked.clone()),
                    received: self.received,
                    expected: self.announced,
                    source: Some(Box::new(error.without_url())),
                });
            }
            Ok(Ok(chunk)) => chunk,
        };
        self.received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }

    /// The whole of a small body: at most `limit` bytes within `deadline`.
    pub(super) async fn whole(mut self, limit: u64, deadline: Duration) -> Result<Bytes, Error> {
        let asked = self.asked.clone();
        match timeout(deadline, self.gather(limit)).await {
            Ok(read) => read,
            Err(_) => Err(Error::Timeout { asked: Box::new(asked), waited: deadline }),
        }
    }

    async fn gather(&mut self, limit: u64) -> Result<Bytes, Error> {
        let oversized = |asked: &Asked| Error::Oversized { asked: Box::new(asked.clone()), limit };
        if self.announced.is_some_and(|length| length > limit) {
            return Err(oversized(&self.asked));
        }
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if self.received > limit {
                return Err(oversized(&self.asked));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}
