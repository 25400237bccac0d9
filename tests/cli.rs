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
        ("role: server", "role: boss", "line 5"),
        ("role: server", "role: agent", "one server"),
        ("kind: Cluster", "kind: Clutter", "line 2"),
        ("v1alpha1", "v9", "line 1"),
        ("hosts:", "hoost:", "hoost"),
        ("pi@x", "'-oProxyCommand=x'", "-oProxyCommand"),
        ("{ name: a }", "{ name: a", "line"),
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
