//! The user's credentials, from where `docker login` keeps them.
//!
//! Nothing is read before a registry asks for credentials, so a broken file or a missing helper troubles only those who
//! need it. Order, as Docker's: the registry's own helper (`credHelpers`), the helper for all (`credsStore`), the file
//! itself (`auths`).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::helper;
use super::rate_limit::login;

/// Where credentials are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    file: Option<PathBuf>,
    helper_deadline: Duration,
}

/// Whose rights a request was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Used {
    /// Nobody's: there are no credentials for this registry.
    Anonymous,
    /// The user's.
    Credentials {
        /// Where they were found: a file or a helper.
        source: String,
    },
    /// Nobody's: there are credentials, but the registry's token server belongs to somebody else.
    Withheld {
        /// Where they were found.
        source: String,
        /// The token server that did not get them.
        realm: String,
    },
}

/// Why credentials cannot be had although there may be some.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialsError {
    /// The configuration cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::sync::Arc<io::Error>,
    },
    /// The configuration is not what Docker writes.
    #[error("{path} is malformed: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field or the place; never a value.
        what: String,
    },
    /// The configuration names a helper that is not installed.
    #[error("the credential helper {program} is not installed")]
    NoHelper {
        /// The program's name.
        program: String,
    },
    /// A helper did not do its work.
    #[error("the credential helper {program} failed: {what}")]
    Helper {
        /// The program's name.
        program: String,
        /// How.
        what: String,
    },
}

/// A secret of the user's: shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hidden(pub(super) String);

/// What the user can show to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Password {
        user: String,
        password: Hidden,
    },
    /// An OAuth2 refresh token, good for the token server only.
    IdentityToken(Hidden),
}

/// A credential and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) credential: Credential,
    pub(super) source: String,
}

/// `config.json` as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// No real configuration is larger.
const MOST_BYTES: u64 = 4 << 20;

/// The key under which Docker keeps Docker Hub's credentials.
const HUB: &str = "https://index.docker.io/v1/";

impl Default for Credentials {
    /// Those of the user's Docker.
    fn default() -> Self {
        Self::docker()
    }
}

impl Credentials {
    /// Those of the user's Docker: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub fn docker() -> Self {
        let folder = std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || etcetera::home_dir().ok().map(|home| home.join(".docker"));
        Self { file: folder.or_else(home).map(|folder| folder.join("config.json")), ..Self::none() }
    }

    /// Those of one file in the format of Docker's `config.json`.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::none() }
    }

    /// None: every registry is asked anonymously.
    pub fn none() -> Self {
        // A helper may ask its user to unlock a key ring.
        Self { file: None, helper_deadline: Duration::from_secs(60) }
    }

    /// The same with another limit for a helper's answer (60 s if not set).
    pub fn with_helper_deadline(self, helper_deadline: Duration) -> Self {
        Self { helper_deadline, ..self }
    }

    /// What there is for `registry` (`docker.io`, `ghcr.io`, `10.0.0.1:5000`); `None` if the user never logged in.
    pub(super) async fn find(&self, registry: &str) -> Result<Option<Found>, CredentialsError> {
        let Some(path) = &self.file else { return Ok(None) };
        let Some(config) = Config::read(path).await? else { return Ok(None) };
        let helped = self.helped(&config, registry).await;
        if let Ok(Some(found)) = helped {
            return Ok(Some(found));
        }
        // A file written by hand has both; what is in it plainly needs no helper.
        match config.entry(registry, path)? {
            Some(credential) => Ok(Some(Found { credential, source: path.display().to_string() })),
            None => helped,
        }
    }

    async fn helped(&self, config: &Config, registry: &str) -> Result<Option<Found>, CredentialsError> {
        let own = keys(registry).into_iter().find_map(|key| config.cred_helpers.get(&key));
        match own.or(config.creds_store.as_ref()).filter(|name| !name.is_empty()) {
            Some(name) => {
                let server = if registry == "docker.io" { HUB } else { registry };
                helper::get(name, server, self.helper_deadline).await
            }
            None => Ok(None),
        }
    }
}

