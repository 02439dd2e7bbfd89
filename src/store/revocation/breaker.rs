//! A circuit breaker for a store that fails, or for a part of it.

use std::array;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::error::StoreError;
use crate::core::row_name::RowKey;
use crate::store::rows::Visit;

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
        visit: &Visit<'_>,
        place: &RowKey,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if visit.deadline.is_over() {
            // That another part has taken all the time says nothing of this one.
            return Err(StoreError::Timeout("no time was left to ask it".into()));
        }
        let part = &self.0[usize::from(visit.rows.store.part(place)) % PARTS];
        let Some(trial) = part.lets_through(visit.rows.timeout) else {
            return Err(StoreError::Unavailable(
                "it failed a moment ago and is left alone for a second".into(),
            ));
        };
        let answer = question.await;
        let failed = answer.as_ref().is_err_and(StoreError::leaves_open);
        trial.ends(failed.then(|| Instant::now() + PAUSE));
        answer
    }
}

impl Part {
    /// After a failure one caller is let through, alone until there is an answer.
    fn lets_through(&self, timeout: Duration) -> Option<Trial<'_>> {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *until {
            None => Some(Trial { part: self, is_alone: false }),
            Some(moment) if Instant::now() < moment => None,
            Some(_) => {
                *until = Some(Instant::now() + timeout + PAUSE);
                Some(Trial { part: self, is_alone: true })
            }
        }
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// A question that is asked.
struct Trial<'p> {
    part: &'p Part,
    is_alone: bool,
}

impl Trial<'_> {
    fn ends(mut self, until: Option<Instant>) {
        self.is_alone = false;
        self.part.set(until);
    }
}

impl Drop for Trial<'_> {
    /// Nobody waits for the answer any more, so it says nothing: the next caller tries.
    fn drop(&mut self) {
        if self.is_alone {
            self.part.set(Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_question_at_a_time_is_risked() {
        let (breaker, timeout) = (Part::default(), Duration::from_secs(5));
        let lets_through = || breaker.lets_through(timeout).map(std::mem::forget).is_some();
        assert!(lets_through() && lets_through());
        breaker.set(Some(Instant::now() + PAUSE));
        assert!(!lets_through());
        tokio::time::advance(PAUSE).await;
        for _ in 0..2 {
            assert!(lets_through());
            tokio::time::advance(timeout + PAUSE - Duration::from_millis(1)).await;
            assert!(!lets_through(), "until there is an answer, or there can be none any more");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        breaker.set(None);
        assert!(lets_through() && lets_through());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_nobody_waits_for_any_more_leaves_the_trial_to_the_next() {
        let (breaker, timeout) = (Part::default(), Duration::from_secs(5));
        breaker.set(Some(Instant::now() + PAUSE));
        tokio::time::advance(PAUSE).await;
        let trial = breaker.lets_through(timeout);
        assert!(trial.is_some() && breaker.lets_through(timeout).is_none());
        drop(trial);
        let next = breaker.lets_through(timeout).unwrap();
        next.ends(None);
        // One of many that asked while all was well is no trial.
        drop(breaker.lets_through(timeout));
        assert!(breaker.lets_through(timeout).is_some_and(|question| !question.is_alone));
    }
}
