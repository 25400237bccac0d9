//! What makes a cluster itself: its ID, its tokens, its certificate authority.
//!
//! All of it is chosen before anything is planned, so that agents can be given a token that pins the CA before the
//! server has ever started: k3s takes a CA that it finds in `server/tls` instead of making one.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use ring::rand::{SecureRandom, SystemRandom};
use time::{Duration, OffsetDateTime};

use super::Secret;

/// The secrets of one cluster, and the public ID by which its containers are known to belong together.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Not secret: 16 hexadecimal digits, in a label of every container and volume.
    pub id: String,
    /// Joins servers; never leaves the server's volume.
    pub server_token: Secret,
    /// Joins agents, and can do nothing else.
    pub agent_token: Secret,
    /// PEM of the CA that signs the API server's certificate; what agents pin.
    pub ca_certificate: String,
    /// Its key, only while the cluster is new: afterwards it is on the server alone.
    pub ca_key: Option<Secret>,
}

/// The system gave no randomness, or a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// From the operating system.
    #[error("this machine gives no random numbers")]
    Random,
    /// The server's own settings were changed by hand.
    #[error("the server's config.yaml cannot be used: {0}")]
    Unreadable(&'static str),
    /// From the certificate library.
    #[error("the cluster's certificate authority could not be made")]
    Certificate(#[from] rcgen::Error),
}

impl Identity {
    /// A new cluster's.
    ///
    /// # Errors
    /// [`IdentityError`]; neither happens on a working system.
    pub fn generate() -> Result<Self, IdentityError> {
        let (ca_certificate, ca_key) = certificate_authority()?;
        Ok(Self {
            id: random_hex(8)?,
            server_token: Secret::new(random_hex(32)?),
            agent_token: Secret::new(random_hex(32)?),
            ca_certificate,
            ca_key: Some(ca_key),
        })
    }

    /// A standing cluster's, from the two files in its server's volumes that hold it.
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`] when a file is not what k3arm put there.
    pub fn of_server(id: &str, config: &Secret, ca_certificate: &str) -> Result<Self, IdentityError> {
        let flags: serde_json::Map<String, serde_json::Value> =
            serde_saphyr::from_str(config.expose()).map_err(|_| IdentityError::Unreadable("it is not YAML"))?;
        let token = |flag: &str| flags.get(flag).and_then(|value| value.as_str()).map(Secret::new);
        let missing = IdentityError::Unreadable("token or agent-token is missing");
        let (Some(server_token), Some(agent_token)) = (token("token"), token("agent-token")) else {
            return Err(missing);
        };
        Ok(Self { id: id.into(), server_token, agent_token, ca_certificate: ca_certificate.into(), ca_key: None })
    }

    /// The token of an agent, with the hash of the CA that it must see: `K10<hash>::node:<agent token>`.
    ///
    /// k3s hashes the bytes of the CA file where that holds a single certificate (`pkg/clientaccess`).
    pub fn join_token(&self) -> Secret {
        let hash = crate::oci::Digest::of(self.ca_certificate.as_bytes());
        Secret::new(format!("K10{}::node:{}", hash.hex(), self.agent_token.expose()))
    }
}

/// A self-signed P-256 CA for ten years, as k3s makes it.
fn certificate_authority() -> Result<(String, Secret), IdentityError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("k3s-server-ca@{}", now.unix_timestamp()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    // A Pi without a battery may start an hour, or a day, behind the laptop.
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(3650);
    let certificate = params.self_signed(&key)?;
    // One spelling of the line ends, because the hash in the token is over these bytes.
    Ok((certificate.pem().replace('\r', ""), Secret::new(key.serialize_pem().replace('\r', ""))))
}

fn random_hex(bytes: usize) -> Result<String, IdentityError> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new().fill(&mut buffer).map_err(|_| IdentityError::Random)?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_join_token_pins_the_bytes_of_the_ca() {
        let identity = Identity::generate().unwrap();
        let hash = crate::oci::Digest::of(identity.ca_certificate.as_bytes());
        let token = identity.join_token();
        assert!(token.expose().starts_with(&format!("K10{}::node:", hash.hex())));
        assert!(token.expose().ends_with(identity.agent_token.expose()));
        assert!(!token.expose().contains(identity.server_token.expose()));
    }

    #[test]
    fn no_formatter_shows_a_secret() {
        let identity = Identity::generate().unwrap();
        let shown = format!("{identity:?}");
        for secret in [&identity.server_token, &identity.agent_token, identity.ca_key.as_ref().unwrap()] {
            assert!(!shown.contains(secret.expose()), "{shown}");
        }
    }

    #[test]
    fn a_standing_cluster_is_read_back_from_its_server() {
        let identity = Identity::generate().unwrap();
        let (server, agent) = (identity.server_token.expose(), identity.agent_token.expose());
        let config = Secret::new(format!("\"token\": \"{server}\"\n\"agent-token\": \"{agent}\"\n"));
        let read = Identity::of_server(&identity.id, &config, &identity.ca_certificate).unwrap();
        assert_eq!(read.join_token(), identity.join_token());
        for broken in ["a: [", "token: x", ""] {
            assert!(Identity::of_server("", &Secret::new(broken), "").is_err(), "{broken}");
        }
    }

    #[test]
    fn two_clusters_share_nothing() {
        let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(one.id, other.id);
        assert_ne!(one.ca_certificate, other.ca_certificate);
        assert_ne!(one.agent_token.expose(), one.server_token.expose());
    }
}
