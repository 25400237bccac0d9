//! What happens while a plan is carried out. Work emits events; only the command line renders them.

use std::sync::Arc;

use serde::Serialize;

use crate::host::HostName;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// On which host; `None` for what concerns all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// What.
    #[serde(flatten)]
    pub progress: Progress,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Progress {
    /// Something began that takes a while: `pulling rancher/k3s:…`.
    Started {
        /// What.
        what: String,
    },
    /// Bytes of what was started.
    Bytes {
        /// So far.
        done: u64,
        /// In the end.
        total: u64,
    },
    /// It is done.
    Done {
        /// What was reached.
        what: String,
    },
    /// It failed; the report says more.
    Failed {
        /// Why.
        why: String,
    },
    /// Worth showing, and nothing failed.
    Warning {
        /// What.
        what: String,
    },
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Sends events to `sink`, which must not block.
    pub fn to(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Sends events nowhere.
    pub fn none() -> Self {
        Self::to(|_| ())
    }

    /// Something happened on a host.
    pub fn on(&self, host: &HostName, progress: Progress) {
        (self.0)(Event { host: Some(host.clone()), progress });
    }

    /// Something happened that concerns no single host.
    pub fn overall(&self, progress: Progress) {
        (self.0)(Event { host: None, progress });
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
