//! `k3arm image …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::Exit;
use super::output;
use super::settings::Format;
use super::supply::{SourcingArguments, TravelArguments};
use super::wanted::{HostArguments, each_once, read_file};
use crate::cluster::Source;
use crate::host::{Destination, Host};
use crate::oci::{PinnedImage, Platform};
use crate::pipeline::{
    self, BundleRequest, Bundled, Environment, ListedImage, Pick, PrewarmRequest, Prewarmed, PruneReport, PruneRequest,
    ResolveRequest,
};
use crate::plan::{Failure, Outcome};

#[derive(Debug, Subcommand)]
pub(super) enum Image {
    /// Pin references to digests: the index, and what each platform gets
    #[command(after_help = RESOLVE_EXAMPLES)]
    Resolve(Resolve),
    /// Bring images to hosts: fetched once, only what is missing, checked where it arrives
    #[command(after_help = PREWARM_EXAMPLES)]
    Prewarm(Box<Prewarm>),
    /// Write all images of a cluster into one file, for hosts and machines without internet
    #[command(after_help = BUNDLE_EXAMPLES)]
    Bundle(Bundle),
    /// List the images of hosts: their size, whether a container uses them, whether k3arm has brought them
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Remove what k3arm has brought and nothing uses: from hosts, and from the store on this machine
    #[command(after_help = PRUNE_EXAMPLES)]
    Prune(Prune),
}

const LIST_EXAMPLES: &str = "\
Examples:
  k3arm image list --host pi@pi1 --host pi@pi2
  k3arm image list -f k3arm.yaml -o json";

const PRUNE_EXAMPLES: &str = "\
Examples:
  k3arm image prune                                    the store: what no host has of it any more
  k3arm image prune --host pi@pi1 --host pi@pi2 --dry-run
  k3arm image prune --all                              the whole store";

const RESOLVE_EXAMPLES: &str = "\
Examples:
  k3arm image resolve v1.36.2+k3s1
  k3arm image resolve stable --platform linux/arm64 --platform linux/arm/v7
  k3arm image resolve ghcr.io/me/app:1.2 --host pi@pi1 -o json";

const PREWARM_EXAMPLES: &str = "\
Examples:
  k3arm image prewarm v1.36.2+k3s1 --host pi@pi1 --host pi@pi2
  k3arm image prewarm -f k3arm.yaml                      all that this cluster will start
  k3arm image prewarm -f k3arm.yaml --bundle fleet.tar   nothing but SSH is used
  k3arm image prewarm docker:app:dev ./saved.tar --host pi@pi1
  k3arm image prewarm rancher/k3s:v1.36.2-k3s1 ghcr.io/me/app:1.2 --host ssh://pi@10.0.0.11:2222 --dry-run";

