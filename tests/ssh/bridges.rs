//! Bridges: what takes a forward's place where sshd forbids it, and how connections and scripts share sshd's channels.

use std::time::{Duration, Instant};

use k3arm::ssh::{Limits, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::far::{data, socket_echo, socket_mute, tcp_echo, works};
use crate::sshd::Sshd;

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

#[tokio::test]
async fn eight_at_once_through_four_channels_and_scripts_beside_them() {
    let sshd = Sshd::start("DisableForwarding yes\nMaxSessions 4");
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let here = bridge(&session, &sshd).await;
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
async fn connections_that_stay_leave_scripts_their_channel() {
    for (allowed, connections) in [(2, 1), (3, 2), (10, 6)] {
        let sshd = Sshd::start(&format!("DisableForwarding yes\nMaxSessions {allowed}"));
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
    let sshd = Sshd::start("DisableForwarding yes\nMaxSessions 2");
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
async fn a_far_end_that_does_not_read_is_not_read_for() {
    let sshd = Sshd::start("DisableForwarding yes");
    let session = sshd.session().await;
    socket_mute(&sshd.path("far.sock"));
    let mut stream = UnixStream::connect(bridge(&session, &sshd).await).await.expect("connects");
    let (block, mut taken) = (data(1 << 20), 0);
    while let Ok(sent) = timeout(SECONDS(3), stream.write(&block)).await {
        taken += sent.expect("taken");
        assert!(taken < 32 << 20, "{taken} bytes taken, and nobody reads");
    }
    script(&session).await;
}
