//! Rows in this process's memory.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::core::clock::{Clock, Millis, SystemClock};
use crate::core::error::StoreError;
use crate::store::{
    Expected, NewRow, REVISION_LEN, ROW_KEY_LEN, Revision, Row, RowKey, SMALL_ROW, Store, Written,
};

/// What a row costs besides its data: its key and its revision, an expiry in two places, and the maps around them.
const ROW_OVERHEAD: usize = 2 * ROW_KEY_LEN + REVISION_LEN + 2 * size_of::<Millis>() + 64;
/// How many expired rows one call drops, so that no call pays for all.
const DROPPED_PER_CALL: usize = 64;

/// Keeps rows in the memory of this process.
///
/// # In production
/// For one process: others do not see its rows, and a restart loses them, so sessions that had outgrown their cookies
/// start anew (`Rejected(Missing)`). Use `RedbStore` where a restart must not log anybody out.
///
/// The memory is bounded: at `max_bytes` it refuses new rows with [`StoreError::Full`], so that requests that need them
/// get a 503, and never drops a living one. Only the small rows that end sessions are still accepted. Incoming calls drop
/// expired rows.
///
/// ```
/// use sealed_session::{Key, KeyRing, Sessions};
/// use sealed_session::store::MemoryStore;
///
/// let sessions = Sessions::builder(KeyRing::new(Key::generate()))
///     .store(MemoryStore::new().max_bytes(256 << 20))
///     .build()?;
/// # Ok::<(), sealed_session::ConfigError>(())
/// ```
pub struct MemoryStore {
    rows: Mutex<Rows>,
    max_bytes: usize,
    clock: Box<dyn Clock>,
}

#[derive(Default)]
struct Rows {
    of: HashMap<RowKey, Stored>,
    by_expiry: BTreeSet<(Millis, RowKey)>,
    bytes: usize,
}

struct Stored {
    data: Box<[u8]>,
    revision: Revision,
    expires_at: Millis,
}

impl MemoryStore {
    /// An empty store of at most 64 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self { rows: Mutex::default(), max_bytes: 64 << 20, clock: Box::new(SystemClock) }
    }

    /// How much memory the rows may take, counting about 200 bytes for each besides its data; the default is 64 MiB.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Where the time comes from; the default is [`SystemClock`].
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    /// How much memory the rows take now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.with(|rows, _| rows.bytes)
    }

    fn with<R>(&self, f: impl FnOnce(&mut Rows, Millis) -> R) -> R {
        let now = Millis::of(self.clock.now());
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.drop_expired(now, DROPPED_PER_CALL);
        f(&mut rows, now)
    }
}

impl Rows {
    fn drop_expired(&mut self, now: Millis, limit: usize) -> u64 {
        let mut dropped = 0;
        while let Some(&(expires_at, key)) = self.by_expiry.first()
            && expires_at <= now
            && dropped < limit
        {
            self.remove(&key);
            dropped += 1;
        }
        dropped as u64
    }

    fn remove(&mut self, key: &RowKey) -> Option<Stored> {
        let stored = self.of.remove(key)?;
        self.by_expiry.remove(&(stored.expires_at, *key));
        self.bytes -= stored.data.len() + ROW_OVERHEAD;
        Some(stored)
    }

    fn insert(&mut self, key: RowKey, stored: Stored) {
        self.remove(&key);
        self.bytes += stored.data.len() + ROW_OVERHEAD;
        self.by_expiry.insert((stored.expires_at, key));
        self.of.insert(key, stored);
    }

