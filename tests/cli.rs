//! The whole program where no host is needed: help, usage errors, files, a registry that is not there.

#![allow(clippy::expect_used)]

use assert_cmd::Command;
use predicates::str::{contains, is_empty};

fn k3arm(home: &std::path::Path) -> Command {
    let mut command = Command::cargo_bin("k3arm").expect("built");
    for variable in
        ["K3ARM_SSH_CONFIG", "K3ARM_REGISTRY_MIRROR", "K3ARM_PLAIN_HTTP", "K3ARM_CHANNELS_URL", "DOCKER_HOST"]
    {
        command.env_remove(variable);
    }
    command.env("K3ARM_HOME", home).env("HOME", home).env("KUBECONFIG", home.join("kubeconfig"));
    command
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn help_shows_the_way_and_the_exit_codes() {
    let home = home();
    let help = k3arm(home.path()).arg("--help").assert().success().stderr(is_empty());
    help.stdout(contains("image"))
        .stdout(contains("cluster create home --server pi@pi1"))
        .stdout(contains("Exit codes:"));
    for noun in [&["image", "resolve"][..], &["image", "prewarm"], &["cluster", "create"], &["cluster", "list"]] {
        k3arm(home.path()).args(noun).arg("--help").assert().success().stdout(contains("Usage: k3arm"));
    }
    k3arm(home.path()).arg("--version").assert().success().stdout(contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_code_2_and_says_what_is_wrong() {
    let home = home();
    for (arguments, words) in [
        (&[][..], "Usage"),
        (&["image", "resolve"], "REF"),
        (&["image", "resolve", "Bad Name"], "Bad Name"),
        (&["image", "resolve", "a", "--platform", "amd64"], "amd64"),
        (&["image", "prewarm", "a", "--host", ""], "--host"),
        (&["cluster", "create", "UPPER"], "UPPER"),
        (&["cluster", "create", "a", "-f", "x.yaml"], "cannot be used with"),
        (&["cluster", "create", "--timeout", "soon"], "soon"),
        (&["cluster", "create", "--profile", "huge"], "huge"),
        (&["cluster", "delete"], "NAME"),
        (&["cluster", "list", "-o", "xml"], "xml"),
        (&["cluster", "list", "-q", "-v"], "cannot be used with"),
        (&["image", "resolve", "a", "--registry-mirror", "nonsense"], "nonsense"),
    ] {
        k3arm(home.path()).args(arguments).assert().code(2).stdout(is_empty()).stderr(contains(words));
    }
}

#[test]
fn a_cluster_file_is_read_before_anything_else() {
    let home = home();
    let file = home.path().join("k3arm.yaml");
    let create = || {
        let mut command = k3arm(home.path());
        command.args(["cluster", "create", "-f"]).arg(&file);
        command
    };
    create().assert().code(2).stdout(is_empty()).stderr(contains("k3arm.yaml"));
    let good = "apiVersion: k3arm.dev/v1alpha1\nkind: Cluster\nmetadata: { name: a }\nhosts:\n- { name: x, ssh: pi@x, role: server }\n";
    for (from, to, words) in [
        ("role: server", "role: boss", ":5:31: "),
        ("role: server", "role: agent", "one server"),
        ("kind: Cluster", "kind: Clutter", "did you mean `Cluster`"),
        ("v1alpha1", "v9", ":1:13: "),
        ("hosts:", "hoost:", "did you mean `hosts`"),
        ("pi@x", "'-oProxyCommand=x'", "-oProxyCommand"),
        ("{ name: a }", "{ name: a", ":3:19: "),
    ] {
        std::fs::write(&file, good.replace(from, to)).expect("written");
        create().assert().code(2).stdout(is_empty()).stderr(contains(words)).stderr(contains("k3arm.yaml"));
    }
}

#[test]
fn a_registry_that_is_not_there_is_one_line() {
    let home = home();
    // Nothing listens on a port that was just given back.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let reference = format!("127.0.0.1:{port}/some/image:1");
    let ran = k3arm(home.path()).args(["image", "resolve", &reference]).assert().code(1).stdout(is_empty());
    let stderr = String::from_utf8_lossy(&ran.get_output().stderr).into_owned();
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{stderr}");
    assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
}

#[test]
fn nothing_is_left_of_commands_that_do_nothing() {
    let home = home();
    k3arm(home.path()).args(["cluster", "create", "--bad"]).assert().code(2);
    k3arm(home.path()).arg("--help").assert().success();
    assert_eq!(std::fs::read_dir(home.path()).expect("read").count(), 0);
}

#[test]
fn a_file_that_is_begun_is_never_replaced_unasked() {
    let home = home();
    let file = home.path().join("k3arm.yaml");
    let init = |more: &[&str]| {
        let mut command = k3arm(home.path());
        command.args(["config", "init", "lab", "--server", "pi@pi1"]).args(more).arg("-f").arg(&file);
        command.assert()
    };
    init(&["--agent", "pi@pi1"]).code(2).stderr(contains("pi1 is named twice"));
    assert!(!file.exists());
    init(&["--agent", "pi@pi2"]).success().stdout(contains("cluster create -f"));
    let first = std::fs::read_to_string(&file).expect("written");
    init(&[]).code(2).stderr(contains("is there already")).stderr(contains("--force"));
    assert_eq!(std::fs::read_to_string(&file).expect("there"), first);
    init(&["--force"]).success();
    assert_ne!(std::fs::read_to_string(&file).expect("there"), first);
    let view = k3arm(home.path()).args(["config", "view", "-o", "json", "-f"]).arg(&file).assert().success();
    let viewed: serde_json::Value = serde_json::from_slice(&view.get_output().stdout).expect("JSON");
    assert_eq!((&viewed["k3s"]["channel"], &viewed["hosts"][0]["name"]), (&"stable".into(), &"pi1".into()));
    k3arm(home.path()).args(["config", "view", "-f", "none.yaml"]).assert().code(2).stderr(contains("config init"));
}

#[test]
fn shells_and_man_get_their_files() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        let shown = k3arm(home.path()).args(["completion", shell]).assert().success();
        assert!(String::from_utf8_lossy(&shown.get_output().stdout).contains("prewarm"), "{shell}");
    }
    k3arm(home.path()).args(["completion", "bas"]).assert().code(2).stderr(contains("bash"));
    k3arm(home.path()).arg("man").assert().success().stdout(contains(".TH k3arm 1"));
    let folder = home.path().join("man1");
    k3arm(home.path()).arg("man").arg(&folder).assert().success();
    assert!(folder.join("k3arm-cluster-create.1").exists());
}

#[test]
fn channels_that_cannot_be_had_are_one_error() {
    let home = home();
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let url = format!("http://127.0.0.1:{port}/channels");
    let ran = k3arm(home.path()).args(["version", "list", "--channels-url", &url]).assert().code(1).stdout(is_empty());
    let stderr = String::from_utf8_lossy(&ran.get_output().stderr).into_owned();
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{stderr}");
}

#[test]
fn nothing_is_coloured_where_nobody_sees_it() {
    let home = home();
    let plain = |command: &mut Command| {
        let output = command.output().expect("it runs");
        assert!(!output.stderr.contains(&0x1b) && !output.stdout.contains(&0x1b), "{output:?}");
    };
    plain(k3arm(home.path()).arg("cluser"));
    plain(k3arm(home.path()).env("NO_COLOR", "1").env("CLICOLOR_FORCE", "0").arg("--help"));
    let forced = k3arm(home.path()).env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1").arg("cluser").output();
    assert!(forced.expect("it runs").stderr.contains(&0x1b), "who asks for colours gets them");
}
