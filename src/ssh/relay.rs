//! Relays: programs of the host that carry connections between an exec channel and a socket or port there.
//!
//! Nothing is installed. A few lines for an interpreter that the host has (Debian always has a perl) carry all
//! connections of a session through one channel, pass on each end of a stream, and end with their input. Without one,
//! a program that the host has carries one connection a channel. Those pass on the end of our stream while the other
//! direction goes on; not all of them do it the other way round, and around them a shell watches, every five seconds,
//! whether the connection to us still stands. OpenBSD's netcat does not tell of a port's end before more is sent to it.

use std::net::SocketAddr;

use super::error::Forward;
use super::run::Job;
use super::target::quoted;

/// The program that prints what the host has.
pub(super) const SURVEY: &str = include_str!("relays.sh");

/// What a relay prints before the first byte of its stream, with its process ID: the login's start-up files may have
/// printed something too.
const MARK: &str = "k3arm-relay ";

/// Prints the mark.
const START: &str = "echo \"k3arm-relay $$\"\n";

/// Bytes that may come before the stream.
const PREAMBLE: usize = 64 * 1024;

/// A program that can carry connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relay {
    /// `docker system dial-stdio`: sockets only.
    Docker,
    Socat,
    /// The netcat of OpenBSD.
    Netcat,
    /// The netcat of nmap.
    Ncat,
    /// Ports only.
    BusyboxNetcat,
    /// Any number of connections to both, as Perl.
    Python,
    Perl,
}

impl Relay {
    /// Reads what [`SURVEY`] printed; a word that is not known is another login's greeting.
    pub(super) fn parse(printed: &str) -> Vec<Self> {
        let known = |word: &str| match word {
            "docker" => Some(Self::Docker),
            "socat" => Some(Self::Socat),
            "nc" => Some(Self::Netcat),
            "ncat" => Some(Self::Ncat),
            "busybox-nc" => Some(Self::BusyboxNetcat),
            "python3" => Some(Self::Python),
            "perl" => Some(Self::Perl),
            _ => None,
        };
        printed.lines().filter_map(|line| known(line.trim())).collect()
    }

    /// The job that carries any number of connections, if this is an interpreter for ours.
    pub(super) fn trunk(self) -> Option<Job> {
        let command = match self {
            // Neither the user's modules nor the site's.
            Self::Python => format!("python3 -I -S -c {}", quoted(include_str!("relay.py"))),
            Self::Perl => format!("perl -e {}", quoted(include_str!("relay.pl"))),
            _ => return None,
        };
        Some(Job::new(&format!("{START}exec {command}"), &[]))
    }

    /// The job that carries one connection to `forward`, if this program can.
    pub(super) fn job(self, forward: &Forward) -> Option<Job> {
        let command = match forward {
            Forward::Socket(path) => self.to_socket(path)?,
            Forward::To(address) => self.to_port(*address)?,
            Forward::Reverse(_) => return None,
        };
        Some(Job::new(&format!("{START}set -- {command}\n{}", include_str!("relay.sh")), &[]))
    }

    fn to_socket(self, path: &str) -> Option<String> {
        let word = quoted(path);
        Some(match self {
            Self::Docker => {
                let address = quoted(&format!("DOCKER_HOST=unix://{path}"));
                format!("env -u DOCKER_CONTEXT -u DOCKER_TLS -u DOCKER_TLS_VERIFY {address} docker system dial-stdio")
            }
            // It reads its arguments in a language of its own.
            Self::Socat if path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)) => {
                format!("{SOCAT} UNIX-CONNECT:{path}")
            }
            Self::Netcat => format!("nc -N -U {word}"),
            Self::Ncat => format!("nc -U {word}"),
            Self::Socat | Self::BusyboxNetcat | Self::Python | Self::Perl => return None,
        })
    }

    fn to_port(self, address: SocketAddr) -> Option<String> {
        let (ip, port) = (address.ip(), address.port());
        Some(match self {
            Self::Docker | Self::Python | Self::Perl => return None,
            Self::Socat => format!("{SOCAT} TCP:{address}"),
            Self::Netcat => format!("nc -N {ip} {port}"),
            Self::Ncat | Self::BusyboxNetcat => format!("nc {ip} {port}"),
        })
    }
}

/// Without a time it ends half a second after the first direction has; and it must be told to close standard output.
const SOCAT: &str = "socat -t 1000000 -,shut-close";

/// What has come before the stream, so far.
#[derive(Debug, Default)]
pub(super) struct Preamble(Vec<u8>);

impl Preamble {
    /// Takes in `bytes`. When the mark is complete: the relay's process ID on the host and the first bytes of the stream.
    ///
    /// # Errors
    /// There is no mark in the first 64 KiB.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<(u32, Vec<u8>)>, NoMark> {
        self.0.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(length) = self.0[begin..].iter().position(|byte| *byte == b'\n') {
            let end = begin + length;
            if let Some(id) = process_id(&self.0[begin..end]) {
                return Ok(Some((id, self.0.split_off(end + 1))));
            }
            begin = end + 1;
        }
        if self.0.len() > PREAMBLE { Err(NoMark) } else { Ok(None) }
    }
}

/// The end of a line that is a mark; a greeting without a newline may stand before it.
fn process_id(line: &[u8]) -> Option<u32> {
    let (_, id) = std::str::from_utf8(line).ok()?.rsplit_once(MARK)?;
    id.parse().ok().filter(|id| *id > 1)
}

/// What came is not a relay's.
#[derive(Debug)]
pub(super) struct NoMark;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_begins_after_the_mark_however_it_is_cut() {
        let whole = b"Welcome\nk3arm-relay me\n> k3arm-relay 4711\n\0k3arm-relay 5\n";
        for cut in 0..42 {
            let mut preamble = Preamble::default();
            assert!(preamble.push(&whole[..cut]).expect("short").is_none(), "{cut}");
            let (id, first) = preamble.push(&whole[cut..]).expect("short").expect("the mark");
            assert_eq!((id, first.as_slice()), (4711, &b"\0k3arm-relay 5\n"[..]), "{cut}");
        }
        let mut endless = Preamble::default();
        assert!(endless.push(&vec![b'y'; PREAMBLE]).expect("as much as may come").is_none());
        assert!(endless.push(b"y").is_err());
    }

    #[test]
    fn each_program_does_what_it_can() {
        let all = Relay::parse("Welcome!\ndocker\nsocat\r\nncat\nnc\nbusybox-nc\npython3\nperl\n");
        assert_eq!(all.len(), 7);
        assert_eq!(all.iter().filter(|relay| relay.trunk().is_some()).count(), 2);
        let able = |forward: Forward| all.iter().filter(|relay| relay.job(&forward).is_some()).count();
        assert_eq!(able(Forward::Socket("/run/docker.sock".into())), 4);
        assert_eq!(able(Forward::Socket("/run/a,b c.sock".into())), 3, "socat would read options into it");
        assert_eq!(able(Forward::To(([127, 0, 0, 1], 6443).into())), 4);
        assert_eq!(able(Forward::Reverse(([127, 0, 0, 1], 1).into())), 0);
    }
}
