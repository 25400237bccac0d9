//! What is wrong before there is an answer: names, ports, certificates, silence, noise.

use std::io::{Read, Write};
use std::net::TcpListener as StdListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k3arm::oci::MediaType;
use k3arm::registry::{Client, ConnectProblem, Error, Settings, TlsProblem};

use crate::faulty::{Act, Faulty, Seen, answer, head};
use crate::fixture::{MANIFEST_TYPE, client, manifest, reference, settings};

async fn fails(script: impl Fn(usize, &Seen) -> Vec<Act> + Send + Sync + 'static) -> (Error, usize) {
    let server = Faulty::start(script).await;
    let error = client().document(&reference(&server.address, "a/b:1")).await.unwrap_err();
    (error, server.seen().len())
}

/// A client to which the registry `x.test` is at `url`.
fn at(url: &str) -> Client {
    let mirrors = vec![format!("x.test={url}").parse().unwrap()];
    Client::new(Settings { mirrors, ..settings() }).unwrap()
}

/// The error of the only mirror.
async fn mirror_fails(url: &str) -> Error {
    match at(url).document(&reference("x.test", "a/b:1")).await.unwrap_err() {
        Error::Mirrors { mut tried, .. } => tried.remove(0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens() {
    let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = client().document(&reference(&address, "a/b:1")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { problem: ConnectProblem::Refused, .. }), "{error:?}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_name_without_an_address() {
    let error = client().document(&reference("registry.invalid", "a/b:1")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { problem: ConnectProblem::Dns, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("DNS"));
}

#[tokio::test]
async fn a_server_that_never_answers_is_left() {
    let started = Instant::now();
    let (error, requests) = fails(|_, _| vec![Act::Pause(Duration::from_secs(60))]).await;
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert_eq!(requests, 3);
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_server_that_stalls_in_the_body_is_left() {
    let (error, requests) =
        fails(|_, _| vec![Act::Send(head(200, &[MANIFEST_TYPE])), Act::Pause(Duration::from_secs(60))]).await;
    assert!(matches!(error, Error::Timeout { waited, .. } if waited == settings().timeouts.idle), "{error:?}");
    assert_eq!(requests, 3);
}

#[tokio::test]
async fn a_drip_of_bytes_does_not_hold_a_document_up() {
    let started = Instant::now();
    let drip = || Act::Trickle(b" ".to_vec(), Duration::from_millis(50));
    let (error, _) = fails(move |_, _| vec![Act::Send(head(200, &[MANIFEST_TYPE])), drip()]).await;
    assert!(matches!(error, Error::Timeout { waited, .. } if waited == settings().timeouts.document), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
    let drip = || Act::Trickle(b"a: b\r\n".to_vec(), Duration::from_millis(50));
    let (error, _) = fails(move |_, _| vec![Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), drip()]).await;
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn headers_without_end_are_not_collected() {
    for flood in [b"a: b\r\n".repeat(1000), vec![b'a'; 65536]] {
        let started = Instant::now();
        let (error, requests) =
            fails(move |_, _| vec![Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Act::Flood(flood.clone())]).await;
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert_eq!(requests, 1);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn noise_is_not_http() {
    for noise in [&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], b"\x00\x01\x02\xff\xfe\r\n\r\n", b"HTTP/9.9 ok\r\n\r\n"] {
        let (error, requests) = fails(move |_, _| vec![Act::Send(noise.to_vec())]).await;
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert_eq!(requests, 1);
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_is_tried_again() {
    let server = Faulty::start(|n, _| match n {
        0 => vec![],
        1 => vec![Act::Reset],
        _ => answer(200, &[MANIFEST_TYPE], &manifest()),
    });
    let server = server.await;
    assert!(client().document(&reference(&server.address, "a/b:1")).await.is_ok());
    let (error, requests) = fails(|_, _| vec![]).await;
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert_eq!(requests, 3);
}

#[tokio::test]
async fn plain_http_behind_https_is_told_apart() {
    let server = Faulty::start(|_, _| answer(400, &[], b"")).await;
    let error = mirror_fails(&format!("https://{}", server.address)).await;
    assert!(matches!(error, Error::Tls { problem: TlsProblem::NotTls, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("plain HTTP"));
}

/// A TLS server for `localhost` with a certificate of its own making; returns its port and the certificate.
fn tls_server(name: &str) -> (u16, String) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_string()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut connection) = rustls::ServerConnection::new(config.clone()) else { return };
            let mut stream = stream;
            let mut stream = rustls::Stream::new(&mut connection, &mut stream);
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).is_ok() {
                let length = manifest().len();
                let media_type = MediaType::OCI_MANIFEST;
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(&[head.as_bytes(), &manifest()].concat());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (port, cert.pem())
}

#[tokio::test]
async fn a_certificate_of_nobody_is_refused() {
    let (port, _) = tls_server("localhost");
    let error = mirror_fails(&format!("https://localhost:{port}")).await;
    assert!(matches!(error, Error::Tls { problem: TlsProblem::Issuer, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("SSL_CERT_FILE"));
}

const CHILD: &str = "K3ARM_TEST_TLS_CHILD";

/// The environment belongs to a process, so this test runs itself again with another one.
#[tokio::test]
async fn a_bundle_of_the_users_is_trusted_and_none_is_needed() {
    if let Ok(url) = std::env::var(CHILD) {
        let outcome = at(&url).document(&reference("x.test", "a/b:1")).await;
        match outcome {
            Ok(_) => println!("outcome: ok"),
            Err(error) => println!("outcome: {error:?}"),
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    let run = |url: String, bundle: &std::path::Path| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "connections::a_bundle_of_the_users_is_trusted_and_none_is_needed", "--nocapture"])
            .env(CHILD, url)
            .env("SSL_CERT_FILE", bundle)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (port, pem) = tls_server("localhost");
    std::fs::write(&bundle, &pem).unwrap();
    let trusted = run(format!("https://localhost:{port}"), &bundle);
    assert!(trusted.contains("outcome: ok"), "{trusted}");
    let other_name = run(format!("https://127.0.0.1:{port}"), &bundle);
    assert!(other_name.contains("problem: Name"), "{other_name}");
    // As in an empty container: no bundle, no panic, and still nobody's certificate is refused.
    let without = run(format!("https://localhost:{port}"), &folder.path().join("missing.pem"));
    assert!(without.contains("problem: Issuer"), "{without}");
}
