//! One host of the lab, looked at as its root: not through anything of k3arm's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A host.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// `h1`, its alias in the lab's ssh_config.
    pub(crate) name: String,
}

/// What is on a host, for comparison. Without what changes by itself (counters, uptimes).
const SNAPSHOT: &str = r##"
echo '# containers'; docker ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.State}}' | sort
echo '# volumes'; docker volume ls -q | sort
echo '# networks'; docker network ls -q --no-trunc | sort
echo '# interfaces'; ip -o link | awk '{ print $2 }' | sort
echo '# routes'; ip route | sed 's/ linkdown//'; ip rule
echo '# listeners'; ss -Hlntu | awk '{ print $1, $5 }' | sort -u
for mode in nft legacy; do
  for family in iptables ip6tables; do
    echo "# $mode $family"
    # Rules, chains that somebody made, and policies that are not the usual one: an empty table is nothing.
    "xtables-$mode-multi" "$family-save" 2>/dev/null | sed -E 's/ ?\[[0-9]+:[0-9]+\]//' |
      awk '/^\*/ { table = $0 } /^-A/ { print table, $0 } /^:/ && $2 != "ACCEPT" { print table, $0 }'
  done
done
"##;

/// Takes away all containers and volumes, and what k3s leaves in the network.
const CLEAN: &str = r#"
docker ps -aq | xargs -r docker rm -fv >/dev/null
docker volume ls -q | xargs -r docker volume rm >/dev/null
for interface in cni0 flannel.1; do
  if [ -e /sys/class/net/$interface ]; then ip link delete $interface; fi
done
for mode in nft legacy; do
  for family in iptables ip6tables; do
    rules=$("xtables-$mode-multi" "$family-save" 2>/dev/null)
    case $rules in *KUBE-* | *CNI-* | *FLANNEL* | *flanneld* | *USERS-*) ;; *) continue ;; esac
    printf '%s\n' "$rules" | grep -vE 'KUBE-|CNI-|FLANNEL|flanneld|name: "cbr0"|USERS-' | "xtables-$mode-multi" "$family-restore"
  done
done
"#;

/// With what an engine on containerd's store keeps of a load that was cut: for a day it has the layers unpacked, without
/// their blobs, and pulls none that it has unpacked.
const FORGET: &str = r#"
docker images -aq | sort -u | xargs -r docker rmi -f >/dev/null
docker image prune -af >/dev/null
socket=/run/docker/containerd/containerd.sock
if [ -S $socket ] && command -v ctr >/dev/null; then
  ctr -a $socket -n moby leases ls | awk '/gc.expire=/ { print $1 }' | xargs -r ctr -a $socket -n moby leases rm --sync >/dev/null
fi
"#;

/// The lab's own command.
pub(crate) fn ci_lab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/lab")
}

impl Host {
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(ci_lab());
        command.args(["root", &self.name, "--", "sh", "-c", script]).stdin(Stdio::null());
        command
    }

    /// Runs a script as root on the host, whatever comes of it.
    pub(crate) fn try_sh(&self, script: &str) -> Output {
        self.command(script).output().expect("ci/lab runs")
    }

    /// Runs a script as root on the host and gives what it printed, trimmed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}: {script}\n{stdout}{stderr}", self.name);
        stdout.trim().to_string()
    }

    /// Starts a script as root on the host; its output comes through a pipe.
    pub(crate) fn start(&self, script: &str) -> Child {
        self.command(script).stdout(Stdio::piped()).spawn().expect("ci/lab runs")
    }

    /// What stands there: containers, volumes, networks, interfaces, routes, listeners, iptables.
    pub(crate) fn snapshot(&self) -> String {
        self.sh(SNAPSHOT)
    }

    /// Names of all containers, also those that do not run.
    pub(crate) fn containers(&self) -> String {
        self.sh("docker ps -a --format '{{.Names}}' | sort")
    }

    /// Names of all volumes.
    pub(crate) fn volumes(&self) -> String {
        self.sh("docker volume ls -q | sort")
    }

    /// The container's field, by docker's template.
    pub(crate) fn inspect(&self, container: &str, template: &str) -> String {
        self.sh(&format!("docker inspect --format '{template}' {container}"))
    }

    /// The ID by which the engine knows an image.
    #[track_caller]
    pub(crate) fn image_id(&self, image: &str) -> String {
        self.sh(&format!("docker image inspect --format '{{{{.Id}}}}' {image}"))
    }

    /// Bytes that have come over its cable.
    pub(crate) fn received(&self) -> u64 {
        self.sh("awk '$1 == \"eth0:\" { print $2 }' /proc/net/dev").parse().expect("a number")
    }

    /// A place in the host's own files, from outside.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        let directory = std::env::var("K3ARM_LAB_DIR").expect("inside a lab");
        let pid = std::fs::read_to_string(format!("{directory}/hosts/{}/pid", self.name)).expect("its PID");
        PathBuf::from(format!("/proc/{}/root{path}", pid.trim()))
    }

    /// All that is made by tests goes.
    pub(crate) fn clean(&self) {
        self.sh(CLEAN);
    }

    /// All images go.
    pub(crate) fn forget_images(&self) {
        self.sh(FORGET);
    }

    /// Where the engine keeps a volume's files, on the host.
    pub(crate) fn volume_path(&self, volume: &str, file: &str) -> String {
        format!("/var/lib/docker/volumes/{volume}/_data/{file}")
    }
}

/// Bytes as text, whatever they are.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
