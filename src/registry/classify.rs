//! Tells the errors of the HTTP library apart, by the types in their chain of sources and never by their text.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use rustls::CertificateError;

use super::asked::Asked;
use super::error::{ConnectProblem, Error, TlsProblem};
use super::tls::LookupFailed;

/// What a failed request means. No answer had come yet.
pub(super) fn failed_request(asked: &Asked, error: reqwest::Error) -> Error {
    // The address may be a signed one.
    let error = error.without_url();
    let asked = Box::new(asked.clone());
    if let Some(problem) = find(&error, tls_problem) {
        return Error::Tls { asked, problem, source: Box::new(error) };
    }
    if error.is_connect() {
        let problem = connect_problem(&error);
        return Error::Connect { asked, problem, source: Box::new(error) };
    }
    let is_http = |error: &(dyn StdError + 'static)| error.downcast_ref::<hyper::Error>().map(hyper::Error::is_parse);
    match find(&error, is_http) {
        Some(true) => Error::Protocol { asked, source: Box::new(error) },
        _ => Error::Interrupted { asked, source: Box::new(error) },
    }
}

fn connect_problem(error: &reqwest::Error) -> ConnectProblem {
    if find(error, |error| error.downcast_ref::<LookupFailed>().map(|_| ())).is_some() {
        return ConnectProblem::Dns;
    }
    match find(error, |error| error.downcast_ref::<io::Error>().map(io::Error::kind)) {
        Some(ErrorKind::ConnectionRefused) => ConnectProblem::Refused,
        Some(ErrorKind::TimedOut) => ConnectProblem::Timeout,
        _ if error.is_timeout() => ConnectProblem::Timeout,
        _ => ConnectProblem::Other,
    }
}

fn tls_problem(error: &(dyn StdError + 'static)) -> Option<TlsProblem> {
    Some(match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidMessage(_) => TlsProblem::NotTls,
        rustls::Error::InvalidCertificate(certificate) => certificate_problem(certificate),
        _ => TlsProblem::Handshake,
    })
}

fn certificate_problem(error: &CertificateError) -> TlsProblem {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsProblem::Date,
        CertificateError::UnknownIssuer => TlsProblem::Issuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsProblem::Name,
        _ => TlsProblem::Certificate,
    }
}

/// The first in the chain of sources of which `which` says something. An [`io::Error`] that carries another error
/// leaves it out of its chain (its `source` is the carried error's source), so that one is looked into as well.
fn find<T>(error: &(dyn StdError + 'static), which: impl Fn(&(dyn StdError + 'static)) -> Option<T>) -> Option<T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = which(error) {
            return Some(found);
        }
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}
