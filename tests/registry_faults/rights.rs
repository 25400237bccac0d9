//! Tokens, credentials, and who must never see them.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k3arm::oci::Digest;
use k3arm::registry::{Client, Credentials, CredentialsError, Error, Object, Settings, Used};
use tokio::net::TcpListener;

use crate::faulty::{Act, Faulty, Seen, answer};
use crate::fixture::{MANIFEST_TYPE, client, content, descriptor, drain, manifest, reference, settings};

/// A registry that wants `Bearer good` and sends others to its token server at `/token`, whose answer is `token`.
async fn guarded(token: impl Fn(usize, &Seen) -> Vec<Act> + Send + Sync + 'static) -> Faulty {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let realm = format!("http://{}/token", listener.local_addr().unwrap());
    Faulty::on(listener, move |n, seen| {
        if seen.line.contains("/token") {
            return token(n, seen);
        }
        if seen.header("authorization") == Some("Bearer good") {
            return answer(200, &[MANIFEST_TYPE], &manifest());
        }
        let challenge = format!(r#"Bearer realm="{realm}",service="here",scope="repository:a/b:pull""#);
        answer(401, &[("www-authenticate", &challenge)], b"")
    })
}

fn good(_: usize, _: &Seen) -> Vec<Act> {
    answer(200, &[], br#"{"token":"good","expires_in":300}"#)
}

/// A client with the entry `{"auths": {registry: entry}}`.
fn with_entry(folder: &Path, registry: &str, entry: &str) -> Client {
    let path = folder.join("config.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{registry}":{entry}}}}}"#)).unwrap();
    Client::new(Settings { credentials: Credentials::file(path), ..settings() }).unwrap()
}

/// An address of this machine's that is not loopback. Connecting a UDP socket sends nothing.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn basic(user: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{user}:{password}"))
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once_and_kept() {
    let server = guarded(good).await;
    let client = client();
    let asked = reference(&server.address, "a/b:1");
    client.document(&asked).await.unwrap();
    client.document(&asked).await.unwrap();
    assert_eq!(
        server.lines(),
        [
            "GET /v2/a/b/manifests/1",
            "GET /token?service=here&scope=repository%3Aa%2Fb%3Apull",
            "GET /v2/a/b/manifests/1",
            "GET /v2/a/b/manifests/1"
        ]
    );
    assert_eq!(server.seen()[1].header("authorization"), None);
}

