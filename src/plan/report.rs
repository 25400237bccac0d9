//! What became of a plan, host by host.

use serde::Serialize;

use crate::host::{Finding, HostName};

/// The outcome of a run on every host.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// In the order the hosts were named.
    pub outcomes: Vec<Outcome>,
}

/// What became of one thing on one host.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The host.
    pub host: HostName,
    /// What was to be done: an image's name, a node.
    pub subject: String,
    /// One word or two for people: `pulled`, `present`, `failed`.
    pub status: String,
    /// Bytes that were sent to the host.
    pub bytes: u64,
    /// Milliseconds it took.
    pub milliseconds: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A failure, told to people: what, on which host, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Failure {
    /// Where; `None` if on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// What happened, causes included.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Report {
    /// The failures, in the order of the hosts.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.outcomes.iter().filter_map(|outcome| outcome.failure.as_ref())
    }
}

impl From<Finding> for Failure {
    fn from(Finding { host, message, hint, .. }: Finding) -> Self {
        Self { host, message, hint: Some(hint) }
    }
}

impl Failure {
    /// A failure on this machine.
    pub fn new(error: &dyn std::error::Error, hint: Option<String>) -> Self {
        Self { host: None, message: chain(error), hint }
    }

    /// The same, on a host.
    pub fn on(mut self, host: &HostName) -> Self {
        self.host = Some(host.clone());
        self
    }
}

/// An error and its causes in one line, without saying twice what a cause repeats.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}: {}", self.message)?,
            None => f.write_str(&self.message)?,
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}
