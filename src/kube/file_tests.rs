//! Merging into a kubeconfig and removing from it: nothing that is not ours is ever lost.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proptest::prelude::*;

use super::*;
use crate::kube::kubeconfig::tests::k3s_yaml;

const FOREIGN: &str = r#"
apiVersion: v1
kind: Config
preferences: {colors: true}
extensions: [{name: x, extension: {a: [1, "yes", 'on', ~, 0.5, "012", "1e3", "null"]}}]
clusters:
- {name: work, cluster: {server: "https://work", certificate-authority: /ca.pem, x-new: 1}}
- {name: k3arm-home, cluster: {server: "https://old"}}
users:
- {name: work, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, args: [eks, "no"], env: null}}}
contexts:
- {name: work, context: {cluster: work, user: work, namespace: "off"}}
current-context: work
"#;

fn home() -> Kubeconfig {
    Kubeconfig::parse(&k3s_yaml()).unwrap().rename("home").with_server("https://10.0.0.1:6443")
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    (directory, file)
}

fn value(file: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Everything but the entries of that name and the current context.
fn others(mut document: Value, name: &str) -> Value {
    for list in ["clusters", "users", "contexts"] {
        let entries = document[list].as_array_mut().map(std::mem::take).unwrap_or_default();
        document[list] = entries.into_iter().filter(|entry| entry["name"] != name).collect();
    }
    document["current-context"] = Value::Null;
    document
}

#[tokio::test]
async fn a_merge_touches_nothing_that_is_not_ours_and_a_second_one_nothing_at_all() {
    let (directory, file) = directory();
    fs::write(&file, FOREIGN).unwrap();
    assert!(merge_into(&file, &home(), CurrentContext::Keep).await.unwrap());
    let (before, after): (Value, Value) = (serde_saphyr::from_str(FOREIGN).unwrap(), value(&file));
    assert_eq!(others(after.clone(), "k3arm-home"), others(before, "k3arm-home"));
    assert_eq!(after["current-context"], "work");
    let server = after["clusters"].as_array().unwrap().iter().find(|entry| entry["name"] == "k3arm-home").unwrap();
    assert_eq!(server["cluster"]["server"], "https://10.0.0.1:6443");
    assert_eq!(after["users"].as_array().unwrap().len(), 2);

    let written = fs::metadata(&file).unwrap();
    assert_eq!(written.permissions().mode() & 0o777, 0o600);
    assert!(!merge_into(&file, &home(), CurrentContext::Keep).await.unwrap());
    assert_eq!(fs::metadata(&file).unwrap().ino(), written.ino(), "not even written again");
    assert!(merge_into(&file, &home(), CurrentContext::Switch).await.unwrap());
    assert_eq!(value(&file)["current-context"], "k3arm-home");

    assert!(remove_from(&file, "home").await.unwrap());
    assert!(!remove_from(&file, "home").await.unwrap());
    assert_eq!(value(&file)["current-context"], "");
    assert!(!fs::read_to_string(&file).unwrap().contains("k3arm-home"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no lock and no temporary file is left");
}

#[test]
fn the_first_named_file_is_used() {
    let chosen = |kubeconfig: &str, home: Option<&str>| choose(kubeconfig.as_ref(), home.map(PathBuf::from));
    assert_eq!(chosen("", Some("/home/pi")), Some("/home/pi/.kube/config".into()));
    assert_eq!(chosen(":/a:/b", Some("/home/pi")), Some("/a".into()));
    assert_eq!(chosen("", None), None);
}

#[tokio::test]
async fn a_missing_file_is_made_and_an_empty_one_filled() {
    let (directory, _) = directory();
    let file = directory.path().join("new/kube/config");
    assert!(!remove_from(&file, "home").await.unwrap());
    assert!(merge_into(&file, &home(), CurrentContext::Switch).await.unwrap());
    assert_eq!(Kubeconfig::parse(&fs::read_to_string(&file).unwrap()).unwrap(), home());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    for text in ["", "\n", "apiVersion: v1\nclusters: null\nkind: Config\nusers: null\n"] {
        fs::write(&file, text).unwrap();
        assert!(merge_into(&file, &home(), CurrentContext::Switch).await.unwrap());
        assert_eq!(Kubeconfig::parse(&fs::read_to_string(&file).unwrap()).unwrap(), home());
    }
}

#[tokio::test]
async fn what_is_no_kubeconfig_is_left_alone() {
    let (_directory, file) = directory();
    for text in ["a: [", "[]", "text", "kind: Pod", "clusters: 5", "users: {a: b}", "- a\n- b", "a: 1\na: 2"] {
        fs::write(&file, text).unwrap();
        let error = merge_into(&file, &home(), CurrentContext::Keep).await.unwrap_err();
        assert!(matches!(error, Error::Broken { .. }) && error.hint().is_some(), "{text}: {error:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::write(&file, b"\xff\xfe").unwrap();
    assert!(merge_into(&file, &home(), CurrentContext::Keep).await.is_err());
    assert_eq!(fs::read(&file).unwrap(), b"\xff\xfe");
}

#[tokio::test]
async fn a_symlink_stays_one() {
    let (directory, file) = directory();
    std::os::unix::fs::symlink("dotfiles-kube", &file).unwrap();
    assert!(merge_into(&file, &home(), CurrentContext::Keep).await.unwrap());
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    assert!(fs::symlink_metadata(directory.path().join("dotfiles-kube")).unwrap().is_file());
    assert!(!merge_into(&file, &home(), CurrentContext::Keep).await.unwrap());
    let round = directory.path().join("round");
    std::os::unix::fs::symlink("round", &round).unwrap();
    assert!(matches!(merge_into(&round, &home(), CurrentContext::Keep).await, Err(Error::File { .. })));
}

#[tokio::test]
async fn a_lock_is_waited_for() {
    let (directory, file) = directory();
    let lock = directory.path().join("config.lock");
    fs::write(&lock, "").unwrap();
    let error = merge_into(&file, &home(), CurrentContext::Keep).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    assert_eq!(
        error.hint().unwrap(),
        format!("if no kubectl is writing to it, remove the lock: rm {}", lock.display())
    );
    assert!(lock.exists() && !file.exists());
    let kubeconfig = home();
    let merging = merge_into(&file, &kubeconfig, CurrentContext::Keep);
    let (merged, ()) = tokio::join!(merging, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        fs::remove_file(&lock).unwrap();
    });
    assert!(merged.unwrap());
}

#[tokio::test]
async fn merges_at_once_lose_nothing() {
    let (_directory, file) = directory();
    let names: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    let merges = names.iter().map(|name| {
        let (file, kubeconfig) = (file.clone(), home().rename(name));
        tokio::spawn(async move { merge_into(&file, &kubeconfig, CurrentContext::Switch).await.unwrap() })
    });
    for merge in merges.collect::<Vec<_>>() {
        assert!(merge.await.unwrap());
    }
    assert_eq!(value(&file)["clusters"].as_array().unwrap().len(), 8);
}

/// Any JSON, with strings that YAML 1.1 or 1.2 could take for something else.
fn anything() -> impl Strategy<Value = Value> {
    let tricky = prop::sample::select(vec![
        "",
        "yes",
        "no",
        "on",
        "off",
        "Y",
        "n",
        "~",
        "null",
        "012",
        "0o7",
        "0x1f",
        "1_000",
        "1e3",
        ".5",
        "1:30",
        "-",
        "- a",
        "a: b",
        "# c",
        "a #b",
        " a ",
        "\ta",
        "a\nb\n",
        "|",
        ">",
        "&a",
        "*a",
        "!t",
        "%d",
        "@x",
        "`y`",
        "'",
        "\"",
        "\\",
        "{a}",
        "[b",
        ",",
        "?",
        ":",
        "2026-11-23",
        "=",
        "<<",
        "---",
        "...",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "é",
        "\u{0}",
        "\u{1b}",
        "true",
        "FALSE",
        ".inf",
        ".nan",
        "+1",
        "0b1",
        "\r\n",
        "a\r",
        "long long long long long long \
             long long long long long long long long long long long long long long long long long long long long long",
    ]);
    let text = prop_oneof![tricky.prop_map(String::from), "\\PC{0,60}", any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9f64..1e9).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn foreign_entries_survive_a_merge_and_a_removal(
        extra in anything(),
        entries in prop::collection::vec(("[a-z]{1,8}|k3arm-home", anything()), 0..4),
        keys in prop::collection::btree_map("[a-z]{1,8}", anything(), 0..3),
    ) {
        let mut before = Value::Object(keys.into_iter().filter(|(key, _)| !["clusters", "users", "contexts", "kind"]
            .contains(&key.as_str())).collect());
        before["extra"] = extra;
        for (list, inner) in [("clusters", "cluster"), ("users", "user"), ("contexts", "context")] {
            let list_of = entries.iter().map(|(name, value)| serde_json::json!({ "name": name, inner: value }));
            before[list] = list_of.collect();
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        fs::write(&file, serde_saphyr::to_string(&before).unwrap()).unwrap();
        prop_assert_eq!(&value(&file), &before, "writing and reading gives the same");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(merge_into(&file, &home(), CurrentContext::Switch)).unwrap();
        prop_assert_eq!(others(value(&file), "k3arm-home"), others(before.clone(), "k3arm-home"));
        runtime.block_on(remove_from(&file, "home")).unwrap();
        prop_assert_eq!(others(value(&file), ""), others(before, "k3arm-home"));
    }
}