#[tokio::test]
async fn many_requests_wait_for_one_token() {
    let server = guarded(good).await;
    let client = client();
    let asked = reference(&server.address, "a/b:1");
    let all = futures_util::future::join_all((0..6).map(|_| client.document(&asked))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(server.lines().iter().filter(|line| line.contains("/token")).count(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let realm = format!("http://{}/token", listener.local_addr().unwrap());
    let server = Faulty::on(listener, move |n, seen| match (n, seen.header("authorization")) {
        (1 | 4, _) => answer(200, &[], format!(r#"{{"access_token":"t{n}"}}"#).as_bytes()),
        (2, Some("Bearer t1")) | (5, Some("Bearer t4")) => answer(200, &[MANIFEST_TYPE], &manifest()),
        _ => answer(401, &[("www-authenticate", &format!(r#"Bearer realm="{realm}""#))], b""),
    });
    let client = client();
    let asked = reference(&server.address, "a/b:1");
    client.document(&asked).await.unwrap();
    client.document(&asked).await.unwrap();
    assert_eq!(server.seen()[3].header("authorization"), Some("Bearer t1"));
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn the_users_password_goes_to_the_registrys_token_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = guarded(good).await;
    let entry = format!(r#"{{"auth":"{}"}}"#, basic("me", "geheim"));
    let client = with_entry(folder.path(), &server.address, &entry);
    client.document(&reference(&server.address, "a/b:1")).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].header("authorization"), None, "not before it is asked for");
    assert_eq!(seen[1].header("authorization"), Some(format!("Basic {}", basic("me", "geheim")).as_str()));
    assert!(seen[1].line.ends_with("&account=me"), "{}", seen[1].line);
}

#[tokio::test]
async fn an_identity_token_is_posted() {
    let folder = tempfile::tempdir().unwrap();
    let server = guarded(good).await;
    let client = with_entry(folder.path(), &server.address, r#"{"auth":"eDp5","identitytoken":"geheim+"}"#);
    client.document(&reference(&server.address, "a/b:1")).await.unwrap();
    let seen = &server.seen()[1];
    assert_eq!((seen.line.as_str(), seen.header("authorization")), ("POST /token", None));
    assert_eq!(
        seen.body,
        "grant_type=refresh_token&refresh_token=geheim%2B&client_id=k3arm&service=here&scope=repository%3Aa%2Fb%3Apull"
    );
}

#[tokio::test]
async fn basic_credentials_are_sent_when_asked_for_and_told_when_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = format!("Basic {}", basic("me", "geheim"));
    let server = Faulty::start(move |_, seen| match seen.header("authorization") {
        Some(value) if value == wanted => answer(200, &[MANIFEST_TYPE], &manifest()),
        _ => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], b""),
    });
    let server = server.await;
    let asked = reference(&server.address, "a/b:1");
    let entry = |password| format!(r#"{{"auth":"{}"}}"#, basic("me", password));
    assert!(with_entry(folder.path(), &server.address, &entry("geheim")).document(&asked).await.is_ok());

    let before = server.seen().len();
    let error = with_entry(folder.path(), &server.address, &entry("falsch")).document(&asked).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unauthorized { status: 401, used: Used::Credentials { source }, .. }
        if source.ends_with("config.json")),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains(&format!("docker login {}", server.address)));
    assert!(!format!("{error} {error:?}").contains("falsch"));
    assert_eq!(server.seen().len() - before, 2, "a refusal is not tried again");

    let error = client().document(&asked).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized { used: Used::Anonymous, .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_server_that_refuses_fails_or_talks_nonsense_is_told() {
    let fails = async |script: fn(usize, &Seen) -> Vec<Act>| {
        let server = guarded(script).await;
        let error = client().document(&reference(&server.address, "a/b:1")).await.unwrap_err();
        let tokens = server.lines().iter().filter(|line| line.contains("/token")).count();
        (error, tokens)
    };
    let (error, tokens) = fails(|_, _| answer(403, &[], br#"{"details":"no"}"#)).await;
    assert!(
        matches!(&error, Error::Unauthorized { status: 403, asked, said: Some(said), .. }
        if matches!(asked.object, Object::Token { .. }) && said == "no"),
        "{error:?}"
    );
    assert_eq!(tokens, 1);
    let (error, tokens) = fails(|_, _| answer(500, &[], b"")).await;
    assert!(matches!(&error, Error::Server { asked, .. } if matches!(asked.object, Object::Token { .. })), "{error:?}");
    assert_eq!(tokens, 3);
    let (error, _) = fails(|_, _| answer(429, &[("retry-after", "99")], b"")).await;
    assert!(matches!(error, Error::RateLimited { .. }), "{error:?}");
    for body in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb: c"}"#, "[1]"] {
        let server = guarded(move |_, _| answer(200, &[], body.as_bytes())).await;
        let error = client().document(&reference(&server.address, "a/b:1")).await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{body}: {error:?}");
    }
    let (error, _) = fails(|_, _| answer(200, &[], br#"{"token":"bad"}"#)).await;
    assert!(matches!(&error, Error::Unauthorized { status: 401, .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_server_of_somebody_else_gets_no_credentials() {
    let Some(address) = own_address() else { return eprintln!("SKIPPED: no address but loopback") };
    let folder = tempfile::tempdir().unwrap();
    let tokens = Faulty::on(TcpListener::bind((address, 0)).await.unwrap(), good);
    let realm = format!("http://{}/token", tokens.address);
    let server = Faulty::start(move |_, seen| match seen.header("authorization") {
        Some("Bearer good") => answer(404, &[], b""),
        _ => answer(401, &[("www-authenticate", &format!(r#"Bearer realm="{realm}""#))], b""),
    });
    let server = server.await;
    let path = folder.path().join("config.json");
    let entry = format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, server.address, basic("me", "geheim"));
    std::fs::write(&path, entry).unwrap();
    let trusting = |trusted: &[&str]| Settings {
        credentials: Credentials::file(&path),
        plain_http: [address.to_string()].into(),
        trusted_realms: trusted.iter().map(ToString::to_string).collect(),
        ..settings()
    };
    let asked = reference(&server.address, "a/b:1");
    let error = Client::new(trusting(&[])).unwrap().document(&asked).await.unwrap_err();
    assert!(error.is_not_found(), "an anonymous token was good enough: {error:?}");
    let error = Client::new(trusting(&[&tokens.address])).unwrap().document(&asked).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    let sent: Vec<bool> = tokens.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true], "not without being allowed by name");
}

#[tokio::test]
async fn a_token_server_over_plain_http_is_not_asked() {
    let plain =
        Faulty::start(|_, _| answer(401, &[("www-authenticate", r#"Bearer realm="http://192.0.2.1/token""#)], b""));
    let plain = plain.await;
    let error = client().document(&reference(&plain.address, "a/b:1")).await.unwrap_err();
    assert!(matches!(&error, Error::PlainHttpRefused { target, .. } if target == "http://192.0.2.1"), "{error:?}");
    assert_eq!(plain.seen().len(), 1);
}

#[tokio::test]
async fn a_missing_helper_matters_only_where_credentials_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, r#"{"credsStore":"that-nobody-has"}"#).unwrap();
    let client = || Client::new(Settings { credentials: Credentials::file(&path), ..settings() }).unwrap();
    let public = guarded(good).await;
    assert!(client().document(&reference(&public.address, "a/b:1")).await.is_ok(), "anonymous is enough");
    for private in [
        guarded(|_, _| answer(200, &[], br#"{"token":"anonymous"}"#)).await,
        guarded(|_, _| answer(401, &[], b"")).await,
        Faulty::start(|_, _| answer(401, &[("www-authenticate", "Basic realm=x")], b"")).await,
    ] {
        let error = client().document(&reference(&private.address, "a/b:1")).await.unwrap_err();
        assert!(
            matches!(&error, Error::Credentials { source: CredentialsError::NoHelper { program }, .. }
            if program == "docker-credential-that-nobody-has"),
            "{error:?}"
        );
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn a_redirect_does_not_carry_the_token() {
    let bytes = content(1000);
    let storage = Faulty::start(|_, _| answer(200, &[], &content(1000))).await;
    let to = format!("http://{}/blob?sig=geheim", storage.address);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let realm = format!("http://{}/token", listener.local_addr().unwrap());
    let server =
        Faulty::on(listener, move |_, seen| match (seen.header("authorization"), seen.line.contains("/token")) {
            (_, true) => answer(200, &[], br#"{"token":"good"}"#),
            (Some("Bearer good"), _) if seen.line.contains("/moved/") => answer(307, &[("location", &to)], b""),
            // The same origin keeps it.
            (Some("Bearer good"), _) => answer(302, &[("location", "/moved/blob")], b""),
            _ => answer(401, &[("www-authenticate", &format!(r#"Bearer realm="{realm}""#))], b""),
        });
    let stream = client().blob(&reference(&server.address, "a/b:1"), &descriptor(&bytes), 0).await.unwrap();
    let (got, error) = drain(stream).await;
    assert!(error.is_none() && got == bytes, "{error:?}");
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].header("authorization"), None);
    assert_eq!(storage.seen()[0].header("referer"), None);
}

#[tokio::test]
async fn redirects_are_followed_with_care() {
    let fails = async |location: &'static str| {
        let server = Faulty::start(move |_, _| answer(307, &[("location", location)], b"")).await;
        let digest = Digest::of(b"");
        client().document(&reference(&server.address, &format!("a/b@{digest}"))).await.unwrap_err()
    };
    for to in ["http://192.0.2.1/x?sig=geheim", "http://example.invalid/"] {
        let error = fails(to).await;
        assert!(matches!(error, Error::PlainHttpRefused { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("geheim"));
    }
    for to in ["file:///etc/passwd", "ftp://x", "http://", "data:,x"] {
        let error = fails(to).await;
        assert!(matches!(error, Error::Redirect { .. }), "{to}: {error:?}");
    }
    let error = fails("/v2/again").await;
    assert!(matches!(error, Error::Redirect { reason: "too many redirects", .. }), "{error:?}");

    // Storage that wants credentials of its own is not given any.
    let storage = Faulty::start(|_, _| answer(401, &[("www-authenticate", "Basic realm=x")], b"")).await;
    let to = format!("http://{}/", storage.address);
    let server = Faulty::start(move |_, _| answer(307, &[("location", &to)], b"")).await;
    let folder = tempfile::tempdir().unwrap();
    let entry = format!(r#"{{"auth":"{}"}}"#, basic("me", "geheim"));
    let client = with_entry(folder.path(), &server.address, &entry);
    let error = client.document(&reference(&server.address, "a/b:1")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { status: 401, .. }), "{error:?}");
    assert_eq!((server.seen().len(), storage.seen().len()), (1, 1));
}
