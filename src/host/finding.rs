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

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The rule's: `port-taken`.
    pub code: &'static str,
    /// The host it was found on; `None` if it concerns the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// What was seen.
    pub message: String,
    /// Why it matters for k3s.
    pub why: &'static str,
    /// What to do.
    pub hint: String,
}

impl Finding {
    /// With a fix for this very case.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// With the weight it has in this case.
    pub fn at(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    /// It stops the run.
    pub fn is_refusal(&self) -> bool {
        self.severity == Severity::Refuse
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refuse => "error",
            Self::Warn => "warning",
            Self::Note => "note",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.severity)?;
        if let Some(host) = &self.host {
            write!(f, ": {host}")?;
        }
        write!(f, ": {} [{}]\n  why: {}\n  hint: {}", self.message, self.code, self.why, self.hint)
    }
}
