//! The user's credentials, from where `docker login` keeps them.
//!
//! Nothing is read before a registry asks for credentials, so a broken file or a missing helper troubles only those who
//! need it. Order, as Docker's: the registry's own helper (`credHelpers`), the helper for all (`credsStore`), the file
//! itself (`auths`).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::docker_config::{Config, HUB, keys};
use super::helper;

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

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
