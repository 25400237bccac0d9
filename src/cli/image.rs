//! `k3arm image …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::Exit;
use super::output;
use super::settings::Format;
use crate::cluster::Source;
use crate::host::{Destination, Host};
use crate::oci::{PinnedImage, Platform};
use crate::pipeline::{self, Environment, PrewarmRequest, Prewarmed, ResolveRequest};
use crate::plan::Outcome;

#[derive(Debug, Subcommand)]
pub(super) enum Image {
    /// Pin references to digests: the index, and what each platform gets
    #[command(after_help = RESOLVE_EXAMPLES)]
    Resolve(Resolve),
    /// Bring images to hosts: fetched once, pulled by every host's own engine, checked there
    #[command(after_help = PREWARM_EXAMPLES)]
    Prewarm(Prewarm),
}

const RESOLVE_EXAMPLES: &str = "\
Examples:
  k3arm image resolve v1.36.2+k3s1
  k3arm image resolve stable --platform linux/arm64 --platform linux/arm/v7
  k3arm image resolve ghcr.io/me/app:1.2 --host pi@pi1 -o json";

const PREWARM_EXAMPLES: &str = "\
Examples:
  k3arm image prewarm v1.36.2+k3s1 --host pi@pi1 --host pi@pi2
  k3arm image prewarm rancher/k3s:v1.36.2-k3s1 ghcr.io/me/app:1.2 --host ssh://pi@10.0.0.11:2222 --dry-run";

/// An image (`ghcr.io/me/app:1.2`), a k3s release (`v1.36.2+k3s1`) or a channel (`stable`, `v1.36`).
#[derive(Debug, Args)]
pub(super) struct Resolve {
    /// Images, k3s releases (v1.36.2+k3s1) or channels (stable, v1.36)
    #[arg(required = true, value_name = "REF")]
    sources: Vec<Source>,
    /// Only this platform: os/architecture[/variant]
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<Platform>,
    /// Only the platform of this host's engine: user@host, ssh://user@host:port, an alias, or local
    #[arg(long, value_name = "HOST")]
    host: Vec<Host>,
}

#[derive(Debug, Args)]
pub(super) struct Prewarm {
    /// Images, k3s releases (v1.36.2+k3s1) or channels (stable, v1.36)
    #[arg(required = true, value_name = "REF")]
    sources: Vec<Source>,
    /// Where to: user@host, ssh://user@host:port, an alias, or local (the default)
    #[arg(long, value_name = "HOST")]
    host: Vec<Host>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Image {
    pub(super) async fn run(self, environment: Environment, format: Format) -> Exit {
        match self {
            Self::Resolve(arguments) => arguments.run(&environment, format).await,
            Self::Prewarm(arguments) => arguments.run(&environment, format).await,
        }
    }
}

impl Resolve {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let request = ResolveRequest {
            sources: self.sources,
            platforms: self.platform.into_iter().collect(),
            hosts: super::cluster::each_once(self.host),
        };
        match pipeline::resolve(request, environment).await {
            Ok(images) => {
                output::data(format, &images, || images.iter().map(pinned).collect::<Vec<_>>().join("\n"));
                Exit::Done
            }
            Err(stop) => output::stop(stop),
        }
    }
}

/// One image as a heading and a table of platforms.
fn pinned(image: &PinnedImage) -> String {
    let kind = image.index.as_ref().map_or("one image", |_| "index");
    let digest = image.digest().map(ToString::to_string).unwrap_or_default();
    let rows: Vec<Vec<String>> = image
        .platforms
        .iter()
        .map(|(platform, one)| {
            vec![
                platform.to_string(),
                one.manifest.digest.to_string(),
                one.config.digest.short().to_string(),
                one.layers.len().to_string(),
                output::bytes(one.compressed_size),
            ]
        })
        .collect();
    let heading = ["PLATFORM", "MANIFEST", "CONFIG", "LAYERS", "COMPRESSED"];
    format!("{}\n{kind} {digest}\n{}", image.reference.familiar(), output::table(&heading, &rows))
}

impl Prewarm {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let hosts = super::cluster::each_once(self.host);
        let hosts = if hosts.is_empty() { vec![Host::of(Destination::Local)] } else { hosts };
        let request = PrewarmRequest { sources: self.sources, hosts, dry_run: self.dry_run };
        match pipeline::prewarm(request, environment).await {
            Ok(done) => {
                let value = json!({"plan": done.plan, "report": done.report, "images": done.images});
                output::data(format, &value, || told(&done, self.dry_run));
                output::report(&done.report)
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn told(done: &Prewarmed, dry_run: bool) -> String {
    let row = |outcome: &Outcome| {
        let seconds = format!("{:.1} s", outcome.milliseconds as f64 / 1e3);
        let (host, subject) = (outcome.host.to_string(), outcome.subject.clone());
        vec![host, subject, outcome.status.clone(), output::bytes(outcome.bytes), seconds]
    };
    let rows: Vec<Vec<String>> = done.report.outcomes.iter().map(row).collect();
    let report = output::table(&["HOST", "IMAGE", "STATUS", "SENT", "TIME"], &rows);
    let plan = if dry_run { done.plan.to_string() } else { String::new() };
    match (dry_run, rows.is_empty()) {
        (true, true) => plan,
        (true, false) => format!("{plan}{report}"),
        _ => report,
    }
}
