//! A circuit breaker for a store that fails, or for a part of it.

use std::array;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::error::StoreError;
use crate::core::row_name::RowKey;
use crate::store::rows::{Deadline, Rows};

/// While a part of the store fails, one query of it is risked in this time.
const PAUSE: Duration = Duration::from_secs(1);
/// So many parts are told apart. Each learns of a failure by itself, and has a trial of its own.
const PARTS: usize = 16;

/// Keeps requests from queueing for a store that is down, by its parts: what is lost of a cluster costs only itself.
pub(super) struct Breaker([Part; PARTS]);

#[derive(Default)]
struct Part(Mutex<Option<Instant>>);

impl Default for Breaker {
    fn default() -> Self {
        Self(array::from_fn(|_| Part::default()))
    }
}

impl Breaker {
    /// Asks a question about this row, unless its part has just failed.
    pub(super) async fn guard<T>(
        &self,
        (rows, place): (&Rows, &RowKey),
        deadline: Deadline,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if deadline.is_over() {
            // That another part has taken all the time says nothing of this one.
            return Err(StoreError::Timeout("no time was left to ask it".into()));
        }
        let part = &self.0[usize::from(rows.store.part(place)) % PARTS];
        if !part.lets_through(rows.timeout) {
            return Err(StoreError::Unavailable(
                "it failed a moment ago and is left alone for a second".into(),
            ));
        }
        let answer = question.await;
        let failed = matches!(answer, Err(StoreError::Unavailable(_) | StoreError::Timeout(_)));
        part.set(failed.then(|| Instant::now() + PAUSE));
        answer
    }
}

impl Part {
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
        let (breaker, timeout) = (Part::default(), Duration::from_secs(5));
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
