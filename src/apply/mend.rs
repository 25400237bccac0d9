//! Repairs of hosts, as root, over their sessions: no engine is needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Worked, by_host, outcome};
use crate::host::{HostName, Mend};
use crate::plan::{Action, Events, Failure, Outcome, Plan, Progress, Report, Step};
use crate::ssh::{Limits, Session};

/// Some of them write all that the host has not written yet, twice: an SD card takes its time.
const LIMITS: Limits = Limits { output: 16 << 10, time: Duration::from_secs(300) };

/// Runs what it is given as root: by itself, or by a sudo that asks for no password.
const AS_ROOT: &str = r#"if [ "$(id -u)" = 0 ]; then exec sh -s; fi
command -v sudo >/dev/null 2>&1 || { echo "user $(id -un) is not root, and there is no sudo" >&2; exit 1; }
exec sudo -n sh -s"#;

/// Carries out a plan of repairs, hosts side by side; the first failure of a host ends its steps.
pub async fn mend_hosts(plan: &Plan, sessions: &BTreeMap<HostName, Session>, events: &Events) -> Report {
    let hosts = by_host(plan.steps()).into_iter();
    let hosts = hosts.filter_map(|(host, steps)| Some(on_host(host, steps, sessions.get(host)?, events)));
    Report { outcomes: join_all(hosts).await.into_iter().flatten().collect() }
}

async fn on_host(host: &HostName, steps: Vec<&Step>, session: &Session, events: &Events) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for step in steps {
        let Action::Mend(repair) = &step.action else { continue };
        events.on(host, Progress::Started { what: repair.to_string() });
        let began = Instant::now();
        let result = mend(repair, session).await.map_err(|failure| failure.on(host));
        let failed = result.is_err();
        outcomes.push(outcome(host, &step.action, began, result, events));
        if failed {
            break;
        }
    }
    outcomes
}

pub(super) async fn mend(mend: &Mend, session: &Session) -> Result<Worked, Failure> {
    let script = mend.script();
    let output = session.run(AS_ROOT, Some(script.as_bytes()), LIMITS).await.map_err(|e| Failure::new(&e, e.hint()))?;
    match output.status {
        Some(0) => Ok(Worked { subject: mend.to_string(), status: "done", bytes: 0 }),
        _ => Err(refused(mend, output.stderr.trim())),
    }
}

fn refused(mend: &Mend, said: &str) -> Failure {
    let hint = if said.contains("sudo") {
        "it takes root: let this user run sudo without a password for now, log in as root, or do by hand what `--dry-run` prints"
    } else {
        "do it by hand, or mend what stands in its way and run the command again"
    };
    let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
    Failure { host: None, message: format!("could not {mend}: {said}"), hint: Some(hint.into()) }
}
