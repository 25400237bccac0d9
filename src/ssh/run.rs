//! Scripts: how they get to the host's `sh` unchanged, and how their output is kept within bounds.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::Error;
use super::tail::{Tail, printable};

/// The last line of a script that arrived whole; one that a broken line cut must not run.
const END: &str = "# k3arm_end";

/// How much a script may print and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of standard output; more is an error. Of standard error the last 64 KiB are kept, however much comes.
    pub output: usize,
    /// From the call to the exit code.
    pub time: Duration,
}

impl Default for Limits {
    /// 1 MiB and one minute.
    fn default() -> Self {
        Self { output: 1 << 20, time: Duration::from_secs(60) }
    }
}

/// What a script did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; none if a signal ended it.
    pub status: Option<i32>,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// The end of standard error, without control characters.
    pub stderr: String,
}

impl Output {
    /// Standard output of a script that ended well.
    ///
    /// # Errors
    /// [`Error::Command`] with the last three lines of standard error, for any other end.
    pub fn success(self, attempted: impl Into<String>) -> Result<String, Error> {
        if self.status == Some(0) {
            return Ok(self.stdout);
        }
        let lines: Vec<&str> = self.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let stderr = match lines[lines.len().saturating_sub(3)..].join("; ") {
            silent if silent.is_empty() => "it said nothing".into(),
            last => last,
        };
        Err(Error::Command { attempted: attempted.into(), status: self.status, stderr })
    }
}

/// A script and its input, ready to be sent.
#[derive(Debug)]
pub(super) struct Job {
    /// The command line, one that sh, bash, zsh, fish and csh all read alike.
    pub(super) command: String,
    /// Standard input: the script, then what the script reads.
    pub(super) payload: Vec<u8>,
}

impl Job {
    /// The script travels on standard input, because no quoting is the same in every login shell, a csh takes no
    /// newline in a word, and nothing of it shows in the host's `ps`. `dd` reads byte by byte, so that it takes nothing
    /// of the input that follows (a shell that reads its script from standard input may).
    pub(super) fn new(script: &str, input: &[u8]) -> Self {
        let script = format!("{}\n{END}", script.trim_end());
        let command = format!(
            "exec /bin/sh -c 'LC_ALL=C PATH=$PATH:/usr/sbin:/sbin; export LC_ALL PATH; \
             s=$(dd bs=1 count={} 2>/dev/null); case $s in *{}) eval \"$s\";; *) exit 125;; esac'",
            script.len(),
            END.replace("# ", "")
        );
        Self { command, payload: [script.as_bytes(), input].concat() }
    }
}

/// A running program's three streams.
pub(super) struct Streams<I, O, E> {
    pub(super) stdin: I,
    pub(super) stdout: O,
    pub(super) stderr: E,
}

impl<I, O, E> Streams<I, O, E>
where
    I: AsyncWrite + Unpin,
    O: AsyncRead + Unpin,
    E: AsyncRead + Unpin,
{
    /// Sends `payload` while both outputs are read to their ends.
    pub(super) async fn exchange(self, payload: &[u8], limit: usize) -> Result<(String, String), Error> {
        let Self { mut stdin, stdout, stderr } = self;
        let send = async move {
            // A script may end without reading its input: that is its business.
            let _ = stdin.write_all(payload).await;
            let _ = stdin.shutdown().await;
            Ok(())
        };
        let errors = Tail::default();
        let listen = async {
            errors.fill(stderr).await;
            Ok(())
        };
        let ((), stdout, ()) = tokio::try_join!(send, bounded(stdout, limit), listen)?;
        Ok((stdout, errors.text()))
    }
}

async fn bounded(stream: impl AsyncRead + Unpin, limit: usize) -> Result<String, Error> {
    let mut bytes = Vec::new();
    stream.take(limit as u64 + 1).read_to_end(&mut bytes).await.map_err(Error::Local)?;
    if bytes.len() > limit {
        return Err(Error::OutputTooLong { limit });
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// What a login printed in the place of the expected word, for [`Error::NoShell`].
pub(super) fn said(output: &Output) -> String {
    let all = format!("{}\n{}", printable(output.stdout.as_bytes()), output.stderr);
    let lines: Vec<&str> = all.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    if lines.is_empty() { format!("it ended with {:?} and said nothing", output.status) } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// What sshd does with a command line: `SHELL -c LINE`.
    fn by(shell: &[&str], job: &Job, cut: usize) -> std::process::Output {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", &job.command]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(&job.payload[..job.payload.len() - cut]).expect("sent");
        drop(stdin);
        child.wait_with_output().expect("ends")
    }

    #[test]
    fn every_login_shell_reads_the_line_alike() {
        let shells: [&[&str]; 8] =
            [&["sh"], &["dash"], &["bash"], &["zsh"], &["fish"], &["tcsh"], &["busybox", "sh"], &["ksh"]];
        let job = Job::new("echo \"it's ! $((1 + 2)) \\$x\" 'é'\nfor x in a b; do cat; done\nexit 7", b"in'put\"!\n");
        let mut tried = 0;
        for shell in shells {
            let there = Command::new(shell[0]).arg("-c").arg("true").stdin(Stdio::null()).output().is_ok();
            if !there {
                eprintln!("SKIPPED: {shell:?} is not on this machine");
                continue;
            }
            let output = by(shell, &job, 0);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "it's ! 3 $x é\nin'put\"!\n", "{shell:?} {output:?}");
            assert_eq!(output.status.code(), Some(7), "{shell:?}");
            tried += 1;
        }
        assert!(tried >= 2);
    }

    #[test]
    fn a_script_that_was_cut_does_not_run() {
        let job = Job::new("echo dangerous\necho more", b"");
        for cut in 1..job.payload.len() {
            let output = by(&["sh"], &job, cut);
            assert_eq!((output.stdout.len(), output.status.code()), (0, Some(125)), "{cut}");
        }
    }
}
