//! Forwards: they carry data, and a refusal of sshd is told apart from everything else.

use std::net::SocketAddr;

use k3arm::ssh::{Error, Forward, Session};
use tokio::net::{TcpStream, UnixStream};

use crate::far::{socket_echo, tcp_echo, works};
use crate::sshd::{Sshd, host};

#[tokio::test]
async fn a_socket_of_the_host_is_here() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let path = sshd.path("far.sock");
    socket_echo(&path);
    for _ in 0..2 {
        let here = session.forward_socket(&path.to_string_lossy()).await.expect("forwarded");
        for _ in 0..3 {
            works(UnixStream::connect(&here).await.expect("connects")).await;
        }
    }
    // A socket that is not there is the caller's to find out.
    session.forward_socket("/nowhere/docker.sock").await.expect("forwarded");
}

#[tokio::test]
async fn ports_lead_there_and_back() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let far = tcp_echo().await;
    let here = session.forward_to(far).await.expect("forwarded");
    assert!(here != far && here.ip().is_loopback());
    works(TcpStream::connect(here).await.expect("connects")).await;
    let (first, second) = (session.reverse(far).await, session.reverse(tcp_echo().await).await);
    for port in [first.expect("forwarded"), second.expect("forwarded")] {
        assert!(port != far.port() && port != 0);
        works(TcpStream::connect(("127.0.0.1", port)).await.expect("connects")).await;
    }
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    session.forward_to(nobody).await.expect("it may listen later");
}

#[tokio::test]
async fn eight_connections_at_once_through_one_session() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let port = session.reverse(tcp_echo().await).await.expect("forwarded");
    let all: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move { works(TcpStream::connect(("127.0.0.1", port)).await.expect("connects")).await })
        })
        .collect();
    for one in all {
        one.await.expect("works");
    }
}

#[tokio::test]
async fn a_listener_is_brought_there_once() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    assert_eq!(sshd.listening(), 0);
    assert!(session.can_reverse().await.expect("asked"));
    assert_eq!(sshd.listening(), 0, "the trial leaves nothing");
    let (one, other) = (tcp_echo().await, tcp_echo().await);
    let port = session.reverse(one).await.expect("forwarded");
    assert_ne!(session.clone().reverse(other).await.expect("forwarded"), port);
    for _ in 0..3 {
        assert_eq!(session.reverse(one).await.expect("remembered"), port);
    }
    assert!(session.can_reverse().await.expect("remembered"));
    assert_eq!(sshd.listening(), 2);
    works(TcpStream::connect(("127.0.0.1", port)).await.expect("connects")).await;
}

#[tokio::test]
async fn sshds_no_to_a_reverse_forward_is_told_and_remembered() {
    for setting in ["AllowTcpForwarding no", "DisableForwarding yes", "AllowTcpForwarding local"] {
        let sshd = Sshd::start(setting);
        let session = sshd.session().await;
        let far = tcp_echo().await;
        for _ in 0..2 {
            let refused = session.reverse(far).await.expect_err("refused");
            assert!(matches!(&refused, Error::ForwardRefused { forward: Forward::Reverse(_) }), "{refused:?}");
            assert!(refused.hint().is_some_and(|hint| hint.contains("AllowTcpForwarding yes")));
            assert!(!session.can_reverse().await.expect("remembered"));
        }
    }
}

#[tokio::test]
async fn this_machine_needs_no_forward() {
    let sshd = Sshd::start("");
    let local = Session::connect(&host("local"), &sshd.options()).await.expect("this machine");
    let address = tcp_echo().await;
    assert_eq!(local.forward_to(address).await.expect("identity"), address);
    assert_eq!(local.reverse(address).await.expect("identity"), address.port());
    assert!(local.can_reverse().await.expect("identity"));
    assert_eq!(
        local.forward_socket("/var/run/docker.sock").await.expect("identity").to_str(),
        Some("/var/run/docker.sock")
    );
}

#[tokio::test]
async fn forwards_do_not_wait_for_scripts() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let busy: Vec<_> = (0..6)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move { session.run("sleep 4", None, k3arm::ssh::Limits::default()).await })
        })
        .collect();
    let asked = std::time::Instant::now();
    let (to, socket) = (session.forward_to(tcp_echo().await), session.forward_socket("/nowhere"));
    let set_up = tokio::spawn({
        let session = session.clone();
        async move { session.reverse(SocketAddr::from(([127, 0, 0, 1], 1))).await }
    });
    let (to, socket, reverse) = tokio::join!(to, socket, set_up);
    assert!(to.is_ok() && socket.is_ok() && reverse.is_ok_and(|port| port.is_ok()));
    assert!(asked.elapsed() < std::time::Duration::from_secs(3), "{:?}", asked.elapsed());
    busy.iter().for_each(tokio::task::JoinHandle::abort);
}
