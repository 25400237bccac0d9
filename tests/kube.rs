//! The cluster's API against an HTTPS server of our own, which wants a client certificate as k3s does. With
//! `K3ARM_TEST_KUBECONFIG` (a k3s.yaml) and `K3ARM_TEST_API` (an address) a running cluster is looked at, too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k3arm::kube::{Api, Error, Kubeconfig};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// From method and path to status and body; status 0 is no answer at all.
trait Answer: Fn(&str, &str) -> (u16, String) + Clone + Send + Sync + 'static {}
impl<F: Fn(&str, &str) -> (u16, String) + Clone + Send + Sync + 'static> Answer for F {}

/// A CA and what it signed.
struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn leaf(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_string()]).unwrap();
        (params.signed_by(&key, &self.ca).unwrap(), key)
    }

    fn kubeconfig(&self) -> Kubeconfig {
        let (certificate, key) = self.leaf("system:admin");
        let [ca, certificate, key] =
            [self.ca.pem(), certificate.pem(), key.serialize_pem()].map(|pem| STANDARD.encode(pem));
        Kubeconfig::parse(&format!(
            "clusters: [{{name: default, cluster: {{server: 'https://127.0.0.1:6443', certificate-authority-data: {ca}}}}}]\n\
             users: [{{name: default, user: {{client-certificate-data: {certificate}, client-key-data: {key}}}}}]\n\
             contexts: [{{name: default, context: {{cluster: default, user: default}}}}]\n"
        ))
        .unwrap()
    }

    /// Answers with what `answer` makes of method and path.
    async fn serve(&self, answer: impl Answer) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let (certificate, key) = self.leaf("127.0.0.1");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                        let (status, body) = answer(request.method().as_str(), &request.uri().to_string());
                        async move {
                            if status == 0 {
                                std::future::pending::<()>().await;
                            }
                            let body = Full::new(Bytes::from(body));
                            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        address
    }

    async fn api(&self, answer: impl Answer) -> Api {
        Api::connect(&self.kubeconfig(), self.serve(answer).await).await.unwrap()
    }
}

const NODES: &str = r#"{"kind":"NodeList","apiVersion":"v1","metadata":{},"items":[
  {"metadata":{"name":"pi2","labels":{"a":"b"}},"spec":{"unschedulable":true},"status":{
    "conditions":[{"type":"MemoryPressure","status":"False"},
      {"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown","message":"Kubelet stopped posting node status."}],
    "addresses":[{"type":"Hostname","address":"pi2"},{"type":"InternalIP","address":"10.0.0.12"}]}},
  {"metadata":{"name":"pi1","labels":{"node-role.kubernetes.io/etcd":"true","node-role.kubernetes.io/control-plane":"true"}},
    "status":{"conditions":[{"type":"Ready","status":"True","reason":"KubeletReady"}],
    "nodeInfo":{"kubeletVersion":"v1.36.3+k3s1","architecture":"arm64","bootID":"","containerRuntimeVersion":"","kernelVersion":"",
      "kubeProxyVersion":"","machineID":"","operatingSystem":"linux","osImage":"Unknown","systemUUID":""},
    "newField":[1]}},
  {"metadata":{"name":"pi3"}}]}"#;

#[tokio::test]
async fn nodes_are_read_by_name() {
    let pki = Pki::new();
    let api = pki.api(|method, path| match (method, path) {
        ("GET", "/api/v1/nodes?limit=500") => (200, NODES.into()),
        _ => (404, String::new()),
    });
    let nodes = api.await.nodes().await.unwrap();
    let [pi1, pi2, pi3] = nodes.as_slice() else { panic!("{nodes:?}") };
    assert_eq!((pi1.name.as_str(), pi1.ready, pi1.version.as_str()), ("pi1", true, "v1.36.3+k3s1"));
    assert_eq!((pi1.roles.join(","), pi1.unschedulable, pi1.internal_ip), ("control-plane,etcd".into(), false, None));
    assert_eq!((pi2.ready, pi2.reason.as_str(), pi2.unschedulable), (false, "NodeStatusUnknown", true));
    assert_eq!(
        (pi2.message.as_str(), pi2.internal_ip),
        ("Kubelet stopped posting node status.", "10.0.0.12".parse().ok())
    );
    assert_eq!((pi3.ready, pi3.reason.as_str(), pi3.version.as_str()), (false, "", ""));
}

