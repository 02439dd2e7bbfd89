//! A lock per row, and what its last holder has left there for the next one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::task::yield_now;
use tokio::time::timeout_at;

use super::Deadline;
use crate::store::RowKey;

type Lock<T> = Arc<tokio::sync::Mutex<Option<T>>>;

/// Locks by row, for as long as somebody holds or awaits them. First come, first served, but whoever ends a session goes
/// first: or a thief who writes it without a pause could keep it from being ended.
#[derive(Debug)]
pub(crate) struct RowLocks<T>(Mutex<HashMap<RowKey, Contended<T>>>);

#[derive(Debug)]
struct Contended<T> {
    lock: Lock<T>,
    /// How many wait who go first.
    first: Arc<AtomicUsize>,
}

/// Counts one that goes first, until it has its turn or gives up.
struct First<'a>(&'a AtomicUsize);

impl<'a> First<'a> {
    fn among(first: &'a AtomicUsize) -> Self {
        first.fetch_add(1, Ordering::AcqRel);
        Self(first)
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether somebody waits in order, or goes before those who do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    InOrder,
    First,
}

/// A held lock. The last holder leaves no trace.
pub(crate) struct RowLock<'a, T> {
    locks: &'a RowLocks<T>,
    pub(crate) key: RowKey,
    /// Whether there was a holder before.
    pub(crate) waited: bool,
    guard: Option<OwnedMutexGuard<Option<T>>>,
}

impl<T> RowLocks<T> {
    /// Waits until nobody else holds the row's lock; `None`: the deadline has passed.
    pub(crate) async fn lock(&self, key: RowKey, deadline: Deadline) -> Option<RowLock<'_, T>> {
        self.lock_at(Priority::InOrder, key, deadline).await
    }

    /// The same, in turn or before others.
    pub(crate) async fn lock_at(
        &self,
        priority: Priority,
        key: RowKey,
        deadline: Deadline,
    ) -> Option<RowLock<'_, T>> {
        // Dropped last, when our own reference to the lock is gone.
        let mut held = RowLock { locks: self, key, waited: false, guard: None };
        let (lock, first) = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = locks.entry(key).or_default();
            (Arc::clone(&entry.lock), Arc::clone(&entry.first))
        };
        let _first = (priority == Priority::First).then(|| First::among(&first));
        loop {
            held.guard = match Arc::clone(&lock).try_lock_owned() {
                Ok(guard) => Some(guard),
                Err(_) => {
                    held.waited = true;
                    Some(timeout_at(deadline.0, Arc::clone(&lock).lock_owned()).await.ok()?)
                }
            };
            if priority == Priority::First || first.load(Ordering::Acquire) == 0 {
                return Some(held);
            }
            // To the end of the queue.
            (held.guard, held.waited) = (None, true);
            yield_now().await;
            if deadline.is_over() {
                return None;
            }
        }
    }

    /// Whether somebody holds the row's lock, or waits for it.
    pub(crate) fn is_held(&self, key: &RowKey) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }
}

impl<T> Default for Contended<T> {
    fn default() -> Self {
        Self { lock: Lock::default(), first: Arc::default() }
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
        if locks.get(&self.key).is_some_and(|entry| Arc::strong_count(&entry.lock) == 1) {
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

    #[tokio::test(start_paused = true)]
    async fn who_ends_a_session_goes_before_all_who_wait_to_write_it_also_those_who_come_again() {
        let (locks, key) = (RowLocks::<u8>::default(), RowKey::hash("row", b"id"));
        let deadline = Deadline(Instant::now() + Duration::from_millis(100));
        let writes = std::cell::Cell::new(0);
        let work = Duration::from_millis(5);
        let held = locks.lock(key, deadline).await.unwrap();
        let writer = async || {
            // Who is in time comes again, and all of them together never cease to wait.
            while !deadline.is_over()
                && let Some(held) = locks.lock(key, deadline).await
            {
                tokio::time::sleep(work).await;
                writes.set(writes.get() + 1);
                drop(held);
            }
        };
        let ends = async {
            tokio::task::yield_now().await;
            let end = locks.lock_at(Priority::First, key, deadline);
            tokio::pin!(end);
            assert!(futures_now(&mut end).await.is_none());
            drop(held);
            let held = end.await.unwrap();
            assert_eq!(writes.get(), 0, "of the thirty that wait");
            drop(held);
        };
        let writers = async {
            let mut all: Vec<_> = (0..30).map(|_| Box::pin(writer())).collect();
            std::future::poll_fn(|context| {
                all.retain_mut(|one| one.as_mut().poll(context).is_pending());
                if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        };
        tokio::join!(writers, ends);
        assert!(writes.get() > 10, "and then they go on");
        // One that gives up holds nobody back.
        let held = locks.lock(key, Deadline(Instant::now() + work)).await.unwrap();
        assert!(locks.lock_at(Priority::First, key, Deadline(Instant::now() + work)).await.is_none());
        drop(held);
        assert!(locks.lock(key, Deadline(Instant::now() + work)).await.is_some());
        assert!(locks.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_when_it_has_just_got_its_turn_leaves_no_trace() {
        let (locks, key) = (RowLocks::<u8>::default(), RowKey::hash("row", b"id"));
        for priority in [Priority::InOrder, Priority::First] {
            let deadline = Deadline(Instant::now() + Duration::from_secs(5));
            let held = locks.lock(key, deadline).await.unwrap();
            {
                let next = locks.lock_at(priority, key, deadline);
                tokio::pin!(next);
                assert!(futures_now(&mut next).await.is_none());
                drop(held);
            }
            assert!(locks.0.lock().unwrap().is_empty());
        }
    }

    /// What it comes to when it is asked once.
    async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
