//! `image resolve`: tags to digests.

use std::io::{Read, Write};
use std::net::TcpStream;

use k3arm::oci::Digest;

use crate::k3arm::Home;
use crate::lab::{REGISTRY, release};
use crate::scenario;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest's bytes as the registry gives them.
fn manifest(tag: &str, accept: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(REGISTRY).expect("the registry answers");
    let request =
        format!("GET /v2/rancher/k3s/manifests/{tag} HTTP/1.0\r\nHost: {REGISTRY}\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end") + 4;
    answer.split_off(body)
}

scenario! {
    /// Both forms of an index that are found in the wild: an OCI index with attestations, a Docker manifest list.
    fn both_forms_of_an_index_are_pinned(_lab) {
        let home = Home::new();
        for (spelling, tag, form) in [
            ("v1.36.2+k3s1", "v1.36.2-k3s1", OCI_INDEX),
            ("v1.36.2-k3s1", "v1.36.2-k3s1", OCI_INDEX),
            ("v1.35.8+k3s1", "v1.35.8-k3s1", DOCKER_LIST),
            ("docker.io/rancher/k3s:v1.35.8-k3s1", "v1.35.8-k3s1", DOCKER_LIST),
        ] {
            let image = home.k3arm(&["image", "resolve", spelling, "-o", "json"]).exits(0).json()[0].clone();
            assert_eq!(image["reference"], format!("docker.io/rancher/k3s:{tag}"));
            assert_eq!(image["index"]["mediaType"], form);
            assert_eq!(image["index"]["digest"], Digest::of(&manifest(tag, form)).to_string(), "{spelling}");
            let platforms: Vec<&String> = image["platforms"].as_object().expect("platforms").keys().collect();
            assert_eq!(platforms, ["linux/amd64", "linux/arm/v7", "linux/arm64"], "no unknown/unknown in {spelling}");
        }
    }
}

scenario! {
    fn platforms_and_hosts_choose(_lab) {
        let home = Home::new();
        let platforms = |arguments: &[&str]| {
            let all = [&["image", "resolve", "v1.36.2+k3s1", "-o", "json"], arguments].concat();
            let json = home.k3arm(&all).exits(0).json();
            json[0]["platforms"].as_object().expect("platforms").keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(platforms(&["--platform", "linux/arm64"]), ["linux/arm64"]);
        assert_eq!(platforms(&["--platform", "linux/arm64/v8"]), ["linux/arm64"]);
        assert_eq!(platforms(&["--platform", "linux/arm/v7", "--platform", "linux/amd64"]), ["linux/amd64", "linux/arm/v7"]);
        assert_eq!(platforms(&["--host", "h1", "--host", "h3"]), ["linux/amd64"]);
        let refused = home.k3arm(&["image", "resolve", "v1.36.2+k3s1", "--platform", "linux/riscv64"]).exits(1);
        assert!(refused.stderr.contains("linux/riscv64"), "{}", refused.all());
    }
}

scenario! {
    fn a_table_is_for_people(_lab) {
        let ran = Home::new().k3arm(&["image", "resolve", &release()]).exits(0);
        for words in ["PLATFORM", "linux/amd64", "linux/arm64", "index sha256:", " MB"] {
            assert!(ran.stdout.contains(words), "{words}: {}", ran.all());
        }
        assert_eq!(ran.stderr, "", "nothing to say besides");
    }
}

scenario! {
    fn a_tag_that_is_not_there_is_one_line(_lab) {
        let reference = format!("{REGISTRY}/rancher/k3s:v9.9.9-k3s1");
        let ran = Home::new().k3arm(&["image", "resolve", &reference, "--plain-http", REGISTRY]).exits(1);
        assert_eq!(ran.stdout, "");
        let errors = ran.errors();
        assert_eq!(errors.len(), 1, "{}", ran.all());
        assert!(errors[0].contains("v9.9.9-k3s1") && errors[0].contains("not found"), "{}", ran.all());
        // A registry that is neither loopback nor allowed by name is not spoken to in the clear.
        let ran = Home::new().k3arm(&["image", "resolve", &reference]).exits(1);
        assert_eq!(ran.errors().len(), 1, "{}", ran.all());
        // By way of a mirror that has it not, and a registry that cannot be reached: both are told, in one line.
        let ran = Home::new().k3arm(&["image", "resolve", "rancher/k3s:v9.9.9-k3s1"]).exits(1);
        assert!(ran.error("mirrors failed").contains("not found"), "{}", ran.all());
    }
}
