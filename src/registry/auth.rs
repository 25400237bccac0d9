//! The right to read: who is asked for it, and who is told the user's credentials.
//!
//! A registry's 401 answer names a token server. Anybody may name one, so the user's credentials go there only over
//! HTTPS (or plain HTTP where that is allowed) and only where it is the registry's own: the same host, a host of the same
//! parent domain (`registry-1.docker.io` and `auth.docker.io`, `registry.gitlab.com` and `gitlab.com`), or a host that the
//! user allowed by name. Others are asked anonymously.
//!
//! Tokens are kept for each registry and repository, and asked for once however many requests wait.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex as Lock, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::asked::Asked;
use super::challenge::Challenge;
use super::credentials::{Credential, Credentials, CredentialsError, Found, Used};
use super::endpoint::{Endpoint, authority, is_loopback};
use super::error::Error;
use super::token::{self, Wanted};
use super::transport::{Answer, Transport};

/// What goes into `Authorization`, and whose right it is.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) used: Used,
    /// After that it is not sent any more.
    pub(super) until: Option<Instant>,
    /// Why the user's credentials could not be had, if they could not.
    pub(super) lacking: Option<CredentialsError>,
}

/// The grant of one repository of one registry; whoever renews it holds the lock, others wait for the result.
pub(super) type Slot = Arc<Mutex<Option<Grant>>>;

type Lookup = Result<Option<Found>, CredentialsError>;

/// All grants and credentials of this run.
#[derive(Debug)]
pub(super) struct Auth {
    pub(super) credentials: Credentials,
    pub(super) trusted_realms: BTreeSet<String>,
    slots: Lock<BTreeMap<(String, String), Slot>>,
    found: Lock<BTreeMap<String, Arc<OnceCell<Lookup>>>>,
}

impl Grant {
    /// The right that everybody has.
    pub(super) fn anonymous() -> Self {
        Self { authorization: None, used: Used::Anonymous, until: None, lacking: None }
    }

