//! Each program that can carry connections, alone on the host: what it passes on, and that nothing is left of it.

use k3arm::ssh::{Error, Forward, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::far::{
    data, is_hung_up, is_left, socket_closes_first, socket_echo, socket_hangs_up, socket_mute, tcp_echo, tcp_hangs_up,
    works,
};
use crate::sshd::{Programs, Sshd, until};

/// As the host calls it, as this machine does, and what it can reach.
const ALL: [(&str, &str, Reach); 7] = [
    ("docker", "docker", Reach::Sockets),
    ("socat", "socat", Reach::Both),
    ("nc", "nc.openbsd", Reach::Both),
    ("nc", "ncat", Reach::Both),
    ("nc", "busybox", Reach::Ports),
    ("python3", "python3", Reach::Both),
    ("perl", "perl", Reach::Both),
];

/// Those for which we bring the program.
const OURS: [&str; 2] = ["python3", "perl"];

#[derive(Clone, Copy, PartialEq)]
enum Reach {
    Sockets,
    Ports,
    Both,
}

/// A host without forwards for each of them that this machine has.
fn hosts() -> Vec<(&'static str, Reach, Sshd, Programs)> {
    let found = ALL.iter().filter_map(|(name, target, reach)| {
        let Some(programs) = Programs::with(name, target) else {
            eprintln!("SKIPPED: {target} is not on this machine");
            return None;
        };
        Some((*target, *reach, Sshd::start_for("DisableForwarding yes", &programs), programs))
    });
    found.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_carries_megabytes_and_the_end_of_our_stream() {
    let hosts = hosts();
    assert!(hosts.len() >= 2, "perl and python3 at least");
    for (name, reach, sshd, _programs) in hosts {
        eprintln!("{name}");
        let session = sshd.session().await;
        if reach == Reach::Ports {
            let refused = session.forward_socket("/run/docker.sock").await;
            assert!(refused.is_ok(), "nobody listens there: the caller's to know");
        } else {
            socket_echo(&sshd.path("far.sock"));
            let here = session.forward_socket(&sshd.path("far.sock").to_string_lossy()).await.expect("bridged");
            works(UnixStream::connect(&here).await.expect("connects")).await;
            works(UnixStream::connect(&here).await.expect("connects")).await;
        }
        if reach != Reach::Sockets {
            let here = session.forward_to(tcp_echo().await).await.expect("bridged");
            works(TcpStream::connect(here).await.expect("connects")).await;
        }
        is_over(name, &sshd, session).await;
    }
}

/// Nothing is left of a program when its connection is over; ours, which wait for another, when the session is.
async fn is_over(name: &str, sshd: &Sshd, session: Session) {
    if OURS.contains(&name) {
        assert_eq!(sshd.programs().len(), 1, "one for all connections");
        session.close().await;
    }
    until(&format!("nothing is left of {name}: {:?}", sshd.programs()), || sshd.programs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_end_that_ends_first_still_hears_the_rest() {
    for (name, _, sshd, _programs) in hosts().into_iter().filter(|(name, ..)| OURS.contains(name)) {
        let session = sshd.session().await;
        let heard = socket_closes_first(&sshd.path("far.sock"));
        let here = session.forward_socket(&sshd.path("far.sock").to_string_lossy()).await.expect("bridged");
        let mut stream = UnixStream::connect(&here).await.expect("connects");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.expect("heard");
        assert_eq!(said, b"that is all", "{name}");
        stream.write_all(&data(2_000_000)).await.expect("sent");
        stream.shutdown().await.expect("ended");
        assert!(heard.await.expect("ends") == data(2_000_000), "{name}");
        is_over(name, &sshd, session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_end_that_hangs_up_ends_the_connection_here() {
    for (name, reach, sshd, _programs) in hosts() {
        eprintln!("{name}");
        let session = sshd.session().await;
        if reach != Reach::Ports {
            socket_hangs_up(&sshd.path("far.sock"));
            let here = session.forward_socket(&sshd.path("far.sock").to_string_lossy()).await.expect("bridged");
            is_hung_up(UnixStream::connect(&here).await.expect("connects")).await;
        }
        // It tells when more is sent, not before.
        if reach != Reach::Sockets && name != "nc.openbsd" {
            let here = session.forward_to(tcp_hangs_up().await).await.expect("bridged");
            is_hung_up(TcpStream::connect(&here).await.expect("connects")).await;
        }
        is_over(name, &sshd, session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn none_outlives_its_connection_or_its_session_whatever_the_far_end_does() {
    for (name, _, sshd, _programs) in hosts().into_iter().filter(|(_, reach, ..)| *reach != Reach::Ports) {
        eprintln!("{name}");
        let session = sshd.session().await;
        let far = socket_mute(&sshd.path("far.sock"));
        let here = session.forward_socket(&sshd.path("far.sock").to_string_lossy()).await.expect("bridged");
        let connect = || async {
            let mut stream = UnixStream::connect(&here).await.expect("connects");
            stream.write_all(b"hello?").await.expect("sent");
            stream
        };
        let count = || far.lock().expect("whole").len();
        let abandoned = connect().await;
        until("a relay", || count() == 1 && !sshd.programs().is_empty());
        drop(abandoned);
        until(&format!("{name} lets go"), || is_left(&far.lock().expect("whole")[0]));
        until(name, || sshd.programs().len() == usize::from(OURS.contains(&name)));
        let (_silent, mut half) = (connect().await, connect().await);
        half.shutdown().await.expect("ended");
        until("both are there", || count() == 3);
        session.close().await;
        until(&format!("{name} after its session: {:?}", sshd.programs()), || sshd.programs().is_empty());
    }
}

#[tokio::test]
async fn a_host_with_none_of_them_is_told_what_would_help() {
    let programs = Programs::with("true", "true").expect("there");
    let sshd = Sshd::start_for("DisableForwarding yes", &programs);
    let session = sshd.session().await;
    socket_echo(&sshd.path("far.sock"));
    let to = session.forward_to(tcp_echo().await).await.expect_err("nothing carries it");
    let socket = session.forward_socket(&sshd.path("far.sock").to_string_lossy()).await.expect_err("nor this");
    assert!(matches!(&to, Error::NoRelay { forward: Forward::To(_) }), "{to:?}");
    assert!(matches!(&socket, Error::NoRelay { forward: Forward::Socket(_) }), "{socket:?}");
    let hint = socket.hint().expect("a hint");
    assert!(hint.contains("AllowStreamLocalForwarding yes") && hint.contains("netcat-openbsd"), "{hint}");
    // Only a part of what is called nc will do.
    let Some(programs) = Programs::with("nc", "busybox") else { return };
    let sshd = Sshd::start_for("DisableForwarding yes", &programs);
    socket_echo(&sshd.path("far.sock"));
    let session = sshd.session().await;
    let socket = session.forward_socket(&sshd.path("far.sock").to_string_lossy()).await.expect_err("no -U there");
    assert!(matches!(&socket, Error::NoRelay { .. }), "{socket:?}");
    session.forward_to(tcp_echo().await).await.expect("bridged");
}