    fn live(&self, key: &RowKey, now: Millis) -> Option<&Stored> {
        self.of.get(key).filter(|stored| stored.expires_at > now)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let row = |stored: &Stored| Row {
            data: stored.data.to_vec(),
            revision: stored.revision,
            expires_at: stored.expires_at.to_datetime(),
        };
        Ok(self.with(|rows, now| rows.live(key, now).map(row)))
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        self.with(|rows, now| {
            let mut expires_at = Millis::of(row.expires_at);
            let mut freed = 0;
            match (expected, rows.live(key, now)) {
                (Expected::Absent, None) => {}
                (Expected::At(revision), Some(present)) if present.revision == revision => {
                    expires_at = expires_at.max(present.expires_at);
                    freed = present.data.len() + ROW_OVERHEAD;
                }
                _ => return Ok(Written::Conflict),
            }
            let needed = row.data.len() + ROW_OVERHEAD;
            let total = rows.bytes - freed + needed;
            // A row that shrinks is accepted even if the limit has been lowered: that ends sessions, too.
            if needed > freed && total > self.max_bytes && row.data.len() > SMALL_ROW {
                let reason = format!("{total} bytes would be over the limit of {}", self.max_bytes);
                return Err(StoreError::Full(reason.into()));
            }
            rows.insert(*key, Stored { data: row.data.into(), revision: row.revision, expires_at });
            Ok(Written::Done)
        })
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        self.with(|rows, now| {
            let expires_at = Millis::of(expires_at);
            match rows.live(key, now) {
                Some(present) if present.revision == at => {
                    if present.expires_at < expires_at
                        && let Some(stored) = rows.remove(key)
                    {
                        rows.insert(*key, Stored { expires_at, ..stored });
                    }
                    Ok(true)
                }
                _ => Ok(false),
            }
        })
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        Ok(self.with(|rows, now| rows.remove(key).is_some_and(|stored| stored.expires_at > now)))
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        let now = Millis::of(self.clock.now());
        Ok(self.rows.lock().unwrap_or_else(PoisonError::into_inner).drop_expired(now, limit))
    }

    async fn count(&self) -> Result<u64, StoreError> {
        Ok(self.with(|rows, now| rows.of.values().filter(|stored| stored.expires_at > now).count() as u64))
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.with(|rows, _| *rows = Rows::default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::core::clock::ManualClock;

    fn key(n: u8) -> RowKey {
        RowKey::from_bytes([n; ROW_KEY_LEN])
    }

    fn row(data: &[u8], expires_at: OffsetDateTime) -> NewRow<'_> {
        NewRow { data, revision: Revision::random(), expires_at }
    }

    #[tokio::test]
    async fn expired_rows_leave_by_themselves_and_a_full_store_refuses_instead_of_dropping_the_living() {
        let clock = ManualClock::at(OffsetDateTime::UNIX_EPOCH);
        let store = Arc::new(MemoryStore::new().clock(clock.clone()).max_bytes(10 * (200 + ROW_OVERHEAD)));
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for n in 0..10 {
            let written = store.write(&key(n), row(&[n; 200], at(10 + u64::from(n))), Expected::Absent).await;
            assert_eq!(written.unwrap(), Written::Done);
        }
        let full =
            store.write(&key(10), row(&[0; SMALL_ROW + 1], at(100)), Expected::Absent).await.unwrap_err();
        assert!(matches!(full, StoreError::Full(_)));
        assert_eq!(store.count().await.unwrap(), 10);

        let revision = store.load(&key(9)).await.unwrap().unwrap().revision;
        let grown = store.write(&key(9), row(&[0; 201], at(100)), Expected::At(revision)).await;
        assert!(matches!(grown, Err(StoreError::Full(_))));
        let ends = store.write(&key(11), row(&[0; SMALL_ROW], at(11)), Expected::Absent).await;
        assert_eq!(ends.unwrap(), Written::Done, "what ends a session has room always");
        assert!(store.delete(&key(11)).await.unwrap());
        let shrunk = store.write(&key(9), row(&[0; 199], at(100)), Expected::At(revision)).await;
        assert_eq!(shrunk.unwrap(), Written::Done);

        // The first three have expired; a request for another one is enough.
        clock.advance(Duration::from_secs(12));
        store.load(&key(5)).await.unwrap();
        assert_eq!(store.rows.lock().unwrap().of.len(), 7);
        assert_eq!(store.bytes(), 7 * (200 + ROW_OVERHEAD) - 1);
        assert_eq!(
            store.write(&key(10), row(&[0; 200], at(100)), Expected::Absent).await.unwrap(),
            Written::Done
        );
    }
}