    fn is_valid(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Auth {
    pub(super) fn new(credentials: Credentials, trusted_realms: BTreeSet<String>) -> Self {
        let trusted_realms = trusted_realms.iter().map(|realm| realm.to_ascii_lowercase()).collect();
        Self { credentials, trusted_realms, slots: Lock::default(), found: Lock::default() }
    }

    /// The place of the grant for `repository` (empty: the registry's other requests) of `endpoint`.
    pub(super) fn slot(&self, endpoint: &Endpoint, repository: &str) -> Slot {
        let key = (endpoint.base.to_string(), repository.to_string());
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    /// The grant that is known, if it is still good.
    pub(super) async fn current(slot: &Slot) -> Option<Grant> {
        slot.lock().await.clone().filter(Grant::is_valid)
    }

    /// A new grant after `answer` refused `stale`.
    pub(super) async fn renew(&self, renewal: Renewal<'_>) -> Result<Grant, Error> {
        let mut slot = renewal.slot.lock().await;
        let another = slot.clone().filter(|grant| grant.is_valid() && grant.authorization != renewal.stale);
        if let Some(grant) = another {
            return Ok(grant);
        }
        // No retry here: whoever asks the registry again asks the token server again.
        // Whatever happens now, the refused one is of no use.
        *slot = None;
        let grant = self.grant(&renewal).await?;
        *slot = Some(grant.clone());
        Ok(grant)
    }

    async fn grant(&self, renewal: &Renewal<'_>) -> Result<Grant, Error> {
        let found = self.found(&renewal.endpoint.login).await;
        match &renewal.challenge {
            Challenge::Basic => basic(renewal, found),
            Challenge::Bearer { realm, service, scope } => {
                let realm = realm_url(renewal, realm)?;
                let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull", renewal.repository));
                let (found, used, lacking) = self.sendable(renewal, &realm, found);
                let wanted =
                    Wanted { realm, service: service.clone(), scope, found, registry: &renewal.endpoint.login };
                let fetched = token::fetch(renewal.transport, &wanted, &used).await;
                let (authorization, until) = fetched.map_err(|error| lacked(error, &lacking))?;
                Ok(Grant { authorization: Some(authorization), used, until: Some(until), lacking })
            }
        }
    }

    /// The user's credentials as far as `realm` may see them, and how to call what is used.
    fn sendable(
        &self,
        renewal: &Renewal<'_>,
        realm: &Url,
        found: Lookup,
    ) -> (Option<Found>, Used, Option<CredentialsError>) {
        match found {
            Err(error) => {
                tracing::warn!(registry = renewal.endpoint.login, %error, "asking without credentials");
                (None, Used::Anonymous, Some(error))
            }
            Ok(None) => (None, Used::Anonymous, None),
            Ok(Some(found)) if self.trusts(&renewal.endpoint.base, realm) => {
                let used = Used::Credentials { source: found.source.clone() };
                (Some(found), used, None)
            }
            Ok(Some(found)) => {
                tracing::warn!(
                    realm = authority(realm),
                    "the token server is not the registry's own: asking without credentials"
                );
                (None, Used::Withheld { source: found.source, realm: authority(realm) }, None)
            }
        }
    }

    fn trusts(&self, registry: &Url, realm: &Url) -> bool {
        (is_loopback(registry) && is_loopback(realm))
            || related(registry.host_str().unwrap_or_default(), realm.host_str().unwrap_or_default())
            || self.trusted_realms.contains(&authority(realm))
            || self.trusted_realms.contains(realm.host_str().unwrap_or_default())
    }

    /// The user's credentials for a registry, looked up once.
    async fn found(&self, login: &str) -> Lookup {
        let cell = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.entry(login.to_string()).or_default().clone()
        };
        cell.get_or_init(|| self.credentials.find(login)).await.clone()
    }
}

/// All that a new grant depends on.
#[derive(Debug)]
pub(super) struct Renewal<'a> {
    pub(super) transport: &'a Transport,
    pub(super) endpoint: &'a Endpoint,
    pub(super) repository: &'a str,
    pub(super) slot: &'a Slot,
    pub(super) challenge: Challenge,
    pub(super) stale: Option<HeaderValue>,
    pub(super) asked: &'a Asked,
}

impl Grant {
    /// What the answer to a request with this grant means.
    pub(super) async fn judge(self, answer: Answer, registry: &str) -> Result<Answer, Error> {
        answer.accepted(registry, self.used).await.map_err(|error| lacked(error, &self.lacking))
    }
}

/// Where the user's credentials could not be had, that is the news and not the refusal.
fn lacked(error: Error, lacking: &Option<CredentialsError>) -> Error {
    match (error, lacking) {
        (Error::Unauthorized { asked, registry, .. }, Some(source)) => {
            Error::Credentials { asked, registry, source: source.clone() }
        }
        (error, _) => error,
    }
}

fn basic(renewal: &Renewal<'_>, found: Lookup) -> Result<Grant, Error> {
    let asked = || Box::new(renewal.asked.clone());
    let registry = renewal.endpoint.login.clone();
    match found {
        Err(source) => Err(Error::Credentials { asked: asked(), registry, source }),
        Ok(Some(Found { credential: Credential::Password { user, password }, source })) => {
            let authorization = basic_value(&user, &password.0);
            let used = Used::Credentials { source };
            Ok(Grant { authorization, used, until: None, lacking: None })
        }
        // An identity token is for a token server, and there is none.
        Ok(_) => Ok(Grant::anonymous()),
    }
}

/// `Basic …`; marked so that no log shows it.
pub(super) fn basic_value(user: &str, password: &str) -> Option<HeaderValue> {
    let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn realm_url(renewal: &Renewal<'_>, realm: &str) -> Result<Url, Error> {
    let asked = || Box::new(renewal.asked.clone());
    let url: Url =
        realm.parse().map_err(|error: url::ParseError| Error::Malformed { asked: asked(), source: Box::new(error) })?;
    if !url.has_host() || !renewal.transport.plain.follows(&renewal.endpoint.base, &url) {
        let target = url.origin().ascii_serialization();
        return Err(Error::PlainHttpRefused { asked: asked(), target });
    }
    Ok(url)
}

/// Whether two hosts belong to the same owner: equal, one below the other, or below the same parent. A parent is no
/// top-level domain and none of the usual second-level ones (`co.uk`, `com.au`). This is no public suffix list; it need
/// not be one, as the registry itself, to which the credentials belong, has named the other host.
fn related(registry: &str, realm: &str) -> bool {
    let below = |child: &str, parent: &str| {
        is_domain_of_one_owner(parent) && child.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
    };
    let parent = |host: &str| host.split_once('.').map(|(_, parent)| parent.to_string());
    let addresses = [registry, realm].iter().any(|host| is_address(host));
    registry == realm
        || !addresses
            && (below(registry, realm)
                || below(realm, registry)
                || parent(registry).is_some_and(|shared| below(realm, &shared)))
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<IpAddr>().is_ok()
}

fn is_domain_of_one_owner(domain: &str) -> bool {
    let labels: Vec<&str> = domain.split('.').collect();
    match labels.as_slice() {
        [] | [_] => false,
        [second, top] => {
            !(top.len() == 2 && matches!(*second, "co" | "com" | "net" | "org" | "gov" | "edu" | "ac" | "or" | "ne"))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_the_registrys_own_token_server() {
        for (registry, realm) in [
            ("registry-1.docker.io", "auth.docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("registry.gitlab.com", "gitlab.com"),
            ("registry.example.co.uk", "auth.example.co.uk"),
            ("127.0.0.1", "127.0.0.1"),
            ("docker.io", "auth.docker.io"),
        ] {
            assert!(related(registry, realm), "{registry} {realm}");
        }
    }

    #[test]
    fn credentials_go_to_nobody_else() {
        for (registry, realm) in [
            ("registry-1.docker.io", "auth.docker.io.evil.example"),
            ("registry-1.docker.io", "evildocker.io"),
            ("a.io", "b.io"),
            ("a.co.uk", "b.co.uk"),
            ("10.0.0.1", "20.0.0.1"),
            ("[::1]", "[::2]"),
            ("io", "docker.io"),
            ("localhost", "evil.localhost"),
            ("a.b", ""),
        ] {
            assert!(!related(registry, realm), "{registry} {realm}");
        }
    }
}
