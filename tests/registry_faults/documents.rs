//! Indexes, manifests and channels from servers that do not do as they should.

use std::time::{Duration, Instant, SystemTime};

use k3arm::oci::{Digest, Document, MAX_MANIFEST_BYTES};
use k3arm::registry::{Client, Error, Object, Settings};

use crate::faulty::{Act, Faulty, Seen, answer, head};
use crate::fixture::{MANIFEST_TYPE, client, manifest, reference, settings};

/// The error of asking for a tag, and how many requests it took.
async fn fails(script: impl Fn(usize, &Seen) -> Vec<Act> + Send + Sync + 'static) -> (Error, usize) {
    let server = Faulty::start(script).await;
    let error = client().document(&reference(&server.address, "a/b:1")).await.unwrap_err();
    (error, server.seen().len())
}

#[tokio::test]
async fn a_manifest_comes_with_what_it_is() {
    let digest = Digest::of(&manifest()).to_string();
    let announced = digest.clone();
    let server = Faulty::start(move |_, _| {
        let headers = [
            ("content-type", "application/vnd.OCI.image.manifest.v1+json; charset=utf-8"),
            ("docker-content-digest", announced.as_str()),
        ];
        answer(200, &headers, &manifest())
    })
    .await;
    let fetched = client().document(&reference(&server.address, "a/b:1")).await.unwrap();
    assert_eq!((fetched.descriptor.digest.to_string(), &fetched.bytes[..]), (digest, &manifest()[..]));
    assert_eq!(fetched.descriptor.size, manifest().len() as u64);
    assert!(fetched.descriptor.media_type.is_manifest());
    assert!(matches!(fetched.document, Document::Manifest(_)));
    let seen = server.seen();
    assert_eq!(seen[0].line, "GET /v2/a/b/manifests/1");
    assert!(seen[0].header("accept").unwrap().contains("manifest.list.v2+json"));
    assert_eq!(seen[0].header("authorization"), None);
}

#[tokio::test]
async fn another_digest_than_asked_for_or_announced_is_refused() {
    let server = Faulty::start(|_, _| answer(200, &[MANIFEST_TYPE], &manifest())).await;
    let other = Digest::of(b"other");
    let asked = reference(&server.address, &format!("a/b:1@{other}"));
    let error = client().document(&asked).await.unwrap_err();
    assert!(matches!(&error, Error::WrongDigest { expected, computed, .. }
        if *expected == other && *computed == Digest::of(&manifest())));
    assert_eq!(server.lines(), [format!("GET /v2/a/b/manifests/{other}")]);
    assert!(error.hint().is_some());

    let announced = Digest::of(b"other").to_string();
    let (error, requests) =
        fails(move |_, _| answer(200, &[MANIFEST_TYPE, ("docker-content-digest", &announced)], &manifest())).await;
    assert!(matches!(error, Error::WrongDigest { .. }), "{error:?}");
    assert_eq!(requests, 1, "content that was changed is not asked for again");
}

#[tokio::test]
async fn truncated_bodies_are_tried_again_and_then_told() {
    let cut = |bytes: Vec<u8>| {
        let length = manifest().len().to_string();
        vec![Act::Send(head(200, &[MANIFEST_TYPE, ("content-length", &length)])), Act::Send(bytes)]
    };
    let (error, requests) = fails(move |_, _| cut(manifest()[..10].to_vec())).await;
    let length = manifest().len() as u64;
    assert!(matches!(error, Error::Truncated { received: 10, expected: Some(e), .. } if e == length), "{error:?}");
    assert_eq!(requests, 3);

    let server = Faulty::start(move |n, _| match n {
        0 => [cut(manifest()[..10].to_vec()), vec![Act::Reset]].concat(),
        _ => cut(manifest()),
    });
    let server = server.await;
    assert!(client().document(&reference(&server.address, "a/b:1")).await.is_ok());
}

