//! Trying again: what, how often, after how long.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};

use super::error::Error;

/// How often and how patiently a request is repeated.
///
/// Repeated are lost connections, timeouts, 408 and 5xx; and 429 where the answer names a moment that is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Requests in all, the first one counted. At least one is made.
    pub attempts: usize,
    /// The first pause; each further one is twice as long, and each a little longer by chance, so that hosts that were
    /// cut off together do not come back together.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The longest `Retry-After` that is worth waiting for.
    pub patience: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(8),
            patience: Duration::from_secs(10),
        }
    }
}

impl Retry {
    /// Calls `attempt` until it succeeds, fails for good, or has failed often enough.
    pub(super) async fn run<T, F>(self, attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        attempt
            .retry(self.backoff())
            .sleep(tokio::time::sleep)
            .when(|error| error.is_transient() || self.near(error).is_some())
            .adjust(|error, pause| pause.map(|pause| self.near(error).unwrap_or(pause)))
            .notify(|error, pause| tracing::debug!(%error, ?pause, "trying again"))
            .await
    }

    /// The pauses, one for each attempt after the first.
    pub(super) fn pauses(self) -> impl Iterator<Item = Duration> + Send + 'static {
        self.backoff().build()
    }

    fn backoff(self) -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
    }

    /// The wait that a rate-limited answer asks for, if it is short.
    pub(super) fn near(self, error: &Error) -> Option<Duration> {
        match error {
            Error::RateLimited { limit, .. } => limit.retry_after.filter(|wait| *wait <= self.patience),
            _ => None,
        }
    }
}
