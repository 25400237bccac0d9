//! What a script of ours printed on a host: lines of `key=value` between a first and a last line.
//!
//! It comes from a host and is taken for hostile: bounded, every value checked, an error and never a panic.

use std::collections::BTreeMap;

/// More than any machine has to say.
const MAX_LINES: usize = 4096;

/// A longer value is nonsense.
const MAX_VALUE: usize = 512;

/// Names of boards and systems are shorter.
const MAX_TEXT: usize = 80;

/// Why the script's output is not what the script prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The first or the last line is missing.
    #[error("the host's answer was cut: {0} is missing")]
    Cut(&'static str),
    /// Something that must be there is not.
    #[error("the host did not say its {0}")]
    Missing(&'static str),
    /// A line or a value that the script does not print.
    #[error("the host's answer has an impossible line {0:?}")]
    Strange(String),
    /// More lines than a machine has to say.
    #[error("the host's answer has more than {MAX_LINES} lines")]
    TooLong,
}

/// The script's lines by key.
pub(super) struct Said<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Said<'a> {
    pub(super) fn read(begin: &str, output: &'a str) -> Result<Self, ParseError> {
        // What start-up files of the login print may lack its own end of the line.
        let mut lines = output.lines().skip_while(|line| !line.ends_with(begin));
        lines.next().ok_or(ParseError::Cut("its beginning"))?;
        let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (count, line) in lines.enumerate() {
            if line == "end" {
                return Ok(Self(said));
            }
            if count >= MAX_LINES {
                return Err(ParseError::TooLong);
            }
            let (key, value) = line.split_once('=').ok_or_else(|| strange(line))?;
            if value.len() > MAX_VALUE {
                return Err(strange(line));
            }
            // What no script of ours prints is not known: files of the host may say anything.
            let value = value.trim();
            if !value.chars().any(char::is_control) {
                said.entry(key).or_default().push(value);
            }
        }
        Err(ParseError::Cut("its end"))
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).and_then(|values| values.first().copied())
    }

    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.get(key).into_iter().flatten().copied()
    }

    pub(super) fn strange(&self, key: &str) -> ParseError {
        strange(&format!("{key}={}", self.get(key).unwrap_or_default()))
    }

    pub(super) fn number(&self, key: &'static str) -> Result<u64, ParseError> {
        let value = self.get(key).ok_or(ParseError::Missing(key))?;
        value.parse().map_err(|_| self.strange(key))
    }

    /// A value that is one plain word.
    pub(super) fn word(&self, key: &'static str) -> Result<&'a str, ParseError> {
        let value = self.get(key).ok_or(ParseError::Missing(key))?;
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-".contains(c));
        if plain && !value.is_empty() { Ok(value) } else { Err(self.strange(key)) }
    }

    /// A number that is not there, or is none, is not known.
    pub(super) fn known<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key)?.parse().ok()
    }

    /// Text for people, at most so long.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key)
            .map(|value| value.trim().chars().take(MAX_TEXT).collect::<String>())
            .filter(|value| !value.is_empty())
    }
}

pub(super) fn strange(line: &str) -> ParseError {
    ParseError::Strange(line.chars().take(120).collect())
}
