//! Whether hosts reach each other at the ports that nodes use.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::HostName;
use super::said::{ParseError, Said, strange};

/// The line after which the script's own output begins.
const BEGIN: &str = "k3arm-reach-1";

/// A port of another host that was tried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reach {
    /// From here.
    pub from: HostName,
    /// To there.
    pub to: HostName,
    /// Its address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// UDP rather than TCP.
    pub udp: bool,
    /// What came back.
    pub answer: Answer,
}

/// What came back from a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Somebody listens.
    Open,
    /// Nobody listens, and the other machine says so: packets pass. A firewall that answers in its place looks the same.
    Refused,
    /// Nothing.
    Silent,
    /// There is no way there, or a firewall says so.
    Unreachable,
}

/// A port to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The other host.
    pub to: HostName,
    /// Its address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// UDP rather than TCP.
    pub udp: bool,
}

/// A script for [`parse_reach`] that tries ports, all at once, for five seconds at most. It needs bash or nc on the host, and says
/// nothing where there is neither.
pub fn reach_script(targets: &[Target]) -> String {
    let words: Vec<String> = targets
        .iter()
        .map(|target| format!("{}:{}:{}", if target.udp { "udp" } else { "tcp" }, target.address, target.port))
        .collect();
    format!("targets='{}'\n{}", words.join(" "), include_str!("reach.sh"))
}

/// Reads what [`reach_script`] printed: what was tried, and is known.
///
/// # Errors
/// [`ParseError`] for output that was cut or was not printed by the script.
pub fn parse_reach(from: &HostName, targets: &[Target], output: &str) -> Result<Vec<Reach>, ParseError> {
    let said = Said::read(BEGIN, output)?;
    said.all("reach").map(|line| reach(from, targets, line).ok_or_else(|| strange(line))).collect()
}

/// `udp:10.0.0.12:8472 silent`.
fn reach(from: &HostName, targets: &[Target], line: &str) -> Option<Reach> {
    let (place, answer) = line.split_once(' ')?;
    let mut parts = place.split(':');
    let (protocol, address, port) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let udp = protocol == "udp";
    let target = targets.iter().find(|target| (target.address, target.port, target.udp) == (address, port, udp))?;
    let answer = match answer {
        "open" => Answer::Open,
        "refused" => Answer::Refused,
        "silent" => Answer::Silent,
        "unreachable" => Answer::Unreachable,
        _ => return None,
    };
    Some(Reach { from: from.clone(), to: target.to.clone(), address, port, udp, answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Vec<Target> {
        [(6443, false), (8472, true)]
            .map(|(port, udp)| Target { to: HostName::new("pi2"), address: Ipv4Addr::new(10, 0, 0, 12), port, udp })
            .into()
    }

    #[test]
    fn answers_are_read() {
        let read = |lines: &str| {
            parse_reach(&HostName::new("pi1"), &targets(), &format!("hello\n\x1b]0;pi1\x07{BEGIN}\n{lines}end\n"))
                .map(|found| found.iter().map(|reach| (reach.port, reach.answer)).collect::<Vec<_>>())
        };
        let good = "reach=tcp:10.0.0.12:6443 refused\nreach=udp:10.0.0.12:8472 silent\n";
        assert_eq!(read(good), Ok(vec![(6443, Answer::Refused), (8472, Answer::Silent)]));
        assert_eq!(read(""), Ok(Vec::new()));
        for bad in ["tcp:10.0.0.13:6443 open", "udp:10.0.0.12:6443 open", "tcp:10.0.0.12:6443 ajar", "tcp open", ""] {
            assert!(read(&format!("reach={bad}\n")).is_err(), "{bad}");
        }
        assert!(parse_reach(&HostName::new("pi1"), &targets(), BEGIN).is_err());
    }

    #[test]
    fn the_script_names_what_is_tried() {
        assert!(reach_script(&targets()).starts_with("targets='tcp:10.0.0.12:6443 udp:10.0.0.12:8472'\n"));
    }
}
