//! Other programs, where they are installed.

use std::path::Path;
use std::process::Command;

use k3arm::archive::{Archive, Form};

use crate::images::*;

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").arg("--insecure-policy").args(arguments).output().unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_what_is_written_and_writes_what_is_read() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("!! LEFT OUT: skopeo is not installed; the other tests look at the same formats");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let ours = path("ours.tar");
    std::fs::write(&ours, written(&fleet(), Form::Layout).await).unwrap();
    let source = format!("oci-archive:{ours}:docker.io/rancher/k3s:v1");
    let arm64 = skopeo(&["--override-os=linux", "--override-arch=arm64", "inspect", "--config", &source]);
    assert!(arm64.contains(r#""architecture":"arm64""#) || arm64.contains(r#""architecture": "arm64""#), "{arm64}");
    let [all, tagged, single] = [path("all.tar"), path("dir"), path("docker.tar")];
    skopeo(&["copy", "--all", "--preserve-digests", &source, &format!("oci-archive:{all}:docker.io/rancher/k3s:v1")]);
    skopeo(&["copy", "--all", "--preserve-digests", &source, &format!("oci:{tagged}:v1")]);
    let target = format!("docker-archive:{single}:docker.io/rancher/k3s:v1");
    skopeo(&["--override-os=linux", "--override-arch=arm64", "copy", &source, &target]);
    let both = vec!["linux/amd64 200000 700", "linux/arm64 200000 512"];
    for (path, reference, expected) in
        [(all, true, both.clone()), (tagged, false, both), (single, true, vec!["linux/arm64 200000 512"])]
    {
        let archive = Archive::open(Path::new(&path), folder.path()).await.unwrap();
        let [image] = archive.images() else { panic!("one image in {path}") };
        assert_eq!((image.reference.is_some(), image.tag.as_deref()), (reference, (!reference).then_some("v1")));
        assert_eq!(complete(&archive, &image.root).await, expected, "{path}");
    }
}
