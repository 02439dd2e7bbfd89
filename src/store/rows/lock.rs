//! A lock per row, and what its last holder has left there for the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout_at;

use super::Deadline;
use crate::store::RowKey;

type Lock<T> = Arc<tokio::sync::Mutex<Option<T>>>;

/// Locks by row, for as long as somebody holds or awaits them. First come, first served.
#[derive(Debug)]
pub(crate) struct RowLocks<T>(Mutex<HashMap<RowKey, Lock<T>>>);

/// A held lock. The last holder leaves no trace.
pub(crate) struct RowLock<'a, T> {
    locks: &'a RowLocks<T>,
    key: RowKey,
    /// Whether there was a holder before.
    pub(crate) waited: bool,
    guard: Option<OwnedMutexGuard<Option<T>>>,
}

impl<T> RowLocks<T> {
    /// Waits until nobody else holds the row's lock; `None`: the deadline has passed.
    pub(crate) async fn lock(&self, key: RowKey, deadline: Deadline) -> Option<RowLock<'_, T>> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(key).or_default())
        };
        let mut held = RowLock { locks: self, key, waited: false, guard: None };
        held.guard = match Arc::clone(&lock).try_lock_owned() {
            Ok(guard) => Some(guard),
            Err(_) => {
                held.waited = true;
                Some(timeout_at(deadline.0, lock.lock_owned()).await.ok()?)
            }
        };
        Some(held)
    }
}

impl<T> RowLocks<T> {
    /// Whether somebody holds the row's lock, or waits for it.
    pub(crate) fn is_held(&self, key: &RowKey) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }
}

impl<T> Default for RowLocks<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> RowLock<'_, T> {
    /// Takes what the previous holder of the lock left.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.guard.as_mut()?.take()
    }

    /// Whether somebody waits for the lock.
    pub(crate) fn is_awaited(&self) -> bool {
        // Two are the map's and our own.
        self.guard.as_ref().is_some_and(|guard| Arc::strong_count(OwnedMutexGuard::mutex(guard)) > 2)
    }

    /// Leaves something for the next holder, if somebody waits already.
    pub(crate) fn hand_over(&mut self, left: T) {
        if let Some(guard) = &mut self.guard {
            **guard = Some(left);
        }
    }
}

impl<T> Drop for RowLock<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_holds_a_row_and_the_last_leaves_no_trace() {
        let (locks, key) = (RowLocks::<u8>::default(), RowKey::hash("row", b"id"));
        let within = |millis| Deadline(Instant::now() + Duration::from_millis(millis));
        let known = || locks.0.lock().unwrap().len();
        let mut one = locks.lock(key, within(10)).await.unwrap();
        assert!(!one.waited && one.take().is_none());
        assert!(locks.lock(key, within(10)).await.is_none(), "not within its time");
        assert!(!one.is_awaited());
        let elsewhere = locks.lock(RowKey::hash("row", b"other"), within(10)).await.unwrap();
        assert!(!elsewhere.waited);
        drop(elsewhere);
        assert_eq!(known(), 1);
        let next = async {
            let mut held = locks.lock(key, within(10)).await.unwrap();
            assert!(held.waited);
            assert_eq!(held.take(), Some(7));
            assert_eq!(held.take(), None);
            assert_eq!(known(), 1);
        };
        let leaves = async {
            tokio::task::yield_now().await;
            assert!(one.is_awaited());
            one.hand_over(7);
            drop(one);
            assert_eq!(known(), 1, "somebody waits");
        };
        tokio::join!(next, leaves);
        assert_eq!(known(), 0);
    }
}
