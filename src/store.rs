//! Stores: where sessions that have outgrown their cookies are kept.
//!
//! A store keeps rows: opaque bytes under an opaque key, with a revision and an expiry. It never learns whose session
//! a row is, which cookie leads to it, or what is in it: keys are hashes, and the bytes are sealed under a key that
//! needs both the ring and the session's id.
//!
//! | store | feature | for |
//! |---|---|---|
//! | `MemoryStore` | `memory` | one process, and tests; a restart loses it |
//! | `RedbStore` | `redb` | one process; a file |
//! | `RedisStore` | `redis` | any number of nodes; a single server or a cluster |
//! | `MongoStore` | `mongodb` | any number of nodes |
//! | `SqlStore` | `postgres`, `mysql`, `sqlite` | any number of nodes; SQLite: processes of one machine |
//!
//! A store of your own takes seven methods: implement [`Store`] and let `store::conformance` (feature `conformance`)
//! check it.

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "mongodb")]
mod mongodb;
mod open;
#[cfg(any(
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod reach;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod revocation;
pub(crate) mod roster;
pub(crate) mod rows;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod sql;
pub(crate) mod stored;

use std::fmt;
use std::sync::Arc;

pub use async_trait::async_trait;
use time::OffsetDateTime;

#[cfg(feature = "memory")]
pub use self::memory::MemoryStore;
#[cfg(feature = "mongodb")]
pub use self::mongodb::{MongoStore, MongoStoreOptions};
pub use self::open::{OpenError, open, open_existing, open_lazy};
#[cfg(feature = "redb")]
pub use self::redb::{RedbStore, RedbStoreOptions};
#[cfg(feature = "redis")]
pub use self::redis::{RedisConnection, RedisStore, RedisStoreOptions};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub use self::sql::{SqlPool, SqlStore, SqlStoreOptions};

pub use crate::core::error::StoreError;
pub use crate::core::row_name::{REVISION_LEN, ROW_KEY_LEN, Revision, RowKey};

/// Rows of up to this many bytes end sessions, so even a full store takes them. Those of sessions that live are longer.
#[cfg(any(feature = "memory", feature = "redis"))]
const SMALL_ROW: usize = 96;

/// A stored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Opaque bytes, up to the builder's `max_stored_bytes` and a few more.
    pub data: Vec<u8>,
    /// The name that its last writer gave it.
    pub revision: Revision,
    /// From this moment on the row is not there any more.
    pub expires_at: OffsetDateTime,
}

/// A row to write.
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    /// Opaque bytes.
    pub data: &'a [u8],
    /// Names this state of the row.
    pub revision: Revision,
    /// From this moment on the row is not there any more. If the present row expires later, that expiry stays.
    pub expires_at: OffsetDateTime,
}

/// What has to be there for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No row, or one that has expired.
    Absent,
    /// A row of exactly this revision that has not expired.
    At(Revision),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// The row is as requested.
    Done,
    /// Something else is there, and it stays as it is.
    Conflict,
}

/// Keeps rows. Object-safe; `Arc<dyn Store>` is a store as well.
///
/// To implement it, mark the `impl` with [`async_trait`](macro@async_trait), which is here for that; moments are those of `sealed_session::time`.
///
/// Each method is one atomic step that all users of the store see in one order, that of real time (linearizable). A row
/// that has expired is treated as if it were not there, swept or not.
///
/// - **Clocks.** Whether a row has expired is judged by the clock of the node or of the store's server, to the second.
///   Nodes may be a minute apart, so rows of sessions are requested for a minute longer than needed, and marks for two; the
///   store adds nothing.
/// - **Calls without an answer.** The builder's `store_timeout` bounds each call from outside, so a call may be dropped
///   half-way and take effect later. That is safe: writes and extensions name what they expect to find.
/// - **Runtimes.** Calls come from several tokio runtimes, even at the same time, as from the workers of actix-web. A
///   runtime, and what was spawned on it, may end while others go on.
/// - **Sweeping.** In this crate only the command line tool calls [`sweep`](Self::sweep) for a store. Where the engine
///   does not drop expired rows, the store has a task of its own, like `SqlStore` and `RedbStore`, or the application
///   calls it.
///
/// # Errors
/// [`StoreError::Unavailable`] if the store cannot be reached, [`StoreError::Timeout`] if it may have acted but did not
/// say so, [`StoreError::Misconfigured`] if it refuses whoever asks, or what they ask for; callers treat all three as if it may have
/// acted, as where a connection broke and the next one is refused. [`StoreError::Full`] if it has no room, [`StoreError::Corrupt`] if
/// it holds what it was never given. A store retries nothing that may have been applied, and leaves waiting and retrying
/// to its callers. Rows of up to 96 bytes are what ends sessions, and no session that lives has one: a store that can
/// refuse others for lack of room takes these, if it can.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The row, if it is there and has not expired. From the primary, never from a replica that may lag behind.
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError>;

    /// Writes the row if what is expected is there. The expiry becomes the later of the new one and that of the replaced
    /// row, unless that row has expired. Where one that has expired is dropped at this very moment, a conflict may be told of
    /// a row that is not there: callers look, and try again.
    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError>;

    /// Moves the expiry of the row to no earlier than this, if it is there with exactly this revision; its data and
    /// revision stay. Returns true while the row has that revision, whether the expiry had to be moved or not; false for
    /// another revision, or no row.
    ///
    /// In a database, count the rows that matched, not those that changed.
    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError>;

    /// Removes the row. Returns whether there was one.
    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError>;

    /// Drops up to `limit` expired rows and returns how many. 0 if the engine does that by itself.
    async fn sweep(&self, limit: usize) -> Result<u64, StoreError>;

    /// How many rows there are that have not expired.
    async fn count(&self) -> Result<u64, StoreError>;

    /// Removes all rows of this store, and nothing else.
    async fn clear(&self) -> Result<(), StoreError>;

    /// Which part of the store this row is in, of those that can fail alone, such as the shards of a cluster. Whether a
    /// session was revoked is not asked of a part that has just failed, but of the others it is. Parts may be finer than
    /// what fails; their numbers have no other meaning, and those that are equal modulo 16 count as one. Called before
    /// each such question, so it must neither wait nor change its answer while nothing else has changed. A store around
    /// another one passes this on. Default: the store is one part, 0.
    fn part(&self, key: &RowKey) -> u16 {
        let _ = key;
        0
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        (**self).load(key).await
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        (**self).write(key, row, expected).await
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        (**self).extend(key, at, expires_at).await
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        (**self).delete(key).await
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        (**self).sweep(limit).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        (**self).count().await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        (**self).clear().await
    }

    fn part(&self, key: &RowKey) -> u16 {
        (**self).part(key)
    }
}
