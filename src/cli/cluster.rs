//! `k3arm cluster …`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::duration::duration;
use super::exit::Exit;
use super::output;
use super::settings::Format;
use super::supply::{SourcingArguments, TravelArguments};
use super::wanted::{WantedArguments, read_file};
use crate::cluster::{self, ClusterName};
use crate::host::{Host, NodeState};
use crate::kube::{CurrentContext, NodeStatus};
use crate::pipeline::{self, ClusterStatus, CreateRequest, Created, DeleteRequest, Environment};
use crate::plan::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Make a cluster, or what is missing of it; the same command again changes nothing
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<Create>),
    /// List the clusters on the hosts that are known or named
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Remove a cluster from its hosts: containers, volumes, what k3s left in the network
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(Delete),
}

const LIST_EXAMPLES: &str = "\
Examples:
  k3arm cluster list
  k3arm cluster list --host pi@pi1 -o json";

const DELETE_EXAMPLES: &str = "\
Examples:
  k3arm cluster delete home --dry-run
  k3arm cluster delete home --host pi@pi1 --host pi@pi2";

const CREATE_EXAMPLES: &str = "\
Examples:
  k3arm cluster create                                 one node on this machine's own Docker
  k3arm cluster create home --server pi@pi1 --agent pi@pi2 --agent pi@pi3
  k3arm cluster create home --server one=pi@10.0.0.11 --agent two=pi@10.0.0.12 --k3s v1.36.2+k3s1
  k3arm cluster create -f k3arm.yaml --dry-run";

#[derive(Debug, Args)]
pub(super) struct Create {
    /// What it is called
    #[arg(default_value = "k3arm")]
    name: ClusterName,
    #[command(flatten)]
    wanted: WantedArguments,
    /// A cluster file instead of arguments
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["name", "server", "agent", "k3s", "profile"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    sourcing: SourcingArguments,
    #[command(flatten)]
    travel: TravelArguments,
    /// Only print the plan
    #[arg(long)]
    dry_run: bool,
    /// Go on although this rule about hosts or flags does not hold: a code of `k3arm host check`; repeat it for more
    #[arg(long, value_name = "CODE", value_parser = super::host::code)]
    ignore: Vec<&'static str>,
    /// Leave what was made if it fails
    #[arg(long)]
    keep: bool,
    /// How long the nodes may take to be Ready: 90s, 15m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    /// Do not touch the kubeconfig file
    #[arg(long)]
    no_kubeconfig: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Look on this host too
    #[arg(long, value_name = "HOST")]
    host: Vec<Host>,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Which cluster
    name: ClusterName,
    /// A host of it, where this machine does not know them
    #[arg(long, value_name = "HOST")]
    host: Vec<Host>,
    /// Only print the plan
    #[arg(long)]
    dry_run: bool,
}

impl Cluster {
    pub(super) async fn run(self, environment: Environment, format: Format) -> Exit {
        match self {
            Self::Create(arguments) => arguments.run(&environment, format).await,
            Self::List(arguments) => arguments.run(&environment, format).await,
            Self::Delete(arguments) => arguments.run(&environment, format).await,
        }
    }
}

impl Create {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let cluster = match self.cluster() {
            Ok(cluster) => cluster,
            Err(failure) => return output::failures(&[failure], Exit::Usage),
        };
        let request = CreateRequest {
            cluster,
            sourcing: self.sourcing.sourcing(self.file.as_deref()),
            travel: self.travel.travel(),
            ignore: self.ignore.clone(),
            dry_run: self.dry_run,
            keep: self.keep,
            timeout: self.timeout,
        };
        let name = request.cluster.name.clone();
        match pipeline::create(request, environment).await {
            Ok(created) => self.created(&name, &created, environment, format).await,
            Err(stop) => output::stop(stop),
        }
    }

    /// The wanted cluster, from the file or from the arguments.
    fn cluster(&self) -> Result<cluster::Cluster, Failure> {
        let Some(path) = &self.file else {
            let cluster = self.wanted.cluster(&self.name);
            cluster.check().map_err(|e| Failure::new(&e, None))?;
            return Ok(cluster);
        };
        read_file(path)
    }

