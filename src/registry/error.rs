//! What can go wrong with a registry, each with what was asked and what to do next.

use std::error::Error as StdError;
use std::time::Duration;

use super::asked::Asked;
use super::credentials::{CredentialsError, Used};
use super::rate_limit::RateLimit;
use crate::oci::Digest;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a registry did not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 404: there is no such manifest, blob or list ([`Asked::object`] says which).
    #[error("{asked}: not found{}", quoted(.said))]
    NotFound {
        /// What was asked.
        asked: Box<Asked>,
        /// The registry's own words.
        said: Option<String>,
    },
    /// 401 or 403, from the registry or its token server.
    #[error("{asked}: access denied (status {status}), {used}{}", quoted(.said))]
    Unauthorized {
        /// What was asked.
        asked: Box<Asked>,
        /// 401 or 403.
        status: u16,
        /// The name that `docker login` takes.
        registry: String,
        /// Whose rights were used.
        used: Used,
        /// The registry's own words.
        said: Option<String>,
    },
    /// 429: too many requests.
    #[error("{asked}: too many requests{limit}")]
    RateLimited {
        /// What was asked.
        asked: Box<Asked>,
        /// The name that `docker login` takes.
        registry: String,
        /// Whose quota is used up.
        used: Used,
        /// What the answer says about the limit.
        limit: Box<RateLimit>,
    },
    /// 408 or 5xx, again and again.
    #[error("{asked}: the server failed with status {status}{}", quoted(.said))]
    Server {
        /// What was asked.
        asked: Box<Asked>,
        /// 408 or 500 to 599.
        status: u16,
        /// The server's own words.
        said: Option<String>,
    },
    /// A status that has no meaning here.
    #[error("{asked}: unexpected status {status}{}", quoted(.said))]
    Status {
        /// What was asked.
        asked: Box<Asked>,
        /// The status.
        status: u16,
        /// The server's own words.
        said: Option<String>,
    },
    /// The answer ended early.
    #[error("{asked}: the answer ended after {received} bytes{}", of(.expected))]
    Truncated {
        /// What was asked.
        asked: Box<Asked>,
        /// How many bytes of it arrived.
        received: u64,
        /// How many it should have, if that is known.
        expected: Option<u64>,
        /// What ended it, if that is known.
        #[source]
        source: Option<Source>,
    },
    /// The answer is larger than it may be; the rest was not read.
    #[error("{asked}: the answer is larger than {limit} bytes")]
    Oversized {
        /// What was asked.
        asked: Box<Asked>,
        /// The most it may have, in bytes.
        limit: u64,
    },
    /// The bytes are not those that were asked for or that the registry announced.
    #[error("{asked}: the content has digest {computed}, but {expected} was expected")]
    WrongDigest {
        /// What was asked.
        asked: Box<Asked>,
        /// Asked for, or announced in `Docker-Content-Digest`.
        expected: Digest,
        /// Of the bytes that arrived.
        computed: Digest,
    },
    /// The answer cannot be understood.
    #[error("{asked}: the answer is malformed")]
    Malformed {
        /// What was asked.
        asked: Box<Asked>,
        /// What is wrong with it.
        #[source]
        source: Source,
    },
    /// Another part of the blob was sent than was asked for.
    #[error("{asked}: bytes {wanted} were asked for, the answer has {got:?}")]
    Range {
        /// What was asked.
        asked: Box<Asked>,
        /// As in `Content-Range`: `10-99/100`.
        wanted: String,
        /// `Content-Range` of the answer.
        got: String,
    },
    /// No connection.
    #[error("{asked}: {problem}")]
    Connect {
        /// What was asked.
        asked: Box<Asked>,
        /// Where it failed.
        problem: ConnectProblem,
        /// The system's error.
        #[source]
        source: Source,
    },
    /// No secure connection.
    #[error("{asked}: {problem}")]
    Tls {
        /// What was asked.
        asked: Box<Asked>,
        /// Why.
        problem: TlsProblem,
        /// The error of the TLS library.
        #[source]
        source: Source,
    },
    /// Nothing arrived for too long.
    #[error("{asked}: no answer within {} s", .waited.as_secs_f32())]
    Timeout {
        /// What was asked.
        asked: Box<Asked>,
        /// How long was waited for the next byte, or for the whole of a small document.
        waited: Duration,
    },
    /// The connection was lost before an answer came.
    #[error("{asked}: the connection was lost")]
    Interrupted {
        /// What was asked.
        asked: Box<Asked>,
        /// The error of the connection.
        #[source]
        source: Source,
    },
    /// What answers does not speak HTTP, or floods.
    #[error("{asked}: the answer is not HTTP")]
    Protocol {
        /// What was asked.
        asked: Box<Asked>,
        /// The error of the HTTP library.
        #[source]
        source: Source,
    },
    /// Plain HTTP to a host that is not this machine and was not allowed by name.
    #[error("{asked}: {target} would be asked over plain HTTP, which nobody allowed")]
    PlainHttpRefused {
        /// What was asked.
        asked: Box<Asked>,
        /// The address that was not asked.
        target: String,
    },
    /// A redirect that leads nowhere.
    #[error("{asked}: {reason}")]
    Redirect {
        /// What was asked.
        asked: Box<Asked>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The registry wants credentials, and those of the user cannot be had.
    #[error("{asked}: the registry wants credentials")]
    Credentials {
        /// What was asked.
        asked: Box<Asked>,
        /// The name that `docker login` takes.
        registry: String,
        /// Why they cannot be had.
        #[source]
        source: CredentialsError,
    },
    /// The mirrors of a registry failed, and then the registry itself.
    #[error("mirrors failed ({}), and so did the registry itself", list(.tried))]
    Mirrors {
        /// The mirrors' errors, in the order in which they were tried; never empty.
        tried: Vec<Error>,
        /// The registry's own error.
        #[source]
        source: Box<Error>,
    },
    /// The settings cannot be used.
    #[error("the settings for registries cannot be used: {what}")]
    Settings {
        /// Which one and why.
        what: String,
        /// The cause.
        #[source]
        source: Option<Source>,
    },
}

