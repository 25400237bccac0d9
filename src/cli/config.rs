//! `k3arm config …`: the cluster file.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::output;
use super::settings::Format;
use super::wanted::{Named, WantedArguments, read_file};
use crate::cluster::{self, Cluster, ClusterName, Source};
use crate::files::{self, NewFile};
use crate::plan::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Write a cluster file; asks for what is not said where it can
    #[command(after_help = INIT_EXAMPLES)]
    Init(Box<Init>),
    /// Print a cluster file with everything that is left to its default
    #[command(after_help = VIEW_EXAMPLES)]
    View(View),
    /// Print the JSON schema of cluster files, for editors
    #[command(after_help = SCHEMA_EXAMPLES)]
    Schema,
}

const INIT_EXAMPLES: &str = "\
Examples:
  k3arm config init
  k3arm config init home --server pi@pi1.local --agent pi@pi2.local --agent pi@pi3.local
  k3arm config init home --server one=pi@10.0.0.11 --k3s v1.36 -f clusters/home.yaml";

const VIEW_EXAMPLES: &str = "\
Examples:
  k3arm config view
  k3arm config view -f clusters/home.yaml -o json";

const SCHEMA_EXAMPLES: &str = "\
Examples:
  k3arm config schema > k3arm.schema.json

An editor with a YAML language server then completes a file that begins with
  # yaml-language-server: $schema=k3arm.schema.json";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// What the cluster is called
    name: Option<ClusterName>,
    #[command(flatten)]
    wanted: WantedArguments,
    /// The file to write
    #[arg(short = 'f', long = "file", value_name = "FILE", default_value = "k3arm.yaml")]
    target: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct View {
    /// The cluster file
    #[arg(short, long, value_name = "FILE", default_value = "k3arm.yaml")]
    file: PathBuf,
}

impl Config {
    pub(super) fn run(self, format: Format) -> Exit {
        match self {
            Self::Init(arguments) => arguments.run(),
            Self::View(arguments) => arguments.run(format),
            Self::Schema => {
                // A schema is JSON, whatever a table would be.
                let json = if format == Format::Yaml { Format::Yaml } else { Format::Json };
                output::data(json, &cluster::schema(), String::new);
                Exit::Done
            }
        }
    }
}

impl View {
    fn run(self, format: Format) -> Exit {
        match read_file(&self.file) {
            Ok(cluster) => {
                let yaml = if format == Format::Table { Format::Yaml } else { format };
                output::data(yaml, &cluster.to_file(), String::new);
                Exit::Done
            }
            Err(failure) => output::failures(&[failure], Exit::Usage),
        }
    }
}

impl Init {
    fn run(mut self) -> Exit {
        if self.target.exists() && !self.force {
            return output::failures(&[exists(&self.target)], Exit::Usage);
        }
        if self.wanted.server.is_none() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
            self = match self.asked(&mut std::io::stdin().lock(), &mut std::io::stderr()) {
                Ok(asked) => asked,
                Err(error) => return output::failures(&[Failure::new(&error, None)], Exit::Failed),
            };
        }
        let name = self.name.clone().or_else(|| "home".parse().ok());
        let Some(cluster) = name.map(|name| self.wanted.cluster(&name)) else { return Exit::Usage };
        if let Err(error) = cluster.check() {
            return output::failures(&[Failure::new(&error, None)], Exit::Usage);
        }
        match write(&self.target, &commented(&cluster), self.force) {
            Ok(()) => {
                let path = self.target.display();
                output::print(&format!("wrote {path}\nnext: k3arm cluster create -f {path} --dry-run\n"));
                Exit::Done
            }
            Err(failure) => output::failures(&[failure], Exit::Failed),
        }
    }

    /// With the answers of the person at the terminal; an empty one leaves what is in brackets.
    fn asked(mut self, from: &mut impl BufRead, to: &mut impl Write) -> std::io::Result<Self> {
        if self.name.is_none() {
            self.name = ask("What is the cluster called?", "home", from, to)?;
        }
        self.wanted.server = ask("On which host does its server run? (user@host, or local)", "local", from, to)?;
        while let Some(Maybe(Some(agent))) = ask("Another host, as an agent? (nothing: no more)", "", from, to)? {
            self.wanted.agent.push(agent);
        }
        if let Some(source) = ask::<Source>("Which k3s? (a channel or a release)", "stable", from, to)? {
            self.wanted.k3s = source;
        }
        Ok(self)
    }
}

/// An answer that may be none.
struct Maybe(Option<Named>);

impl FromStr for Maybe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|named| Self(Some(named))) }
    }
}

/// Asks until the answer is one; `None` when nobody answers any more.
fn ask<T: FromStr<Err: std::fmt::Display>>(
    question: &str,
    usual: &str,
    from: &mut impl BufRead,
    to: &mut impl Write,
) -> std::io::Result<Option<T>> {
    loop {
        let choice = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
        write!(to, "{question}{choice} ")?;
        to.flush()?;
        let mut answer = String::new();
        if from.read_line(&mut answer)? == 0 {
            writeln!(to)?;
            return Ok(None);
        }
        let answer = if answer.trim().is_empty() { usual } else { answer.trim() };
        match answer.parse() {
            Ok(parsed) => return Ok(Some(parsed)),
            Err(error) => writeln!(to, "{error}")?,
        }
    }
}