    async fn created(&self, name: &ClusterName, created: &Created, environment: &Environment, format: Format) -> Exit {
        let Some((kubeconfig, nodes)) = &created.cluster else {
            let value = json!({"phases": created.plan.phases, "finish": created.finish.phases});
            output::data(format, &value, || planned(created));
            return Exit::Done;
        };
        let written = match self.no_kubeconfig {
            true => Ok(()),
            false => super::kubeconfig::write(kubeconfig, CurrentContext::Switch, environment).await,
        };
        let rows: Vec<_> = nodes.iter().map(node).collect();
        let value = json!({"name": name, "changed": !created.plan.is_empty(), "nodes": rows});
        output::data(format, &value, || {
            let first = match created.plan.is_empty() {
                true => format!("cluster {name} stands as wanted: nothing was changed"),
                false => format!("cluster {name} is ready"),
            };
            let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
            format!("{first}\n{}", output::table(&["NODE", "ROLE", "STATE", "ADDRESS", "VERSION"], &rows))
        });
        let Err(failure) = written else { return Exit::Done };
        let hint = format!("the cluster stands; mend the file, then `k3arm kubeconfig merge {name}`");
        output::failures(&[Failure { hint: Some(hint), ..failure }], Exit::Failed)
    }
}

fn planned(created: &Created) -> String {
    match created.plan.is_empty() && created.finish.is_empty() {
        true => "nothing to do: all nodes run as wanted\n".into(),
        false => format!("{}then wait until all nodes are Ready\n{}", created.plan, created.finish),
    }
}

fn node(status: &NodeStatus) -> serde_json::Value {
    json!({
        "name": status.name, "roles": status.roles, "ready": status.ready,
        "address": status.internal_ip, "version": status.version,
    })
}

fn row(status: &NodeStatus) -> Vec<String> {
    let role = if status.roles.is_empty() { "agent".to_string() } else { status.roles.join(",") };
    let state = if status.ready { "Ready" } else { "NotReady" };
    let address = status.internal_ip.map(|address| address.to_string()).unwrap_or_default();
    vec![status.name.clone(), role, state.into(), address, status.version.clone()]
}

impl List {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        match pipeline::list(&self.host, environment).await {
            Ok((clusters, failures)) => {
                output::data(format, &clusters, || listed(&clusters));
                if failures.is_empty() { Exit::Done } else { output::failures(&failures, Exit::Partial) }
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn listed(clusters: &[ClusterStatus]) -> String {
    let rows: Vec<Vec<String>> = clusters
        .iter()
        .flat_map(|cluster| {
            cluster.nodes.iter().map(|node| {
                let state = match &node.state {
                    NodeState::Created => "incomplete".to_string(),
                    NodeState::Running => "running".to_string(),
                    NodeState::Exited(code) => format!("ended ({code})"),
                    NodeState::Other(state) => state.clone(),
                };
                let host = node.host.to_string();
                vec![cluster.name.clone(), cluster.release.clone(), node.node.clone(), node.role.clone(), host, state]
            })
        })
        .collect();
    output::table(&["CLUSTER", "RELEASE", "NODE", "ROLE", "HOST", "CONTAINER"], &rows)
}

impl Delete {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let request = DeleteRequest { name: self.name.clone(), hosts: self.host, dry_run: self.dry_run };
        match pipeline::delete(request, environment).await {
            Ok(deleted) => {
                let value = json!({"plan": deleted.plan, "report": deleted.report});
                output::data(format, &value, || match (deleted.plan.is_empty(), self.dry_run) {
                    (true, _) => format!("nothing of cluster {} is on these hosts\n", self.name),
                    (false, true) => deleted.plan.to_string(),
                    (false, false) if deleted.report.failures().next().is_some() => {
                        format!(
                            "cluster {} is not all deleted: run the command again when its hosts answer\n",
                            self.name
                        )
                    }
                    (false, false) => format!("cluster {} is deleted\n", self.name),
                });
                output::report(&deleted.report)
            }
            Err(stop) => output::stop(stop),
        }
    }
}
