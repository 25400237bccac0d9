//! What a 401 answer asks for: the header `WWW-Authenticate` (RFC 9110, 11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants to be asked. Of several ways the token server is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a token from the server `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// With user and password at every request.
    Basic,
}

impl Challenge {
    /// The one that k3arm follows; `None` if there is none that it knows.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<Self> = values.flat_map(challenges).collect();
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }
}

/// A scheme and its parameters.
type Raw = (String, Vec<(String, String)>);

fn challenges(text: &str) -> Vec<Challenge> {
    let mut raw: Vec<Raw> = Vec::new();
    let mut rest = text.trim_start_matches(separator);
    while !rest.is_empty() {
        let end = rest.find(|c: char| separator(c) || c == '=').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let value = after.trim_start_matches(' ').strip_prefix('=').filter(|_| !word.is_empty());
        rest = match (value, raw.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = parameter(value.trim_start_matches(' '));
                parameters.push((word.to_ascii_lowercase(), value));
                after
            }
            (None, _) if !word.is_empty() => {
                raw.push((word.to_ascii_lowercase(), Vec::new()));
                after
            }
            // A stray `=`, or a parameter of no scheme.
            _ => after.get(1..).unwrap_or_default(),
        };
        rest = rest.trim_start_matches(separator);
    }
    raw.into_iter().filter_map(known).collect()
}

fn separator(c: char) -> bool {
    c == ' ' || c == ',' || c == '\t'
}

/// A quoted string or a token, and what comes after it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(separator).unwrap_or(text.len());
        return (text[..end].to_string(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            _ => value.push(c),
        }
    }
    (value, "")
}

fn known((scheme, parameters): Raw) -> Option<Challenge> {
    let named = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "bearer" => {
            Some(Challenge::Bearer { realm: named("realm")?, service: named("service"), scope: named("scope") })
        }
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let text = |text: &str| text.to_string();
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(text), scope: scope.map(text) })
    }

    #[test]
    fn real_registries_challenges_are_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            of(&[hub]),
            bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"))
        );
        assert_eq!(of(&[r#"Basic realm="Registry Realm", charset="UTF-8""#]), Some(Challenge::Basic));
        assert_eq!(of(&[r#"basic realm=x"#, r#"BEARER realm="https://a""#]), bearer("https://a", None, None));
        assert_eq!(
            of(&[r#"Basic realm="x", Bearer realm=https://a , scope = aws"#]),
            bearer("https://a", None, Some("aws"))
        );
        assert_eq!(of(&[r#"Bearer realm="https://a/\"b",error="invalid_token""#]), bearer("https://a/\"b", None, None));
        assert_eq!(of(&["Negotiate abc=="]), None);
        assert_eq!(of(&["Bearer service=x"]), None);
        assert_eq!(of(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn hostile_headers_never_panic(text in "[ -~]{0,60}") {
            let _ = challenges(&text);
        }

        #[test]
        fn hostile_challenges_never_panic(text in "(Bearer|Basic|[ ,=\"\\\\a-c]){0,20}") {
            let _ = challenges(&text);
        }
    }
}
