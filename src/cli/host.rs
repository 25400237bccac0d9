//! `k3arm host …`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::duration::duration;
use super::exit::Exit;
use super::output;
use super::settings::Format;
use super::wanted::HostArguments;
use crate::host::rules::GROUPS;
use crate::host::{CgroupVersion, Finding, HostName, Medium, Rule, Severity};
use crate::pipeline::{self, CheckRequest, Checked, CheckedHost, Environment, PrepareRequest, Prepared};
use crate::plan::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// Look for all that stands against a node on these hosts, and between them; nothing is changed
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// List hosts: board, system, memory, engine, network
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Repair what is safe to repair by itself, as root over sudo: cmdline.txt, modules, sysctl, huge pages, group docker
    #[command(after_help = PREPARE_EXAMPLES)]
    Prepare(Prepare),
}

const CHECK_EXAMPLES: &str = "\
Examples:
  k3arm host check --host pi@pi1 --host pi@pi2
  k3arm host check -f k3arm.yaml -o json
  k3arm host check --explain cgroup
  k3arm host check --explain all";

const LIST_EXAMPLES: &str = "\
Examples:
  k3arm host list --host pi@pi1 --host pi@pi2
  k3arm host list -f k3arm.yaml -o json";

const PREPARE_EXAMPLES: &str = "\
Examples:
  k3arm host prepare --host pi@pi1 --dry-run
  k3arm host prepare -f k3arm.yaml --reboot";

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    hosts: HostArguments,
    /// Tell of this rule, and let it stop nothing; repeat it for more
    #[arg(long, value_name = "CODE", value_parser = code)]
    ignore: Vec<&'static str>,
    /// Say what a code means, or all of them, instead of looking at hosts
    #[arg(long, value_name = "CODE", value_parser = code_or_all, conflicts_with_all = ["host", "file", "ignore"])]
    explain: Option<&'static str>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    hosts: HostArguments,
}

#[derive(Debug, Args)]
pub(super) struct Prepare {
    #[command(flatten)]
    hosts: HostArguments,
    /// Start those hosts anew that need it, and wait until they are back
    #[arg(long)]
    reboot: bool,
    /// How long they may take: 90s, 15m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    timeout: Duration,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

/// A rule's code; of another word the one that was probably meant.
pub(super) fn code(text: &str) -> Result<&'static str, String> {
    if let Some(rule) = Rule::of(text) {
        return Ok(rule.code);
    }
    let begins = Rule::all().find(|rule| rule.code.starts_with(text) || text.starts_with(rule.code));
    let meant = begins.map(|rule| format!(": did you mean {}?", rule.code)).unwrap_or_default();
    Err(format!("no rule has this code{meant} `k3arm host check --explain all` lists them"))
}

fn code_or_all(text: &str) -> Result<&'static str, String> {
    if text == "all" { Ok("all") } else { code(text) }
}

impl HostCommand {
    pub(super) async fn run(self, environment: Environment, format: Format) -> Exit {
        match self {
            Self::Check(arguments) => arguments.run(&environment, format).await,
            Self::List(arguments) => arguments.run(&environment, format).await,
            Self::Prepare(arguments) => arguments.run(&environment, format).await,
        }
    }
}

