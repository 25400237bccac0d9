//! Which images an image layout has, by what names: its `index.json`.

use crate::oci::{CONTAINERD_NAME, Descriptor, Document, MediaType, REF_NAME, Reference};

use super::Flaw;

/// An image in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedImage {
    /// Its full name, if the archive says it.
    pub reference: Option<Reference>,
    /// Its tag, where the archive says nothing else: the repository is unknown.
    pub tag: Option<String>,
    /// Its index or manifest.
    pub root: Descriptor,
}

/// The images of an `index.json`, in its order. Entries that are neither an index nor a manifest are left out.
pub(super) fn of_index(bytes: &[u8]) -> Result<Vec<NamedImage>, Flaw> {
    let name = "index.json";
    match Document::parse(&MediaType(MediaType::OCI_INDEX.into()), bytes) {
        Ok(Document::Index(index)) => {
            let roots = index.manifests.into_iter();
            let roots = roots.filter(|root| root.media_type.is_index() || root.media_type.is_manifest());
            Ok(roots.map(named).collect())
        }
        Ok(Document::Manifest(_)) => Err(Flaw::NoImages),
        Err(error) => Err(Flaw::Document { name: name.into(), source: std::sync::Arc::new(error) }),
    }
}

fn named(root: Descriptor) -> NamedImage {
    let annotation = |key| root.annotations.get(key).map(String::as_str);
    let full = annotation(CONTAINERD_NAME).and_then(|name| name.parse().ok());
    let (reference, tag) = match (full, annotation(REF_NAME)) {
        (Some(reference), _) => (Some(reference), None),
        // `1.37` and `busybox` could be names, but are what skopeo and BuildKit write as tags.
        (None, Some(name)) if name.contains(['/', ':', '@']) => (name.parse().ok(), None),
        (None, Some(name)) => (None, is_tag(name).then(|| name.to_string())),
        (None, None) => (None, None),
    };
    NamedImage { reference, tag, root }
}

fn is_tag(name: &str) -> bool {
    format!("k3arm.invalid/image:{name}").parse::<Reference>().is_ok_and(|reference| reference.tag() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn names(annotations: &str) -> (Option<String>, Option<String>) {
        let (kind, digest) = (MediaType::OCI_MANIFEST, Digest::of(b"x"));
        let entry = format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1,"annotations":{{{annotations}}}}}"#);
        let other = format!(r#"{{"mediaType":"text/plain","digest":"{digest}","size":1}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{other},{entry}]}}"#);
        let [image] = &of_index(index.as_bytes()).unwrap()[..] else { panic!("one image") };
        (image.reference.as_ref().map(ToString::to_string), image.tag.clone())
    }

    #[test]
    fn full_names_are_told_from_tags() {
        let (busybox, full) = (Some("docker.io/library/busybox:1".to_string()), Some("ghcr.io/a/b:2".to_string()));
        let of_ref = |name: &str| names(&format!(r#""{REF_NAME}":"{name}""#));
        assert_eq!(
            names(&format!(r#""{REF_NAME}":"1","{CONTAINERD_NAME}":"docker.io/library/busybox:1""#)),
            (busybox.clone(), None)
        );
        assert_eq!(of_ref("ghcr.io/a/b:2"), (full, None));
        assert_eq!(of_ref("busybox:1"), (busybox, None));
        for tag in ["1.37.0", "latest", "busybox"] {
            assert_eq!(of_ref(tag), (None, Some(tag.to_string())));
        }
        for nothing in ["", "a b", "A/b:1"] {
            assert_eq!(of_ref(nothing), (None, None), "{nothing}");
        }
        assert_eq!(names(""), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn hostile_indexes_never_panic(text in "\\PC{0,120}") {
            let _ = of_index(text.as_bytes());
        }
    }
}
