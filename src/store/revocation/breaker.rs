//! A circuit breaker for a store that fails.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::error::StoreError;
use crate::store::rows::Rows;

/// While the store fails, one query is risked in this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps requests from queueing for a store that is down.
#[derive(Default)]
pub(super) struct Breaker(Mutex<Option<Instant>>);

impl Breaker {
    pub(super) async fn guard<T>(
        &self,
        rows: &Rows,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if !self.lets_through(rows.timeout) {
            return Err(StoreError::Unavailable(
                "it failed a moment ago and is left alone for a second".into(),
            ));
        }
        let answer = question.await;
        let failed = matches!(answer, Err(StoreError::Unavailable(_) | StoreError::Timeout(_)));
        self.set(failed.then(|| Instant::now() + PAUSE));
        answer
    }

    /// After a failure one caller is let through, alone until there is an answer.
    fn lets_through(&self, timeout: Duration) -> bool {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *until {
            None => true,
            Some(moment) if Instant::now() < moment => false,
            Some(_) => {
                *until = Some(Instant::now() + timeout + PAUSE);
                true
            }
        }
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_question_at_a_time_is_risked() {
        let (breaker, timeout) = (Breaker::default(), Duration::from_secs(5));
        assert!(breaker.lets_through(timeout) && breaker.lets_through(timeout));
        breaker.set(Some(Instant::now() + PAUSE));
        assert!(!breaker.lets_through(timeout));
        tokio::time::advance(PAUSE).await;
        for _ in 0..2 {
            assert!(breaker.lets_through(timeout));
            tokio::time::advance(timeout + PAUSE - Duration::from_millis(1)).await;
            assert!(
                !breaker.lets_through(timeout),
                "until there is an answer, or there can be none any more"
            );
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        breaker.set(None);
        assert!(breaker.lets_through(timeout) && breaker.lets_through(timeout));
    }
}