#[tokio::test]
async fn oversized_bodies_are_not_read_to_the_end() {
    let (error, requests) =
        fails(|_, _| vec![Act::Send(head(200, &[MANIFEST_TYPE, ("content-length", "99999999999")]))]).await;
    assert!(matches!(error, Error::Oversized { limit: MAX_MANIFEST_BYTES, .. }), "{error:?}");
    assert_eq!(requests, 1);
    let (error, _) = fails(|_, _| vec![Act::Send(head(200, &[MANIFEST_TYPE])), Act::Flood(vec![b' '; 1 << 16])]).await;
    assert!(matches!(error, Error::Oversized { limit: MAX_MANIFEST_BYTES, .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_manifest_is_malformed() {
    for (media_type, body) in [
        ("text/html", "<html>"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}"),
        (MANIFEST_TYPE.1, "{}"),
        (MANIFEST_TYPE.1, ""),
    ] {
        let (error, requests) = fails(move |_, _| answer(200, &[("content-type", media_type)], body.as_bytes())).await;
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        assert_eq!(requests, 1);
    }
    let (error, _) =
        fails(|_, _| answer(200, &[MANIFEST_TYPE, ("docker-content-digest", "sha256:x")], &manifest())).await;
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_tag_is_asked_for_once() {
    let said = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let (error, requests) = fails(move |_, _| answer(404, &[], said)).await;
    assert!(error.is_not_found());
    assert!(matches!(&error, Error::NotFound { asked, said: Some(said) }
        if matches!(asked.object, Object::Document(_)) && said == "MANIFEST_UNKNOWN: manifest unknown"));
    assert!(error.hint().unwrap().contains("a/b:1"));
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn a_server_that_fails_twice_is_asked_a_third_time() {
    let server = Faulty::start(|n, _| match n {
        0 => answer(500, &[], b"oops"),
        1 => answer(503, &[], b""),
        _ => answer(200, &[MANIFEST_TYPE], &manifest()),
    });
    let server = server.await;
    assert!(client().document(&reference(&server.address, "a/b:1")).await.is_ok());
    assert_eq!(server.seen().len(), 3);

    let (error, requests) = fails(|_, _| answer(502, &[], b"")).await;
    assert!(matches!(error, Error::Server { status: 502, .. }), "{error:?}");
    assert_eq!(requests, 3, "there is a bound");
    let (error, requests) = fails(|_, _| answer(418, &[], b"")).await;
    assert!(matches!(error, Error::Status { status: 418, .. }), "{error:?}");
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn a_rate_limit_that_is_far_away_is_told_at_once() {
    let headers = [("retry-after", "3600"), ("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")];
    let (error, requests) = fails(move |_, _| answer(429, &headers, b"")).await;
    let Error::RateLimited { limit, .. } = &error else { panic!("{error:?}") };
    assert_eq!(limit.retry_after, Some(Duration::from_secs(3600)));
    assert_eq!((limit.limit, limit.remaining, limit.window), (Some(100), Some(0), Some(Duration::from_secs(21600))));
    assert!(error.hint().unwrap().contains("try again in 60 min"), "{:?}", error.hint());
    assert_eq!(requests, 1);

    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
    let (error, requests) = fails(move |_, _| answer(429, &[("retry-after", &date)], b"")).await;
    let Error::RateLimited { limit, .. } = &error else { panic!("{error:?}") };
    let wait = limit.retry_after.unwrap();
    assert!((540..=600).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(requests, 1);

    let (error, requests) = fails(|_, _| answer(429, &[], b"")).await;
    assert!(matches!(&error, Error::RateLimited { limit, .. } if limit.wait().is_none()), "{error:?}");
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn a_rate_limit_that_ends_soon_is_waited_for() {
    let server = Faulty::start(|n, _| match n {
        0 => answer(429, &[("retry-after", "1")], b""),
        _ => answer(200, &[MANIFEST_TYPE], &manifest()),
    });
    let server = server.await;
    let started = Instant::now();
    assert!(client().document(&reference(&server.address, "a/b:1")).await.is_ok());
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn mirrors_come_first_and_what_they_lack_comes_from_the_registry() {
    let lacking = Faulty::start(|_, _| answer(404, &[], b"")).await;
    let lying = Faulty::start(|_, _| answer(200, &[MANIFEST_TYPE], b"{}")).await;
    let real = Faulty::start(|_, _| answer(200, &[MANIFEST_TYPE], &manifest())).await;
    let mirror = |server: &Faulty| format!("{}=http://{}", real.address, server.address).parse().unwrap();
    let client = Client::new(Settings { mirrors: vec![mirror(&lacking), mirror(&lying)], ..settings() }).unwrap();
    let reference = reference(&real.address, &format!("a/b@{}", Digest::of(&manifest())));
    assert!(client.document(&reference).await.is_ok());
    assert_eq!((lacking.seen().len(), lying.seen().len(), real.seen().len()), (1, 1, 1));
    assert!(
        lacking.lines()[0].ends_with(&format!("?ns={}", real.address.replace(':', "%3A"))),
        "{:?}",
        lacking.lines()
    );
}

#[tokio::test]
async fn where_all_fail_all_are_named() {
    let mirror = Faulty::start(|_, _| answer(500, &[], b"")).await;
    let real = Faulty::start(|_, _| answer(404, &[], b"")).await;
    let mirrors = vec![format!("{}=http://{}", real.address, mirror.address).parse().unwrap()];
    let client = Client::new(Settings { mirrors, ..settings() }).unwrap();
    let error = client.document(&reference(&real.address, "a/b:1")).await.unwrap_err();
    assert!(error.is_not_found(), "the registry's own word counts: {error:?}");
    let Error::Mirrors { tried, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(tried[..], [Error::Server { status: 500, .. }]), "{tried:?}");
    assert!(error.to_string().contains(&mirror.address), "{error}");
}

#[tokio::test]
async fn channels_are_read_and_bounded() {
    let list =
        br#"{"type":"collection","data":[{"id":"stable","type":"channel","name":"stable","latest":"v1.36.2+k3s1"},
        {"id":"testing","name":"testing"}]}"#;
    let channels = async |script: fn(usize, &Seen) -> Vec<Act>| {
        let server = Faulty::start(script).await;
        let channels_url = format!("http://{}/v1-release/channels", server.address);
        Client::new(Settings { channels_url, ..settings() }).unwrap().channels().await
    };
    static LIST: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let _ = LIST.set(list.to_vec());
    let found = channels(|_, _| answer(200, &[], LIST.get().unwrap())).await.unwrap();
    let found: Vec<_> = found.iter().map(|channel| (channel.name.as_str(), channel.latest.as_deref())).collect();
    assert_eq!(found, [("stable", Some("v1.36.2+k3s1")), ("testing", None)]);

    let error = channels(|_, _| answer(200, &[], b"<html>")).await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    let error = channels(|_, _| vec![Act::Send(head(200, &[])), Act::Flood(vec![b' '; 65536])]).await.unwrap_err();
    assert!(matches!(error, Error::Oversized { .. }), "{error:?}");
    let error = channels(|_, _| answer(404, &[], b"")).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { asked, .. } if asked.object == Object::Channels), "{error:?}");

    let remote = Settings { channels_url: "http://192.0.2.1/channels".into(), ..settings() };
    let error = Client::new(remote).unwrap().channels().await.unwrap_err();
    assert!(matches!(error, Error::PlainHttpRefused { .. }), "{error:?}");
}

const LIST: &[u8] = b"docker.io/rancher/mirrored-coredns-coredns:1.14.6\ndocker.io/rancher/mirrored-pause:3.10.2\n";

#[tokio::test]
async fn a_releases_images_are_read_and_bounded() {
    let list = async |script: fn(usize, &Seen) -> Vec<Act>| {
        let server = Faulty::start(script).await;
        let releases_url = format!("http://{}/releases/", server.address);
        let client = Client::new(Settings { releases_url, ..settings() }).unwrap();
        (client.release_images("v1.36.3+k3s1").await, server.lines())
    };
    let (found, lines) = list(|n, _| if n == 0 { answer(503, &[], b"") } else { answer(200, &[], LIST) }).await;
    let found: Vec<_> = found.unwrap().iter().map(|image| image.familiar()).collect();
    assert_eq!(found, ["rancher/mirrored-coredns-coredns:1.14.6", "rancher/mirrored-pause:3.10.2"]);
    assert_eq!(lines, ["GET /releases/v1.36.3%2Bk3s1/k3s-images.txt"; 2]);

    let (found, _) = list(|_, _| answer(200, &[], b"<html>")).await;
    let error = found.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    let (found, _) = list(|_, _| vec![Act::Send(head(200, &[])), Act::Flood(vec![b' '; 65536])]).await;
    let error = found.unwrap_err();
    assert!(matches!(error, Error::Oversized { limit: 65536, .. }), "{error:?}");
    let (found, lines) = list(|_, _| answer(404, &[], b"")).await;
    let error = found.unwrap_err();
    assert!(error.is_not_found() && lines.len() == 1, "{error:?}");
    assert_eq!(error.hint().as_deref(), Some("check that k3s has a release v1.36.3+k3s1"));
    let (found, _) = list(|_, _| answer(429, &[], b"")).await;
    assert_eq!(found.unwrap_err().hint().as_deref(), Some("try again later"), "nobody logs in there");
}

#[tokio::test]
async fn a_releases_list_may_be_at_another_host_but_not_over_plain_http() {
    let storage = Faulty::start(|_, _| answer(200, &[], LIST)).await;
    let location = format!("http://{}/list?sig=secret", storage.address);
    let server = Faulty::start(move |_, _| answer(302, &[("location", &location)], b"")).await;
    let releases_url = format!("http://{}/releases", server.address);
    let client = Client::new(Settings { releases_url, ..settings() }).unwrap();
    assert_eq!(client.release_images("v1.36.3+k3s1").await.unwrap().len(), 2);
    assert_eq!(storage.lines(), ["GET /list?sig=secret"]);

    let server = Faulty::start(|_, _| answer(302, &[("location", "http://192.0.2.1/list")], b"")).await;
    let releases_url = format!("http://{}/releases", server.address);
    let error = Client::new(Settings { releases_url, ..settings() }).unwrap().release_images("v1").await.unwrap_err();
    assert!(matches!(error, Error::PlainHttpRefused { .. }), "{error:?}");
    let remote = Settings { releases_url: "http://192.0.2.1/releases".into(), ..settings() };
    let error = Client::new(remote).unwrap().release_images("v1").await.unwrap_err();
    assert!(matches!(error, Error::PlainHttpRefused { .. }), "{error:?}");
}