#[tokio::test]
async fn readiness_is_what_the_api_says() {
    let pki = Pki::new();
    assert!(pki.api(|_, path| (if path == "/readyz" { 200 } else { 404 }, "ok".into())).await.ready().await.unwrap());
    assert!(!pki.api(|_, _| (500, "[-]etcd failed".into())).await.ready().await.unwrap());
    assert!(!pki.api(|_, _| (503, "starting".into())).await.ready().await.unwrap());
    for status in [401, 403] {
        let error = pki.api(move |_, _| (status, "{}".into())).await.ready().await.unwrap_err();
        assert!(matches!(error, Error::Refused { status: seen, .. } if seen == status), "{error:?}");
        assert!(error.hint().is_some());
    }
    let api = pki.api(|_, _| (200, r#"{"major":"1","gitVersion":"v1.36.3+k3s1","emulationMajor":"1"}"#.into())).await;
    assert_eq!(api.version().await.unwrap(), "v1.36.3+k3s1");
}

#[tokio::test]
async fn a_node_is_deleted_once() {
    let pki = Pki::new();
    let api = pki.api(|method, path| match (method, path) {
        ("DELETE", "/api/v1/nodes/pi1") => (200, "{}".into()),
        ("DELETE", "/api/v1/nodes/%2E%2E%2Fnodes") => (404, "{}".into()),
        _ => (500, r#"{"message":"etcd\nis\u001b[2J sick"}"#.into()),
    });
    let api = api.await;
    api.delete_node("pi1").await.unwrap();
    api.delete_node("../nodes").await.unwrap();
    let error = api.delete_node("pi2").await.unwrap_err();
    assert!(matches!(&error, Error::Status { status: 500, message, .. } if message == "etcd is [2J sick"), "{error:?}");
}

#[tokio::test]
async fn servers_that_are_not_the_clusters_are_refused() {
    let (ours, other) = (Pki::new(), Pki::new());
    let address = other.serve(|_, _| (200, "ok".into())).await;
    let error = Api::connect(&ours.kubeconfig(), address).await.unwrap().ready().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let error = Api::connect(&ours.kubeconfig(), nobody).await.unwrap().ready().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_in_time() {
    let pki = Pki::new();
    let api = pki.api(|_, _| (200, format!(r#"{{"items":[]}}{}"#, " ".repeat(16 << 20)))).await;
    let long = api.nodes().await.unwrap_err();
    assert!(matches!(long, Error::Malformed { .. }), "{long:?}");
    for body in ["", "[]", "{}", r#"{"items":7}"#] {
        let error = pki.api(move |_, _| (200, body.into())).await.nodes().await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{body}: {error:?}");
    }
    let begun = Instant::now();
    let silent = pki.api(|_, _| (0, String::new())).await.ready().await.unwrap_err();
    assert!(matches!(silent, Error::Timeout { .. } | Error::Unreachable { .. }), "{silent:?}");
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_running_cluster_is_read() {
    let named = (std::env::var("K3ARM_TEST_KUBECONFIG"), std::env::var("K3ARM_TEST_API"));
    let (Ok(file), Ok(address)) = named else {
        eprintln!("SKIPPED: K3ARM_TEST_KUBECONFIG and K3ARM_TEST_API are not set");
        return;
    };
    let kubeconfig = Kubeconfig::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
    let api = Api::connect(&kubeconfig, address.parse().unwrap()).await.unwrap();
    assert!(api.ready().await.unwrap());
    assert!(api.version().await.unwrap().contains("+k3s"));
    let nodes = api.nodes().await.unwrap();
    eprintln!("{nodes:#?}");
    assert!(nodes.iter().any(|node| node.ready && node.roles.contains(&"control-plane".to_string())));
    api.delete_node("no-such-node").await.unwrap();
}