fn exists(path: &Path) -> Failure {
    Failure {
        host: None,
        message: format!("{} is there already", path.display()),
        hint: Some("`-f FILE` names another one, --force replaces it".into()),
    }
}

/// Writes the file whole or not at all.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let attempt = || -> std::io::Result<()> {
        let mut file = NewFile::begin(path, files::USUAL_MODE)?;
        file.write_all(text.as_bytes())?;
        if force { file.replace() } else { file.create() }
    };
    attempt().map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure { host: None, message: format!("{} could not be written: {error}", path.display()), hint: None },
    })
}

/// The file for people to go on with: what is said, and what could be.
fn commented(cluster: &Cluster) -> String {
    let file = cluster.to_file();
    let text = |pointer: &str| file.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
    let source = ["version", "channel", "image"].into_iter().find(|key| !text(&format!("/k3s/{key}")).is_empty());
    let source = source.map(|key| format!("  {key}: {}\n", text(&format!("/k3s/{key}")))).unwrap_or_default();
    let mut hosts = String::new();
    for number in 0..cluster.members.len() {
        let entry = |key: &str| text(&format!("/hosts/{number}/{key}"));
        let _ = write!(hosts, "  - name: {}\n    ssh: {}\n    role: {}\n", entry("name"), entry("ssh"), entry("role"));
    }
    format!(
        "\
# A cluster for k3arm: `k3arm cluster create -f` with this file makes it, and the same command again makes what is missing.
apiVersion: k3arm.dev/v1alpha1
kind: Cluster
metadata:
  name: {name}
k3s:
  # One of: channel (stable, latest, v1.36), version (v1.36.3+k3s1), image (an image of your own).
{source}  # How much of k3s runs: tiny (512 MB), small (1 GB), standard (2 GB), full; auto goes by each host's memory, and its parts by the server's.
  profile: {profile}
  # Any flag of k3s, over what k3arm sets:
  # config:
  #   write-kubeconfig-mode: \"0640\"
hosts:
  # One server, any number of agents. ssh: user@host, ssh://user@host:port, an alias of ~/.ssh/config, or local.
{hosts}    # address: 10.0.0.11          # where the other machines reach it
    # labels: {{ disk: ssd }}
    # taints: [ \"key=value:NoSchedule\" ]
# What pods will run, brought into the nodes beforehand:
# images:
#   - ghcr.io/me/app:1.2
",
        name = cluster.name,
        profile = text("/k3s/profile"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init() -> Init {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            init: Init,
        }
        Line::parse_from(["init"]).init
    }

    fn answered(answers: &str) -> (Cluster, String) {
        let mut shown = Vec::new();
        let init = init().asked(&mut answers.as_bytes(), &mut shown).unwrap();
        (init.wanted.cluster(&init.name.unwrap()), String::from_utf8(shown).unwrap())
    }

    #[test]
    fn what_is_answered_is_in_the_file() {
        let (cluster, shown) = answered("lab\npi@pi1\nbad host\ntwo=pi@10.0.0.12\n\nv1.36\n");
        let read = Cluster::parse(&commented(&cluster)).unwrap();
        assert_eq!((read.name.as_str(), read.members.len(), read.k3s.source.to_string()), ("lab", 2, "v1.36".into()));
        assert_eq!(read.members[1].node_name.as_ref().unwrap().as_str(), "two");
        assert!(shown.contains("bad host"), "{shown}");
    }

    #[test]
    fn who_answers_nothing_gets_what_is_usual() {
        let (cluster, _) = answered("\n\n\n\n");
        let read = Cluster::parse(&commented(&cluster)).unwrap();
        assert_eq!((read.members.len(), read.k3s.source.to_string()), (1, "stable".into()));
    }

    #[test]
    fn every_comment_is_a_setting_that_can_be_read() {
        let (cluster, _) = answered("lab\npi@pi1\npi@pi2\n\n\n");
        let is_setting = |line: &&str| line.trim_start().starts_with("# ") && line.contains([':', '-']);
        let text = commented(&cluster);
        let settings = text
            .lines()
            .skip(1)
            .filter(is_setting)
            .filter(|line| !line.ends_with([':', '.']) || line.contains("config:") || line.contains("images:"));
        let all = text.lines().map(|line| {
            if settings.clone().any(|setting| setting == line) { line.replacen("# ", "", 1) } else { line.into() }
        });
        let all: Vec<String> = all.collect();
        let read = Cluster::parse(&all.join("\n")).unwrap_or_else(|error| panic!("{error}\n{}", all.join("\n")));
        let last = read.members.last().unwrap();
        assert_eq!((last.labels.len(), last.taints.len(), read.images.len(), read.k3s.config.len()), (1, 1, 1, 1));
        assert!(last.address.is_some());
    }
}
