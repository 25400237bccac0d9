//! Tests of `credentials.rs`: Docker's `config.json` as it is found in the wild, and helpers that misbehave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn config(text: &str) -> Config {
    serde_json::from_str(text).unwrap()
}

fn password(user: &str, password: &str) -> Credential {
    Credential::Password { user: user.into(), password: Hidden(password.into()) }
}

fn entry(text: &str, registry: &str) -> Option<Credential> {
    config(text).entry(registry, Path::new("config.json")).unwrap()
}

#[test]
fn entries_are_found_under_all_their_names() {
    // me:geheim
    let auths = |key: &str| format!(r#"{{"auths":{{"{key}":{{"auth":"bWU6Z2VoZWlt"}}}},"HttpHeaders":{{}}}}"#);
    for key in ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "https://docker.io"] {
        assert_eq!(entry(&auths(key), "docker.io"), Some(password("me", "geheim")), "{key}");
    }
    for key in ["ghcr.io", "https://ghcr.io", "https://ghcr.io/v2/", "http://ghcr.io/v1"] {
        assert_eq!(entry(&auths(key), "ghcr.io"), Some(password("me", "geheim")), "{key}");
    }
    for key in ["ghcr.io/me", "ghcr.io:443", "xghcr.io", "docker.io"] {
        assert_eq!(entry(&auths(key), "ghcr.io"), None, "{key}");
    }
}

#[test]
fn all_forms_of_an_entry_are_read() {
    let with = |entry_text: &str| entry(&format!(r#"{{"auths":{{"a.b":{entry_text}}}}}"#), "a.b");
    assert_eq!(with(r#"{"username":"me","password":"a:b"}"#), Some(password("me", "a:b")));
    assert_eq!(with(r#"{"auth":"bWU6Z2VoZWltAAA="}"#), Some(password("me", "geheim")));
    assert_eq!(
        with(r#"{"auth":"bWU6Z2VoZWlt","identitytoken":"t"}"#),
        Some(Credential::IdentityToken(Hidden("t".into())))
    );
    assert_eq!(with("{}"), None);
}

#[test]
fn a_broken_entry_is_named_without_its_value() {
    let broken = config(r#"{"auths":{"a.b":{"auth":"geheim!"}}}"#);
    let error = broken.entry("a.b", Path::new("config.json")).unwrap_err();
    assert!(
        matches!(&error, CredentialsError::Malformed { what, .. } if what == "auth of \"a.b\"" || what.contains("auth"))
    );
    assert!(!format!("{error:?} {error}").contains("geheim"));
    assert!(!format!("{:?}", password("me", "geheim")).contains("geheim"));
}

#[tokio::test]
async fn a_missing_file_is_no_error_and_a_broken_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    assert_eq!(Credentials::file(&path).find("a.b").await.unwrap(), None);
    fs::write(&path, r#"{"auths": {"a.b": {"auth": geheim"#).unwrap();
    let error = Credentials::file(&path).find("a.b").await.unwrap_err();
    assert!(matches!(error, CredentialsError::Malformed { .. }));
    assert!(!format!("{error:?} {error}").contains("geheim"));
}

#[tokio::test]
async fn a_missing_helper_is_told_unless_the_file_has_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, r#"{"auths":{"a.b":{"auth":"bWU6Z2VoZWlt"},"c.d":{}},"credsStore":"of-nobody"}"#).unwrap();
    let credentials = Credentials::file(&path);
    let found = credentials.find("a.b").await.unwrap().unwrap();
    assert_eq!((found.credential, found.source), (password("me", "geheim"), path.display().to_string()));
    let error = credentials.find("c.d").await.unwrap_err();
    assert!(matches!(&error, CredentialsError::NoHelper { program } if program == "docker-credential-of-nobody"));
    assert!(error.to_string().contains("docker-credential-of-nobody"));
}

/// A helper by its path, so that no test changes this process's PATH.
async fn helped(script: &str, deadline: u64) -> Result<Option<Found>, CredentialsError> {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("docker-credential-test");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    helper::run(program.to_str().unwrap(), "a.b", Duration::from_secs(deadline)).await
}

#[tokio::test]
async fn helpers_answers_are_understood() {
    let echo = r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"me-$1-$server\",\"Secret\":\"s\"}""#;
    assert_eq!(helped(echo, 30).await.unwrap().unwrap().credential, password("me-get-a.b", "s"));
    let token = r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"t"}'"#;
    assert_eq!(helped(token, 30).await.unwrap().unwrap().credential, Credential::IdentityToken(Hidden("t".into())));
    let nothing = "echo credentials not found in native keychain; exit 1";
    assert_eq!(helped(nothing, 30).await.unwrap(), None);
}

#[tokio::test]
async fn helpers_that_misbehave_are_bounded() {
    for script in ["exit 1", "echo '{\"Secret\":\"geheim\"'", "head -c 100000 /dev/zero; sleep 6", "exec sleep 6"] {
        let started = std::time::Instant::now();
        let error = helped(script, 2).await.unwrap_err();
        assert!(matches!(error, CredentialsError::Helper { .. }), "{script}: {error}");
        assert!(!format!("{error:?} {error}").contains("geheim"));
        assert!(started.elapsed() < Duration::from_secs(20), "{script}");
    }
    let flood = helped("yes", 30).await.unwrap_err();
    assert!(matches!(&flood, CredentialsError::Helper { what, .. } if what == "its answer is too large"), "{flood}");
    for name in ["../../bin/sh", "a b", "a/b"] {
        let error = helper::get(name, "a.b", Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, CredentialsError::Helper { .. }), "{name}: {error}");
    }
}
