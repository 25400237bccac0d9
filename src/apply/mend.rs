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

/// Runs what it is given as root: by itself, or by a sudo that asks for no password; else it ends with [`NO_ROOT`].
const AS_ROOT: &str = r#"if [ "$(id -u)" = 0 ]; then exec sh -s; fi
command -v sudo >/dev/null 2>&1 || { echo "user $(id -un) is not root, and there is no sudo" >&2; exit 77; }
sudo -n sh -c : </dev/null || exit 77
exec sudo -n sh -s"#;
const NO_ROOT: i32 = 77;

/// Carries out a plan of repairs, hosts side by side. They do not need each other, but a host on which one failed is not rebooted.
pub async fn mend_hosts(plan: &Plan, sessions: &BTreeMap<HostName, Session>, events: &Events) -> Report {
    let hosts = by_host(plan.steps()).into_iter();
    let hosts = hosts.filter_map(|(host, steps)| Some(on_host(host, steps, sessions.get(host)?, events)));
    Report { outcomes: join_all(hosts).await.into_iter().flatten().collect() }
}

async fn on_host(host: &HostName, steps: Vec<&Step>, session: &Session, events: &Events) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for step in steps {
        let Action::Mend(repair) = &step.action else { continue };
        if *repair == Mend::Reboot && outcomes.iter().any(|outcome: &Outcome| outcome.failure.is_some()) {
            break;
        }
        events.on(host, Progress::Started { what: repair.to_string() });
        let began = Instant::now();
        let (result, is_over) = attempt(repair, session).await;
        let result = result.map_err(|failure| failure.on(host));
        outcomes.push(outcome(host, &step.action, began, result, events));
        if is_over {
            break;
        }
    }
    outcomes
}

pub(super) async fn mend(mend: &Mend, session: &Session) -> Result<Worked, Failure> {
    attempt(mend, session).await.0
}

/// What came of a repair, and whether no other one would do better on this host.
async fn attempt(mend: &Mend, session: &Session) -> (Result<Worked, Failure>, bool) {
    let script = mend.script();
    let output = match session.run(AS_ROOT, Some(script.as_bytes()), LIMITS).await {
        Ok(output) => output,
        Err(error) => return (Err(Failure::new(&error, error.hint())), true),
    };
    let refused = |hint: &str| {
        let said: String = output.stderr.trim().chars().filter(|c| !c.is_control()).take(300).collect();
        Err(Failure { host: None, message: format!("could not {mend}: {said}"), hint: Some(hint.into()) })
    };
    match output.status {
        Some(0) => (Ok(Worked { subject: mend.to_string(), status: "done", bytes: 0 }), false),
        Some(NO_ROOT) => (
            refused(
                "it takes root: let this user run sudo without a password for now, log in as root, or do by hand what `--dry-run` prints",
            ),
            true,
        ),
        _ => (refused("do it by hand, or mend what stands in its way and run the command again"), false),
    }
}
