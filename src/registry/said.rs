//! A server's own words about an error, made fit for a terminal.

use std::time::Duration;

use serde::Deserialize;

use super::transport::Body;

/// Nobody waits longer for an explanation.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// An explanation is short.
const MOST_BYTES: u64 = 16 << 10;
const MOST_CHARACTERS: usize = 240;

/// The form of the distribution spec: `{"errors":[{"code","message"}]}`; token servers send `details` or `message`.
#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    errors: Vec<Entry>,
    details: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    code: Option<String>,
    message: Option<String>,
}

/// What the body of an answer with an error status says, if it says it in JSON. Pages for browsers are left out.
pub(super) async fn read(body: Body) -> Option<String> {
    let bytes = body.whole(MOST_BYTES, LONGEST_WAIT).await.ok()?;
    words(&bytes)
}

fn words(bytes: &[u8]) -> Option<String> {
    let wire: Wire = serde_json::from_slice(bytes).ok()?;
    let said = match wire.errors.into_iter().next() {
        Some(Entry { code: Some(code), message: Some(message) }) => Some(format!("{code}: {message}")),
        Some(Entry { code, message }) => code.or(message),
        None => wire.details.or(wire.message),
    }?;
    // Control characters steer terminals, direction marks deceive readers.
    let harmless = |c: &char| {
        !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let said: String = said.chars().filter(harmless).take(MOST_CHARACTERS).collect();
    (!said.is_empty()).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_told_without_control_characters() {
        let text = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\u001b[31m unknown","detail":{}},{}]}"#;
        assert_eq!(words(text).as_deref(), Some("MANIFEST_UNKNOWN: manifest[31m unknown"));
        assert_eq!(
            words(br#"{"details":"incorrect username or password"}"#).as_deref(),
            Some("incorrect username or password")
        );
        assert_eq!(words(b"<html>"), None);
        assert_eq!(words(b"{}"), None);
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(9999));
        assert_eq!(words(long.as_bytes()).map(|said| said.len()), Some(MOST_CHARACTERS));
    }
}
