//! Hosts whose sshd forbids to forward: images come another way.

use crate::host::Host;
use crate::images::{ONE, Resolved, outcome, prewarm};
use crate::k3arm::Home;
use crate::lab::{Lab, Undo};
use crate::scenario;

/// Has sshd read its settings again, and waits until it listens with them.
const RELOAD: &str = "
listens() { grep -c '^Server listening' /var/log/sshd.log; }
before=$(listens)
kill -HUP $(cat /run/sshd.pid)
for i in $(seq 300); do
  if [ $(listens) -gt $before ]; then exit 0; fi
  sleep 0.1
done
exit 1";

/// Adds a line to the host's sshd_config until the value is dropped.
pub(crate) fn sshd(host: &Host, line: &str) -> Undo {
    let undo = Undo::script(host, &format!("sed -i '\\|^{line}$|d' /etc/ssh/sshd_config; {RELOAD}"));
    host.sh(&format!("echo '{line}' >> /etc/ssh/sshd_config; {RELOAD}"));
    undo
}

/// Auto finds the other way; who wants pulls only is told so, and the host is as before.
fn load_where_nothing_is_forwarded(lab: &Lab, name: &str, line: &str) {
    let (home, host, one) = (Home::new(), lab.host(name), Resolved::of(ONE));
    host.forget_images();
    let _sshd = sshd(host, line);
    let ran = prewarm(&home, &[ONE], &[name], &["--via", "pull"]).exits(1);
    assert!(ran.error(&format!("{name}: its engine cannot pull")).contains("--via pull"), "{}", ran.all());
    assert_eq!(ran.errors().len(), 1, "{}", ran.all());
    assert_eq!(host.sh("docker images -aq"), "");
    let ran = prewarm(&home, &[ONE], &[name], &[]).exits(0);
    assert_eq!(outcome(&ran, name, &one.name).0, "loaded", "{}", ran.all());
    one.assert_held(host);
    let again = prewarm(&home, &[ONE], &[name], &[]).exits(0);
    assert_eq!(outcome(&again, name, &one.name), ("present".into(), 0), "{}", again.all());
}

scenario! {
    fn without_tcp_forwarding_images_are_loaded(lab) {
        for host in ["h1", "h2", "h3"] {
            load_where_nothing_is_forwarded(&lab, host, "AllowTcpForwarding no");
        }
    }
}

scenario! {
    /// Not even sockets are forwarded.
    fn without_any_forwarding_images_are_loaded(lab) {
        for host in ["h1", "h2", "h3"] {
            load_where_nothing_is_forwarded(&lab, host, "DisableForwarding yes");
        }
    }
}

scenario! {
    /// Only the host that cannot is refused.
    fn the_others_are_pulled_to(lab) {
        lab.on_all(Host::forget_images);
        let (home, one) = (Home::new(), Resolved::of(ONE));
        let _sshd = sshd(lab.host("h1"), "AllowTcpForwarding no");
        let ran = prewarm(&home, &[ONE], &["h1", "h4"], &["--via", "pull"]).exits(4);
        assert!(ran.error("h1: ").contains("--via"), "{}", ran.all());
        assert_eq!(outcome(&ran, "h4", &one.name).0, "pulled", "{}", ran.all());
        assert_eq!(lab.host("h1").sh("docker images -aq"), "");
        let ran = prewarm(&home, &[ONE], &["h1", "h4"], &[]).exits(0);
        assert_eq!(outcome(&ran, "h1", &one.name).0, "loaded", "{}", ran.all());
        assert_eq!(outcome(&ran, "h4", &one.name).0, "present", "{}", ran.all());
    }
}
