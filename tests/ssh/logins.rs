//! Logins: what works whatever the config says, and what is refused with the right words.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use k3arm::ssh::{Error, Limits, Refusal, Session};

use crate::sshd::{Sshd, host};

async fn refused(sshd: &Sshd) -> Error {
    sshd.connect().await.expect_err("must be refused")
}

#[tokio::test]
async fn the_users_config_cannot_break_a_session() {
    let sshd = Sshd::start("Banner /etc/passwd");
    let odd = format!(
        "LocalForward {0} 127.0.0.1:1\nRemoteForward {0} 127.0.0.1:1\nRemoteCommand echo no\nRequestTTY force\n\
         ControlMaster auto\nControlPath {1}/own\nControlPersist 60\nLogLevel QUIET\nLocalCommand false\nExitOnForwardFailure yes\n\
         ForwardAgent yes\nCompression yes\nSendEnv LC_*\nEscapeChar none\nBatchMode no\n",
        sshd.port,
        sshd.folder.path().display()
    );
    sshd.configure("user", &odd);
    let session = sshd.session().await;
    let output = session.run("echo fine", None, Limits::default()).await.expect("runs");
    assert_eq!(output.stdout, "fine\n");
    assert!(!sshd.path("own").exists(), "the user's own control socket is not ours to use");
    session.close().await;
}

#[tokio::test]
async fn user_and_port_override_the_config() {
    let sshd = Sshd::start("");
    let user = std::process::Command::new("id").arg("-un").output().expect("runs").stdout;
    let (user, port) = (String::from_utf8_lossy(&user).trim().to_string(), sshd.port);
    let text = std::fs::read_to_string(sshd.path("config")).expect("there");
    std::fs::write(sshd.path("config"), text.replace(&format!("Port {port}"), "Port 1\nUser nobody")).expect("written");
    let session = Session::connect(&host(&format!("ssh://{user}@127.0.0.1:{port}")), &sshd.options()).await;
    session.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_jump_host_leads_on() {
    let sshd = Sshd::start("");
    sshd.configure("user", "ProxyJump jump");
    let session = sshd.session().await;
    assert!(session.run("true", None, Limits::default()).await.is_ok_and(|output| output.status == Some(0)));
}

#[tokio::test]
async fn a_jump_host_asks_nothing() {
    let sshd = Sshd::start("");
    sshd.configure("user", "ProxyJump jump\nHost jump\nUserKnownHostsFile /dev/null\nStrictHostKeyChecking ask");
    assert!(matches!(refused(&sshd).await, Error::UnknownHostKey { .. }));
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_the_command_that_accepts_it() {
    let sshd = Sshd::start("");
    std::fs::write(sshd.path("known_hosts"), "").expect("written");
    sshd.configure("user", "StrictHostKeyChecking no\nLogLevel QUIET");
    let error = refused(&sshd).await;
    let Error::UnknownHostKey { host, key_type, blind_command, .. } = &error else { panic!("{error:?}") };
    assert_eq!((host, key_type.as_deref()), (&format!("[127.0.0.1]:{}", sshd.port), Some("ED25519")));
    assert!(error.hint().is_some_and(|hint| hint.contains("accept-new")));
    // The command does what it says.
    sshd.configure("user", "");
    let command = blind_command.replacen("ssh ", "ssh -o BatchMode=yes ", 1);
    assert!(std::process::Command::new("sh").args(["-c", &command]).output().expect("runs").status.success());
    sshd.session().await;
}

#[tokio::test]
async fn a_changed_key_is_refused_with_the_command_that_forgets_it() {
    let sshd = Sshd::start("");
    sshd.know("other");
    let error = refused(&sshd).await;
    let Error::ChangedHostKey { host, fingerprint, command } = &error else { panic!("{error:?}") };
    assert_eq!(host, &format!("[127.0.0.1]:{}", sshd.port));
    assert!(fingerprint.as_deref().is_some_and(|print| print.starts_with("SHA256:")));
    assert!(std::process::Command::new("sh").args(["-c", command]).output().expect("runs").status.success());
    assert!(matches!(refused(&sshd).await, Error::UnknownHostKey { .. }));
}

#[tokio::test]
async fn a_refused_key_names_user_and_methods() {
    let sshd = Sshd::start("");
    sshd.configure("stranger", "");
    let error = refused(&sshd).await;
    let Error::PermissionDenied { user, methods, .. } = &error else { panic!("{error:?}") };
    assert!(user.is_some() && methods == "publickey", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("ssh-copy-id test")));
}

#[tokio::test]
async fn a_key_with_a_passphrase_is_not_asked_for() {
    let sshd = Sshd::start("");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-p", "-P", "", "-N", "a passphrase", "-f"]).arg(sshd.path("user"));
    assert!(keygen.status().expect("runs").success());
    assert!(matches!(refused(&sshd).await, Error::PermissionDenied { .. }));
}

#[tokio::test]
async fn each_way_of_being_unreachable_is_told_apart() {
    let sshd = Sshd::start("");
    let mut options = sshd.options();
    options.connect_timeout = Duration::from_secs(2);
    let to = async |port: u16| Session::connect(&host(&format!("ssh://127.0.0.1:{port}")), &options).await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
    let rude = TcpListener::bind("127.0.0.1:0").expect("listens");
    let rude_port = port(&rude);
    std::thread::spawn(move || rude.accept().map(drop));
    let free = port(&TcpListener::bind("127.0.0.1:0").expect("listens"));
    let begin = Instant::now();
    for (port, wanted) in [(free, Refusal::Refused), (port(&silent), Refusal::TimedOut), (rude_port, Refusal::HungUp)] {
        match to(port).await {
            Err(Error::Unreachable { refusal, .. }) => assert_eq!(refusal, wanted),
            other => panic!("{wanted:?}: {other:?}"),
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    sshd.configure("user", "HostName no-such-host.invalid");
    assert!(matches!(refused(&sshd).await, Error::NoSuchHost { .. }));
}

#[tokio::test]
async fn a_login_that_hangs_has_an_end() {
    let sshd = Sshd::start("AuthorizedKeysCommand /bin/sleep 60\nAuthorizedKeysCommandUser root");
    sshd.configure("stranger", "");
    let mut options = sshd.options();
    options.connect_timeout = Duration::from_secs(1);
    let begin = Instant::now();
    let error = Session::connect(&host("test"), &options).await.expect_err("it hangs");
    assert!(matches!(error, Error::Timeout { attempted: "the login", .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_broken_config_is_named() {
    let sshd = Sshd::start("");
    sshd.configure("user", "NoSuchSetting yes");
    assert!(matches!(refused(&sshd).await, Error::Configuration(text) if text.contains("nosuchsetting")));
    std::fs::remove_file(sshd.path("config")).expect("removed");
    assert!(matches!(refused(&sshd).await, Error::Configuration(_)));
}

#[tokio::test]
async fn a_login_without_a_shell_is_told() {
    let sshd = Sshd::start("ForceCommand echo This account is not available.; exit 1");
    let error = refused(&sshd).await;
    assert!(matches!(&error, Error::NoShell { said, .. } if said.contains("not available")), "{error:?}");
}

#[tokio::test]
async fn a_talkative_login_does_no_harm() {
    let sshd = Sshd::start("ForceCommand echo Welcome; eval \"$SSH_ORIGINAL_COMMAND\"");
    let session = sshd.session().await;
    let output = session.run("echo end", None, Limits::default()).await.expect("runs");
    assert_eq!(output.stdout, "Welcome\nend\n");
}
