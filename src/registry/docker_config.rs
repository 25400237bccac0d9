//! Docker's `config.json`, as far as it matters here.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::credentials::{Credential, CredentialsError, Hidden};

/// `config.json` as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Config {
    auths: BTreeMap<String, Entry>,
    pub(super) cred_helpers: BTreeMap<String, String>,
    pub(super) creds_store: Option<String>,
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
pub(super) const HUB: &str = "https://index.docker.io/v1/";

impl Config {
    pub(super) async fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
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

    pub(super) fn entry(&self, registry: &str, path: &Path) -> Result<Option<Credential>, CredentialsError> {
        let found = keys(registry).into_iter().find_map(|key| Some((self.auths.get(&key)?, key)));
        let Some((entry, key)) = found else { return Ok(None) };
        entry
            .credential()
            .map_err(|field| CredentialsError::Malformed { path: path.into(), what: format!("{field} of {key:?}") })
    }
}

/// The names under which a registry's entry may stand: Docker writes host names, and the address of Docker Hub's first
/// API; older files and people write addresses.
pub(super) fn keys(registry: &str) -> Vec<String> {
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
