//! Ends of all kinds: nothing is left over, and a lost connection is noticed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k3arm::ssh::{Error, Limits};
use tokio::io::AsyncWriteExt;

use crate::sshd::{Programs, Sshd, runs, signal, until};

#[tokio::test]
async fn close_leaves_nothing() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let master = sshd.master();
    let clone = session.clone();
    session.close().await;
    assert!(!runs(master) && !clone.is_alive());
    assert_eq!(fs::read_dir(sshd.path("ctl")).expect("there").count(), 0);
    let late = clone.run("true", None, Limits::default()).await;
    assert!(matches!(late, Err(Error::Disconnected(_))), "{late:?}");
    until("the host's side ends", || sshd.children().is_empty());
}

#[tokio::test]
async fn the_last_clone_takes_the_connection_along() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let master = sshd.master();
    let clone = session.clone();
    drop(session);
    assert!(clone.run("true", None, Limits::default()).await.is_ok());
    drop(clone);
    let ctl = sshd.path("ctl");
    tokio::task::spawn_blocking(move || {
        until("all gone", || !runs(master) && fs::read_dir(&ctl).is_ok_and(|d| d.count() == 0))
    })
    .await
    .expect("gone");
}

#[tokio::test]
async fn a_failed_login_leaves_nothing() {
    let sshd = Sshd::start("");
    sshd.configure("stranger", "");
    assert!(sshd.connect().await.is_err());
    assert_eq!(fs::read_dir(sshd.path("ctl")).expect("there").count(), 0);
}

#[tokio::test]
async fn a_connection_that_sshd_ends_is_noticed_at_once() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let running = {
        let session = session.clone();
        tokio::spawn(async move { session.run("sleep 60", None, Limits::default()).await })
    };
    assert!(tokio::time::timeout(Duration::from_millis(300), session.closed()).await.is_err(), "nothing happened yet");
    let begin = Instant::now();
    sshd.children().into_iter().for_each(|id| signal(id, "KILL"));
    assert!(matches!(session.closed().await, Error::Disconnected(_)));
    assert!(matches!(running.await.expect("ends"), Err(Error::Disconnected(_))));
    assert!(!session.is_alive() && begin.elapsed() < Duration::from_secs(2));
    let forward = session.forward_socket("/var/run/docker.sock").await;
    assert!(matches!(forward, Err(Error::Disconnected(_))), "{forward:?}");
}

#[tokio::test]
async fn a_silent_host_is_noticed() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let begin = Instant::now();
    sshd.children().into_iter().for_each(|id| signal(id, "STOP"));
    let running = session.run("true", None, Limits::default()).await;
    let Err(Error::Disconnected(words)) = running else { panic!("{running:?}") };
    assert!(words.contains("not responding"), "{words}");
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
}

/// A cable to a port that can be cut: then nothing arrives any more, and neither end is told. Gives the port of its near end.
async fn cable(to: u16) -> (u16, tokio::sync::watch::Sender<bool>) {
    let near = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = near.local_addr().expect("bound").port();
    let (cut, mut is_cut) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let (mut near, _) = near.accept().await.expect("accepted");
        let mut far = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.expect("connects");
        let cut = async { drop(is_cut.wait_for(|cut| *cut).await) };
        let is_cut = tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
            () = cut => true,
        };
        if is_cut {
            std::future::pending::<()>().await;
        }
    });
    (port, cut)
}

#[tokio::test]
async fn what_a_host_holds_of_a_lost_session_is_ended_by_the_next_one() {
    let sshd = Sshd::start("");
    let mut elsewhere = sshd.options();
    elsewhere.control_root = sshd.path("elsewhere");
    let (port, cut) = cable(sshd.port).await;
    sshd.configure("user", &format!("Port {port}\nHostKeyAlias [127.0.0.1]:{}", sshd.port));
    let lost = sshd.session().await;
    let held = sshd.children();
    cut.send_replace(true);
    lost.close().await;
    assert!(held.iter().all(|id| runs(*id)), "sshd has learnt of it");
    sshd.configure("user", "");
    let stranger = k3arm::ssh::Session::connect(&crate::sshd::host("test"), &elsewhere).await.expect("connects");
    assert!(held.iter().all(|id| runs(*id)), "a session that knows nothing of it ended it");
    let next = sshd.session().await;
    until("what was held is ended", || held.iter().all(|id| !runs(*id)));
    for session in [stranger, next] {
        assert!(session.run("true", None, Limits::default()).await.is_ok(), "another session was ended");
        session.close().await;
    }
    assert_eq!(fs::read_dir(sshd.path("ctl")).expect("there").count(), 0);
}

