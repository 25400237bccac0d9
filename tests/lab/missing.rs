//! Only what is missing is planned, and only that is sent.

use crate::host::Host;
use crate::images::{ONE, OTHER, Resolved, SMALL, THREE, outcome, prewarm, steps};
use crate::k3arm::Home;
use crate::scenario;

scenario! {
    fn a_dry_run_says_how_many_layers_are_missing(lab) {
        lab.on_all(Host::forget_images);
        let home = Home::new();
        prewarm(&home, &[ONE], &THREE, &[]).exits(0);
        let hosts = THREE.iter().flat_map(|host| ["--host", host]);
        let arguments: Vec<&str> = ["image", "prewarm", OTHER, "--dry-run", "--recompress", "off"].into_iter().chain(hosts).collect();
        let ran = home.k3arm(&arguments).exits(0);
        assert_eq!(ran.stdout.matches("2 of 3 layers").count(), 3, "{}", ran.all());
        let ran = prewarm(&home, &[OTHER], &THREE, &["--recompress", "off"]).exits(0);
        let other = Resolved::of(OTHER);
        for host in THREE {
            let (status, bytes) = outcome(&ran, host, &other.name);
            assert_eq!(status, "pulled", "{}", ran.all());
            assert!(bytes >= other.bytes_from(1) && bytes < other.bytes_from(1) + SMALL, "{host}: {bytes}");
            other.assert_held(lab.host(host));
        }
    }
}

scenario! {
    fn a_layer_of_two_images_counts_once(lab) {
        lab.on_all(Host::forget_images);
        let (home, one, other) = (Home::new(), Resolved::of(ONE), Resolved::of(OTHER));
        let json = prewarm(&home, &[ONE, OTHER], &["h1", "h3"], &["--dry-run"]).exits(0).json();
        let held: Vec<_> = steps(&json).iter().map(|step| (step["host"].clone(), step["held_layers"].clone())).collect();
        let expected = [("h1", 0), ("h1", 1), ("h3", 0), ("h3", 1)].map(|(host, held)| (host.into(), held.into()));
        assert_eq!(held, expected, "{json}");
        lab.clear_registry_log();
        let before = ["h1", "h3"].map(|host| lab.host(host).received());
        prewarm(&home, &[ONE, OTHER], &["h1", "h3"], &["--recompress", "off"]).exits(0);
        let needed = one.bytes_from(0) + other.bytes_from(1);
        for (host, before) in ["h1", "h3"].into_iter().zip(before) {
            let received = lab.host(host).received() - before;
            assert!(received > needed && received < needed + needed / 20 + SMALL, "{host}: {received} bytes for {needed}");
            one.assert_held(lab.host(host));
            other.assert_held(lab.host(host));
        }
        let asked = lab.blobs_asked();
        for (layer, _) in one.layers().iter().chain(&other.layers()) {
            assert_eq!(asked[layer], 1, "{asked:?}");
        }
    }
}
