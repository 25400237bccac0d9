//! Where a host is: this machine, or the far end of an SSH connection.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a host is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// This machine's own engine, without SSH.
    Local,
    /// A machine behind sshd.
    Ssh(SshDestination),
}

/// What `ssh` is told: a host name, an address or an alias of the user's ssh_config, and what overrides it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshDestination {
    /// Remote user; the ssh_config decides without one.
    pub user: Option<String>,
    /// Host name, address or alias.
    pub host: String,
    /// Port; the ssh_config decides without one.
    pub port: Option<u16>,
}

/// A host's short name, by which reports and errors call it; unique in a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostName(String);

/// A host that the user named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// What it is called in output.
    pub name: HostName,
    /// Where it is.
    pub destination: Destination,
}

/// Why a string is not a [`Destination`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host: {why}")]
pub struct DestinationError {
    text: String,
    why: &'static str,
}

impl HostName {
    /// Calls a host `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Host {
    /// A host that is called what its destination is called.
    pub fn of(destination: Destination) -> Self {
        let name = match &destination {
            Destination::Local => "local".to_string(),
            Destination::Ssh(ssh) => match ssh.port {
                Some(port) => format!("{}:{port}", ssh.host),
                None => ssh.host.clone(),
            },
        };
        Self { name: HostName(name), destination }
    }
}

impl FromStr for Host {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        text.parse().map(Self::of)
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    /// `local`, `alias`, `user@host` or `ssh://[user@]host[:port]`.
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let error = |why| DestinationError { text: text.into(), why };
        if text == "local" {
            return Ok(Self::Local);
        }
        if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| *scheme != "ssh") {
            let why = if matches!(scheme, "tcp" | "http" | "https" | "unix") {
                "k3arm reaches engines over SSH: ssh://user@host"
            } else {
                "only ssh:// is known"
            };
            return Err(error(why));
        }
        let url = text.strip_prefix("ssh://");
        let rest = url.map_or(text, |rest| rest.trim_end_matches('/'));
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let (host, port) = if url.is_some() { split_port(address).map_err(error)? } else { (address, None) };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if user.is_some_and(|user| !is_safe(user, "")) {
            return Err(error("the user has characters that no user name has"));
        }
        if !is_safe(host, ":%") {
            return Err(error("user@host, ssh://user@host:port or an alias of ~/.ssh/config is expected"));
        }
        if url.is_none() && host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(error("a port is given as ssh://user@host:port"));
        }
        Ok(Self::Ssh(SshDestination { user: user.map(Into::into), host: host.into(), port }))
    }
}

fn split_port(address: &str) -> Result<(&str, Option<u16>), &'static str> {
    match address.rsplit_once(':') {
        Some((host, port)) if !address.ends_with(']') => match port.parse() {
            Ok(port) if port > 0 => Ok((host, Some(port))),
            _ => Err("the port is not a number from 1 to 65535"),
        },
        _ => Ok((address, None)),
    }
}

/// Nothing that `ssh` could take for an option and nothing that a shell or a config file gives a meaning.
fn is_safe(part: &str, extra: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || extra.contains(c);
    !part.is_empty() && part.len() <= 253 && !part.starts_with('-') && part.chars().all(allowed)
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ssh(ssh) = self else { return f.write_str("local") };
        if ssh.port.is_some() {
            f.write_str("ssh://")?;
        }
        if let Some(user) = &ssh.user {
            write!(f, "{user}@")?;
        }
        match ssh.port {
            Some(port) if ssh.host.contains(':') => write!(f, "[{}]:{port}", ssh.host),
            Some(port) => write!(f, "{}:{port}", ssh.host),
            None => f.write_str(&ssh.host),
        }
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read_and_printed_back() {
        for text in ["local", "pi1", "pi@pi1.local", "ssh://pi@10.0.0.11:2222", "ssh://[fe80::1%eth0]:22", "pi@::1"] {
            assert_eq!(text.parse::<Destination>().map(|d| d.to_string()), Ok(text.to_string()));
        }
        assert_eq!("ssh://pi@pi1/".parse::<Destination>().map(|d| d.to_string()), Ok("pi@pi1".to_string()));
    }

    #[test]
    fn nothing_reaches_ssh_as_an_option() {
        for text in
            ["-oProxyCommand=x", "pi@-x", "ssh://-x", "", "a b", "a;b", "pi@", "@pi", "tcp://h", "h:22", "ssh://h:0"]
        {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }
}
