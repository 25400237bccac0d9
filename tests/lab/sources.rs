//! Images that are in files and engines already: whoever wrote the archive, it is the same image on the hosts.

use std::fs;
use std::path::Path;

use crate::host::Host;
use crate::images::{ONE, Resolved, THREE, image_of, in_registry, outcome, prewarm, skopeo};
use crate::k3arm::Home;
use crate::lab::{Lab, Undo};
use crate::local::{ENVIRONMENT, install};
use crate::scenario;

/// The image of a source is on h4 then, by its own ID.
fn brought(lab: &Lab, one: &Resolved, source: &str) {
    lab.host("h4").forget_images();
    lab.clear_registry_log();
    let ran = prewarm(&Home::new(), &[source], &["h4"], &[]).exits(0);
    assert_eq!(outcome(&ran, "h4", &one.name).0, "pulled", "{source}: {}", ran.all());
    one.assert_held(lab.host("h4"));
    assert_eq!(lab.registry_log(), "", "{source}: the registry was asked");
}

scenario! {
    /// 26.1 writes an image layout that is a `docker save` too, 20.10 only its own form, 28.5 what containerd has.
    fn what_engines_save_is_taken(lab) {
        // Recompressed layers would leave containerd's store without what was published.
        lab.on_all(Host::forget_images);
        let (home, one) = (Home::new(), Resolved::of(ONE));
        prewarm(&home, &[ONE], &THREE, &["--recompress", "off"]).exits(0);
        for name in THREE {
            let (host, file) = (lab.host(name), home.path(&format!("{name}.tar")).display().to_string());
            let _saved = Undo::script(host, "rm -f /root/saved.tar");
            host.sh(&format!("docker save -o /root/saved.tar {}", one.name));
            fs::copy(host.outside("/root/saved.tar"), &file).expect("copied");
            brought(&lab, &one, &file);
        }
    }
}

scenario! {
    fn image_layouts_of_skopeo_are_taken(lab) {
        let (home, one) = (Home::new(), Resolved::of(ONE));
        let (folder, file) = (home.path("layout").display().to_string(), home.path("archive.tar").display().to_string());
        let name = format!("docker.io/{}", one.name);
        let copy = |flags: &[&str], to: &str| {
            let (from, flags) = (in_registry(&one.name), [flags, &["copy", "--src-tls-verify=false"]].concat());
            skopeo(&[&flags[..], &[&from, to]].concat());
        };
        copy(&[], &format!("oci:{folder}:{name}"));
        assert!(Path::new(&folder).join("index.json").exists(), "a layout");
        brought(&lab, &one, &folder);
        copy(&[], &format!("oci-archive:{file}:{name}"));
        brought(&lab, &one, &file);
        // All of its platforms, of which the host gets its own.
        let all = home.path("all").display().to_string();
        let from = in_registry(&one.name);
        skopeo(&["copy", "--all", "--src-tls-verify=false", &from, &format!("oci:{all}:{name}")]);
        brought(&lab, &one, &all);
        // As what all images come from, too.
        lab.host("h4").forget_images();
        prewarm(&Home::new(), &[ONE, "--bundle", &all], &["h4"], &[]).exits(0);
        one.assert_held(lab.host("h4"));
    }
}

scenario! {
    /// From the engine of the machine where k3arm runs, here h1, h2 and h3 in turn, to h4.
    fn an_image_of_this_machines_engine_is_taken(lab) {
        let one = Resolved::of(ONE);
        lab.on_all(Host::forget_images);
        prewarm(&Home::new(), &[ONE], &THREE, &["--recompress", "off"]).exits(0);
        let directory = std::env::var("K3ARM_LAB_DIR").expect("inside a lab");
        // h3 has no ssh of its own; what its engine saves is taken in the scenario above.
        for name in ["h1", "h2"] {
            let host = lab.host(name);
            let _installed = install(host);
            let _key = Undo::script(host, "rm -f /root/key /root/known_hosts /root/ssh_config");
            for file in ["key", "known_hosts"] {
                fs::copy(format!("{directory}/{file}"), host.outside(&format!("/root/{file}"))).expect("copied");
            }
            host.sh("printf 'Host h4\\n  HostName 10.66.0.14\\n  User pi\\n  IdentityFile /root/key\\n  UserKnownHostsFile /root/known_hosts\\n' > /root/ssh_config; chmod 600 /root/key");
            lab.host("h4").forget_images();
            lab.clear_registry_log();
            let said = host.sh(&format!("{ENVIRONMENT} k3arm image prewarm docker:{} --host h4 --ssh-config /root/ssh_config 2>&1", image_of(ONE)));
            assert!(said.contains("pulled"), "{said}");
            one.assert_held(lab.host("h4"));
            assert_eq!(lab.registry_log(), "", "the registry was asked from {name}");
        }
    }
}

scenario! {
    fn what_is_no_archive_is_told(lab) {
        let home = Home::new();
        let file = home.path("no.tar");
        fs::write(&file, "not at all").expect("written");
        let file = file.display().to_string();
        let error = prewarm(&home, &[&file], &["h1"], &[]).exits(1).error("");
        assert!(error.contains(&file), "{error}");
        let missing = home.path("missing.tar").display().to_string();
        let error = prewarm(&home, &[&missing], &["h1"], &[]).exits(1).error("");
        assert!(error.contains(&missing) && error.contains("nothing is there"), "{error}");
        let layout = format!("oci:{}", home.path("nameless").display());
        skopeo(&["copy", "--src-tls-verify=false", &in_registry(&image_of(ONE)), &layout]);
        let nameless = home.path("nameless").display().to_string();
        let error = prewarm(&home, &[&nameless], &["h1"], &[]).exits(1).error("no image in ");
        assert!(error.contains("docker save") && error.contains("skopeo"), "{error}");
        lab.host("h1").forget_images();
    }
}