impl Config {
    async fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
        use tokio::io::AsyncReadExt;
        let unreadable = |source: io::Error| CredentialsError::Read { path: path.into(), source: source.into() };
        let mut bytes = Vec::new();
        match tokio::fs::File::open(path).await {
            Ok(file) => file.take(MOST_BYTES).read_to_end(&mut bytes).await.map_err(unreadable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        // The place only: the error's text may hold a part of a secret.
        let malformed = |error: serde_json::Error| CredentialsError::Malformed {
            path: path.into(),
            what: format!("line {}, column {}", error.line(), error.column()),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(malformed)
    }

    fn entry(&self, registry: &str, path: &Path) -> Result<Option<Credential>, CredentialsError> {
        let found = keys(registry).into_iter().find_map(|key| Some((self.auths.get(&key)?, key)));
        let Some((entry, key)) = found else { return Ok(None) };
        entry
            .credential()
            .map_err(|field| CredentialsError::Malformed { path: path.into(), what: format!("{field} of {key:?}") })
    }
}

/// The names under which a registry's entry may stand: Docker writes host names, and the address of Docker Hub's first
/// API; older files and people write addresses.
fn keys(registry: &str) -> Vec<String> {
    let hosts: &[&str] = match registry {
        "docker.io" => &["index.docker.io", "docker.io", "registry-1.docker.io"],
        other => &[other],
    };
    let spellings = |host: &&str| {
        let prefixes = ["", "https://", "http://"];
        let suffixes = ["", "/", "/v1/", "/v2/", "/v1", "/v2"];
        let host = host.to_string();
        prefixes.into_iter().flat_map(move |before| {
            let host = host.clone();
            suffixes.into_iter().map(move |after| format!("{before}{host}{after}"))
        })
    };
    let hub = (registry == "docker.io").then(|| HUB.to_string());
    hub.into_iter().chain(hosts.iter().flat_map(spellings)).collect()
}

impl Entry {
    /// `Ok(None)` for the empty entry that `docker login` leaves when a helper has the secret; `Err` names the field.
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(Hidden(self.identitytoken.clone()))));
        }
        if !self.auth.is_empty() {
            return pair(&self.auth).map(Some).ok_or("the field auth");
        }
        if self.username.is_empty() {
            return Ok(None);
        }
        Ok(Some(Credential::Password { user: self.username.clone(), password: Hidden(self.password.clone()) }))
    }
}

/// `user:password` in base64, with or without padding. Docker takes trailing zero bytes off.
fn pair(auth: &str) -> Option<Credential> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, config).decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':').filter(|(user, _)| !user.is_empty())?;
    let password = password.trim_end_matches('\0').to_string();
    Some(Credential::Password { user: user.into(), password: Hidden(password) })
}

impl Used {
    pub(super) fn hint(&self, registry: &str) -> String {
        let login = format!("docker login {}", login(registry));
        let login = login.trim_end();
        match self {
            Self::Anonymous => format!("check the name; if it is private, log in first: {login}"),
            Self::Credentials { .. } => format!("check that this account may read it, or log in again: {login}"),
            Self::Withheld { realm, .. } => {
                format!("if {realm} is the token server of {registry}, allow it by name")
            }
        }
    }
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("without credentials"),
            Self::Credentials { source } => write!(f, "with the credentials of {source}"),
            Self::Withheld { source, realm } => {
                write!(f, "without the credentials of {source}, which were not sent to {realm}")
            }
        }
    }
}

impl CredentialsError {
    pub(super) fn hint(&self, registry: &str) -> String {
        match self {
            Self::NoHelper { program } => format!(
                "install {program}, or take it out of credsStore and credHelpers in Docker's config.json and log in again: docker login {}",
                login(registry)
            ),
            Self::Helper { program, .. } => format!("try it by hand: echo {registry} | {program} get"),
            Self::Read { path, .. } | Self::Malformed { path, .. } => {
                format!("repair {}, or log in again: docker login {}", path.display(), login(registry))
            }
        }
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
