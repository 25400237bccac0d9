//! What can go wrong with kubeconfigs and with a cluster's API.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a kubeconfig could not be read or written, or the API did not do what it was asked. `attempt` is a phrase that
/// follows "could not".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What k3s wrote is not the kubeconfig that k3s writes.
    #[error("the cluster's kubeconfig is malformed: {what}")]
    Kubeconfig {
        /// What is wrong with it; never its content.
        what: &'static str,
    },
    /// The user's kubeconfig is not one; it was left as it is.
    #[error("{} is not a kubeconfig, it was left as it is: {what}", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// What is wrong with it; never its content.
        what: String,
    },
    /// Another program holds the file's lock.
    #[error("{} is locked: {} exists", file.display(), lock.display())]
    Locked {
        /// The kubeconfig.
        file: PathBuf,
        /// Its lock.
        lock: PathBuf,
    },
    /// A file could not be read or written.
    #[error("could not {attempt} {}", file.display())]
    File {
        /// What was tried.
        attempt: &'static str,
        /// With which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody knows where the user's kubeconfig is.
    #[error("there is no home directory to find .kube/config in")]
    NoHome,
    /// No connection, no TLS, or no answer of HTTP.
    #[error("could not {attempt}: the cluster's API cannot be reached")]
    Unreachable {
        /// What was tried.
        attempt: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("could not {attempt}: the cluster's API did not answer within {} s", within.as_secs())]
    Timeout {
        /// What was tried.
        attempt: &'static str,
        /// How long it was waited for.
        within: Duration,
    },
    /// The API does not know these credentials (401) or does not let them (403).
    #[error("could not {attempt}: the cluster's API refuses this kubeconfig ({status})")]
    Refused {
        /// What was tried.
        attempt: &'static str,
        /// 401 or 403.
        status: u16,
    },
    /// Any other status that is not a success.
    #[error("could not {attempt}: the cluster's API answered {status}: {message}")]
    Status {
        /// What was tried.
        attempt: &'static str,
        /// The HTTP status.
        status: u16,
        /// The API's words.
        message: String,
    },
    /// The answer is not what the API promises, or longer than it can be.
    #[error("could not {attempt}: the answer of the cluster's API makes no sense")]
    Malformed {
        /// What was tried.
        attempt: &'static str,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Broken { file, .. } => Some(format!(
                "repair it (kubectl config view --kubeconfig {}) or name another file in KUBECONFIG",
                file.display()
            )),
            Self::Locked { lock, .. } => {
                Some(format!("if no kubectl is writing to it, remove the lock: rm {}", lock.display()))
            }
            Self::NoHome => Some("set KUBECONFIG to the file to use".into()),
            Self::Refused { .. } => {
                Some("the cluster was made anew since; get its kubeconfig again: k3arm kubeconfig merge NAME".into())
            }
            Self::Kubeconfig { .. }
            | Self::File { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Status { .. }
            | Self::Malformed { .. } => None,
        }
    }
}
