//! The command line: arguments in, tables, JSON, progress, hints and an exit code out.
//!
//! Data goes to stdout; progress, warnings and errors to stderr. One file a noun of the command line.

mod cluster;
mod config;
mod duration;
mod exit;
mod host;
mod image;
mod kubeconfig;
mod output;
mod own;
mod progress;
mod settings;
mod supply;
mod version;
mod wanted;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::pipeline::{Environment, Interrupt};
use crate::plan::Failure;
use exit::Exit;
use settings::Settings;

/// Turns ARM machines with sshd and Docker into a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "k3arm", version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    noun: Noun,
}

const EXAMPLES: &str = "\
Examples:
  k3arm host check --host pi@pi1 --host pi@pi2        what stands against a cluster there, and its fix
  k3arm image resolve stable                          what the channel is now, for every platform
  k3arm image prewarm v1.36.2+k3s1 --host pi@pi1 --host pi@pi2
  k3arm cluster create home --server pi@pi1 --agent pi@pi2 --agent pi@pi3
  k3arm cluster create -f k3arm.yaml --dry-run
  kubectl get nodes

Exit codes:
  0  done, or nothing to do        3    found before the start, nothing was changed
  1  something failed              4    some hosts failed, the others are done
  2  wrong arguments or file       130  interrupted, a new cluster is taken back";

#[derive(Debug, Subcommand)]
enum Noun {
    /// Images: pin them, bring them to hosts.
    #[command(subcommand)]
    Image(image::Image),
    /// Clusters: create, list, delete.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Hosts: check, list, prepare.
    #[command(subcommand)]
    Host(host::HostCommand),
    /// The kubeconfig of a cluster.
    #[command(subcommand)]
    Kubeconfig(kubeconfig::Kubeconfig),
    /// The cluster file: write one, print it, describe it.
    #[command(subcommand)]
    Config(config::Config),
    /// Releases of k3s.
    #[command(subcommand)]
    Version(version::Version),
    /// A script that completes k3arm's commands in a shell
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion(own::Completion),
    /// The manual, as man pages
    #[command(after_help = MAN_EXAMPLES)]
    Man(own::Man),
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  k3arm completion bash > ~/.local/share/bash-completion/completions/k3arm
  k3arm completion fish > ~/.config/fish/completions/k3arm.fish
  k3arm completion zsh > ~/.zfunc/_k3arm";

const MAN_EXAMPLES: &str = "\
Examples:
  k3arm man ~/.local/share/man/man1";

impl Noun {
    fn writes_a_file(&self) -> bool {
        matches!(self, Self::Image(image::Image::Bundle(_)))
    }
}

/// Runs one command line.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.code() } else { Exit::Done.code() };
        }
    };
    arguments.settings.start_log();
    let interrupt = catch_interrupts();
    let (format, file) = (arguments.settings.format(), arguments.settings.file().map(Path::to_path_buf));
    if let (Some(file), false) = (&file, arguments.noun.writes_a_file()) {
        let message = format!("-o wants table, json or yaml here, not {}", file.display());
        let _ = Arguments::command().error(ErrorKind::InvalidValue, message).print();
        return Exit::Usage.code();
    }
    // Only what asks registries and hosts has progress to show, and folders to make.
    let environment = || arguments.settings.environment(interrupt);
    let exit = match arguments.noun {
        Noun::Image(command) => with(environment(), |here| command.run(here, format, file)).await,
        Noun::Cluster(command) => with(environment(), |here| command.run(here, format)).await,
        Noun::Host(command) => with(environment(), |here| command.run(here, format)).await,
        Noun::Kubeconfig(command) => with(environment(), |here| command.run(here)).await,
        Noun::Version(command) => with(environment(), |here| command.run(here, format)).await,
        Noun::Config(command) => command.run(format),
        Noun::Completion(command) => command.run(Arguments::command()),
        Noun::Man(command) => command.run(Arguments::command()),
    };
    exit.code()
}

async fn with<R: Future<Output = Exit>>(
    environment: Result<Environment, Failure>,
    run: impl FnOnce(Environment) -> R,
) -> Exit {
    match environment {
        Ok(environment) => Box::pin(run(environment)).await,
        Err(failure) => output::failures(&[failure], Exit::Failed),
    }
}

/// The first Ctrl-C (or SIGTERM, or a closed terminal) asks the command to stop and clean up; the second one ends the program at once.
fn catch_interrupts() -> Interrupt {
    let (sender, interrupt) = Interrupt::new();
    tokio::spawn(async move {
        next_signal().await;
        // stderr may be gone with the terminal.
        let _ = writeln!(std::io::stderr(), "interrupted: cleaning up (once more to stop at once)");
        let _ = sender.send(true);
        next_signal().await;
        std::process::exit(i32::from(Exit::INTERRUPTED));
    });
    interrupt
}

async fn next_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        let path = format!("{path}{} ", command.get_name());
        for below in command.get_subcommands() {
            leaves(below, &path, found);
        }
        if !command.has_subcommands() {
            found.push((path, command.get_after_help().map(ToString::to_string).unwrap_or_default()));
        }
    }

    #[test]
    fn every_command_shows_examples_and_they_are_commands() {
        let (mut found, command) = (Vec::new(), Arguments::command());
        command.clone().debug_assert();
        leaves(&command, "", &mut found);
        found.push(("k3arm ".into(), EXAMPLES.into()));
        for (path, help) in found {
            let lines = help.lines().map(str::trim).filter(|line| line.starts_with("k3arm "));
            // What follows two spaces is a remark, and what follows > is the shell's.
            let lines: Vec<&str> = lines.map(|line| line.split("  ").next().unwrap_or(line)).collect();
            assert!(lines.iter().any(|line| format!("{line} ").starts_with(&path)), "{path}: {help}");
            for line in lines {
                let words = line.split(" > ").next().unwrap_or(line).split_whitespace();
                let parsed = Arguments::try_parse_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
            }
        }
    }
}
