//! Bridges: what takes a forward's place where sshd forbids it, and how connections and scripts share sshd's channels.

use std::time::{Duration, Instant};

use k3arm::ssh::{Limits, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::far::{data, socket_echo, socket_mute, tcp_echo, works};
use crate::sshd::{Programs, Sshd, signal};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

async fn bridge(session: &Session, sshd: &Sshd) -> std::path::PathBuf {
    session.forward_socket(&sshd.path("far.sock").to_string_lossy()).await.expect("bridged")
}

/// One byte there and back: the connection is really open.
async fn open(here: &std::path::Path) -> UnixStream {
    let mut stream = UnixStream::connect(here).await.expect("connects");
    stream.write_all(b"x").await.expect("sent");
    stream.read_exact(&mut [0]).await.expect("answered");
    stream
}

async fn script(session: &Session) -> Duration {
    let begin = Instant::now();
    let output = session.run("echo fine", None, Limits::default()).await.expect("runs");
    assert_eq!(output.stdout, "fine\n");
    begin.elapsed()
}

#[tokio::test]
async fn whatever_forbids_forwards_connections_come_about() {
    let settings = ["AllowTcpForwarding no", "AllowStreamLocalForwarding no", "DisableForwarding yes", "restrict"];
    for setting in settings {
        let sshd = Sshd::start(if setting == "restrict" { "" } else { setting });
        if setting == "restrict" {
            let key = std::fs::read_to_string(sshd.path("authorized")).expect("there");
            std::fs::write(sshd.path("authorized"), format!("restrict {key}")).expect("written");
        }
        let session = sshd.session().await;
        socket_echo(&sshd.path("far.sock"));
        works(UnixStream::connect(bridge(&session, &sshd).await).await.expect("connects")).await;
        let to = session.forward_to(tcp_echo().await).await.expect("bridged");
        assert!(to.ip().is_loopback());
        works(TcpStream::connect(to).await.expect("connects")).await;
        assert_eq!(session.can_reverse().await.expect("asked"), setting == "AllowStreamLocalForwarding no");
        script(&session).await;
    }
}

#[tokio::test]
async fn sshd_is_asked_once() {
    let sshd = Sshd::start("DisableForwarding yes");
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let names: Vec<_> = [bridge(&session, &sshd).await, bridge(&session, &sshd).await, bridge(&session, &sshd).await]
        .iter()
        .map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
        .collect();
    // The first name was the refused forward's, and nothing is left of that.
    assert_eq!(names, ["f1", "f2", "f3"]);
    let folder = std::fs::read_dir(sshd.path("ctl")).expect("there").flatten().next().expect("one").path();
    assert!(!folder.join("f0").exists());
}

#[tokio::test]
async fn a_missing_far_end_and_a_greeting_are_borne() {
    let sshd = Sshd::start("DisableForwarding yes\nForceCommand echo Welcome; eval \"$SSH_ORIGINAL_COMMAND\"");
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let here = bridge(&session, &sshd).await;
    works(UnixStream::connect(&here).await.expect("connects")).await;
    std::fs::remove_file(sshd.path("far.sock")).expect("removed");
    let mut nobody = UnixStream::connect(&here).await.expect("connects");
    assert_eq!(timeout(SECONDS(60), nobody.read(&mut [0])).await.expect("it ends").unwrap_or(0), 0);
    let nothing = session.forward_to("127.0.0.1:1".parse().expect("an address")).await.expect("it may listen later");
    let mut nobody = TcpStream::connect(nothing).await.expect("connects");
    assert_eq!(timeout(SECONDS(60), nobody.read(&mut [0])).await.expect("it ends").unwrap_or(0), 0);
}

/// A host that needs a channel for each connection.
fn without_trunk(sessions: usize) -> Option<(Sshd, Programs)> {
    let setting = format!("DisableForwarding yes\nMaxSessions {sessions}");
    let programs = Programs::with("socat", "socat")
        .or_else(|| Programs::with_all(&[("docker", "docker"), ("nc", "busybox")]))
        .or_else(|| Programs::with("nc", "nc.openbsd"));
    if programs.is_none() {
        eprintln!("SKIPPED: none of socat, docker with busybox, and nc.openbsd is on this machine");
    }
    programs.map(|programs| (Sshd::start_for(&setting, &programs), programs))
}

/// Eight connections at once, and scripts as long as there are any.
async fn eight_at_once(sshd: &Sshd) {
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let here = bridge(&session, sshd).await;
    let connections: Vec<_> = (0..8)
        .map(|_| {
            let here = here.clone();
            tokio::spawn(async move { works(UnixStream::connect(here).await.expect("connects")).await })
        })
        .collect();
    while connections.iter().any(|connection| !connection.is_finished()) {
        let took = script(&session).await;
        assert!(took < SECONDS(15), "{took:?}");
    }
    for connection in connections {
        connection.await.expect("works");
    }
}

#[tokio::test]
async fn eight_at_once_through_four_channels_and_scripts_beside_them() {
    eight_at_once(&Sshd::start("DisableForwarding yes\nMaxSessions 4")).await;
    if let Some((sshd, _programs)) = without_trunk(4) {
        eight_at_once(&sshd).await;
    }
}

#[tokio::test]
async fn two_channels_are_enough_for_connections_that_stay_and_scripts() {
    let sshd = Sshd::start("DisableForwarding yes\nMaxSessions 2");
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let (socket, port) = (bridge(&session, &sshd).await, session.forward_to(tcp_echo().await).await.expect("bridged"));
    let mut stay = Vec::new();
    for _ in 0..20 {
        stay.push(timeout(SECONDS(60), open(&socket)).await.expect("opens"));
        works(TcpStream::connect(port).await.expect("connects")).await;
        assert!(script(&session).await < SECONDS(15));
    }
    for stream in &mut stay {
        stream.write_all(b"y").await.expect("sent");
        assert_eq!(timeout(SECONDS(60), stream.read_u8()).await.expect("in time").expect("answered"), b'y');
    }
}

#[tokio::test]
async fn with_a_channel_each_connections_that_stay_leave_scripts_theirs() {
    for (allowed, connections) in [(2, 1), (3, 2), (10, 6)] {
        let Some((sshd, _programs)) = without_trunk(allowed) else { return };
        let session = sshd.session().await;
        socket_echo(&sshd.path("far.sock"));
        let here = bridge(&session, &sshd).await;
        let mut stay = Vec::new();
        for _ in 0..connections {
            stay.push(timeout(SECONDS(60), open(&here)).await.expect("its turn"));
        }
        let mut late = tokio::spawn({
            let here = here.clone();
            async move { open(&here).await }
        });
        for _ in 0..3 {
            let took = script(&session).await;
            assert!(took < SECONDS(15), "{took:?} with MaxSessions {allowed}");
        }
        assert!(timeout(Duration::from_millis(500), &mut late).await.is_err(), "{allowed}: there is no turn for it");
        stay.pop();
        timeout(SECONDS(60), late).await.expect("its turn came").expect("opens");
    }
}

#[tokio::test]
async fn with_one_channel_connections_and_scripts_take_turns() {
    let sshd = Sshd::start("DisableForwarding yes\nMaxSessions 1");
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let here = bridge(&session, &sshd).await;
    for _ in 0..3 {
        let connection = works(UnixStream::connect(&here).await.expect("connects"));
        tokio::join!(connection, script(&session));
    }
}

#[tokio::test]
async fn a_silent_connection_to_a_port_gives_way() {
    let Some((sshd, _programs)) = without_trunk(2) else { return };
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let (socket, port) = (bridge(&session, &sshd).await, session.forward_to(tcp_echo().await).await.expect("bridged"));
    let mut silent = TcpStream::connect(port).await.expect("connects");
    silent.write_all(b"x").await.expect("sent");
    silent.read_exact(&mut [0]).await.expect("answered");
    let begin = Instant::now();
    timeout(SECONDS(60), open(&socket)).await.expect("its turn came");
    assert!(begin.elapsed() > SECONDS(5), "{:?}: it was given time", begin.elapsed());
    assert_eq!(timeout(SECONDS(5), silent.read(&mut [0])).await.expect("it ended").unwrap_or(0), 0);
}

#[tokio::test]
async fn a_far_end_that_does_not_read_is_not_read_for_and_holds_up_no_other() {
    for (sshd, _programs) in [Some((Sshd::start("DisableForwarding yes"), None))]
        .into_iter()
        .chain([without_trunk(10).map(|(sshd, programs)| (sshd, Some(programs)))])
        .flatten()
    {
        let session = sshd.session().await;
        let _far = socket_mute(&sshd.path("far.sock"));
        socket_echo(&sshd.path("other.sock"));
        let mut stream = UnixStream::connect(bridge(&session, &sshd).await).await.expect("connects");
        let (block, mut taken) = (data(1 << 20), 0);
        while let Ok(sent) = timeout(SECONDS(3), stream.write(&block)).await {
            taken += sent.expect("taken");
            assert!(taken < 32 << 20, "{taken} bytes taken, and nobody reads");
        }
        let other = session.forward_socket(&sshd.path("other.sock").to_string_lossy()).await.expect("bridged");
        // Here nobody reads what comes back.
        let mut unheard = UnixStream::connect(&other).await.expect("connects");
        while timeout(SECONDS(3), unheard.write(&block)).await.is_ok() {}
        works(UnixStream::connect(&other).await.expect("connects")).await;
        script(&session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_dies_ends_its_connections_and_another_takes_its_place() {
    let sshd = Sshd::start("DisableForwarding yes");
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let here = bridge(&session, &sshd).await;
    for _ in 0..3 {
        let mut stream = open(&here).await;
        sshd.program_ids().into_iter().for_each(|id| signal(id, "KILL"));
        assert_eq!(timeout(SECONDS(60), stream.read(&mut [0])).await.expect("it ends").unwrap_or(0), 0);
        works(UnixStream::connect(&here).await.expect("connects")).await;
    }
}