impl Check {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        if let Some(code) = self.explain {
            output::print(&explained(code));
            return Exit::Done;
        }
        let cluster = match self.hosts.cluster() {
            Ok(cluster) => cluster,
            Err(failure) => return output::failures(&[failure], Exit::Usage),
        };
        let hosts = match cluster {
            Some(_) => Vec::new(),
            None => self.hosts.hosts_or_local().unwrap_or_default(),
        };
        match pipeline::check_hosts(CheckRequest { hosts, cluster, ignore: self.ignore }, environment).await {
            Ok(checked) => {
                output::data(format, &checked, || findings(&checked));
                exit(&checked)
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn exit(checked: &Checked) -> Exit {
    let is_refused = checked.findings.iter().any(Finding::is_refusal);
    match (checked.failures.is_empty(), checked.hosts.is_empty()) {
        (true, _) if is_refused => Exit::Refused,
        (true, _) => Exit::Done,
        (false, false) => output::failures(&checked.failures, Exit::Partial),
        (false, true) => output::failures(&checked.failures, Exit::Failed),
    }
}

/// A line for every host, and then all findings.
fn findings(checked: &Checked) -> String {
    let rows: Vec<Vec<String>> = checked
        .hosts
        .iter()
        .map(|host| vec![host.name.to_string(), board(host), system(host), verdict(&host.name, &checked.findings)])
        .collect();
    let mut text =
        if rows.is_empty() { String::new() } else { output::table(&["HOST", "BOARD", "SYSTEM", "VERDICT"], &rows) };
    for finding in &checked.findings {
        text += &format!("\n{finding}\n");
    }
    text
}

fn verdict(host: &HostName, findings: &[Finding]) -> String {
    let count =
        |severity| findings.iter().filter(|one| one.host.as_ref() == Some(host) && one.severity == severity).count();
    let counts = [Severity::Refuse, Severity::Warn, Severity::Note].map(|severity| (count(severity), severity));
    let parts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, severity)| format!("{count} {severity}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    if parts.is_empty() { "good".into() } else { parts.join(", ") }
}

impl List {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let hosts = match self.hosts.hosts_or_local() {
            Ok(hosts) => hosts,
            Err(failure) => return output::failures(&[failure], Exit::Usage),
        };
        match pipeline::list_hosts(&hosts, environment).await {
            Ok(checked) => {
                output::data(format, &checked.hosts, || listed(&checked.hosts));
                match (checked.failures.is_empty(), checked.hosts.is_empty()) {
                    (true, _) => Exit::Done,
                    (false, false) => output::failures(&checked.failures, Exit::Partial),
                    (false, true) => output::failures(&checked.failures, Exit::Failed),
                }
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn listed(hosts: &[CheckedHost]) -> String {
    let row = |host: &CheckedHost| {
        let machine = &host.machine;
        let (total, free) = (machine.memory_total >> 20, machine.memory_available >> 20);
        let engine = host.engine.as_ref();
        let address = machine.address.map_or_else(|| "-".into(), |address| address.to_string());
        let node = host.nodes.first().map_or_else(|| "-".into(), |node| node.name.clone());
        vec![
            host.name.to_string(),
            board(host),
            system(host),
            machine.board.cores.map_or_else(|| "-".into(), |cores| cores.to_string()),
            format!("{free} of {total} MiB"),
            engine.map_or_else(|| "none".into(), |engine| engine.version.clone()),
            match machine.cgroup {
                CgroupVersion::V1 => "v1".into(),
                CgroupVersion::V2 => "v2".into(),
            },
            engine.map_or_else(|| "-".into(), |engine| disk(engine.disk.free, engine.disk.medium)),
            address,
            host.round_trip.map_or_else(|| "-".into(), |milliseconds| format!("{milliseconds:.0} ms")),
            node,
        ]
    };
    let rows: Vec<Vec<String>> = hosts.iter().map(row).collect();
    let heading = [
        "HOST",
        "BOARD",
        "SYSTEM",
        "CORES",
        "MEMORY FREE",
        "DOCKER",
        "CGROUP",
        "DISK FREE",
        "ADDRESS",
        "ANSWERS IN",
        "NODE",
    ];
    output::table(&heading, &rows)
}

fn board(host: &CheckedHost) -> String {
    let model = host.machine.board.model.clone();
    model.unwrap_or_else(|| format!("({})", host.machine.kernel_arch))
}

fn system(host: &CheckedHost) -> String {
    let system = &host.machine.system;
    match (&system.id, &system.version) {
        (Some(id), Some(version)) => format!("{id} {version}"),
        (Some(id), None) => id.clone(),
        _ => "unknown".into(),
    }
}

fn disk(free: Option<u64>, medium: Option<Medium>) -> String {
    let medium = match medium {
        Some(Medium::Card) => " (SD card)",
        Some(Medium::Emmc) => " (eMMC)",
        Some(Medium::Usb) => " (USB)",
        Some(Medium::Nvme) => " (NVMe)",
        Some(Medium::Flash | Medium::Disk) | None => "",
    };
    free.map_or_else(|| "-".into(), |free| output::bytes(free) + medium)
}

/// What a code means; of all, the page that the documentation has.
pub(super) fn explained(code: &str) -> String {
    if let Some(rule) = Rule::of(code) {
        let Rule { code, severity, wanted, why, fix } = rule;
        return format!("{code} ({severity})\n\nWanted: {wanted}\nWhy:    {why}\nFix:    {fix}\n");
    }
    let mut page = String::from(PAGE);
    for (title, rules) in GROUPS {
        page += &format!("\n## {title}\n\n| Code | | Wanted | Why | What to do |\n|---|---|---|---|---|\n");
        for Rule { code, severity, wanted, why, fix } in rules {
            page += &format!("| `{code}` | {severity} | {wanted} | {why} | {fix} |\n");
        }
    }
    page
}

const PAGE: &str = "\
# What k3arm looks for

`k3arm host check` looks for what stands against hosts, and with `-f` for flags of a cluster file, and changes nothing; `k3arm cluster create` looks for
all of this before it begins, tells errors and warnings, and stops on errors, and `k3arm image prewarm` does so for images. `--ignore CODE` turns an error about
hosts or flags, and `disk-full`, into a warning, but `create` needs engines. `k3arm host check --explain CODE` prints one row of these tables, and `--explain all` this page.
";

impl Prepare {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let hosts = match self.hosts.hosts() {
            Ok(hosts) if hosts.is_empty() => {
                let (message, hint) = (
                    "no host is named".into(),
                    Some("--host pi@pi1, or -f k3arm.yaml; `--host local` is this machine".into()),
                );
                return output::failures(&[Failure { host: None, message, hint }], Exit::Usage);
            }
            Ok(hosts) => hosts,
            Err(failure) => return output::failures(&[failure], Exit::Usage),
        };
        let request = PrepareRequest { hosts, reboot: self.reboot, timeout: self.timeout, dry_run: self.dry_run };
        match pipeline::prepare(request, environment).await {
            Ok(prepared) => {
                let Prepared { plan, report, reboot_due, .. } = &prepared;
                let value = json!({"plan": plan, "report": report, "reboot_due": reboot_due});
                output::data(format, &value, || told(&prepared, self.dry_run));
                let exit = output::report(report);
                if prepared.failures.is_empty() { exit } else { output::failures(&prepared.failures, Exit::Partial) }
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn told(prepared: &Prepared, dry_run: bool) -> String {
    let Prepared { plan, report, reboot_due, .. } = prepared;
    let due = |host: &HostName| format!("{host} needs a reboot before all of it holds: `--reboot` does it\n");
    let due: String = reboot_due.iter().map(due).collect();
    match (plan.is_empty(), dry_run) {
        (true, _) => "nothing to do\n".into(),
        (false, true) => format!("{plan}{due}"),
        (false, false) => {
            let done = report.outcomes.iter().filter(|outcome| outcome.failure.is_none());
            let done: String = done.map(|outcome| format!("{}: {}\n", outcome.host, outcome.subject)).collect();
            done + &due
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentations_page_is_made_from_the_rules() {
        let page = include_str!("../../docs/checks.md");
        assert!(page == explained("all"), "docs/checks.md is not what `k3arm host check --explain all` prints");
    }

    #[test]
    fn a_code_that_is_none_is_refused_with_the_one_that_was_meant() {
        assert_eq!(code("cgroup"), Ok("cgroup"));
        assert!(code("cgroups").is_err_and(|error| error.contains("did you mean cgroup?")));
        assert!(code("nothing-like-it").is_err() && code("all").is_err());
        assert!(explained("clock").contains("Fix:") && explained("all").lines().count() > 60);
    }
}
