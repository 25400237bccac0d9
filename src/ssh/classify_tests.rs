//! What real `ssh` programs printed (9.2, 10.0 and macOS' 9.9), and what nobody should be able to print.

use proptest::prelude::*;

use super::*;
use crate::host::SshDestination;

fn target() -> Target {
    Target { config: None, ssh: SshDestination { user: Some("pi".into()), host: "pi1".into(), port: None } }
}

fn told(stderr: &str) -> Error {
    classify(stderr, &target())
}

#[test]
fn unknown_keys() {
    let error = told(
        "No ED25519 host key is known for [10.0.0.1]:2222 and you have requested strict checking.\r\n\
         Host key verification failed.\r\n",
    );
    let Error::UnknownHostKey { host, key_type, command, blind_command } = error else { panic!("{error:?}") };
    assert_eq!((host.as_str(), key_type.as_deref()), ("[10.0.0.1]:2222", Some("ED25519")));
    assert_eq!(command, "ssh pi@pi1 true");
    assert_eq!(blind_command, "ssh -o StrictHostKeyChecking=accept-new pi@pi1 true");
    let jump = told("Host key verification failed.\nkex_exchange_identification: Connection closed by remote host\n");
    assert!(matches!(jump, Error::UnknownHostKey { key_type: None, .. }));
}

#[test]
fn changed_keys() {
    let error = told(
        "@@@@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@@@@@@@\n\
         IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n\
         The fingerprint for the ED25519 key sent by the remote host is\nSHA256:abc.\n\
         Offending ED25519 key in /root/.ssh/known_hosts:3\n  remove with:\n  \
         ssh-keygen -f '/root/.ssh/known_hosts' -R 'pi1'\n\
         Host key for pi1 has changed and you have requested strict checking.\nHost key verification failed.\n",
    );
    let Error::ChangedHostKey { host, fingerprint, command } = error else { panic!("{error:?}") };
    assert_eq!((host.as_str(), fingerprint.as_deref()), ("pi1", Some("SHA256:abc")));
    assert_eq!(command, "ssh-keygen -f '/root/.ssh/known_hosts' -R 'pi1'");
    let older =
        told("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nRSA host key for pi1 has changed and you have\n");
    assert!(matches!(older, Error::ChangedHostKey { command, .. } if command == "ssh-keygen -R pi1"));
}

#[test]
fn refused_keys() {
    let cases = [
        ("pi@pi1: Permission denied (publickey,password).", Some("pi"), "publickey,password", None),
        (
            "me@jump: Permission denied (publickey).\nConnection closed by UNKNOWN port 65535",
            Some("me"),
            "publickey",
            None,
        ),
        (
            "sign_and_send_pubkey: signing failed for ED25519 \"k\" from agent: agent refused operation\n\
             pi@pi1: Permission denied (publickey).",
            Some("pi"),
            "publickey",
            Some("sign_and_send_pubkey: signing failed for ED25519 \"k\" from agent: agent refused operation"),
        ),
        (
            "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\nDisconnected from 10.0.0.1 port 22",
            Some("pi"),
            "fewer keys, or the right one first",
            None,
        ),
    ];
    for (stderr, wanted_user, wanted_methods, wanted_detail) in cases {
        let Error::PermissionDenied { user, methods, detail, .. } = told(stderr) else { panic!("{stderr}") };
        assert_eq!(
            (user.as_deref(), methods.as_str(), detail.as_deref()),
            (wanted_user, wanted_methods, wanted_detail)
        );
    }
}

#[test]
fn names_and_networks() {
    let unreachable = [
        ("ssh: connect to host pi1 port 22: Connection refused", Refusal::Refused),
        ("ssh: connect to host pi1 port 22: No route to host", Refusal::NoRoute),
        ("ssh: connect to host pi1 port 22: Network is unreachable", Refusal::NoRoute),
        ("ssh: connect to host pi1 port 22: Permission denied", Refusal::NoRoute),
        ("ssh: connect to host pi1 port 22: Connection timed out", Refusal::TimedOut),
        ("ssh: connect to host pi1 port 22: Operation timed out", Refusal::TimedOut),
        ("Connection timed out during banner exchange\nConnection to 10.0.0.1 port 22 timed out", Refusal::TimedOut),
        (
            "kex_exchange_identification: read: Connection reset by peer\nConnection reset by 10.0.0.1 port 22",
            Refusal::HungUp,
        ),
        ("Connection closed by 10.0.0.1 port 22", Refusal::HungUp),
    ];
    for (stderr, wanted) in unreachable {
        match told(stderr) {
            Error::Unreachable { refusal, address } => {
                assert_eq!(refusal, wanted, "{stderr}");
                assert!(address == "pi1:22" || !stderr.contains("connect to"), "{address}");
            }
            other => panic!("{stderr}: {other:?}"),
        }
    }
    let error = told("ssh: connect to host fe80::1%eth0 port 22: Connection refused");
    assert!(matches!(error, Error::Unreachable { address, .. } if address == "[fe80::1%eth0]:22"));
    let error = told("ssh: Could not resolve hostname pi1.local: Name or service not known");
    assert!(
        matches!(error, Error::NoSuchHost { host, reason } if host == "pi1.local" && reason.starts_with("Name or"))
    );
}

#[test]
fn configurations_and_the_unknown() {
    for stderr in [
        "Can't open user config file /nowhere: No such file or directory",
        "/root/.ssh/config: line 3: Bad configuration option: x\n/root/.ssh/config: terminating, 1 bad configuration options",
        "Bad owner or permissions on /root/.ssh/config",
    ] {
        assert!(matches!(told(stderr), Error::Configuration(_)), "{stderr}");
    }
    let text = "Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. Their offer: ssh-rsa";
    assert!(matches!(told(text), Error::Connect(kept) if kept == text));
    assert!(matches!(told(" \r\n"), Error::Connect(_)));
    // A banner is not an answer.
    let banner = "Unauthorised use: Permission denied!\nssh: connect to host pi1 port 22: Connection refused";
    assert!(matches!(told(banner), Error::Unreachable { refusal: Refusal::Refused, .. }));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        words in proptest::collection::vec(prop_oneof![
            Just("Permission denied (".to_string()), Just(").".to_string()), Just("\n".to_string()),
            Just("REMOTE HOST IDENTIFICATION HAS CHANGED".to_string()), Just("Host key for ".to_string()),
            Just("No ".to_string()), Just(" host key is known for ".to_string()), Just("@".to_string()),
            Just("Could not resolve hostname ".to_string()), Just("connect to host ".to_string()), "\\PC{0,8}",
        ], 0..40)
    ) {
        let error = told(&words.concat());
        prop_assert!(!error.to_string().is_empty());
        let _ = error.hint();
    }
}
