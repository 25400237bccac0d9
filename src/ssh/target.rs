//! Where `ssh` is told to go, as arguments and as a command that a person can type.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::host::SshDestination;

/// A destination together with the config file that gives it meaning.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) config: Option<PathBuf>,
    pub(super) ssh: SshDestination,
}

impl Target {
    /// The arguments that pick config, user and port; they come before the others.
    pub(super) fn options(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut push = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        if let Some(config) = &self.config {
            push("-F", config.into());
        }
        if let Some(user) = &self.ssh.user {
            push("-l", user.into());
        }
        if let Some(port) = self.ssh.port {
            push("-p", port.to_string().into());
        }
        arguments
    }

    /// `ssh [-F config] [-p port]` and then `option`s, for a person to type.
    pub(super) fn command(&self, option: &str) -> String {
        let mut command = String::from("ssh");
        if let Some(config) = &self.config {
            command += &format!(" -F {}", quoted(&config.to_string_lossy()));
        }
        if let Some(port) = self.ssh.port {
            command += &format!(" -p {port}");
        }
        if !option.is_empty() {
            command += &format!(" {option}");
        }
        command + " " + &self.login()
    }

    /// `user@host`, or the host alone where the config decides on the user.
    pub(super) fn login(&self) -> String {
        match &self.ssh.user {
            Some(user) => format!("{user}@{}", self.ssh.host),
            None => self.ssh.host.clone(),
        }
    }
}

/// `text` as one word of a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_type_names_config_port_and_user() {
        let ssh = SshDestination { user: Some("pi".into()), host: "pi1".into(), port: Some(2222) };
        let target = Target { config: Some("/home/a b/cfg".into()), ssh };
        assert_eq!(target.command("-v"), "ssh -F '/home/a b/cfg' -p 2222 -v pi@pi1");
        let plain = Target { config: None, ssh: SshDestination { user: None, host: "pi1".into(), port: None } };
        assert_eq!(plain.command(""), "ssh pi1");
        assert_eq!(plain.options().len(), 0);
    }
}
