//! What is wrong with a text, and where: line, column, the line itself, and what may have been meant.

use std::fmt;

use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

/// A place in a text that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line and column, counted from 1; `None` where the text as a whole is meant.
    pub place: Option<(usize, usize)>,
    /// What is wrong with it.
    pub message: String,
    /// The line as it stands.
    line: String,
}

/// The least likeness that is a suggestion, from 0 to 1.
const LIKENESS: f64 = 0.7;

/// The longest line that is shown whole, in characters.
const SHOWN: usize = 160;

impl Fault {
    pub(super) fn of(error: &Error, text: &str) -> Self {
        let error = error.without_snippet();
        let message = match error {
            Error::SerdeUnknownField { field, expected, .. } => unknown("field", field, expected),
            Error::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
            other => UserMessageFormatter.format_message(other).into_owned(),
        };
        let number = |number: u64| usize::try_from(number).ok().filter(|number| *number > 0);
        let place = error.location().and_then(|place| Some((number(place.line())?, number(place.column())?)));
        let line = place.and_then(|(line, _)| text.lines().nth(line - 1)).unwrap_or_default();
        Self { place, message, line: line.chars().take(SHOWN).collect() }
    }

    /// The line with a caret under the place, if there is one to show.
    pub fn excerpt(&self) -> Option<String> {
        let (line, column) = self.place.filter(|(_, column)| *column <= SHOWN && !self.line.trim().is_empty())?;
        // A tab stays one, so that the caret stands below what it means.
        let before = self.line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' });
        let margin = " ".repeat(line.to_string().len());
        Some(format!(" {line} | {}\n {margin} | {}^", self.line, before.collect::<String>()))
    }
}

fn unknown(what: &str, found: &str, expected: &[&'static str]) -> String {
    let all = expected.join(", ");
    match closest(found, expected) {
        Some(meant) => format!("unknown {what} `{found}`: did you mean `{meant}`? There are {all}"),
        None => format!("unknown {what} `{found}`: there are {all}"),
    }
}

/// The one that `found` was most likely meant to be.
fn closest<'a>(found: &str, expected: &[&'a str]) -> Option<&'a str> {
    let likeness = |candidate: &str| strsim::jaro_winkler(&found.to_lowercase(), &candidate.to_lowercase());
    let ranked =
        expected.iter().map(|candidate| (likeness(candidate), *candidate)).filter(|(like, _)| *like > LIKENESS);
    ranked.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, candidate)| candidate)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::super::super::Cluster;
    use super::*;
    use crate::cluster::FileError;

    fn fault(text: &str) -> Fault {
        match Cluster::parse(text) {
            Err(FileError::Text(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_typo_is_shown_with_what_was_meant() {
        let fault = fault("apiVersion: k3arm.dev/v1alpha1\nkind: Cluster\nmetadata: { name: a }\nhoost: []\n");
        assert_eq!(fault.place, Some((4, 1)));
        assert!(fault.message.contains("did you mean `hosts`?"), "{}", fault.message);
        assert_eq!(fault.excerpt().unwrap(), " 4 | hoost: []\n   | ^");
    }

    #[test]
    fn values_are_suggested_too_and_nonsense_gets_no_suggestion() {
        let with = |profile: &str| {
            fault(&format!("apiVersion: k3arm.dev/v1alpha1\nkind: Cluster\nk3s: {{ profile: {profile} }}\n"))
        };
        assert!(with("smal").message.contains("did you mean `small`?"));
        let nonsense = with("xyz");
        assert!(!nonsense.message.contains("did you mean") && nonsense.message.contains("auto, tiny"), "{nonsense}");
        assert!(nonsense.excerpt().unwrap().ends_with("   |                 ^"), "{}", nonsense.excerpt().unwrap());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            if let Err(FileError::Text(fault)) = Cluster::parse(&text) {
                let _ = fault.excerpt();
            }
        }
    }
}
