//! What can go wrong between k3arm and a host, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of a session. The host's name is the caller's to add.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no `ssh` on this machine, or it cannot be started.
    #[error("the ssh program could not be started")]
    NoSshProgram(#[source] io::Error),
    /// The directory for control sockets is not usable: not ours, not creatable, readable for others.
    #[error("the directory for control sockets, {path}, cannot be used")]
    ControlDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No key of this host is in known_hosts.
    #[error("the {} host key of {host} is not known here", key_type.as_deref().unwrap_or("SSH"))]
    UnknownHostKey {
        /// Host as known_hosts spells it, `[127.0.0.1]:2222`; a jump host's name where that one is unknown.
        host: String,
        /// `ED25519`.
        key_type: Option<String>,
        /// What a person types to see the fingerprint and accept it.
        command: String,
        /// The same without a question.
        blind_command: String,
    },
    /// The host shows another key than the one in known_hosts.
    #[error(
        "THE HOST KEY OF {host} HAS CHANGED: either the machine was installed anew, or something else answers in its place{}",
        fingerprint.as_ref().map(|f| format!(" (it now shows {f})")).unwrap_or_default()
    )]
    ChangedHostKey {
        /// Host as known_hosts spells it.
        host: String,
        /// Fingerprint of the key that it shows now.
        fingerprint: Option<String>,
        /// What removes the old key.
        command: String,
    },
    /// The host took none of the keys that were offered.
    #[error(
        "{} was not let in: the host asks for {methods}{}",
        user.as_deref().unwrap_or("the user"),
        detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default()
    )]
    PermissionDenied {
        /// User name, as far as `ssh` says it.
        user: Option<String>,
        /// What the host would accept: `publickey,password`.
        methods: String,
        /// What `ssh` said of a key or the agent just before.
        detail: Option<String>,
        /// `user@host`.
        login: String,
        /// What a person types to see each step.
        command: String,
    },
    /// No connection came about.
    #[error("{address}: {refusal}")]
    Unreachable {
        /// What was tried.
        address: String,
        /// How it failed.
        refusal: Refusal,
    },
    /// The name has no address.
    #[error("{host} has no address: {reason}")]
    NoSuchHost {
        /// The name.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// `ssh` does not accept the user's configuration.
    #[error("ssh refuses its configuration: {0}")]
    Configuration(String),
    /// Another failure before the session stood, in `ssh`'s own words.
    #[error("ssh could not connect: {0}")]
    Connect(String),
    /// The login works, but what runs there is not a shell that does what it is told.
    #[error("the login runs no shell for k3arm: {said}")]
    NoShell {
        /// What came back instead.
        said: String,
        /// What a person types to see it.
        command: String,
    },
    /// The connection stood and has died.
    #[error("the connection was lost: {0}")]
    Disconnected(String),
    /// The host's sshd forbids a kind of forward that nothing can replace.
    #[error("sshd refuses {forward}")]
    ForwardRefused {
        /// Which.
        forward: Forward,
    },
    /// The host's sshd forbids a forward, and no program of the host could carry connections in its place.
    #[error("sshd refuses {forward}, and the host has no program that could carry it over a plain command")]
    NoRelay {
        /// Which.
        forward: Forward,
    },
    /// A forward could not be set up for another reason.
    #[error("{forward} could not be set up: {reason}")]
    Forward {
        /// Which.
        forward: Forward,
        /// `ssh`'s own words.
        reason: String,
    },
    /// No channel for a script could be opened, though the connection stands.
    #[error("no command could be started on the host")]
    Exec(#[source] openssh::Error),
    /// Pipes to a program on this machine failed.
    #[error("a command on this machine could not be run")]
    Local(#[source] io::Error),
    /// A script ended with a failure.
    #[error("{attempted} failed ({}): {stderr}", status.map_or("killed by a signal".into(), |s| format!("exit code {s}")))]
    Command {
        /// What the script was to do.
        attempted: String,
        /// Its exit code; none after a signal.
        status: Option<i32>,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// A script printed more than it may.
    #[error("a command on the host printed more than {limit} bytes")]
    OutputTooLong {
        /// Bytes.
        limit: usize,
    },
    /// Something took longer than it may.
    #[error("{attempted} took longer than {after:?}")]
    Timeout {
        /// What.
        attempted: &'static str,
        /// The deadline.
        after: Duration,
    },
}

/// How a connection failed to come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The machine is up and nothing listens there.
    Refused,
    /// The network knows no way, or nobody answers for the address.
    NoRoute,
    /// Silence.
    TimedOut,
    /// Something answered and hung up before the login.
    HungUp,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "the machine is up, but nothing listens on that port",
            Self::NoRoute => "no route: nobody answers for that address",
            Self::TimedOut => "no answer in time",
            Self::HungUp => "it answered and hung up before the login",
        })
    }
}

