//! The kubeconfig that k3s writes, checked, and under names of our own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Error;
use crate::cluster::Secret;

/// A kubeconfig with one cluster, one user and one context. It holds a private key: it is never shown by `Debug`.
///
/// Fields that k3arm does not know are kept.
#[derive(Clone, PartialEq)]
pub struct Kubeconfig {
    cluster: Value,
    user: Value,
    namespace: Option<Value>,
    name: String,
}

/// The name of `cluster`'s entries in a kubeconfig.
pub fn entry_name(cluster: &str) -> String {
    format!("k3arm-{cluster}")
}

impl Kubeconfig {
    /// Reads `/etc/rancher/k3s/k3s.yaml`.
    ///
    /// # Errors
    /// [`Error::Kubeconfig`] unless it has exactly one cluster, user and context, an `https` server and, inline, a CA
    /// and a client certificate with its key.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let malformed = |what| Error::Kubeconfig { what };
        // The parser's own message quotes what it read: it might be the key.
        let document: Value = serde_saphyr::from_str(text).map_err(|_| malformed("it is not YAML"))?;
        let cluster = only(&document, "clusters", "cluster").ok_or(malformed("one cluster is expected"))?;
        let user = only(&document, "users", "user").ok_or(malformed("one user is expected"))?;
        let context = only(&document, "contexts", "context").ok_or(malformed("one context is expected"))?;
        let name = document["clusters"][0]["name"].as_str().unwrap_or("default").to_string();
        let this = Self { cluster, user, namespace: context.get("namespace").cloned(), name };
        if !this.server().starts_with("https://") {
            return Err(malformed("its server is not an https address"));
        }
        let is_pem = |value: &Value| pem(value).is_some();
        if !is_pem(&this.cluster["certificate-authority-data"]) {
            return Err(malformed("it has no CA certificate"));
        }
        if !is_pem(&this.user["client-certificate-data"]) || !is_pem(&this.user["client-key-data"]) {
            return Err(malformed("it has no client certificate with its key"));
        }
        Ok(this)
    }

    /// The same with cluster, user and context called `k3arm-<cluster>`.
    #[must_use]
    pub fn rename(mut self, cluster: &str) -> Self {
        self.name = entry_name(cluster);
        self
    }

    /// The same with another server, `https://10.0.0.11:6443`.
    #[must_use]
    pub fn with_server(mut self, url: &str) -> Self {
        self.cluster["server"] = url.into();
        self
    }

    /// The address of the API.
    pub fn server(&self) -> &str {
        self.cluster["server"].as_str().unwrap_or_default()
    }

    /// What its cluster, user and context are called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A complete file, with this context as the current one.
    ///
    /// # Errors
    /// [`Error::Kubeconfig`] if it cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<Secret, Error> {
        let text = serde_saphyr::to_string(&self.document());
        text.map(Secret::new).map_err(|_| Error::Kubeconfig { what: "it cannot be written as YAML" })
    }

    /// The file's content as a value.
    pub(super) fn document(&self) -> Value {
        let mut document = serde_json::json!({ "apiVersion": "v1", "kind": "Config", "preferences": {} });
        for (list, entry) in self.entries() {
            document[list] = Value::Array(vec![entry]);
        }
        document["current-context"] = self.name.as_str().into();
        document
    }

    /// The three entries, each with the list that it belongs to.
    pub(super) fn entries(&self) -> [(&'static str, Value); 3] {
        let mut context = serde_json::json!({ "cluster": self.name, "user": self.name });
        if let Some(namespace) = &self.namespace {
            context["namespace"] = namespace.clone();
        }
        [
            ("clusters", serde_json::json!({ "name": self.name, "cluster": self.cluster })),
            ("users", serde_json::json!({ "name": self.name, "user": self.user })),
            ("contexts", serde_json::json!({ "name": self.name, "context": context })),
        ]
    }
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig").field("name", &self.name).field("server", &self.server()).finish_non_exhaustive()
    }
}

/// The value inside the only entry of a list.
fn only(document: &Value, list: &str, inner: &str) -> Option<Value> {
    let [entry] = document.get(list)?.as_array()?.as_slice() else { return None };
    entry.get(inner).filter(|value| value.is_object()).cloned()
}

/// PEM text out of base64.
fn pem(value: &Value) -> Option<String> {
    let bytes = STANDARD.decode(value.as_str()?).ok()?;
    String::from_utf8(bytes).ok().filter(|text| text.starts_with("-----BEGIN "))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What k3s 1.36 writes, with bodies that are no keys.
    pub(crate) fn k3s_yaml() -> String {
        let pem = |kind: &str| STANDARD.encode(format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n"));
        let (certificate, key) = (pem("CERTIFICATE"), pem("EC PRIVATE KEY"));
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {certificate}\n    server: https://127.0.0.1:6443\n  \
             name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n\
             current-context: default\nkind: Config\npreferences: {{}}\nusers:\n- name: default\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\n    new-field: 7\n"
        )
    }

    #[test]
    fn it_is_renamed_and_keeps_what_is_not_known() {
        let kubeconfig = Kubeconfig::parse(&k3s_yaml()).unwrap().rename("home").with_server("https://10.0.0.1:6443");
        let text = kubeconfig.to_yaml().unwrap();
        assert!(text.expose().contains("new-field: 7"));
        assert!(text.expose().contains("current-context: k3arm-home"));
        assert!(!text.expose().contains("default"), "{}", text.expose());
        let again = Kubeconfig::parse(text.expose()).unwrap();
        assert_eq!(again, kubeconfig);
        assert_eq!((again.server(), again.name()), ("https://10.0.0.1:6443", "k3arm-home"));
    }

    #[test]
    fn what_k3s_would_not_write_is_refused() {
        let good = k3s_yaml();
        for bad in [
            good.replace("https://", "http://"),
            good.replace("client-key-data", "token"),
            good.replace("certificate-authority-data", "certificate-authority"),
            good.replace("users:", "people:"),
            good.replace("users:\n", "users:\n- name: other\n  user: {}\n"),
            good.replace("client-key-data: ", "client-key-data: !"),
            "a: [".into(),
            String::new(),
        ] {
            let error = Kubeconfig::parse(&bad).unwrap_err();
            assert!(matches!(error, Error::Kubeconfig { .. }));
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        let kubeconfig = Kubeconfig::parse(&k3s_yaml()).unwrap();
        assert_eq!(
            format!("{kubeconfig:?}"),
            r#"Kubeconfig { name: "default", server: "https://127.0.0.1:6443", .. }"#
        );
    }

    proptest::proptest! {
        #[test]
        fn hostile_text_never_panics(text in "\\PC{0,200}") {
            let _ = Kubeconfig::parse(&text);
        }
    }
}