const BUNDLE_EXAMPLES: &str = "\
Examples:
  k3arm image bundle -f k3arm.yaml -o fleet.tar
  k3arm image bundle -f k3arm.yaml --platform linux/arm64 --platform linux/arm/v7 -o fleet.tar
  skopeo inspect oci-archive:fleet.tar:docker.io/rancher/k3s:v1.36.2-k3s1";

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
    /// Images, k3s releases (v1.36.2+k3s1), channels (stable, v1.36), docker:NAME from this machine's engine, or ./FILE
    #[arg(required_unless_present_any = ["file", "bundle"], value_name = "REF")]
    sources: Vec<Pick>,
    /// Where to: user@host, ssh://user@host:port, an alias, or local (the default)
    #[arg(long, value_name = "HOST", conflicts_with = "file")]
    host: Vec<Host>,
    /// A cluster file: its hosts, with all that the cluster will start
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    sourcing: SourcingArguments,
    #[command(flatten)]
    travel: TravelArguments,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Bundle {
    /// Images, k3s releases or channels, besides those of the cluster file
    #[arg(required_unless_present = "file", value_name = "REF")]
    sources: Vec<Source>,
    /// A cluster file: k3s, its system images, and the file's own `images`
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// For this platform (os/architecture[/variant]), instead of those of the cluster's hosts
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<Platform>,
    /// For the platform of this host
    #[arg(long, value_name = "HOST")]
    host: Vec<Host>,
    #[command(flatten)]
    sourcing: SourcingArguments,
    /// Only say what would be in it
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    hosts: HostArguments,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    #[command(flatten)]
    hosts: HostArguments,
    /// Empty the store, whatever hosts hold
    #[arg(long)]
    all: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

impl Image {
    pub(super) async fn run(self, environment: Environment, format: Format, file: Option<PathBuf>) -> Exit {
        match self {
            Self::Resolve(arguments) => arguments.run(&environment, format).await,
            Self::Prewarm(arguments) => arguments.run(&environment, format).await,
            Self::Bundle(arguments) => arguments.run(&environment, format, file).await,
            Self::List(arguments) => arguments.run(&environment, format).await,
            Self::Prune(arguments) => arguments.run(&environment, format).await,
        }
    }
}

impl Resolve {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let request = ResolveRequest {
            sources: self.sources,
            platforms: self.platform.into_iter().collect(),
            hosts: each_once(self.host),
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
        let hosts = each_once(self.host);
        let is_local = hosts.is_empty() && self.file.is_none();
        let hosts = if is_local { vec![Host::of(Destination::Local)] } else { hosts };
        let cluster = match self.file.as_deref().map(read_file).transpose() {
            Ok(cluster) => cluster,
            Err(failure) => return output::failures(&[failure], Exit::Usage),
        };
        let request = PrewarmRequest {
            picks: self.sources,
            sourcing: self.sourcing.sourcing(self.file.as_deref()),
            cluster,
            hosts,
            travel: self.travel.travel(),
            dry_run: self.dry_run,
        };
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

impl Bundle {
    async fn run(self, environment: &Environment, format: Format, file: Option<PathBuf>) -> Exit {
        let Some(output) = file else {
            let (message, hint) = ("where to is not said".into(), Some("name a file: `-o fleet.tar`".into()));
            return output::failures(&[Failure { host: None, message, hint }], Exit::Usage);
        };
        let cluster = match self.file.as_deref().map(read_file).transpose() {
            Ok(cluster) => cluster,
            Err(failure) => return output::failures(&[failure], Exit::Usage),
        };
        let request = BundleRequest {
            cluster,
            sources: self.sources,
            platforms: self.platform.into_iter().collect(),
            hosts: each_once(self.host),
            sourcing: self.sourcing.sourcing(self.file.as_deref()),
            output: output.clone(),
            dry_run: self.dry_run,
        };
        match pipeline::bundle(request, environment).await {
            Ok(bundled) => {
                let value = json!({"file": output, "size": bundled.size, "images": bundled.images});
                output::data(format, &value, || contents(&bundled));
                Exit::Done
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn contents(bundled: &Bundled) -> String {
    let row = |image: &PinnedImage| {
        let platforms: Vec<String> = image.platforms.keys().map(ToString::to_string).collect();
        let size = image.platforms.values().map(|one| one.compressed_size).sum();
        let digest = image.digest().map(|digest| digest.short().to_string()).unwrap_or_default();
        vec![image.reference.familiar(), digest, platforms.join(", "), output::bytes(size)]
    };
    let rows: Vec<Vec<String>> = bundled.images.iter().map(row).collect();
    let table = output::table(&["IMAGE", "DIGEST", "PLATFORMS", "COMPRESSED"], &rows);
    format!("{table}{} in all\n", output::bytes(bundled.size))
}

impl List {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let hosts = match self.hosts.hosts_or_local() {
            Ok(hosts) => hosts,
            Err(failure) => return output::failures(&[failure], Exit::Usage),
        };
        match pipeline::image_list(&hosts, environment).await {
            Ok((images, failures)) => {
                output::data(format, &images, || listed(&images));
                match (failures.len(), hosts.len()) {
                    (0, _) => Exit::Done,
                    (failed, all) if failed < all => output::failures(&failures, Exit::Partial),
                    _ => output::failures(&failures, Exit::Failed),
                }
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn listed(images: &[ListedImage]) -> String {
    let row = |image: &ListedImage| {
        let id = image.id.as_ref().and_then(|id| id.get(7..19)).unwrap_or("-").to_string();
        let size = image.size.map_or_else(|| "-".into(), output::bytes);
        let mark = |is: bool| if is { "yes" } else { "-" }.to_string();
        vec![image.host.to_string(), image.name.clone(), id, size, mark(image.used), mark(image.placed)]
    };
    let rows: Vec<Vec<String>> = images.iter().map(row).collect();
    output::table(&["HOST", "IMAGE", "ID", "SIZE", "USED", "BY K3ARM"], &rows)
}

impl Prune {
    async fn run(self, environment: &Environment, format: Format) -> Exit {
        let hosts = match self.hosts.hosts() {
            Ok(hosts) => hosts,
            Err(failure) => return output::failures(&[failure], Exit::Usage),
        };
        let request = PruneRequest { hosts, all: self.all, dry_run: self.dry_run };
        match pipeline::prune(request, environment).await {
            Ok(report) => {
                output::data(format, &report, || pruned(&report, self.dry_run));
                if report.failures.is_empty() { Exit::Done } else { output::failures(&report.failures, Exit::Partial) }
            }
            Err(stop) => output::stop(stop),
        }
    }
}

fn pruned(report: &PruneReport, dry_run: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let images = report.images.iter().map(|image| format!("{}: {verb} {}\n", image.host, image.name));
    let (blobs, bytes) = (report.store.blobs, output::bytes(report.store.bytes));
    images.collect::<String>() + &format!("store: {verb} {blobs} blobs, {bytes}\n")
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
