//! `--via load`: the same images as by a pull, through nothing but the engine's socket.

use crate::host::Host;
use crate::images::{ONE, OTHER, PAUSE, Resolved, SMALL, THREE, image_of, outcome, prewarm};
use crate::k3arm::Home;
use crate::lab::Lab;
use crate::scenario;

const LOAD: [&str; 2] = ["--via", "load"];

fn names(host: &Host) -> String {
    host.sh("docker images -aq --no-trunc | sort -u | xargs -r docker image inspect --format '{{.Id}} {{.RepoTags}}'")
}

/// Bytes that came to the host meanwhile.
fn received(host: &Host, work: impl FnOnce()) -> u64 {
    let before = host.received();
    work();
    host.received() - before
}

scenario! {
    fn a_load_ends_as_a_pull_does(lab) {
        lab.on_all(Host::forget_images);
        let (home, one) = (Home::new(), Resolved::of(ONE));
        let pulled = prewarm(&home, &[ONE], &THREE, &["--via", "pull"]).exits(0);
        let by_pull = THREE.map(|host| names(lab.host(host)));
        lab.on_all(Host::forget_images);
        let loaded = prewarm(&home, &[ONE], &THREE, &LOAD).exits(0);
        for (host, by_pull) in THREE.iter().zip(by_pull) {
            assert_eq!(outcome(&pulled, host, &one.name).0, "pulled");
            let (status, bytes) = outcome(&loaded, host, &one.name);
            assert_eq!(status, "loaded", "{}", loaded.all());
            assert!(bytes > one.bytes_from(0) && bytes < one.bytes_from(0) + SMALL, "{host}: {bytes}");
            assert_eq!(names(lab.host(host)), by_pull, "{host}");
            one.assert_held(lab.host(host));
        }
        for host in THREE {
            let bytes = received(lab.host(host), || {
                let again = prewarm(&home, &[ONE], &[host], &LOAD).exits(0);
                assert_eq!(outcome(&again, host, &one.name), ("present".into(), 0), "{}", again.all());
            });
            assert!(bytes < SMALL, "{host} was sent {bytes} bytes for nothing");
        }
    }
}

scenario! {
    fn another_release_is_loaded_without_the_layers_that_it_shares(lab) {
        lab.on_all(Host::forget_images);
        let (home, one, other) = (Home::new(), Resolved::of(ONE), Resolved::of(OTHER));
        assert_eq!(one.layers()[0], other.layers()[0], "they share the lowest");
        prewarm(&home, &[ONE], &THREE, &LOAD).exits(0);
        let own = other.bytes_from(1);
        for host in THREE {
            let bytes = received(lab.host(host), || {
                let ran = prewarm(&home, &[OTHER], &[host], &LOAD).exits(0);
                let (status, bytes) = outcome(&ran, host, &other.name);
                assert_eq!(status, "loaded", "{}", ran.all());
                assert!(bytes > own && bytes < own + SMALL, "{host}: {bytes} bytes, its own layers have {own}");
            });
            assert!(bytes < own + own / 10 + SMALL, "{host} received {bytes} bytes");
            other.assert_held(lab.host(host));
            one.assert_held(lab.host(host));
        }
    }
}

/// What is planned without a layer arrives when the layer is gone: it goes while another image is still on its way.
fn lost_meanwhile(lab: &Lab, name: &str) {
    let (home, host, other) = (Home::new(), lab.host(name), Resolved::of(OTHER));
    prewarm(&home, &[ONE], &[name], &LOAD).exits(0);
    // A megabyte on a slow link leaves time enough.
    let shaped = lab.shape(name, "1mbit", "none");
    let mut running = home.start(&[
        "image",
        "prewarm",
        PAUSE,
        OTHER,
        "--host",
        name,
        "--via",
        "load",
        "--recompress",
        "off",
        "-o",
        "json",
    ]);
    running.says(&format!("loading {PAUSE}"));
    host.sh(&format!("docker rmi {}", image_of(ONE)));
    drop(shaped);
    let ran = running.ended().exits(0);
    let (status, bytes) = outcome(&ran, name, &other.name);
    assert_eq!(status, "loaded", "{}", ran.all());
    let (own, all) = (other.bytes_from(1), other.bytes_from(0));
    assert!(bytes > own + all, "{name}: once without the layer and once with it is {} bytes, not {bytes}", own + all);
    other.assert_held(host);
}

scenario! {
    fn a_layer_that_the_engine_lost_meanwhile_is_sent_after_all(lab) {
        lab.on_all(Host::forget_images);
        for host in THREE {
            lost_meanwhile(&lab, host);
        }
    }
}

scenario! {
    /// Containerd's store has the shared layer unpacked, and its blob only in another compression.
    fn a_load_over_recompressed_layers_is_complete(lab) {
        lab.on_all(Host::forget_images);
        let (home, other) = (Home::new(), Resolved::of(OTHER));
        prewarm(&home, &[ONE], &["h3"], &["--recompress", "zstd:3", "--via", "pull"]).exits(0);
        let ran = prewarm(&home, &[OTHER], &["h3"], &LOAD).exits(0);
        assert_eq!(outcome(&ran, "h3", &other.name).0, "loaded", "{}", ran.all());
        other.assert_held(lab.host("h3"));
    }
}

scenario! {
    /// An archive holds what was published; a smaller form would be made for nothing, and promised in vain.
    fn nothing_is_recompressed_for_a_load(lab) {
        lab.on_all(Host::forget_images);
        let (home, one) = (Home::new(), Resolved::of(ONE));
        let ran = prewarm(&home, &[ONE], &["h1"], &[&LOAD[..], &["--recompress", "zstd:3"]].concat()).exits(0);
        assert!(!ran.stderr.contains("recompress"), "{}", ran.all());
        assert!(outcome(&ran, "h1", &one.name).1 > one.bytes_from(0), "{}", ran.all());
    }
}
