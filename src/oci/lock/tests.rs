//! Locks written and read back, merged, compared; and texts that are none.

use proptest::prelude::*;

use super::*;
use crate::oci::MediaType;

fn descriptor(media_type: &str, content: &str) -> Descriptor {
    Descriptor {
        media_type: MediaType(media_type.into()),
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

fn on_platform(content: &str) -> PlatformImage {
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let layers = vec![descriptor(gzip, "base"), descriptor(gzip, &format!("layer of {content}"))];
    let config = descriptor("application/vnd.oci.image.config.v1+json", content);
    PlatformImage {
        manifest: descriptor(MediaType::OCI_MANIFEST, &format!("manifest of {content}")),
        compressed_size: config.size + layers.iter().map(|layer| layer.size).sum::<u64>(),
        config,
        diff_ids: layers.iter().map(|layer| Digest::of(layer.digest.hex().as_bytes())).collect(),
        layers,
    }
}

/// `reference`, whose index has this content, for these platforms.
fn image(reference: &str, content: &str, platforms: &[&str]) -> PinnedImage {
    let platform = |name: &&str| (name.parse().unwrap(), on_platform(&format!("{content} for {name}")));
    PinnedImage {
        reference: reference.parse().unwrap(),
        index: Some(descriptor(MediaType::OCI_INDEX, content)),
        platforms: platforms.iter().map(platform).collect(),
    }
}

fn single(reference: &str, content: &str, platforms: &[&str]) -> PinnedImage {
    let platforms = platforms.iter().map(|name| (name.parse().unwrap(), on_platform(content))).collect();
    PinnedImage { reference: reference.parse().unwrap(), index: None, platforms }
}

fn lock() -> Lock {
    let mut lock = Lock::default();
    lock.insert("stable", image("rancher/k3s:v1.36.3-k3s1", "k3s", &["linux/arm64", "linux/arm/v7"]));
    lock.insert("ghcr.io/me/app:1.2", single("ghcr.io/me/app:1.2", "app", &["linux/arm64"]));
    lock
}

fn platforms(names: &[&str]) -> BTreeSet<Platform> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn the_text_is_the_agreed_one() {
    let golden = include_str!("../../../tests/golden/k3arm.lock");
    assert_eq!(lock().to_text(), golden);
    assert_eq!(Lock::parse(golden), Ok(lock()));
    assert_eq!(Lock::parse(&Lock::default().to_text()), Ok(Lock::default()));
}

#[test]
fn what_is_kept_is_what_is_read_back() {
    let mut lock = Lock::default();
    let mut noisy = image("a/b:1", "x", &["linux/arm64"]);
    let index = noisy.index.as_mut().unwrap();
    index.annotations.insert("a".into(), "b".into());
    index.platform = Some("linux/arm64".parse().unwrap());
    lock.insert("b:1", noisy);
    assert_eq!(Lock::parse(&lock.to_text()), Ok(lock.clone()));
    assert_eq!(lock.get("b:1"), Some(&image("a/b:1", "x", &["linux/arm64"])));
    lock.insert("nothing", image("a/b:2", "y", &[]));
    assert_eq!(lock.iter().map(|(source, _)| source).collect::<Vec<_>>(), ["b:1"]);
    lock.retain(|source| source != "b:1");
    assert_eq!(lock, Lock::default());
}

#[test]
fn a_source_is_covered_for_the_platforms_that_were_asked_for() {
    let lock = lock();
    assert!(lock.covers("stable", &platforms(&["linux/arm/v7", "linux/arm64"])));
    assert!(lock.covers("stable", &platforms(&[])));
    assert!(!lock.covers("stable", &platforms(&["linux/amd64", "linux/arm64"])));
    assert!(!lock.covers("latest", &platforms(&[])));
}

#[test]
fn platforms_are_added_under_the_same_digest_only() {
    let mut lock = lock();
    let mut more = image("rancher/k3s:v1.36.3-k3s1", "k3s", &["linux/amd64", "linux/arm64"]);
    more.platforms.insert("linux/arm64".parse().unwrap(), on_platform("another choice"));
    lock.merge("stable", more).unwrap();
    let all = ["linux/amd64", "linux/arm64", "linux/arm/v7"];
    assert_eq!(lock.get("stable"), Some(&image("rancher/k3s:v1.36.3-k3s1", "k3s", &all)), "what was pinned stays");

    let before = lock.clone();
    let moved = lock.merge("stable", image("rancher/k3s:v1.36.3-k3s1", "other", &["linux/riscv64"])).unwrap_err();
    assert_eq!(lock, before, "nothing is changed");
    let (from, to) = (moved.from.unwrap(), moved.to.unwrap());
    assert_eq!((from.digest, to.digest), (Digest::of(b"k3s"), Digest::of(b"other")));
    assert!(lock.merge("stable", image("rancher/k3s:v1.36.4-k3s1", "k3s", &["linux/amd64"])).is_err(), "another name");
    lock.merge("new", image("a/b:1", "x", &["linux/arm64"])).unwrap();
    assert!(lock.covers("new", &platforms(&["linux/arm64"])));
}

#[test]
fn a_single_image_is_known_by_its_manifest() {
    let mut lock = lock();
    lock.merge("ghcr.io/me/app:1.2", single("ghcr.io/me/app:1.2", "app", &["linux/arm/v7"])).unwrap();
    assert_eq!(Lock::parse(&lock.to_text()), Ok(lock.clone()));
    assert!(lock.merge("ghcr.io/me/app:1.2", single("ghcr.io/me/app:1.2", "changed", &["linux/arm64"])).is_err());
}

#[test]
fn differences_are_told_as_people_read_them() {
    let (old, mut new) = (lock(), lock());
    assert!(old.differences(&new).is_empty());
    new.merge("stable", image("rancher/k3s:v1.36.3-k3s1", "k3s", &["linux/amd64"])).unwrap();
    assert!(old.differences(&new).is_empty(), "a platform more is no difference");
    new.insert("stable", image("rancher/k3s:v1.36.4-k3s1", "newer", &["linux/arm64"]));
    new.retain(|source| source == "stable");
    new.insert("a:1", image("a:1", "a", &["linux/arm64"]));
    let told: Vec<String> = old.differences(&new).iter().map(ToString::to_string).collect();
    let short = |content: &str| Digest::of(content.as_bytes()).short().to_string();
    assert_eq!(
        told,
        [
            format!("a:1 is new: a:1 ({})", short("a")),
            format!("ghcr.io/me/app:1.2 is gone, it was ghcr.io/me/app:1.2 ({})", short("manifest of app")),
            format!(
                "stable moved from rancher/k3s:v1.36.3-k3s1 ({}) to rancher/k3s:v1.36.4-k3s1 ({})",
                short("k3s"),
                short("newer")
            ),
        ]
    );
}

/// The error of the golden lock with a change.
fn wrong(from: &str, to: &str) -> LockError {
    let text = lock().to_text();
    assert!(text.contains(from), "{from}");
    Lock::parse(&text.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn another_version_is_refused_with_a_hint() {
    let newer = wrong("\"version\": 1", "\"version\": 2, \"new\": []");
    assert_eq!(newer, LockError::Version(2));
    assert!(newer.hint().contains("newer k3arm"), "{}", newer.hint());
    assert_eq!(wrong("\"version\": 1", "\"version\": 0"), LockError::Version(0));
    assert!(matches!(wrong("\"version\": 1", "\"version\": \"1\""), LockError::Malformed(_)));
    assert!(matches!(wrong("\"version\": 1,", ""), LockError::Malformed(_)));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let digest = Digest::of(b"k3s").to_string();
    for (from, to, said) in [
        (digest.as_str(), "sha256:12", "is not a digest"),
        (digest.as_str(), "sha512:12", "only sha256"),
        ("\"stable\"", "\"ghcr.io/me/app:1.2\"", "ghcr.io/me/app:1.2 is there twice"),
        ("linux/arm/v7", "linux/arm64/v8", "linux/arm64 is there twice"),
        ("linux/arm/v7", "linux/a b", "is not a platform"),
        ("\"index\"", "\"idx\"", "unknown field `idx`"),
        ("\"config\"", "\"configs\"", "unknown field `configs`"),
        ("\"size\":3", "\"size\":-3", "-3"),
        ("\"size\":3}", "\"x\":3}", "unknown field `x`"),
        (MediaType::OCI_INDEX, MediaType::OCI_MANIFEST, "the index of docker.io/rancher/k3s:v1.36.3-k3s1 is none"),
        (MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, "the manifest of ghcr.io/me/app:1.2 for linux/arm64 is none"),
        ("tar+gzip", "tar\\u001b[2J", "a media type is expected"),
        ("rancher/k3s:v1.36.3-k3s1", "Rancher/K3s", "is not an image reference"),
    ] {
        let error = wrong(from, to);
        let LockError::Malformed(message) = &error else { panic!("{from} → {to}: {error:?}") };
        assert!(message.contains(said), "{from} → {to}: {message}");
        assert!(message.contains("line "), "{from} → {to}: {message}");
        assert!(error.hint().contains("version control"), "{}", error.hint());
    }
}

#[test]
fn hostile_texts_are_refused_and_not_repeated() {
    let conflict = lock().to_text().replacen("  \"images\"", "<<<<<<< HEAD\n  \"images\"", 1);
    assert_eq!(Lock::parse(&conflict), Err(LockError::Conflict(3)));
    assert_eq!(Lock::parse(&" ".repeat(MAX_LOCK_BYTES as usize + 1)), Err(LockError::TooLong));
    assert!(Lock::parse(&"[".repeat(1 << 20)).is_err());
    let long = wrong(&Digest::of(b"k3s").to_string(), &"x".repeat(1 << 20));
    assert!(long.to_string().len() < 1000, "{}", long.to_string().len());
    let layers = "{},".repeat(2000);
    assert!(matches!(wrong("\"layers\": [", &format!("\"layers\": [{layers}")), LockError::Malformed(_)));
    let mut many = lock();
    let mut image = image("a:1", "x", &["linux/arm64"]);
    let one = image.platforms.values_mut().next().unwrap();
    one.layers = vec![one.layers[0].clone(); 1025];
    one.diff_ids = vec![one.diff_ids[0].clone(); 1025];
    many.insert("a:1", image);
    assert!(Lock::parse(&many.to_text()).unwrap_err().to_string().contains("more than 1024 layers"));
    let no_platform = "{\"version\": 1, \"images\": {\"a:1\": {\"reference\": \"a:1\", \"platforms\": {}}}}";
    assert!(Lock::parse(no_platform).unwrap_err().to_string().contains("no platform"));
    let mut mixed = single("a:1", "x", &["linux/arm64"]);
    mixed.platforms.insert("linux/arm/v7".parse().unwrap(), on_platform("y"));
    let mut torn = Lock::default();
    torn.insert("a:1", mixed);
    assert!(Lock::parse(&torn.to_text()).unwrap_err().to_string().contains("has no index"));
}

fn any_image() -> impl Strategy<Value = PinnedImage> {
    let platform = prop_oneof!["linux/arm64", "linux/arm/v[67]", "linux/amd64", "linux/riscv64"];
    let platforms = proptest::collection::btree_map(platform, ("[a-z]{1,5}", any::<u64>(), 0_usize..4), 1..4);
    let one = |(content, size, layers): (String, u64, usize)| {
        let mut image = on_platform(&content);
        image.config.size = size;
        image.layers = image.layers.into_iter().cycle().take(layers).collect();
        image.diff_ids = image.diff_ids.into_iter().cycle().take(layers).collect();
        image.compressed_size = image.layers.iter().fold(size, |sum, layer| sum.saturating_add(layer.size));
        image
    };
    ("[a-z]{1,9}(/[a-z]{1,9}){0,2}:[a-z0-9.]{1,9}", platforms).prop_filter_map(
        "a reference",
        move |(name, platforms)| {
            let platforms = platforms.into_iter().map(|(name, parts)| (name.parse().unwrap(), one(parts))).collect();
            let index = Some(descriptor(MediaType::DOCKER_LIST, &name));
            Some(PinnedImage { reference: name.parse().ok()?, index, platforms })
        },
    )
}

proptest! {
    #[test]
    fn every_lock_is_read_back(images in proptest::collection::btree_map("[!-~]{1,30}", any_image(), 0..4)) {
        let mut lock = Lock::default();
        images.into_iter().for_each(|(source, image)| lock.insert(&source, image));
        prop_assert_eq!(Lock::parse(&lock.to_text()), Ok(lock));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = Lock::parse(&text);
    }

    #[test]
    fn no_damage_panics(position in 0_usize..4000, byte in any::<u8>(), length in 0_usize..40) {
        let mut bytes = lock().to_text().into_bytes();
        let start = position.min(bytes.len());
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, [byte]);
        let _ = Lock::parse(&String::from_utf8_lossy(&bytes));
    }
}
