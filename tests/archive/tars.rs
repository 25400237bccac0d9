//! Tars that k3arm has not written.

use std::io::Write;

use tokio_tar::{EntryType, Header};

use crate::images::config;
use crate::supply::content;

/// A tar as its headers and contents are given here, not as k3arm would write it.
#[derive(Default)]
pub(crate) struct Raw(Vec<u8>);

impl Raw {
    pub(crate) fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, name, "", content.as_ref())
    }

    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = format!(" {key}={value}\n");
            let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
            format!("{length}{rest}")
        };
        let records: String = records.iter().map(record).collect();
        self.entry(EntryType::XHeader, "PaxHeaders/x", "", records.as_bytes())
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As engines before 25 write it: a folder for each layer, links for layers that are there already.
pub(crate) fn old_save() -> Vec<u8> {
    let [base, one, two] = [content(2048), content(700), content(701)];
    let configs = [config("arm64", &[base.clone(), one.clone()]), config("arm64", &[base.clone(), two.clone()])];
    let manifest = serde_json::json!([
        {"Config": "c1.json", "RepoTags": ["busybox:1", "rancher/a:latest"], "Layers": ["a/layer.tar", "b/layer.tar"]},
        {"Config": "c2.json", "RepoTags": null, "Layers": ["c/layer.tar", "d/layer.tar"]},
    ]);
    Raw::default()
        .entry(EntryType::Directory, "a/", "", b"")
        .file("a/VERSION", "1.0")
        .file("a/layer.tar", &base)
        .file("b/real.tar", &one)
        .entry(EntryType::Link, "b/layer.tar", "b/real.tar", b"")
        .entry(EntryType::Symlink, "c/layer.tar", "../a/layer.tar", b"")
        .file("d/layer.tar", &two)
        .file("c1.json", &configs[0])
        .file("c2.json", &configs[1])
        .file("manifest.json", manifest.to_string())
        .file("repositories", "{}")
        .end()
}
