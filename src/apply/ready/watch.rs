//! One node's log, followed from its container's last start.

use std::collections::VecDeque;

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::AwaitedNode;
use crate::cluster::{Cause, Certainty, diagnose, relevant};
use crate::docker::{Follow, Since};
use crate::probe::Connection;

/// Lines kept for the case that no cause is known.
const KEPT: usize = 200;
/// Lines shown then.
const SHOWN: usize = 6;

/// A cause found in a node's log.
#[derive(Debug)]
pub(super) struct Notice {
    /// Whose.
    pub(super) node: AwaitedNode,
    /// What.
    pub(super) cause: Cause,
    /// The container has ended, so nothing can pass any more.
    pub(super) ended: bool,
}

/// Reads a node's log until its container ends or a final cause is in it.
pub(super) async fn watch(node: AwaitedNode, connection: Connection, notices: mpsc::Sender<Notice>) {
    let mut kept: VecDeque<String> = VecDeque::with_capacity(KEPT);
    let mut last = None;
    let logs = match connection.engine.logs(&node.container, Since::LastStart, Follow::Yes).await {
        Ok(logs) => logs,
        Err(_) => return,
    };
    let mut logs = std::pin::pin!(logs);
    while let Some(line) = logs.next().await {
        // The session's own watch tells when the connection is gone.
        let Ok(line) = line else { return };
        tracing::trace!(node = %node.name, "{line}");
        if let Some(cause) = diagnose(&line) {
            let certainty = cause.certainty;
            last = (certainty > Certainty::Warning).then(|| cause.clone()).or(last);
            let notice = Notice { node: node.clone(), cause, ended: false };
            if notices.send(notice).await.is_err() || certainty == Certainty::Final {
                return;
            }
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    let cause = last.unwrap_or_else(|| unknown(&kept));
    let _ = notices.send(Notice { node, cause, ended: true }).await;
}

/// No known cause: the lines that say most.
fn unknown(kept: &VecDeque<String>) -> Cause {
    let lines: Vec<&str> = kept.iter().map(String::as_str).collect();
    let shown = relevant(&lines, SHOWN);
    let message = match shown.is_empty() {
        true => "k3s ended without a word".to_string(),
        false => format!("k3s ended; its log says\n    {}", shown.join("\n    ")),
    };
    Cause {
        certainty: Certainty::Final,
        message,
        hint: "run the command with --keep, then `docker logs` of the container shows all of it".into(),
    }
}
