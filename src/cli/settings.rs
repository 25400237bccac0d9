//! Options of every command, and the environment made of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use etcetera::BaseStrategy;

use super::progress;
use crate::pipeline::{Environment, Interrupt};
use crate::plan::Failure;
use crate::records::Records;
use crate::{registry, ssh};

/// How data is printed on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// What `-o` can mean. The file is for the one command whose result is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    Format(Format),
    File(PathBuf),
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Format::from_str(text, false) {
            Ok(format) => Ok(Self::Format(format)),
            Err(_) if text.contains(['.', '/']) => Ok(Self::File(text.into())),
            Err(_) => {
                Err("table, json or yaml is expected; for `image bundle` also a file, as fleet.tar or ./fleet".into())
            }
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Settings {
    /// How data is printed: table, json or yaml; for `image bundle` also the file to write
    #[arg(short, long, global = true, value_name = "FORMAT")]
    output: Vec<Output>,
    /// Say more: -v what is done, -vv every line of the nodes' logs (never a secret)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// No progress, errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// An ssh_config instead of ~/.ssh/config
    #[arg(long, global = true, value_name = "FILE", env = "K3ARM_SSH_CONFIG")]
    ssh_config: Option<PathBuf>,
    /// Ask this registry first for images of another one; http:// allows plain HTTP for it
    #[arg(long, global = true, value_name = "REGISTRY=URL", env = "K3ARM_REGISTRY_MIRROR", value_delimiter = ',')]
    registry_mirror: Vec<registry::Mirror>,
    /// Allow plain HTTP to this registry (loopback always may)
    #[arg(long, global = true, value_name = "HOST[:PORT]", env = "K3ARM_PLAIN_HTTP", value_delimiter = ',')]
    plain_http: Vec<String>,
    /// Send credentials to this token server, although it is in another domain than its registry
    #[arg(long, global = true, value_name = "HOST[:PORT]", env = "K3ARM_TOKEN_SERVER", value_delimiter = ',')]
    token_server: Vec<String>,
    /// Where k3s publishes its channels
    #[arg(long, global = true, value_name = "URL", env = "K3ARM_CHANNELS_URL", hide = true)]
    channels_url: Option<String>,
    /// Where k3s publishes its releases' files
    #[arg(long, global = true, value_name = "URL", env = "K3ARM_RELEASES_URL", hide = true)]
    releases_url: Option<String>,
    /// Folder for blobs and records, instead of the user's cache and data folders
    #[arg(long, global = true, value_name = "FOLDER", env = "K3ARM_HOME")]
    home: Option<PathBuf>,
}

/// How long a host may take to answer the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Settings {
    /// How data is printed; the last word counts.
    pub(super) fn format(&self) -> Format {
        let mut formats = self.output.iter().rev().filter_map(|output| match output {
            Output::Format(format) => Some(*format),
            Output::File(_) => None,
        });
        formats.next().unwrap_or(Format::Table)
    }

    /// The file that was named by `-o`.
    pub(super) fn file(&self) -> Option<&Path> {
        self.output.iter().rev().find_map(|output| match output {
            Output::File(path) => Some(path.as_path()),
            Output::Format(_) => None,
        })
    }

    /// Logs of k3arm itself go to stderr.
    pub(super) fn start_log(&self) {
        let level = match self.verbose {
            0 => return,
            1 => tracing::Level::DEBUG,
            _ => tracing::Level::TRACE,
        };
        // Only our own: libraries log whole requests.
        let ours = tracing_subscriber::filter::Targets::new().with_target("k3arm", level);
        use tracing_subscriber::layer::SubscriberExt;
        use tracing_subscriber::util::SubscriberInitExt;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let _ = tracing_subscriber::registry().with(lines).with(ours).try_init();
    }

    pub(super) fn environment(&self, interrupt: Interrupt) -> Result<Environment, Failure> {
        let folders = Folders::new(self.home.clone())?;
        let mut settings = registry::Settings {
            mirrors: self.registry_mirror.clone(),
            plain_http: self.plain_http.iter().cloned().collect::<BTreeSet<_>>(),
            trusted_realms: self.token_server.iter().cloned().collect(),
            ..registry::Settings::default()
        };
        if let Some(url) = &self.channels_url {
            settings.channels_url = url.clone();
        }
        if let Some(url) = &self.releases_url {
            settings.releases_url = url.clone();
        }
        Ok(Environment {
            ssh: ssh::Options {
                config: self.ssh_config.clone(),
                connect_timeout: CONNECT_TIMEOUT,
                control_root: folders.run,
            },
            registry: registry::Client::new(settings).map_err(|e| Failure::new(&e, e.hint()))?,
            store: folders.store,
            records: Records::new(folders.clusters),
            events: if self.quiet { crate::plan::Events::none() } else { progress::events(self.format()) },
            interrupt,
        })
    }
}

struct Folders {
    store: PathBuf,
    clusters: PathBuf,
    run: PathBuf,
}

impl Folders {
    fn new(home: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(home) = home {
            return Ok(Self { store: home.join("store"), clusters: home.join("clusters"), run: home.join("run") });
        }
        let base = etcetera::base_strategy::choose_base_strategy().map_err(|e| Failure::new(&e, None))?;
        let (cache, data) = (base.cache_dir().join("k3arm"), base.data_dir().join("k3arm"));
        Ok(Self { store: cache.join("store"), clusters: data.join("clusters"), run: cache.join("run") })
    }
}
