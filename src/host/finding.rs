//! What is wrong with a host, why it matters, and what to do about it.

use std::fmt;

use serde::Serialize;

use super::HostName;

/// How much a [`Finding`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The run must not start: it would fail or destroy something.
    Refuse,
    /// It will work, but not as the user may expect.
    Warn,
    /// Good to know.
    Note,
}

/// Something that preflight found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Stable, for scripts and for `--ignore`: `port-taken`.
    pub code: &'static str,
    /// The host it was found on; `None` if it concerns the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// What was seen, and why it matters.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Refuse => "error",
            Severity::Warn => "warning",
            Severity::Note => "note",
        };
        write!(f, "{severity}")?;
        if let Some(host) = &self.host {
            write!(f, ": {host}")?;
        }
        write!(f, ": {} [{}]\n  hint: {}", self.message, self.code, self.hint)
    }
}
