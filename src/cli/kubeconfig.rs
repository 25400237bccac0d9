//! `k3arm kubeconfig …`

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::output;
use crate::cluster::ClusterName;
use crate::host::Host;
use crate::kube::{self, CurrentContext};
use crate::pipeline::{self, Environment};
use crate::plan::{Failure, Progress};

#[derive(Debug, Subcommand)]
pub(super) enum Kubeconfig {
    /// Print the kubeconfig of a cluster
    #[command(after_help = GET_EXAMPLES)]
    Get(Target),
    /// Put it into ~/.kube/config (or the first file of $KUBECONFIG) and make it the current context
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(Merge),
}

const GET_EXAMPLES: &str = "\
Examples:
  k3arm kubeconfig get home > home.kubeconfig
  k3arm kubeconfig get home --host pi@pi1";

const MERGE_EXAMPLES: &str = "\
Examples:
  k3arm kubeconfig merge home
  k3arm kubeconfig merge home --keep-context";

#[derive(Debug, Args)]
pub(super) struct Target {
    /// The cluster
    name: ClusterName,
    /// A host of it, where this machine does not know them
    #[arg(long, value_name = "HOST")]
    host: Vec<Host>,
}

#[derive(Debug, Args)]
pub(super) struct Merge {
    #[command(flatten)]
    target: Target,
    /// Leave the current context as it is
    #[arg(long)]
    keep_context: bool,
}

impl Kubeconfig {
    pub(super) async fn run(self, environment: Environment) -> Exit {
        let result = match self {
            Self::Get(target) => get(target, &environment).await,
            Self::Merge(merge) => {
                let context = if merge.keep_context { CurrentContext::Keep } else { CurrentContext::Switch };
                merge_one(merge.target, context, &environment).await
            }
        };
        result.unwrap_or_else(output::stop)
    }
}

async fn get(target: Target, environment: &Environment) -> Result<Exit, pipeline::Stop> {
    let kubeconfig = pipeline::kubeconfig(&target.name, &target.host, environment).await?;
    let text = kubeconfig.to_yaml().map_err(|e| Failure::new(&e, e.hint()))?;
    output::print(text.expose());
    Ok(Exit::Done)
}

async fn merge_one(target: Target, context: CurrentContext, environment: &Environment) -> Result<Exit, pipeline::Stop> {
    let kubeconfig = pipeline::kubeconfig(&target.name, &target.host, environment).await?;
    write(&kubeconfig, context, environment).await?;
    Ok(Exit::Done)
}

/// Puts a kubeconfig into the user's file, and says so if that changed it.
pub(super) async fn write(
    kubeconfig: &kube::Kubeconfig,
    context: CurrentContext,
    environment: &Environment,
) -> Result<(), Failure> {
    let fail = |e: kube::Error| Failure::new(&e, e.hint());
    let file = kube::default_file().map_err(fail)?;
    let changed = kube::merge_into(&file, kubeconfig, context).await.map_err(fail)?;
    let what = match changed {
        true => format!("context {} is in {}", kubeconfig.name(), file.display()),
        false => format!("context {} is in {} already", kubeconfig.name(), file.display()),
    };
    environment.events.overall(Progress::Done { what });
    Ok(())
}
