//! What a registry says when one asks too often.
//!
//! Docker Hub sends `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 0;w=21600` (requests and a window in
//! seconds), and `retry-after`; others send `x-ratelimit-…` and a reset, in seconds from now or as a Unix time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// What the headers of a 429 answer say; every part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// When to ask again (`Retry-After`, seconds or a date).
    pub retry_after: Option<Duration>,
    /// Requests allowed in a window.
    pub limit: Option<u64>,
    /// Requests left in this window.
    pub remaining: Option<u64>,
    /// Length of the window.
    pub window: Option<Duration>,
    /// When the window ends, from now.
    pub reset: Option<Duration>,
}

/// Longer waits are not times but mistakes: no header moves a deadline further than a year.
const LONGEST: u64 = 365 * 24 * 3600;

/// Numbers larger than this are Unix times, not seconds from now (2001-09-09).
const EPOCH_TIMES: u64 = 1_000_000_000;

impl RateLimit {
    pub(super) fn of(headers: &HeaderMap, now: SystemTime) -> Self {
        let limit = named(headers, "limit");
        let remaining = named(headers, "remaining");
        let window = [limit, remaining].into_iter().flatten().find_map(window);
        Self {
            retry_after: text(headers, RETRY_AFTER.as_str()).and_then(|value| moment(value, now)),
            limit: limit.and_then(count),
            remaining: remaining.and_then(count),
            window,
            reset: named(headers, "reset").and_then(|value| moment(value, now)),
        }
    }

    /// How long to wait, by the best of what is known.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after.or(self.reset)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(remaining), Some(limit)) = (self.remaining, self.limit) {
            write!(f, ", {remaining} of {limit} left")?;
            self.window.map_or(Ok(()), |window| write!(f, " in {}", span(window)))?;
        }
        match self.wait() {
            Some(wait) => write!(f, ", again in {}", span(wait)),
            None => Ok(()),
        }
    }
}

/// Seconds up to two minutes, then minutes, then hours and minutes.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds.div_ceil(60);
    match (seconds, minutes) {
        (0..120, _) => format!("{seconds} s"),
        (_, 0..120) => format!("{minutes} min"),
        _ if minutes.is_multiple_of(60) => format!("{} h", minutes / 60),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

fn named<'a>(headers: &'a HeaderMap, what: &str) -> Option<&'a str> {
    text(headers, &format!("ratelimit-{what}")).or_else(|| text(headers, &format!("x-ratelimit-{what}")))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn count(value: &str) -> Option<u64> {
    value.split([';', ',']).next()?.trim().parse().ok()
}

fn window(value: &str) -> Option<Duration> {
    let seconds = value.split(';').find_map(|part| part.trim().strip_prefix("w="))?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST)))
}

/// A number of seconds, a Unix time, or an HTTP date; one that has passed is zero.
fn moment(value: &str, now: SystemTime) -> Option<Duration> {
    let from_now = match value.parse::<u64>() {
        Ok(seconds) if seconds < EPOCH_TIMES => Duration::from_secs(seconds),
        Ok(time) => Duration::from_secs(time).saturating_sub(now.duration_since(UNIX_EPOCH).unwrap_or_default()),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(from_now.min(Duration::from_secs(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> RateLimit {
        let headers = pairs.iter().map(|(name, value)| {
            (reqwest::header::HeaderName::from_static(name), reqwest::header::HeaderValue::from_str(value).unwrap())
        });
        RateLimit::of(&headers.collect(), UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    }

    #[test]
    fn docker_hubs_headers_are_read() {
        let limit =
            of(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600"), ("retry-after", "4980")]);
        let expected = RateLimit {
            retry_after: Some(Duration::from_secs(4980)),
            limit: Some(100),
            remaining: Some(0),
            window: Some(Duration::from_secs(21600)),
            reset: None,
        };
        assert_eq!(limit, expected);
        assert_eq!(limit.to_string(), ", 0 of 100 left in 6 h, again in 83 min");
    }

    #[test]
    fn dates_unix_times_and_nonsense() {
        assert_eq!(of(&[("retry-after", "Tue, 14 Nov 2023 22:13:30 GMT")]).retry_after, Some(Duration::from_secs(10)));
        assert_eq!(of(&[("retry-after", "Tue, 14 Nov 2000 22:13:30 GMT")]).retry_after, Some(Duration::ZERO));
        assert_eq!(of(&[("x-ratelimit-reset", "1700000060")]).reset, Some(Duration::from_secs(60)));
        assert_eq!(of(&[("retry-after", "999999999")]).retry_after, Some(Duration::from_secs(LONGEST)));
        for nonsense in ["", "-1", "soon", "99999999999999999999999", "1e9"] {
            assert_eq!(of(&[("retry-after", nonsense), ("ratelimit-limit", nonsense)]), RateLimit::default());
        }
    }
}
