//! `--recompress`: fewer bytes for the same image.

use crate::host::Host;
use crate::images::{ONE, Resolved, SMALL, THREE, outcome, prewarm};
use crate::k3arm::Home;
use crate::scenario;

const ZSTD: [&str; 2] = ["--recompress", "zstd:3"];

scenario! {
    /// Each engine gets the form it takes, made once; the image is what the registry has in every case.
    fn layers_go_as_zstd_where_the_engine_takes_it(lab) {
        lab.on_all(Host::forget_images);
        let (home, one) = (Home::new(), Resolved::of(ONE));
        let published = one.bytes_from(0);
        let ran = prewarm(&home, &[ONE], &THREE, &ZSTD).exits(0).tells("recompressing layer");
        let sent = THREE.map(|host| {
            let (status, bytes) = outcome(&ran, host, &one.name);
            assert_eq!(status, "pulled", "{}", ran.all());
            one.assert_held(lab.host(host));
            bytes
        });
        assert!(sent[0] < published && sent[2] < published, "{sent:?} of {published}");
        assert!(sent[1] >= published && sent[1] < published + SMALL, "20.10 reads gzip only: {sent:?} of {published}");

        let before = lab.host("h4").received();
        lab.clear_registry_log();
        let second = prewarm(&home, &[ONE], &["h4"], &ZSTD).exits(0);
        assert!(!second.stderr.contains("recompressing"), "made once: {}", second.all());
        let (_, bytes) = outcome(&second, "h4", &one.name);
        assert_eq!(bytes, sent[0], "{}", second.all());
        let received = lab.host("h4").received() - before;
        assert!(received < bytes + bytes / 20 + SMALL, "h4 received {received} bytes");
        assert!(lab.blobs_asked().is_empty(), "the store has all: {:?}", lab.blobs_asked());
        one.assert_held(lab.host("h4"));

        for host in THREE {
            let again = prewarm(&home, &[ONE], &[host], &ZSTD).exits(0);
            assert_eq!(outcome(&again, host, &one.name), ("present".into(), 0), "{}", again.all());
        }
    }
}

scenario! {
    fn off_sends_what_was_published(lab) {
        lab.on_all(Host::forget_images);
        let (home, one) = (Home::new(), Resolved::of(ONE));
        // Forms of its own are in the store.
        prewarm(&home, &[ONE], &["h4"], &ZSTD).exits(0);
        let ran = prewarm(&home, &[ONE], &THREE, &["--recompress", "off"]).exits(0);
        assert!(!ran.stderr.contains("recompress"), "{}", ran.all());
        for host in THREE {
            let (_, bytes) = outcome(&ran, host, &one.name);
            assert!(bytes >= one.bytes_from(0), "{host}: {bytes} of {}", one.bytes_from(0));
            one.assert_held(lab.host(host));
        }
    }
}

scenario! {
    /// A dry run says what it would make, makes nothing, and asks for no layer.
    fn a_dry_run_recompresses_nothing(lab) {
        lab.on_all(Host::forget_images);
        let home = Home::new();
        prewarm(&home, &[ONE], &["h2"], &["--recompress", "off"]).exits(0);
        lab.clear_registry_log();
        let ran = prewarm(&home, &[ONE], &["h1"], &[&ZSTD[..], &["--dry-run"]].concat()).exits(0);
        ran.exits(0).tells("would recompress layer");
        assert_eq!(lab.host("h1").sh("docker images -aq"), "");
        assert!(lab.blobs_asked().is_empty());
        let ran = prewarm(&home, &[ONE], &["h1"], &ZSTD).exits(0).tells("recompressing layer");
        assert_eq!(outcome(&ran, "h1", &Resolved::of(ONE).name).0, "pulled", "{}", ran.all());
    }
}
