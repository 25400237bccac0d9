//! Which image is which on either store, and whose names are temporary.

use super::*;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn expected() -> Expected {
    Expected {
        reference: "rancher/k3s:v1".parse().unwrap(),
        index: Some(digest("index")),
        manifest: digest("manifest"),
        config: digest("config"),
    }
}

fn facts(text: &str) -> ImageFacts {
    let mut text = text.to_string();
    for name in ["index", "manifest", "config", "other"] {
        text = text.replace(&format!("<{name}>"), &digest(name).to_string());
    }
    serde_json::from_str::<Wire>(&text).unwrap().into_facts()
}

#[test]
fn on_the_classic_store_the_config_decides() {
    assert!(facts(r#"{"Id":"<config>","RepoDigests":["a@<index>"]}"#).is(&expected()));
    assert!(!facts(r#"{"Id":"<other>","RepoDigests":["a@<index>"]}"#).is(&expected()));
}

#[test]
fn on_the_containerd_store_the_manifest_must_be_there() {
    let with = |manifest: &str| {
        facts(&format!(r#"{{"Id":"<index>","RepoDigests":["a@<index>"],"Descriptor":{{}},"Manifests":[{manifest}]}}"#))
            .is(&expected())
    };
    assert!(with(r#"{"Descriptor":{"digest":"<manifest>"},"Available":true}"#));
    assert!(with(r#"{"Descriptor":{"digest":"<manifest>"},"ImageData":{"Size":{"Unpacked":5}}}"#));
    assert!(!with(r#"{"Descriptor":{"digest":"<manifest>"},"Available":false,"ImageData":{"Size":{"Unpacked":0}}}"#));
    assert!(!with(r#"{"Descriptor":{"digest":"<other>"},"Available":true}"#));
    // Before API 1.48 the engine does not say.
    assert!(facts(r#"{"Id":"<index>","RepoDigests":["a@<index>"]}"#).is(&expected()));
}

#[test]
fn only_our_own_temporary_names_are_found() {
    let secret = "0123456789abcdef0123456789abcdef";
    assert!(is_temporary(&format!("127.0.0.1:40001/k3arm-{secret}/rancher/k3s@sha256:00")));
    assert!(is_temporary(&format!("127.0.0.1:1/k3arm-{secret}/a:b")));
    for name in [
        "127.0.0.1:40001/rancher/k3s:v1",
        "127.0.0.1:40001/k3arm-abc/rancher/k3s:v1",
        &format!("127.0.0.1:x/k3arm-{secret}/a:b"),
        &format!("127.0.0.1:1/k3arm-{}/a:b", secret.to_uppercase()),
        &format!("10.0.0.1:1/k3arm-{secret}/a:b"),
        &format!("127.0.0.1:1/k3arm-{secret}"),
    ] {
        assert!(!is_temporary(name), "{name}");
    }
}
