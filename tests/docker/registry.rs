//! A registry of one image, in this process: `bin/busybox` in one layer, for this machine's platform.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k3arm::docker::Expected;
use k3arm::oci::{Digest, MediaType, Platform};
use serde_json::{Value, json};
use tokio_tar::{Builder, EntryType, Header};

/// Digests and bytes of the image's parts.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) expected: Expected,
    /// The topmost layer, as it travels.
    pub(crate) layer: Digest,
    /// All layers as they travel, lowest first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) platform: Platform,
    pub(crate) parts: BTreeMap<Digest, (&'static str, Bytes)>,
    uncompressed: Vec<Vec<u8>>,
}

/// How layers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Image {
    /// `salt` makes another image of it.
    pub(crate) async fn new(salt: &str) -> Self {
        Self::of(salt, vec![layer(salt).await], Compression::None)
    }

    /// The same with one more layer, of a single file, on top.
    pub(crate) async fn on_top(&self, salt: &str, compression: Compression) -> Self {
        let mut layers = self.uncompressed.clone();
        layers.push(file_layer(salt).await);
        Self::of(salt, layers, compression)
    }

    /// The same image, but for its name, in another compression.
    pub(crate) fn compressed(&self, salt: &str, compression: Compression) -> Self {
        Self::of(salt, self.uncompressed.clone(), compression)
    }

    fn of(salt: &str, uncompressed: Vec<Vec<u8>>, compression: Compression) -> Self {
        let platform = Platform::new("linux", std::env::consts::ARCH, None);
        let mut parts = BTreeMap::new();
        let mut add = |kind: &'static str, bytes: Vec<u8>| {
            let (digest, size) = (Digest::of(&bytes), bytes.len());
            parts.insert(digest.clone(), (kind, Bytes::from(bytes)));
            (digest.clone(), json!({ "mediaType": kind, "digest": digest, "size": size }))
        };
        let diff_ids: Vec<Digest> = uncompressed.iter().map(|layer| Digest::of(layer)).collect();
        let kind = compression.media_type();
        let (layers, descriptors): (Vec<Digest>, Vec<Value>) =
            uncompressed.iter().map(|layer| add(kind, compression.applied(layer))).unzip();
        let config = json!({
            "architecture": platform.architecture(), "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Volumes": { "/anonymous": {} } },
            "history": diff_ids.iter().map(|_| json!({ "created_by": "test" })).collect::<Vec<_>>(),
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let (config, config_descriptor) = add("application/vnd.oci.image.config.v1+json", bytes(&config));
        let manifest = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": config_descriptor, "layers": descriptors });
        let (manifest, mut entry) = add(MediaType::OCI_MANIFEST, bytes(&manifest));
        entry["platform"] = json!({ "os": "linux", "architecture": platform.architecture() });
        let mut other = entry.clone();
        other["digest"] = json!(Digest::of(b"never there"));
        other["platform"] = json!({ "os": "linux", "architecture": "s390x" });
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [other, entry] });
        let (index, _) = add(MediaType::OCI_INDEX, bytes(&index));
        let reference = format!("docker.io/k3arm-test/{salt}:v1").parse().unwrap();
        Self {
            expected: Expected { reference, index: Some(index), manifest, config },
            layer: layers.last().unwrap().clone(),
            layers,
            diff_ids,
            platform,
            parts,
            uncompressed,
        }
    }

    /// One tar for both stores: an OCI layout whose index points to this image's, and what `docker save` writes, with
    /// the same files for layers.
    pub(crate) async fn tar(&self) -> Vec<u8> {
        let index = self.expected.index.as_ref().unwrap();
        let (name, file) =
            (self.expected.reference.to_string(), |digest: &Digest| format!("blobs/sha256/{}", digest.hex()));
        let size = self.parts.get(index).map_or(0, |(_, bytes)| bytes.len());
        let layout = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [{
            "mediaType": MediaType::OCI_INDEX, "digest": index, "size": size,
            "annotations": { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": "v1" } }] });
        let saved = json!([{ "Config": file(&self.expected.config), "RepoTags": [self.expected.reference.familiar()],
            "Layers": self.layers.iter().map(file).collect::<Vec<_>>() }]);
        let mut tar = Builder::new(Vec::new());
        add_file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).await;
        add_file(&mut tar, "index.json", &bytes(&layout)).await;
        add_file(&mut tar, "manifest.json", &bytes(&saved)).await;
        for (digest, (_, bytes)) in &self.parts {
            add_file(&mut tar, &file(digest), bytes).await;
        }
        tar.into_inner().await.unwrap()
    }

    /// The same without one of its parts.
    pub(crate) fn without(mut self, digest: &Digest) -> Self {
        self.parts.remove(digest);
        self
    }

    /// Serves it on loopback until the runtime ends. Gives the address and the requests.
    pub(crate) async fn serve(&self) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, parts) = (listener.local_addr().unwrap(), Arc::new(self.parts.clone()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (parts, log) = (parts.clone(), log.clone());
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    log.lock().unwrap().push(request.uri().path().to_string());
                    let answer = answer(&parts, request.uri().path());
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (address, asked)
    }
}

fn answer(parts: &BTreeMap<Digest, (&'static str, Bytes)>, path: &str) -> Response<Full<Bytes>> {
    if path == "/v2/" {
        return Response::new(Full::default());
    }
    let digest = path.rsplit('/').next().and_then(|last| last.parse::<Digest>().ok());
    match digest.and_then(|digest| Some((parts.get(&digest)?, digest))) {
        Some(((kind, bytes), digest)) => Response::builder()
            .header("content-type", *kind)
            .header("docker-content-digest", digest.to_string())
            .body(Full::new(bytes.clone()))
            .unwrap(),
        None => Response::builder().status(404).body(Full::default()).unwrap(),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

impl Compression {
    fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    fn applied(self, layer: &[u8]) -> Vec<u8> {
        use std::io::Write;
        match self {
            Self::None => layer.to_vec(),
            Self::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(layer).unwrap();
                gzip.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(layer, 1).unwrap(),
        }
    }
}

pub(crate) async fn add_file(tar: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content).await.unwrap();
}

async fn file_layer(salt: &str) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    add_file(&mut tar, "top", salt.as_bytes()).await;
    tar.into_inner().await.unwrap()
}

async fn layer(salt: &str) -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut tar = Builder::new(Vec::new());
    let header = |kind, size: usize| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(size as u64);
        header
    };
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "lib", "lib/modules"] {
        tar.append_data(&mut header(EntryType::Directory, 0), directory, tokio::io::empty()).await.unwrap();
    }
    tar.append_data(&mut header(EntryType::Regular, busybox.len()), "bin/busybox", busybox.as_slice()).await.unwrap();
    for tool in ["sh", "cat", "echo", "ls", "sleep", "stat", "kill", "seq", "head", "tr"] {
        let mut link = header(EntryType::Symlink, 0);
        link.set_link_name("busybox").unwrap();
        tar.append_data(&mut link, format!("bin/{tool}"), tokio::io::empty()).await.unwrap();
    }
    tar.append_data(&mut header(EntryType::Regular, salt.len()), "salt", salt.as_bytes()).await.unwrap();
    tar.into_inner().await.unwrap()
}
