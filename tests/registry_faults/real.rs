//! Against Debian's `docker-registry`: a real image that the test pushes, tags and blobs, ranges, and a password.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k3arm::oci::{Digest, Document, MediaType};
use k3arm::registry::{Client, Credentials, Error, Settings, Used};

use crate::fixture::{content, descriptor, drain, reference, settings};

/// A registry with a directory and a port of its own; it ends with the test.
struct Registry {
    process: Child,
    folder: tempfile::TempDir,
    address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `K3ARM_TEST_REGISTRY` or the one in the PATH. Where there is none the test says so and passes, except under
/// `CI=true`.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("K3ARM_TEST_REGISTRY").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        std::env::split_paths(&path).map(|folder| folder.join("docker-registry")).find(|program| program.exists())
    });
    if found.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "docker-registry is not installed");
        eprintln!("SKIPPED: docker-registry is not installed (apt-get install docker-registry)");
    }
    found
}

impl Registry {
    /// Starts one; `auth` is a part of its configuration.
    async fn start(program: &Path, auth: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let at = folder.path().display().to_string();
        let auth = auth.replace("FOLDER", &at);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\nhttp: {{addr: '{address}'}}\n{auth}"
        );
        // me:geheim, as htpasswd -B makes it.
        let line = "me:$2y$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";
        std::fs::write(folder.path().join("htpasswd"), line).unwrap();
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let process = Command::new(program).arg("serve").arg(path).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let registry = Self { process: process.unwrap(), folder, address };
        registry.ready().await;
        registry
    }

    async fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(&self.address).await.is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Uploads a blob in one piece.
    async fn push_blob(&self, bytes: &[u8]) {
        let http = plain_client();
        let start = http.post(format!("http://{}/v2/a/b/blobs/uploads/", self.address)).send().await.unwrap();
        let mut url: reqwest::Url = start.headers()["location"].to_str().unwrap().parse().unwrap();
        url.query_pairs_mut().append_pair("digest", &Digest::of(bytes).to_string());
        let put = http.put(url).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(put.status(), 201);
    }

    async fn push_manifest(&self, tag: &str, text: &str) {
        let url = format!("http://{}/v2/a/b/manifests/{tag}", self.address);
        let request = plain_client().put(url).header("content-type", MediaType::OCI_MANIFEST).body(text.to_string());
        let put = request.send().await.unwrap();
        assert_eq!(put.status(), 201, "{:?}", put.text().await);
    }
}

fn plain_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn a_real_registry_gives_what_was_pushed() {
    let Some(program) = program() else { return };
    let registry = Registry::start(&program, "").await;
    let (config, layer) = (b"{}".to_vec(), content(3_000_000));
    registry.push_blob(&config).await;
    registry.push_blob(&layer).await;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{}}}]}}"#,
        MediaType::OCI_MANIFEST,
        Digest::of(&config),
        Digest::of(&layer),
        layer.len()
    );
    registry.push_manifest("1", &text).await;

    let client = Client::new(settings()).unwrap();
    let tag = reference(&registry.address, "a/b:1");
    let fetched = client.document(&tag).await.unwrap();
    assert_eq!((&fetched.bytes[..], fetched.descriptor.digest.clone()), (text.as_bytes(), Digest::of(text.as_bytes())));
    assert_eq!(client.document(&tag.by_digest(&fetched.descriptor.digest)).await.unwrap(), fetched);
    let Document::Manifest(manifest) = &fetched.document else { panic!("{fetched:?}") };
    assert_eq!(&client.small_blob(&tag, &manifest.config).await.unwrap()[..], &config[..]);
    for offset in [0, 1_234_567] {
        let stream = client.blob(&tag, &manifest.layers[0], offset as u64).await.unwrap();
        let (got, error) = drain(stream).await;
        assert!(error.is_none() && got == layer[offset..], "{error:?} after {}", got.len());
    }

    let error = client.document(&reference(&registry.address, "a/b:2")).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotFound { said: Some(said), .. } if said.contains("MANIFEST_UNKNOWN")),
        "{error:?}"
    );
    let error = client.blob(&tag, &descriptor(b"nobody has this"), 0).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { said: Some(said), .. } if said.contains("BLOB_UNKNOWN")), "{error:?}");
}

#[tokio::test]
async fn a_real_registry_that_wants_a_password() {
    let Some(program) = program() else { return };
    let registry = Registry::start(&program, "auth: {htpasswd: {realm: here, path: FOLDER/htpasswd}}\n").await;
    let tag = reference(&registry.address, "a/b:1");
    let error = Client::new(settings()).unwrap().document(&tag).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized { status: 401, used: Used::Anonymous, .. }), "{error:?}");

    let path = registry.folder.path().join("config.json");
    let entry = format!(r#"{{"auths":{{"{}":{{"username":"me","password":"geheim"}}}}}}"#, registry.address);
    std::fs::write(&path, entry).unwrap();
    let client = Client::new(Settings { credentials: Credentials::file(path), ..settings() }).unwrap();
    let error = client.document(&tag).await.unwrap_err();
    assert!(error.is_not_found(), "the password is accepted, the repository is empty: {error:?}");
}
