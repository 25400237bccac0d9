//! Forwards: they carry data, and a refusal of sshd is told apart from everything else.

use std::net::SocketAddr;

use k3arm::ssh::{Error, Forward, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::sshd::{Sshd, host};

const SIZE: usize = 1_000_000;

async fn echo(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

async fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    address
}

/// Sends and receives a megabyte.
async fn works(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let (mut from, mut to) = tokio::io::split(stream);
    let data: Vec<u8> = (0..SIZE).map(|n| (n * 7 % 251) as u8).collect();
    let mut back = Vec::new();
    let send = async {
        to.write_all(&data).await?;
        to.shutdown().await
    };
    let (sent, received) = tokio::join!(send, from.read_to_end(&mut back));
    sent.expect("sent");
    received.expect("received");
    assert!(back == data, "{} bytes came back", back.len());
}

#[tokio::test]
async fn a_socket_of_the_host_is_here() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let path = sshd.path("far.sock");
    let listener = UnixListener::bind(&path).expect("listens");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
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
async fn each_refusal_of_sshd_is_told() {
    for setting in ["AllowTcpForwarding no", "DisableForwarding yes"] {
        let sshd = Sshd::start(setting);
        let session = sshd.session().await;
        let far = tcp_echo().await;
        let refused = session.forward_to(far).await.expect_err("refused");
        assert!(matches!(&refused, Error::ForwardRefused { forward: Forward::To(_) }), "{refused:?}");
        let refused = session.reverse(far).await.expect_err("refused");
        assert!(matches!(&refused, Error::ForwardRefused { forward: Forward::Reverse(_) }), "{refused:?}");
        assert!(refused.hint().is_some_and(|hint| hint.contains("AllowTcpForwarding yes")));
    }
    let sshd = Sshd::start("AllowStreamLocalForwarding no");
    let session = sshd.session().await;
    let path = sshd.path("far.sock");
    let _listener = UnixListener::bind(&path).expect("listens");
    let refused = session.forward_socket(&path.to_string_lossy()).await.expect_err("refused");
    assert!(refused.hint().is_some_and(|hint| hint.contains("AllowStreamLocalForwarding yes")), "{refused:?}");
    // The other kind still works, and so does the session.
    works(TcpStream::connect(session.forward_to(tcp_echo().await).await.expect("allowed")).await.expect("connects"))
        .await;
}

#[tokio::test]
async fn this_machine_needs_no_forward() {
    let sshd = Sshd::start("");
    let local = Session::connect(&host("local"), &sshd.options()).await.expect("this machine");
    let address = tcp_echo().await;
    assert_eq!(local.forward_to(address).await.expect("identity"), address);
    assert_eq!(local.reverse(address).await.expect("identity"), address.port());
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
