//! A real sshd on loopback, with keys, config and known_hosts of its own; it ends with the value.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k3arm::host::Host;
use k3arm::ssh::{Options, Session};

pub(crate) const SSHD: &str = "/usr/sbin/sshd";

/// In the environment of every program that one of these sshds has started, with its folder.
const MARK: &str = "K3ARM_TEST_SSHD";

pub(crate) struct Sshd {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    process: Child,
}

impl Sshd {
    /// Starts one with these lines added to its configuration.
    pub(crate) fn start(extra: &str) -> Self {
        Self::start_with(extra, "")
    }

    /// The same; what it starts finds only these programs, and what it was built with.
    pub(crate) fn start_for(extra: &str, programs: &Programs) -> Self {
        let at = programs.0.path().display();
        // The start-up files of a home would set another PATH.
        Self::start_with(extra, &format!("PATH={at} HOME={at}"))
    }

    fn start_with(extra: &str, environment: &str) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} is missing: these tests need openssh-server (apt install openssh-server)"
        );
        // As root it insists on its directory.
        let _ = fs::create_dir_all("/run/sshd");
        let folder = tempfile::Builder::new().prefix("k3arm-sshd").tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let at = folder.path().display();
        for key in ["host", "other", "user", "stranger"] {
            keygen(&folder.path().join(key));
        }
        fs::copy(folder.path().join("user.pub"), folder.path().join("authorized")).expect("copied");
        let config = format!(
            "{extra}\nSetEnv {MARK}={at} {environment}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\n\
             PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nMaxStartups 100\n"
        );
        fs::write(folder.path().join("sshd_config"), config).expect("written");
        let mut sshd = Command::new(SSHD);
        sshd.args(["-D", "-e", "-f"]).arg(folder.path().join("sshd_config"));
        let process = sshd.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("sshd starts");
        let this = Self { folder, port, process };
        this.know("host");
        this.configure("user", "");
        until("sshd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        this
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts the public half of `key` into known_hosts.
    pub(crate) fn know(&self, key: &str) {
        let key = fs::read_to_string(self.path(&format!("{key}.pub"))).expect("a key");
        fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).expect("written");
    }

    /// Writes the user's ssh_config: the host `test`, with this identity and these lines.
    pub(crate) fn configure(&self, identity: &str, extra: &str) {
        let at = self.folder.path().display();
        let config = format!(
            "Host test\n{extra}\nHost *\nHostName 127.0.0.1\nPort {}\nIdentityFile {at}/{identity}\nIdentitiesOnly yes\n\
             IdentityAgent none\nUserKnownHostsFile {at}/known_hosts\nGlobalKnownHostsFile /dev/null\n",
            self.port
        );
        fs::write(self.path("config"), config).expect("written");
    }

    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new(self.path("ctl"));
        options.config = Some(self.path("config"));
        options.connect_timeout = Duration::from_secs(5);
        options
    }

    pub(crate) async fn connect(&self) -> Result<Session, k3arm::ssh::Error> {
        Session::connect(&host("test"), &self.options()).await
    }

    pub(crate) async fn session(&self) -> Session {
        self.connect().await.unwrap_or_else(|error| panic!("{error} {:?}", error.hint()))
    }

    /// Process IDs of the sshd processes that serve connections.
    pub(crate) fn children(&self) -> Vec<u32> {
        let mut found = vec![self.process.id()];
        let mut next = 0;
        while next < found.len() {
            let path = format!("/proc/{0}/task/{0}/children", found[next]);
            let text = fs::read_to_string(path).unwrap_or_default();
            found.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            next += 1;
        }
        found.split_off(1).into_iter().filter(|id| command_of(*id).contains("sshd")).collect()
    }

    /// Command lines of all that runs because of a login here, whoever its parent is now; sshd's own aside.
    pub(crate) fn programs(&self) -> Vec<String> {
        self.program_ids().into_iter().map(command_of).collect()
    }

    /// Their process IDs.
    pub(crate) fn program_ids(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}\0", self.folder.path().display());
        let marked = |id: &u32| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        processes().filter(marked).filter(|id| !command_of(*id).starts_with("sshd")).collect()
    }

    /// How many ports the sshd processes that serve connections listen on.
    pub(crate) fn listening(&self) -> usize {
        let open = |id| fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        let sockets: Vec<PathBuf> =
            self.children().into_iter().flat_map(open).filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
        let listeners = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let inodes = listeners.filter(|fields| fields[3] == "0A").map(|fields| format!("socket:[{}]", fields[9]));
        inodes.filter(|inode| sockets.iter().any(|open| open == Path::new(inode))).count()
    }

    /// The master's process ID, by its own word.
    pub(crate) fn master(&self) -> u32 {
        let folder = fs::read_dir(self.path("ctl")).expect("there").flatten().next().expect("one").path();
        let mut ssh = Command::new("ssh");
        let output =
            ssh.args(["-F", "/dev/null", "-O", "check", "-S"]).arg(folder.join("c")).arg("x").output().expect("runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let id = text.split_once("pid=").and_then(|(_, rest)| rest.split_once(')')).map(|(id, _)| id.parse());
        id.expect(&text).expect(&text)
    }
}

/// A folder of links to programs: what a login may find.
pub(crate) struct Programs(tempfile::TempDir);

impl Programs {
    /// What any host has, and `target` (a name in PATH) under the name `name`; none if this machine lacks it.
    pub(crate) fn with(name: &str, target: &str) -> Option<Self> {
        Self::with_all(&[(name, target)])
    }

    /// The same for several.
    pub(crate) fn with_all(programs: &[(&str, &str)]) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("k3arm-bin").tempdir().expect("a directory");
        let link = |name: &str, target: &str| {
            std::os::unix::fs::symlink(which(target)?, folder.path().join(name)).expect("linked");
            Some(())
        };
        for usual in ["cat", "dd", "env", "readlink", "sleep"] {
            link(usual, usual).expect("every machine has it");
        }
        for (name, target) in programs {
            link(name, target)?;
        }
        Some(Self(folder))
    }
}

/// The system's own program first: a name in PATH may be a wrapper that needs more than itself.
fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = ["/usr/bin".into(), "/bin".into()].into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder: PathBuf| folder.join(name)).find(|file| file.is_file())
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for id in self.children() {
            signal(id, "KILL");
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn host(text: &str) -> Host {
    text.parse().expect("a host")
}

pub(crate) fn signal(id: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process runs (and is not just unburied).
pub(crate) fn runs(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("there").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command_of(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default()
}

/// Polls until `done`, at most 20 s.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn keygen(path: &Path) {
    let mut keygen = Command::new("ssh-keygen");
    let status = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(status.expect("ssh-keygen runs").success());
}
