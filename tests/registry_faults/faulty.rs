//! A raw TCP server whose answers are scripted byte by byte, so that it can break every rule of HTTP.
//!
//! One connection is one request: it is read up to the end of its headers and body, recorded, and answered with whatever
//! the script returns for it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One thing to do to a client. After the last one the connection is closed.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends the bytes again and again until the client goes away.
    Flood(Vec<u8>),
    /// Sends the bytes again and again with pauses, until the client goes away.
    Trickle(Vec<u8>, Duration),
    /// Sends nothing for a while.
    Pause(Duration),
    /// Closes with a reset instead of an orderly end.
    Reset,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `GET /v2/a/manifests/1`
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// What came after the headers.
    pub(crate) body: String,
}

impl Seen {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The server, until it is dropped.
#[derive(Debug)]
pub(crate) struct Faulty {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Faulty {
    /// Starts a server that answers the request number `n` (from 0) with what `script` returns.
    pub(crate) async fn start(script: impl Fn(usize, &Seen) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, script)
    }

    /// The same on a listener of the caller's, whose address may be part of the script.
    pub(crate) fn on(listener: TcpListener, script: impl Fn(usize, &Seen) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(listener, Arc::new(script), seen.clone()));
        Self { address, seen, task }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Their first lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Script = dyn Fn(usize, &Seen) -> Vec<Act> + Send + Sync;

async fn accept(listener: TcpListener, script: Arc<Script>, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (script, seen) = (script.clone(), seen.clone());
        tokio::spawn(async move {
            let Some(request) = read(&mut stream).await else { return };
            let acts = {
                let mut seen = seen.lock().unwrap();
                seen.push(request.clone());
                script(seen.len() - 1, &request)
            };
            play(stream, acts).await;
        });
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_string();
            let pair = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_lowercase(), value.to_string()));
            let seen = Seen { line, headers: lines.filter_map(pair).collect(), body: body.into() };
            let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return Some(seen);
            }
        }
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        // A TLS client never ends its headers: answer it as a plain server would.
        if bytes.first() == Some(&0x16) {
            return Some(Seen { line: "TLS".into(), headers: Vec::new(), body: String::new() });
        }
    }
}

async fn play(mut stream: TcpStream, acts: Vec<Act>) {
    for act in acts {
        let done = match act {
            Act::Send(bytes) => stream.write_all(&bytes).await,
            Act::Flood(bytes) => loop {
                if let Err(error) = stream.write_all(&bytes).await {
                    break Err(error);
                }
            },
            Act::Trickle(bytes, pause) => loop {
                if let Err(error) = stream.write_all(&bytes).await {
                    break Err(error);
                }
                tokio::time::sleep(pause).await;
            },
            Act::Pause(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Act::Reset => {
                let _ = stream.flush().await;
                let _ = stream.set_zero_linger();
                return;
            }
        };
        if done.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// An answer's head, with `Connection: close`.
pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    (text + "\r\n").into_bytes()
}

/// A whole answer of known length.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<Act> {
    let length = body.len().to_string();
    let headers: Vec<(&str, &str)> = headers.iter().copied().chain([("content-length", length.as_str())]).collect();
    vec![Act::Send([head(status, &headers).as_slice(), body].concat())]
}
