//! The program under test, as a user runs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::host::text;
use crate::wait::until;

/// No command of these scenarios takes longer, unless it hangs.
const LONGEST: Duration = Duration::from_secs(300);

/// A user's own files: k3arm's folders and the kubeconfig.
pub(crate) struct Home {
    folder: TempDir,
}

/// What a run said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; -1 after a signal.
    pub(crate) code: i32,
    /// Data.
    pub(crate) stdout: String,
    /// Progress and errors.
    pub(crate) stderr: String,
    /// How long it took.
    pub(crate) took: Duration,
}

/// A run that goes on.
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    began: Instant,
}

impl Home {
    /// A new user.
    pub(crate) fn new() -> Self {
        // Short, because sockets go below it.
        let folder = tempfile::Builder::new().prefix("k3").tempdir_in("/tmp").expect("a folder");
        Self { folder }
    }

    /// Below it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the kubeconfig is.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// The program with this user's environment; the lab's own variables say where registry and hosts are.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_k3arm"));
        command.args(arguments).env("K3ARM_HOME", self.path("k3arm")).env("KUBECONFIG", self.kubeconfig());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn k3arm(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).ended()
    }

    /// Starts it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments), self.folder.path())
    }

    /// `ssh` processes that carry this user's connections: PID and command line.
    pub(crate) fn ssh_processes(&self) -> Vec<String> {
        let ours = self.path("k3arm").display().to_string();
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let lines = processes.filter_map(|process| {
            let line = text(&fs::read(process.path().join("cmdline")).ok()?).replace('\0', " ");
            let program = line.split(' ').next().unwrap_or_default();
            (program.starts_with("ssh") || program.ends_with("/ssh")).then_some(line)
        });
        lines.filter(|line| line.contains(&ours)).collect()
    }

    /// Directories of connections that are left.
    pub(crate) fn control_folders(&self) -> Vec<String> {
        names(&self.path("k3arm/run"))
    }
}

/// Names in a folder, none if it is not there.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

impl Running {
    /// Starts a program with its output in files below `folder`.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        let file = |name: &str| {
            let path =
                tempfile::Builder::new().prefix(name).tempfile_in(folder).expect("a file").keep().expect("kept").1;
            (File::create(&path).expect("a file"), path)
        };
        let ((stdout, stdout_path), (stderr, stderr_path)) = (file("stdout"), file("stderr"));
        let child = command.stdout(stdout).stderr(stderr).spawn().expect("it starts");
        Self { child, stdout: stdout_path, stderr: stderr_path, began: Instant::now() }
    }

    /// What it has said on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        text(&fs::read(&self.stderr).unwrap_or_default())
    }

    /// Waits until it says something on stderr.
    pub(crate) fn says(&mut self, words: &str) {
        until(Duration::from_secs(60), words, || {
            let ended = self.child.try_wait().expect("its state");
            assert!(
                ended.is_none() || self.stderr().contains(words),
                "it ended without saying {words:?}: {}",
                self.stderr()
            );
            self.stderr().contains(words).then_some(())
        });
    }

    /// Sends a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "it has ended before the signal: {}", self.stderr());
    }

    /// Whether it has ended by now.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    /// Waits for its end, or for this long.
    pub(crate) fn wait_at_most(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Ran {
        let status = until(LONGEST, "the program ends", || self.child.try_wait().expect("its state"));
        let (stdout, stderr) = (text(&fs::read(&self.stdout).unwrap_or_default()), self.stderr());
        Ran { code: status.code().unwrap_or(-1), stdout, stderr, took: self.began.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// All of it, for messages.
    pub(crate) fn all(&self) -> String {
        format!("exit {} after {:.1?}\n{}{}", self.code, self.took, self.stdout, self.stderr)
    }

    /// Ended with this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.all());
        self
    }

    /// Said this, on either stream.
    #[track_caller]
    pub(crate) fn tells(self, words: &str) -> Self {
        let said = self.stdout.contains(words) || self.stderr.contains(words);
        assert!(said, "not said: {words:?}\n{}", self.all());
        self
    }

    /// The `error:` lines, each with the lines that belong to it.
    pub(crate) fn errors(&self) -> Vec<String> {
        let mut errors: Vec<String> = Vec::new();
        for line in self.stderr.lines() {
            match errors.last_mut() {
                Some(last) if line.starts_with("  ") => *last += &format!("\n{line}"),
                _ if line.starts_with("error: ") => errors.push(line.into()),
                _ => {}
            }
        }
        errors
    }

    /// The error that begins so, which must be there and must have a hint.
    #[track_caller]
    pub(crate) fn error(&self, start: &str) -> String {
        let errors = self.errors();
        let found = errors.iter().find(|error| error.starts_with(&format!("error: {start}")));
        let found = found.unwrap_or_else(|| panic!("no error {start:?}\n{}", self.all()));
        assert!(found.contains("\n  hint: "), "without a hint: {found}");
        found.clone()
    }

    /// stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{}", self.all()))
    }
}