/// What was to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// A unix socket of the host, brought here.
    Socket(String),
    /// An address as the host sees it, brought here.
    To(std::net::SocketAddr),
    /// A listener of ours, brought to a loopback port of the host.
    Reverse(std::net::SocketAddr),
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "the forward of the socket {path}"),
            Self::To(address) => write!(f, "the forward to {address}"),
            Self::Reverse(address) => write!(f, "the reverse forward to {address} of this machine"),
        }
    }
}

impl Forward {
    /// What is to be reached on the host, as our relays read it.
    pub(super) fn far_end(&self) -> Option<String> {
        match self {
            Self::Socket(path) => Some(path.clone()).filter(|path| path.starts_with('/')),
            Self::To(address) => Some(format!("{} {}", address.ip(), address.port())),
            Self::Reverse(_) => None,
        }
    }

    /// What sshd_config must say to allow it. `AllowTcpForwarding no` takes the sockets along (sshd's `do_authenticated`).
    fn setting(&self) -> &'static str {
        match self {
            Self::Socket(_) => "AllowStreamLocalForwarding yes` and `AllowTcpForwarding yes",
            Self::To(_) | Self::Reverse(_) => "AllowTcpForwarding yes",
        }
    }
}

impl Error {
    /// What to do next: one sentence, with the command where there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSshProgram(_) => "install the OpenSSH client (Debian: apt install openssh-client)".into(),
            Self::ControlDirectory { path, .. } => {
                format!("{} must be a directory of yours with mode 0700: remove it and try again", path.display())
            }
            Self::UnknownHostKey { command, blind_command, .. } => format!(
                "run `{command}`, compare the fingerprint with that of `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` \
                 on the host and answer yes; or accept it unseen: `{blind_command}`"
            ),
            Self::ChangedHostKey { command, .. } => format!(
                "find out why first; if it was installed anew, remove the old key with `{command}` and accept the new one"
            ),
            Self::PermissionDenied { login, command, .. } => format!(
                "load the key (`ssh-add`) or put it on the host (`ssh-copy-id {login}`); `{command}` shows each step"
            ),
            Self::Unreachable { refusal, .. } => match refusal {
                Refusal::Refused => "start sshd there (`sudo systemctl enable --now ssh`), or check the port".into(),
                Refusal::NoRoute => "check that the machine is on, in this network, and that the address is its".into(),
                Refusal::TimedOut => "check that the machine is on and that no firewall is between".into(),
                Refusal::HungUp => {
                    "sshd may be starting, overloaded (MaxStartups) or told to refuse this machine: try again".into()
                }
            },
            Self::NoSuchHost { .. } => "check the spelling, or give the address (user@10.0.0.11)".into(),
            Self::Configuration(_) => "correct the file that is named, or give another with --ssh-config".into(),
            Self::NoShell { command, .. } => {
                format!("`{command} true` must work in silence: give this user a shell and its key no forced command")
            }
            Self::Disconnected(_) => "check the host's power and network, then run the same command again".into(),
            Self::Exec(_) => "sshd may allow too few sessions at once: set `MaxSessions 10` in its sshd_config".into(),
            Self::ForwardRefused { forward } => {
                format!(
                    "set `{}` (and no `DisableForwarding yes`) in the host's /etc/ssh/sshd_config and reload sshd",
                    forward.setting()
                )
            }
            Self::NoRelay { forward } => format!(
                "install one of perl, python3, socat or netcat-openbsd on the host, or set `{}` (and no \
                 `DisableForwarding yes`) in its /etc/ssh/sshd_config and reload sshd",
                forward.setting()
            ),
            _ => return None,
        })
    }
}
