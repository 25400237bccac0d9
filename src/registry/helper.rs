//! Docker's credential helpers: `docker-credential-NAME get`, the server on stdin, JSON on stdout.
//!
//! Protocol: github.com/docker/docker-credential-helpers, `client` and `credentials`.

use std::io::ErrorKind;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::credentials::{Credential, CredentialsError, Found, Hidden};

/// A secret is at most a long token.
const MOST_BYTES: u64 = 64 << 10;

/// What every helper prints, with exit code 1, when it has nothing: the protocol's only way to say so
/// (`errCredentialsNotFoundMessage`).
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    username: String,
    secret: String,
}

/// Asks the helper called `name` for the credentials of `server`; `None` if it has none.
pub(super) async fn get(name: &str, server: &str, deadline: Duration) -> Result<Option<Found>, CredentialsError> {
    let program = format!("docker-credential-{name}");
    // A name with a slash would be a path.
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(CredentialsError::Helper { program, what: "this is not the name of a helper".into() });
    }
    run(&program, server, deadline).await
}

/// The same for a program.
pub(super) async fn run(program: &str, server: &str, deadline: Duration) -> Result<Option<Found>, CredentialsError> {
    let failed = |what: String| CredentialsError::Helper { program: program.into(), what };
    let child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|error| match error.kind() {
        ErrorKind::NotFound => CredentialsError::NoHelper { program: program.into() },
        _ => failed(error.to_string()),
    })?;
    match timeout(deadline, talk(child, server)).await {
        Ok(Ok((status, output))) => credential(program, status, &output),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", deadline.as_secs_f32()))),
    }
}

async fn talk(mut child: Child, server: &str) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read has an answer all the same.
        let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MOST_BYTES + 1).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?, output))
}

fn credential(program: &str, status: ExitStatus, output: &[u8]) -> Result<Option<Found>, CredentialsError> {
    let failed = |what: String| CredentialsError::Helper { program: program.into(), what };
    if output.len() as u64 > MOST_BYTES {
        return Err(failed("its answer is too large".into()));
    }
    if !status.success() {
        let nothing = String::from_utf8_lossy(output).trim() == NOT_FOUND;
        return if nothing { Ok(None) } else { Err(failed(status.to_string())) };
    }
    // The parser's error may hold a part of the secret.
    let wire: Wire =
        serde_json::from_slice(output).map_err(|_| failed("its answer is not what it should be".into()))?;
    let secret = Hidden(wire.secret);
    Ok(match wire.username.as_str() {
        "" => None,
        "<token>" => Some(Credential::IdentityToken(secret)),
        _ => Some(Credential::Password { user: wire.username, password: secret }),
    }
    .map(|credential| Found { credential, source: program.into() }))
}