/// The other half of the next test: connects, opens channels that their far ends keep open, and waits to be killed.
#[tokio::test]
#[ignore = "started by the test below"]
async fn victim() {
    let Ok(config) = std::env::var("K3ARM_TEST_VICTIM") else { return };
    let folder = std::path::PathBuf::from(config);
    let mut options = k3arm::ssh::Options::new(folder.join("ctl"));
    options.config = Some(folder.join("config"));
    let session = k3arm::ssh::Session::connect(&crate::sshd::host("test"), &options).await.expect("connects");
    let there = folder.join("far.sock");
    let here = session.forward_socket(&there.to_string_lossy()).await.expect("forwarded");
    let _open = tokio::net::UnixStream::connect(here).await.expect("connects");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = session.reverse(listener.local_addr().expect("bound")).await.expect("forwarded");
    let script = session.clone();
    tokio::spawn(async move { script.run("sleep 30", None, Limits::default()).await });
    println!("\nport={port}");
    std::io::stdout().flush().expect("flushed");
    let _connections = (listener.accept().await, listener.accept().await);
    println!("\nready");
    std::io::stdout().flush().expect("flushed");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn sigkill_takes_the_master_along_whatever_is_open() {
    let sshd = Sshd::start("");
    let far = std::os::unix::net::UnixListener::bind(sshd.path("far.sock")).expect("listens");
    let mut victim = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "death::victim", "--ignored", "--nocapture"])
        .env("K3ARM_TEST_VICTIM", sshd.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(victim.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.strip_prefix("port=").map(String::from)).expect("a port");
    let address = format!("127.0.0.1:{port}");
    // Far ends that neither speak nor hang up; ssh alone would stay for them.
    let far_ends =
        (far.accept(), far.accept(), std::net::TcpStream::connect(&address), std::net::TcpStream::connect(&address));
    assert!(lines.any(|line| line == "ready"));
    let master = sshd.master();
    let begin = Instant::now();
    victim.kill().expect("killed");
    until("the master is gone", || !runs(master));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    until("the host's side is gone", || sshd.children().is_empty());
    victim.wait().expect("buried");
    drop(far_ends);
    // What the killed one left on disk goes with the next connection.
    assert_eq!(fs::read_dir(sshd.path("ctl")).expect("there").count(), 1);
    sshd.session().await.close().await;
    assert_eq!(fs::read_dir(sshd.path("ctl")).expect("there").count(), 0);
}

/// The other half of the next test: opens connections over a bridge and waits to be killed.
#[tokio::test]
#[ignore = "started by the test below"]
async fn victim_with_a_bridge() {
    let Ok(folder) = std::env::var("K3ARM_TEST_VICTIM") else { return };
    let folder = std::path::PathBuf::from(folder);
    let mut options = k3arm::ssh::Options::new(folder.join("ctl"));
    options.config = Some(folder.join("config"));
    let session = k3arm::ssh::Session::connect(&crate::sshd::host("test"), &options).await.expect("connects");
    let here = session.forward_socket(&folder.join("far.sock").to_string_lossy()).await.expect("bridged");
    let mut half = tokio::net::UnixStream::connect(&here).await.expect("connects");
    half.shutdown().await.expect("ended");
    let _open = tokio::net::UnixStream::connect(&here).await.expect("connects");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn sigkill_leaves_no_relay_on_the_host() {
    for (name, target) in
        [("docker", "docker"), ("socat", "socat"), ("nc", "nc.openbsd"), ("python3", "python3"), ("perl", "perl")]
    {
        let Some(programs) = Programs::with(name, target) else {
            eprintln!("SKIPPED: {target} is not on this machine");
            continue;
        };
        let sshd = Sshd::start_for("DisableForwarding yes", &programs);
        let far = std::os::unix::net::UnixListener::bind(sshd.path("far.sock")).expect("listens");
        let mut victim = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "death::victim_with_a_bridge", "--ignored", "--nocapture"])
            .env("K3ARM_TEST_VICTIM", sshd.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        // Far ends that neither speak nor hang up.
        let far_ends = (far.accept().expect("accepts"), far.accept().expect("accepts"));
        let relays = sshd.programs();
        victim.kill().expect("killed");
        victim.wait().expect("buried");
        assert!(!relays.is_empty());
        until(&format!("no {target} is left"), || sshd.programs().is_empty());
        drop(far_ends);
    }
}

#[tokio::test]
async fn a_master_that_outlived_its_owner_is_ended_by_the_next_run() {
    let sshd = Sshd::start("");
    let orphan = sshd.path("ctl").join("k3armorphan");
    fs::create_dir_all(&orphan).expect("made");
    fs::write(orphan.join("lock"), "").expect("written");
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(sshd.path("config")).args(["-M", "-N", "-S"]).arg(orphan.join("c")).arg("test");
    let mut master = ssh.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    until("its socket", || orphan.join("c").exists());
    let _session = sshd.session().await;
    until("it ends", || matches!(master.try_wait(), Ok(Some(_))));
    assert!(!orphan.exists());
}
