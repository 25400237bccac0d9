//! What `ssh` means by what it says: it ends with 255 and a text, whatever went wrong.
//!
//! The texts are those of OpenSSH 7.6 to 10 in the C locale (`sshconnect.c`, `sshconnect2.c`, `packet.c`, `readconf.c`).
//! The most specific cause wins, wherever it stands; a text that is not known is kept as it is.

use super::error::{Error, Refusal};
use super::target::{Target, quoted};

/// The cause of a connection that did not come about, from `ssh`'s standard error.
pub(super) fn classify(stderr: &str, target: &Target) -> Error {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    changed_key(&lines)
        .or_else(|| unknown_key(&lines, target))
        .or_else(|| denied(&lines, target))
        .or_else(|| lines.iter().find_map(|line| no_such_host(line)))
        .or_else(|| unreachable(&lines, target))
        .or_else(|| configuration(&lines))
        .unwrap_or_else(|| Error::Connect(verbatim(&lines)))
}

fn verbatim(lines: &[&str]) -> String {
    let last = &lines[lines.len().saturating_sub(8)..];
    if last.is_empty() { "ssh ended without a word".into() } else { last.join("; ") }
}

fn changed_key(lines: &[&str]) -> Option<Error> {
    let start = lines.iter().position(|line| line.contains("REMOTE HOST IDENTIFICATION HAS CHANGED"))?;
    let after = &lines[start..];
    let named = after.iter().find_map(|line| between(line, "Host key for ", " has changed"));
    let named = named.or_else(|| after.iter().find_map(|line| between(line, "host key for ", " has changed")));
    let host = named.unwrap_or("the host").to_string();
    let printed = after.iter().find(|line| line.starts_with("ssh-keygen ") && line.contains(" -R "));
    let command = printed.map_or_else(|| format!("ssh-keygen -R {}", quoted(&host)), |line| line.to_string());
    let fingerprint = after.iter().find(|line| line.starts_with("SHA256:"));
    Some(Error::ChangedHostKey {
        host,
        fingerprint: fingerprint.map(|line| line.trim_end_matches('.').to_string()),
        command,
    })
}

fn unknown_key(lines: &[&str], target: &Target) -> Option<Error> {
    let named = lines.iter().find_map(|line| {
        let key = between(line, "No ", " host key is known for ")?;
        let host = between(line, " host key is known for ", " and you have requested strict checking")?;
        Some((Some(key.to_string()), host.to_string()))
    });
    // A jump host's ssh would ask; it may not, and says only this.
    let failed = lines.iter().any(|line| line.starts_with("Host key verification failed"));
    let (key_type, host) = named.or_else(|| failed.then(|| (None, target.ssh.host.clone())))?;
    Some(Error::UnknownHostKey {
        host,
        key_type,
        command: target.command("") + " true",
        blind_command: target.command("-o StrictHostKeyChecking=accept-new") + " true",
    })
}

fn denied(lines: &[&str], target: &Target) -> Option<Error> {
    let at = lines.iter().position(|line| line.contains("Permission denied (") && line.ends_with(")."));
    let exhausted = || lines.iter().position(|line| line.contains("Too many authentication failures"));
    let at = at.or_else(exhausted)?;
    let methods = between(lines[at], "Permission denied (", ").").unwrap_or("fewer keys, or the right one first");
    let user = lines[at].split_once('@').map(|(user, _)| user).filter(|user| !user.contains(' '));
    Some(Error::PermissionDenied {
        user: user.map(Into::into).or_else(|| target.ssh.user.clone()),
        methods: methods.to_string(),
        detail: lines[..at].iter().rev().find(|line| about_a_key(line)).map(|line| line.to_string()),
        login: target.login(),
        command: target.command("-v") + " true",
    })
}

/// Lines that say why a key was not used: `Load key "…": invalid format`, `sign_and_send_pubkey: … agent refused`.
fn about_a_key(line: &str) -> bool {
    let starts =
        ["Load key ", "sign_and_send_pubkey", "no such identity", "WARNING: UNPROTECTED", "Could not open", "agent "];
    starts.iter().any(|start| line.starts_with(start)) || line.contains("UNPROTECTED PRIVATE KEY FILE")
}

fn no_such_host(line: &str) -> Option<Error> {
    let (_, rest) = line.split_once("Could not resolve hostname ")?;
    let (host, reason) = rest.split_once(": ").unwrap_or((rest, "it could not be resolved"));
    Some(Error::NoSuchHost { host: host.into(), reason: reason.into() })
}

fn unreachable(lines: &[&str], target: &Target) -> Option<Error> {
    lines.iter().find_map(|line| {
        let refusal = refusal(line)?;
        let tried = between(line, "connect to host ", ": ");
        let tried = tried
            .and_then(|tried| tried.split_once(" port "))
            .map(|(host, port)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") });
        Some(Error::Unreachable { address: tried.unwrap_or_else(|| target.ssh.host.clone()), refusal })
    })
}

fn refusal(line: &str) -> Option<Refusal> {
    let connecting = line.contains("connect to host ");
    let ends = |endings: &[&str]| endings.iter().any(|ending| line.ends_with(ending));
    // EACCES is what a local firewall, or macOS without the local network permission, answers.
    let no_route = ["No route to host", "Network is unreachable", "Host is down", "Permission denied"];
    if connecting && ends(&["Connection refused"]) {
        Some(Refusal::Refused)
    } else if connecting && ends(&no_route) {
        Some(Refusal::NoRoute)
    } else if (connecting && ends(&["timed out"]))
        || line.starts_with("Connection timed out during banner exchange")
        || (line.starts_with("Connection to ") && ends(&["timed out"]))
    {
        Some(Refusal::TimedOut)
    } else {
        let starts = [
            "kex_exchange_identification:",
            "ssh_exchange_identification:",
            "Connection closed by ",
            "Connection reset by ",
        ];
        starts.iter().any(|start| line.starts_with(start)).then_some(Refusal::HungUp)
    }
}

fn configuration(lines: &[&str]) -> Option<Error> {
    let marks =
        ["Can't open user config file", "Bad owner or permissions on", "Bad configuration option", "terminating, "];
    let at = lines.iter().position(|line| marks.iter().any(|mark| line.contains(mark)))?;
    Some(Error::Configuration(lines[at].to_string()))
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