/// Where a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectProblem {
    /// The name has no address.
    #[error("the name cannot be resolved")]
    Dns,
    /// Nothing listens there.
    #[error("the connection was refused")]
    Refused,
    /// Nothing answered in time.
    #[error("no connection in time")]
    Timeout,
    /// Anything else.
    #[error("no connection")]
    Other,
}

/// Why there is no secure connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// What answers does not speak TLS; perhaps plain HTTP.
    #[error("the server does not speak TLS")]
    NotTls,
    /// The certificate is not valid today.
    #[error("the certificate has expired or is not yet valid")]
    Date,
    /// The certificate's issuer is not among the trusted ones.
    #[error("the certificate is from an unknown issuer")]
    Issuer,
    /// The certificate is for another name.
    #[error("the certificate is for another name")]
    Name,
    /// Anything else about the certificate.
    #[error("the certificate was refused")]
    Certificate,
    /// The parties do not agree.
    #[error("the TLS handshake failed")]
    Handshake,
}

impl Error {
    /// The error that decides: that of the registry itself where mirrors were tried before.
    pub fn root(&self) -> &Self {
        match self {
            Self::Mirrors { source, .. } => source.root(),
            other => other,
        }
    }

    /// Whether there is no such thing (as opposed to: it could not be had).
    pub fn is_not_found(&self) -> bool {
        matches!(self.root(), Self::NotFound { .. })
    }

    /// Whether the same request may succeed in a moment. A rate limit only does where the answer says so.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Server { .. } | Self::Truncated { .. } | Self::Timeout { .. } | Self::Interrupted { .. } => true,
            Self::Connect { .. } => true,
            Self::Tls { problem, .. } => *problem == TlsProblem::Handshake,
            _ => false,
        }
    }

    /// One error of all that were tried: the mirrors' and the registry's own.
    pub(super) fn of_all(mirrors: Vec<Error>, last: Error) -> Self {
        match mirrors.is_empty() {
            true => last,
            false => Self::Mirrors { tried: mirrors, source: Box::new(last) },
        }
    }
}

fn quoted(said: &Option<String>) -> String {
    said.as_ref().map(|said| format!(": {said:?}")).unwrap_or_default()
}

fn of(expected: &Option<u64>) -> String {
    expected.map(|expected| format!(" of {expected}")).unwrap_or_default()
}

fn list(tried: &[Error]) -> String {
    tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
