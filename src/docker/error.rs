//! What can go wrong with an engine, told apart by fields: the errno, the HTTP status, the kind of answer.

use std::io;
use std::time::Duration;

use hyper::StatusCode;

/// Why the engine did not do what it was asked. `attempt` is a phrase that follows "could not": `create container x`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is there, but this user may not connect to it.
    #[error("could not {attempt}: no permission to use the engine's socket")]
    NotAllowed {
        /// What was tried.
        attempt: String,
        /// EACCES or EPERM.
        #[source]
        source: io::Error,
    },
    /// Nobody listens, or the connection ends before any answer: what a forward to a missing socket looks like.
    #[error("could not {attempt}: the engine does not answer")]
    NotAnswering {
        /// What was tried.
        attempt: String,
        /// What was seen instead of an answer.
        #[source]
        source: Cause,
    },
    /// The connection broke in the middle.
    #[error("could not {attempt}: the connection to the engine was lost")]
    Disconnected {
        /// What was tried.
        attempt: String,
        /// How it ended.
        #[source]
        source: Cause,
    },
    /// It did not finish in time.
    #[error("could not {attempt} within {} s", within.as_secs())]
    Timeout {
        /// What was tried.
        attempt: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The container, image or volume is not there (404).
    #[error("could not {attempt}: {message}")]
    NotFound {
        /// What was tried.
        attempt: String,
        /// The engine's words.
        message: String,
    },
    /// The name is taken or the thing is in use (409).
    #[error("could not {attempt}: {message}")]
    Conflict {
        /// What was tried.
        attempt: String,
        /// The engine's words.
        message: String,
    },
    /// The host's disk is full.
    #[error("could not {attempt}: no space left on the host's disk ({message})")]
    NoSpace {
        /// What was tried.
        attempt: String,
        /// The engine's words.
        message: String,
    },
    /// The engine began to pull the image and then gave up.
    #[error("could not pull {name}: {message}")]
    Pull {
        /// The image, as the engine was asked for it.
        name: String,
        /// The engine's words.
        message: String,
    },
    /// The engine took a tar of images and then gave up: it may lack what the tar left out, or the tar is no such tar.
    #[error("could not load images: {message}")]
    Load {
        /// The engine's words.
        message: String,
    },
    /// What was to be sent could not be had; the engine is not to blame.
    #[error("could not {attempt}: what was to be sent broke off")]
    Source {
        /// What was tried.
        attempt: String,
        /// The stream's own error: [`Error::into_source`] gives it back as it was.
        #[source]
        source: Cause,
    },
    /// Any other refusal.
    #[error("could not {attempt}: the engine answered {status}: {message}")]
    Api {
        /// What was tried.
        attempt: String,
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The answer is not what the API promises, or longer than it can be.
    #[error("could not {attempt}: the engine's answer makes no sense")]
    Malformed {
        /// What was tried.
        attempt: String,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
}

/// The reason below an [`Error`].
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAllowed { .. } => {
                Some("add the user to the group docker on that host (sudo usermod -aG docker $USER) and log in again".into())
            }
            Self::NotAnswering { .. } => {
                Some("see on that host whether Docker runs: systemctl status docker; start it: sudo systemctl start docker".into())
            }
            Self::Disconnected { .. } => {
                Some("run the same command again: what is complete is kept. If it happens again, see journalctl -u docker on that host".into())
            }
            Self::NoSpace { .. } => {
                Some("see what fills that host's disk with docker system df; docker system prune removes what no container uses".into())
            }
            Self::NotFound { .. }
            | Self::Timeout { .. }
            | Self::Conflict { .. }
            | Self::Pull { .. }
            | Self::Load { .. }
            | Self::Source { .. }
            | Self::Api { .. }
            | Self::Malformed { .. } => None,
        }
    }

    /// The same error at the first contact: a connection that is lost before anything was said was none.
    pub(super) fn at_first_contact(self) -> Self {
        match self {
            Self::Disconnected { attempt, source } => Self::NotAnswering { attempt, source },
            other => other,
        }
    }

    /// The error of the stream that was to be sent, if that is what this is about.
    ///
    /// # Errors
    /// This error itself, if it is another one.
    pub fn into_source<E: std::error::Error + 'static>(self) -> Result<E, Self> {
        match self {
            Self::Source { attempt, source } => match source.downcast() {
                Ok(source) => Ok(*source),
                Err(source) => Err(Self::Source { attempt, source }),
            },
            other => Err(other),
        }
    }

    /// Whether it says that the thing asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// A failure before it is known what was attempted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Connect(io::Error),
    #[error(transparent)]
    Http(hyper::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}: {1}")]
    Status(StatusCode, String),
    #[error("{0}")]
    Stream(String),
    #[error(transparent)]
    Malformed(Cause),
    #[error(transparent)]
    Source(Cause),
}

