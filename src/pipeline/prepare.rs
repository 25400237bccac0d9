//! `host prepare`: repairs of hosts that are safe to automate, asked for by name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::apply::mend_hosts;
use crate::host::{Host, HostName, MachineFacts, Mend};
use crate::plan::{Action, Failure, Plan, Progress, Report, Step};
use crate::probe::{Reached, boot_id, reach as reach_host};
use crate::ssh::Session;

use super::{Environment, Stop};

/// What `host prepare` is asked.
#[derive(Debug)]
pub struct PrepareRequest {
    /// Which hosts.
    pub hosts: Vec<Host>,
    /// Start those anew that need it.
    pub reboot: bool,
    /// How long they may take to come back.
    pub timeout: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Prepared {
    /// What was, or would be, done.
    pub plan: Plan,
    /// What became of it, host by host, and of the hosts that did not answer.
    pub report: Report,
    /// Hosts that have to be started anew before all of it holds.
    pub reboot_due: Vec<HostName>,
    /// Hosts that did not answer, or did not come back.
    pub failures: Vec<Failure>,
}

/// Repairs hosts.
///
/// # Errors
/// The user interrupted it.
pub async fn prepare(request: PrepareRequest, environment: &Environment) -> Result<Prepared, Stop> {
    tokio::select! {
        prepared = Box::pin(run(&request, environment)) => Ok(prepared),
        () = environment.interrupt.raised() => Err(Stop::Interrupted(Vec::new())),
    }
}

async fn run(request: &PrepareRequest, environment: &Environment) -> Prepared {
    let one = async |host: &Host| {
        environment.events.on(&host.name, Progress::Started { what: "connecting".into() });
        reach_host(host, &environment.ssh).await
    };
    let (mut reached, mut failures): (Vec<Reached>, Vec<Failure>) = Default::default();
    for answer in join_all(request.hosts.iter().map(one)).await {
        match answer {
            Ok(host) => reached.push(host),
            Err(failure) => failures.push(failure),
        }
    }
    let (plan, mut reboot_due) = plan(&reached, request.reboot);
    let mut boots = BTreeMap::new();
    for host in reached.iter().filter(|host| reboot_due.contains(&host.host.name)) {
        boots.insert(host.host.name.clone(), boot_id(&host.session).await);
    }
    let sessions: BTreeMap<HostName, Session> =
        reached.iter().map(|host| (host.host.name.clone(), host.session.clone())).collect();
    let report = match request.dry_run {
        true => Report::default(),
        false => mend_hosts(&plan, &sessions, &environment.events).await,
    };
    join_all(sessions.into_values().map(Session::close)).await;
    if !request.dry_run {
        let is_done = |host: &HostName, mend: &Mend| {
            let mut outcomes = report.outcomes.iter().filter(|outcome| outcome.host == *host);
            outcomes.any(|outcome| outcome.subject == mend.to_string() && outcome.failure.is_none())
        };
        let going = request.hosts.iter().filter(|host| is_done(&host.name, &Mend::Reboot));
        let back =
            going.map(|host| returned(host, boots.get(&host.name).cloned().flatten(), request.timeout, environment));
        failures.extend(join_all(back).await.into_iter().filter_map(Result::err));
        // What was not done needs no reboot, and what was done needs it whatever failed after it.
        let needs_reboot = |step: &Step| matches!(&step.action, Action::Mend(mend) if mend.needs_reboot() && is_done(&step.host, mend));
        reboot_due.retain(|host| {
            !is_done(host, &Mend::Reboot) && plan.steps().any(|step| step.host == *host && needs_reboot(step))
        });
    }
    Prepared { plan, report, reboot_due, failures }
}

/// The repairs of all hosts, and the hosts that need a new start for them.
fn plan(reached: &[Reached], reboot: bool) -> (Plan, Vec<HostName>) {
    let (mut steps, mut due) = (Vec::new(), Vec::new());
    for host in reached {
        let mut mends = Mend::of(&host.machine, host.denied());
        if mends.iter().any(Mend::needs_reboot) {
            due.push(host.host.name.clone());
            mends.extend(reboot.then_some(Mend::Reboot));
        }
        steps.extend(mends.into_iter().map(|mend| Step { host: host.host.name.clone(), action: Action::Mend(mend) }));
    }
    let mut plan = Plan::default();
    plan.push("Prepare", steps);
    (plan, due)
}

/// Waits until a host answers after a new start.
async fn returned(
    host: &Host,
    before: Option<String>,
    timeout: Duration,
    environment: &Environment,
) -> Result<(), Failure> {
    environment.events.on(&host.name, Progress::Started { what: "waiting until it is back".into() });
    let (began, mut last) = (Instant::now(), None);
    while began.elapsed() < timeout {
        match reach_host(host, &environment.ssh).await {
            Ok(reached) => {
                let now = boot_id(&reached.session).await;
                let machine = reached.machine;
                reached.session.close().await;
                // Where it was not known which start this was, it has to be gone once.
                if now.is_some() && now != before && (before.is_some() || last.is_some()) {
                    environment.events.on(&host.name, Progress::Done { what: "is back".into() });
                    return if machine.lacks_memory_controller() { Err(unheard(host, &machine)) } else { Ok(()) };
                }
            }
            Err(failure) => last = Some(failure),
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let why = last.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
    Err(Failure {
        host: Some(host.name.clone()),
        message: format!("it is not back {} s after its restart{why}", timeout.as_secs()),
        hint: Some("look at its screen or its power; then `k3arm host check`".into()),
    })
}

/// The host has started anew, and its kernel did not take what it was told.
fn unheard(host: &Host, machine: &MachineFacts) -> Failure {
    let system = &machine.system;
    Failure {
        host: Some(host.name.clone()),
        message: format!(
            "it is back, and its kernel still has no memory controller (its arguments: {})",
            system.kernel_arguments.join(" ")
        ),
        hint: system
            .cgroup_fix()
            .filter(|_| system.is_told_of_memory())
            .or_else(|| Some("its firmware reads another file: look for `cmdline=` in config.txt beside it".into())),
    }
}
