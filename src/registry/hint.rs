//! What to do next after an error.

use super::asked::{Asked, Object};
use super::credentials::{CredentialsError, Used};
use super::docker_config::HUB;
use super::error::{ConnectProblem, Error, TlsProblem};
use super::rate_limit::{RateLimit, span};

impl Error {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self.root() {
            Self::NotFound { asked, .. } => not_found_hint(asked)?,
            // Nobody logs in there.
            Self::Unauthorized { asked, .. } if asked.is_list() => return None,
            Self::RateLimited { asked, limit, .. } if asked.is_list() => limit.wait_hint(),
            Self::Unauthorized { registry, used, .. } => used.hint(registry),
            Self::RateLimited { registry, used, limit, .. } => limit.hint(registry, used),
            Self::Connect { problem, .. } => connect_hint(*problem)?.into(),
            Self::Tls { problem, asked, .. } => tls_hint(*problem, asked)?,
            Self::Timeout { .. } => "check the network, or name a mirror that is closer".into(),
            Self::PlainHttpRefused { target, .. } => {
                format!("use https, or allow plain HTTP for it: --plain-http {target}")
            }
            Self::Credentials { registry, source, .. } => source.hint(registry),
            Self::Server { .. } | Self::Truncated { .. } | Self::Interrupted { .. } => {
                "the server or the network has a problem that may pass: try again later".into()
            }
            Self::WrongDigest { .. } => {
                "the registry, a mirror or something between changes content: do not use this image from there".into()
            }
            _ => return None,
        })
    }
}

fn not_found_hint(asked: &Asked) -> Option<String> {
    match &asked.object {
        Object::Document(reference) if reference.digest().is_none() => {
            Some(format!("check the spelling of {reference}, and that the tag exists"))
        }
        Object::Document(reference) => Some(format!("check that {} still has this digest", reference.name())),
        Object::ReleaseImages { version } => Some(format!("check that k3s has a release {version}")),
        _ => None,
    }
}

fn connect_hint(problem: ConnectProblem) -> Option<&'static str> {
    Some(match problem {
        ConnectProblem::Dns => "check the spelling of the registry's name and this machine's DNS",
        ConnectProblem::Refused => "check that the registry runs and listens on this port",
        ConnectProblem::Timeout => "check the network, firewalls, and the HTTPS_PROXY variable",
        ConnectProblem::Other => return None,
    })
}

fn tls_hint(problem: TlsProblem, asked: &Asked) -> Option<String> {
    Some(match problem {
        TlsProblem::NotTls => {
            format!("if {0} speaks plain HTTP and you trust the network, allow it: --plain-http {0}", asked.at)
        }
        TlsProblem::Date => "check this machine's clock (`date`)".into(),
        TlsProblem::Issuer => "for a CA of your own, point SSL_CERT_FILE to a bundle that contains it".into(),
        TlsProblem::Name => "use the name that the registry's certificate is made for".into(),
        TlsProblem::Certificate | TlsProblem::Handshake => return None,
    })
}

impl RateLimit {
    fn wait_hint(&self) -> String {
        match self.wait() {
            Some(wait) => format!("try again in {}", span(wait)),
            None => "try again later".into(),
        }
    }

    fn hint(&self, registry: &str, used: &Used) -> String {
        let wait = self.wait_hint();
        match used {
            Used::Credentials { .. } => format!("{wait}, or name a mirror of {registry}"),
            _ => format!("{wait}, or log in for a higher limit: {}", login(registry)),
        }
    }
}

impl Used {
    fn hint(&self, registry: &str) -> String {
        let login = login(registry);
        match self {
            Self::Anonymous => format!("check the name; if it is private, log in first: {login}"),
            Self::Credentials { .. } => format!("check that this account may read it, or log in again: {login}"),
            Self::Withheld { realm, .. } => {
                format!("if it really is the token server of {registry}, allow it: --token-server {realm}")
            }
        }
    }
}

impl CredentialsError {
    fn hint(&self, registry: &str) -> String {
        match self {
            Self::NoHelper { program } => format!(
                "install {program}, or take it out of credsStore and credHelpers in Docker's config.json and log in again: {}",
                login(registry)
            ),
            Self::Helper { program, .. } => {
                let server = if registry == "docker.io" { HUB } else { registry };
                format!("try it by hand: echo {server} | {program} get")
            }
            Self::Read { path, .. } | Self::Malformed { path, .. } => {
                format!("repair {}, or log in again: {}", path.display(), login(registry))
            }
        }
    }
}

/// `docker login`, which takes no name for Docker Hub.
fn login(registry: &str) -> String {
    if registry == "docker.io" { "docker login".into() } else { format!("docker login {registry}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn hints_name_the_command() {
        let limit = RateLimit { retry_after: Some(Duration::from_secs(4980)), ..RateLimit::default() };
        let anonymous = limit.hint("docker.io", &Used::Anonymous);
        assert_eq!(anonymous, "try again in 83 min, or log in for a higher limit: docker login");
        let source = String::from("x");
        assert!(limit.hint("docker.io", &Used::Credentials { source }).contains("mirror of docker.io"));
        assert!(Used::Anonymous.hint("docker.io").ends_with("log in first: docker login"));
        assert!(Used::Anonymous.hint("ghcr.io").ends_with("log in first: docker login ghcr.io"));
        let program = String::from("docker-credential-x");
        assert!(CredentialsError::NoHelper { program }.hint("ghcr.io").ends_with("docker login ghcr.io"));
    }
}