impl Failure {
    /// The public error for this failure.
    pub(super) fn during(self, attempt: impl Into<String>) -> Error {
        let attempt = without_secret(&attempt.into());
        match self {
            Self::Connect(source) => connect(attempt, source),
            Self::Http(source) => http(attempt, source),
            Self::Timeout(within) => Error::Timeout { attempt, within },
            Self::Status(status, message) => refused(attempt, status, one_line(&message)),
            Self::Stream(message) if is_no_space(&message) => Error::NoSpace { attempt, message: one_line(&message) },
            Self::Stream(message) => Error::Api { attempt, status: 200, message: one_line(&message) },
            Self::Malformed(source) => Error::Malformed { attempt, source },
            Self::Source(source) => Error::Source { attempt, source },
        }
    }
}

fn connect(attempt: String, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Error::NotAllowed { attempt, source },
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::NotAnswering { attempt, source: source.into() }
        }
        io::ErrorKind::FileTooLarge => Error::Malformed { attempt, source: source.into() },
        _ => Error::Disconnected { attempt, source: source.into() },
    }
}

fn http(attempt: String, source: hyper::Error) -> Error {
    let cause = std::error::Error::source(&source).and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_endless = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::FileTooLarge);
    if source.is_parse() || is_endless {
        Error::Malformed { attempt, source: source.into() }
    } else {
        Error::Disconnected { attempt, source: source.into() }
    }
}

fn refused(attempt: String, status: StatusCode, message: String) -> Error {
    match status {
        StatusCode::NOT_FOUND => Error::NotFound { attempt, message },
        StatusCode::CONFLICT => Error::Conflict { attempt, message },
        _ if is_no_space(&message) => Error::NoSpace { attempt, message },
        _ => Error::Api { attempt, status: status.as_u16(), message },
    }
}

/// ENOSPC reaches the API only as the text of strerror inside a message (status 500 or an error in a stream).
pub(super) fn is_no_space(message: &str) -> bool {
    message.contains("no space left on device")
}

/// The engine's words on one line, without control characters, 500 characters at most, without the run's secret.
pub(super) fn one_line(message: &str) -> String {
    let words = message.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    without_secret(&words.take(500).collect::<String>())
}

/// Temporary image names have an unguessable part, which lets a host ask for blobs; nobody else needs to see it.
pub(super) fn without_secret(text: &str) -> String {
    const MARK: &str = "/k3arm-";
    let mut pieces = text.split(MARK);
    let mut shown = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_hexdigit).count();
        shown += MARK;
        shown += if digits == 32 { "…" } else { &piece[..digits] };
        shown += &piece[digits..];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Error {
        Failure::Status(StatusCode::from_u16(code).unwrap(), message.into()).during("do it")
    }

    #[test]
    fn refusals_are_told_apart_by_their_status() {
        assert!(matches!(status(404, "No such image"), Error::NotFound { .. }));
        assert!(matches!(status(409, "in use"), Error::Conflict { .. }));
        assert!(matches!(status(500, "x"), Error::Api { status: 500, .. }));
        assert!(matches!(status(500, "write /a: no space left on device"), Error::NoSpace { .. }));
        assert!(status(500, "write /a: no space left on device").hint().is_some());
    }

    #[test]
    fn what_an_engine_says_cannot_drive_a_terminal() {
        let error = status(500, "bad\u{1b}[2J\nnews ").to_string();
        assert_eq!(error, "could not do it: the engine answered 500: bad [2J news");
        assert!(status(500, &"x".repeat(9999)).to_string().len() < 600);
    }

    #[test]
    fn the_secret_of_a_temporary_name_is_not_shown() {
        let secret = "0123456789abcdef0123456789abcdef";
        let text = format!("Get http://127.0.0.1:1/v2/k3arm-{secret}/a: no /k3arm-home /k3arm-{secret}");
        assert_eq!(without_secret(&text), "Get http://127.0.0.1:1/v2/k3arm-…/a: no /k3arm-home /k3arm-…");
        assert!(!status(500, &text).to_string().contains(secret));
    }

    #[test]
    fn a_socket_that_refuses_is_told_apart_by_its_errno() {
        let error = |kind| Failure::Connect(io::Error::from(kind)).during("do it");
        assert!(matches!(error(io::ErrorKind::PermissionDenied), Error::NotAllowed { .. }));
        assert!(matches!(error(io::ErrorKind::ConnectionRefused), Error::NotAnswering { .. }));
        assert!(matches!(error(io::ErrorKind::BrokenPipe), Error::Disconnected { .. }));
    }
}
