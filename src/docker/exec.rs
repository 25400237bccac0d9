//! A program in a container that runs.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::error::Failure;
use super::logs::Logs;
use super::once::collect;
use super::transport::read_json;
use super::{Engine, Error, segment};

impl Engine {
    /// The end of a program's output may be seen before the engine has noted its end.
    const NOTED: Duration = Duration::from_millis(20);

    /// Runs `argv` (no shell, no secret) in the container `id` (or its name), as its user, and gives its exit code and what it
    /// wrote, both streams together in the order of arrival, at most [`super::OUTPUT_LIMIT`] bytes in whole lines.
    /// A program that is not there has code 126 or 127 and the engine's words for output.
    ///
    /// The API cannot end a program: after an error, or when this future is dropped, it runs on to its own end or that
    /// of its container.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the container, [`Error::Conflict`] if it does not run, [`Error::Timeout`] when the
    /// program has not ended after `deadline`.
    pub async fn exec(&self, id: &str, argv: &[&str], deadline: Duration) -> Result<(i64, String), Error> {
        let attempt = format!("run {} in container {id}", argv.first().unwrap_or(&"nothing"));
        let outcome = tokio::time::timeout(deadline, self.run_inside(id, argv, &attempt)).await;
        outcome.unwrap_or_else(|_| Err(Failure::Timeout(deadline).during(attempt)))
    }

    async fn run_inside(&self, id: &str, argv: &[&str], attempt: &str) -> Result<(i64, String), Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Created {
            id: String,
        }
        let wanted = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": argv });
        let path = format!("/containers/{}/exec", segment(id));
        let created = async { read_json::<Created>(self.transport.open_json(&path, &wanted).await?).await };
        let program = segment(&created.await.map_err(|failure| failure.during(attempt))?.id);

        let path = format!("/exec/{program}/start");
        let attached = self.transport.open_json(&path, &json!({ "Detach": false, "Tty": false })).await;
        let attached = attached.map_err(|failure| failure.during(attempt))?;
        let output = collect(Logs::new(attached.into_body(), id)).await?;
        Ok((self.exit_code_of(&program, attempt).await?, output))
    }

    async fn exit_code_of(&self, program: &str, attempt: &str) -> Result<i64, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inspected {
            #[serde(default)]
            running: bool,
            exit_code: Option<i64>,
        }
        loop {
            let seen: Inspected = self.get(&format!("/exec/{program}/json"), attempt).await?;
            match seen.exit_code {
                Some(code) if !seen.running => return Ok(code),
                _ => tokio::time::sleep(Self::NOTED).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::docker::transport::tests::Fake;

    /// An engine that notes a program's end only when it is asked for the third time; `output` is what the program wrote.
    fn engine(output: Vec<u8>) -> Fake {
        let asked = Arc::new(AtomicUsize::new(0));
        Fake::serving(move |request, mut stream| {
            let (asked, output) = (asked.clone(), output.clone());
            async move {
                let body = match request.split(' ').nth(1).unwrap_or_default() {
                    "/containers/c/exec" => br#"{"Id":"e"}"#.to_vec(),
                    "/exec/e/start" => output,
                    "/exec/e/json" if asked.fetch_add(1, Ordering::SeqCst) < 2 => {
                        br#"{"Running":true,"ExitCode":null}"#.to_vec()
                    }
                    _ => br#"{"Running":false,"ExitCode":3}"#.to_vec(),
                };
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                let _ = stream.write_all(&body).await;
            }
        })
    }

    #[tokio::test]
    async fn the_end_is_waited_for_and_the_output_is_bounded() {
        let minute = Duration::from_secs(60);
        let short = engine(b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n".to_vec());
        let (code, output) = short.engine().await.unwrap().exec("c", &["sh"], minute).await.unwrap();
        assert_eq!((code, output.as_str()), (3, "out\nerr\n"));
        let mut long = b"\x01\0\0\0\0\x10\0\0".to_vec();
        long.resize(8 + (1 << 20), b'\n');
        let (_, output) = engine(long).engine().await.unwrap().exec("c", &["sh"], minute).await.unwrap();
        assert!(output.len() <= crate::docker::OUTPUT_LIMIT, "{}", output.len());
    }
}
