//! Scripts: unchanged on their way, bounded in size and time.

use std::time::{Duration, Instant};

use k3arm::host::{machine_script, parse_machine};
use k3arm::ssh::{Error, Limits, Session};

use crate::sshd::{Sshd, host};

fn limits(output: usize, time: Duration) -> Limits {
    Limits { output, time }
}

async fn text(session: &Session, script: &str, input: &[u8]) -> String {
    let output = session.run(script, Some(input), Limits::default()).await.expect("runs");
    output.success("the script").expect("ends well")
}

async fn both() -> (Sshd, Vec<Session>) {
    let sshd = Sshd::start("");
    let local = Session::connect(&host("local"), &sshd.options()).await.expect("this machine");
    let remote = sshd.session().await;
    (sshd, vec![local, remote])
}

#[tokio::test]
async fn odd_words_and_bytes_arrive_as_they_are() {
    let (_sshd, sessions) = both().await;
    for session in &sessions {
        let script =
            "for word in 'a  b' \"c'd\" '!!' '$HOME' '\\n' 'é%s' '*' '`x`'; do\n  printf '<%s>' \"$word\"\ndone\n\n";
        assert_eq!(text(session, script, b"").await, "<a  b><c'd><!!><$HOME><\\n><é%s><*><`x`>");
        let every_byte: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        assert_eq!(text(session, "wc -c | tr -d ' '", &every_byte).await, "300000\n");
        assert_eq!(text(session, "od -An -tx1 | tr -d ' \\n'", &every_byte[..256]).await.len(), 512);
        assert_eq!(text(session, "read -r a; cat; echo \"$a $LC_ALL\"", b"one\ntwo\n").await, "two\none C\n");
    }
}

#[tokio::test]
async fn every_end_is_told() {
    let (_sshd, sessions) = both().await;
    for session in &sessions {
        for code in [0, 1, 125, 127, 255] {
            let output = session.run(&format!("exit {code}"), None, Limits::default()).await.expect("runs");
            assert_eq!(output.status, Some(code));
        }
        let output = session.run("kill -9 $$", None, Limits::default()).await.expect("runs");
        assert_eq!(output.status, None);
        let output = session.run("echo one >&2; printf 'two\\033[31m\\n' >&2; exit 4", None, Limits::default()).await;
        match output.expect("runs").success("the trial") {
            Err(Error::Command { attempted, status: Some(4), stderr }) => {
                assert_eq!((attempted.as_str(), stderr.as_str()), ("the trial", "one; two[31m"));
            }
            other => panic!("{other:?}"),
        }
        assert!(session.is_alive());
    }
}

#[tokio::test]
async fn output_and_time_have_bounds() {
    let (_sshd, sessions) = both().await;
    for session in &sessions {
        let begin = Instant::now();
        let endless = session.run("yes", None, limits(100_000, Duration::from_secs(20))).await;
        assert!(matches!(endless, Err(Error::OutputTooLong { limit: 100_000 })), "{endless:?}");
        let exact = session.run("printf 12345", None, limits(5, Duration::from_secs(20))).await.expect("fits");
        assert_eq!(exact.stdout, "12345");
        let noisy =
            session.run("yes error | head -c 3000000 >&2; echo x", None, Limits::default()).await.expect("runs");
        assert!(noisy.stdout == "x\n" && noisy.stderr.len() <= 64 * 1024 && noisy.stderr.contains("error"));
        let slow = session.run("sleep 3", None, limits(10, Duration::from_millis(200))).await;
        assert!(matches!(slow, Err(Error::Timeout { .. })), "{slow:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert_eq!(text(session, "echo still here", b"").await, "still here\n");
    }
}

#[tokio::test]
async fn many_scripts_at_once_stay_below_sshds_limit() {
    let sshd = Sshd::start("MaxSessions 4");
    let session = sshd.session().await;
    let scripts: Vec<_> = (0..30)
        .map(|number| {
            let session = session.clone();
            tokio::spawn(async move { text(&session, &format!("sleep 0.1; echo {number}"), b"").await })
        })
        .collect();
    for (number, script) in scripts.into_iter().enumerate() {
        assert_eq!(script.await.expect("ends"), format!("{number}\n"));
    }
}

#[tokio::test]
async fn a_host_that_allows_no_script_at_all_is_told() {
    let sshd = Sshd::start("MaxSessions 0");
    let error = sshd.connect().await.expect_err("no session");
    assert!(matches!(error, Error::Exec(_)), "{error:?}");
}

#[tokio::test]
async fn nothing_of_a_script_shows_in_the_hosts_process_list() {
    let sshd = Sshd::start("");
    let session = sshd.session().await;
    let seen = text(&session, "word=hush; tr '\\0' ' ' < /proc/$$/cmdline; cat >/dev/null", b"secret").await;
    assert!(seen.contains("dd bs=1") && !seen.contains("hush") && !seen.contains("secret"), "{seen}");
}

#[tokio::test]
async fn the_machine_tells_its_facts() {
    let (_sshd, sessions) = both().await;
    for session in &sessions {
        let asked = std::time::SystemTime::now();
        let output = text(session, machine_script(), b"").await;
        let (machine, socket) = parse_machine(&output, asked..=std::time::SystemTime::now()).expect(&output);
        assert!(machine.memory_total > 1 << 26 && machine.memory_available <= machine.memory_total);
        assert!(machine.clock_offset.abs() <= 1, "{machine:?} {socket:?}");
        assert!(!machine.controllers.is_empty());
    }
}
