//! `local`: k3arm on the machine itself, with its own engine and without SSH.

use std::fs;
use std::path::Path;

use crate::host::Host;
use crate::lab::{Undo, release};
use crate::scenario;

/// Where it finds images.
pub(crate) const ENVIRONMENT: &str = "env K3ARM_REGISTRY_MIRROR=docker.io=http://10.66.0.2:5000";

/// Puts the program onto the host, as a user would copy it; what it wrote goes at the end.
pub(crate) fn install(host: &Host) -> Undo {
    let undo = "rm -rf /usr/local/bin/k3arm /root/.kube /root/.cache/k3arm /root/.local/share/k3arm /etc/rancher";
    host.sh(undo);
    // The changes of a host's root lie in a folder of the lab; a running overlay wants them to come from inside.
    let program = Path::new(env!("CARGO_BIN_EXE_k3arm"));
    fs::copy(program, host.outside("/usr/local/bin/k3arm")).expect("copied");
    Undo::script(host, undo)
}

scenario! {
    /// No host is named: one node on this machine.
    fn a_cluster_without_arguments_is_on_this_machine(lab) {
        let host = lab.host("h1");
        let _installed = install(host);
        let before = host.snapshot();
        let k3arm = |arguments: &str| host.sh(&format!("{ENVIRONMENT} k3arm {arguments} 2>&1"));
        let said = k3arm(&format!("cluster create --k3s {}", release()));
        assert!(said.contains("cluster k3arm is ready"), "{said}");
        assert_eq!(host.containers(), "k3arm-k3arm-h1");
        let kubeconfig = host.sh("cat /root/.kube/config; stat -c %a /root/.kube/config");
        assert!(kubeconfig.contains("https://127.0.0.1:6443") && kubeconfig.ends_with("600"), "{kubeconfig}");
        assert!(k3arm(&format!("cluster create --k3s {}", release())).contains("nothing was changed"));
        assert!(k3arm("cluster list").contains("running"));
        assert!(k3arm(&format!("image prewarm {}", release())).contains("present"));
        k3arm("cluster delete k3arm");
        assert_eq!(host.snapshot(), before);
    }
}
