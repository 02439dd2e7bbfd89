//! Rows in PostgreSQL, MySQL or MariaDB, or SQLite.

mod connection;
mod connections;
mod dialect;
mod failure;
mod options;

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row as _};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use self::connections::Connections;
use self::dialect::{Dialect, Statements};
use self::failure::{code, failure, is_denied, is_overtaken};
pub use self::options::{SqlPool, SqlStoreOptions};
use crate::core::clock::{Clock, Millis};
use crate::core::error::StoreError;
use crate::store::reach::background;
use crate::store::{Expected, NewRow, Revision, Row, RowKey, Store, Written};

/// Rows that one statement of the background sweep deletes.
const SWEPT_AT_ONCE: usize = 1_000;
/// How long such a statement may take.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// Keeps rows in a table of an SQL database, through a pool of connections. The address says which:
/// `postgres://user@host/database`, `mysql://user@host/database` (MariaDB, too) or `sqlite:path`.
///
/// One round trip for a read, one for a write. A task in the background deletes expired rows in batches.
/// [`connect_lazy`](Self::connect_lazy) starts even while the database is down.
///
/// [`from_pool`](Self::from_pool) takes the application's own pool. This makes version 0.9 of the crate `sqlx` part of
/// this crate's public interface: moving to the next one is a breaking release. With SQLite in both, two versions of
/// `sqlx` cannot be in one program, because each links SQLite.
///
/// # In production
/// - **Schema.** [`create_table`](Self::create_table) makes the table if it is missing; for a migration tool:
///
///   ```sql
///   -- PostgreSQL; in SQLite the types are BLOB and INTEGER
///   CREATE TABLE sealed_sessions (id BYTEA PRIMARY KEY, revision BYTEA NOT NULL, expires_at BIGINT NOT NULL, data BYTEA NOT NULL);
///   CREATE INDEX sealed_sessions_expires_at ON sealed_sessions (expires_at);
///   -- PostgreSQL: what is sealed cannot be compressed
///   ALTER TABLE sealed_sessions ALTER COLUMN data SET STORAGE EXTERNAL;
///   -- MySQL, MariaDB
///   CREATE TABLE sealed_sessions (id BINARY(32) PRIMARY KEY, revision BINARY(16) NOT NULL, expires_at BIGINT NOT NULL, data MEDIUMBLOB NOT NULL,
///       INDEX sealed_sessions_expires_at (expires_at));
///   ```
///
///   Tables made otherwise, such as `WITHOUT ROWID` in SQLite, work too, and stay as they are.
/// - **Permissions.** `SELECT`, `INSERT`, `UPDATE` and `DELETE` on that table, which also suffice for
///   [`create_table`](SqlStoreOptions::create_table) if table and index exist.
/// - **Durability.** The database's: with its defaults, what was acknowledged survives a crash.
///   `synchronous_commit = off`, `fsync = off`, `innodb_flush_log_at_trx_commit = 0` or `2` give up some of it.
/// - **Replicas.** The address has to be that of the primary: a replica that lags behind shows old data and ended
///   sessions.
/// - **Size.** `max_stored_bytes` and a little more has to fit into `max_allowed_packet` (MySQL).
/// - **Clocks.** The table keeps expiries in milliseconds since 1970, by the clock of the nodes.
/// - **MySQL 8** needs TLS for `caching_sha2_password`. The tests run against MariaDB.
/// - **PgBouncer** needs `ignore_startup_parameters = extra_float_digits`, a parameter that `sqlx` sends; in transaction
///   mode also version 1.21 or later with `max_prepared_statements` above 0.
/// - **Runtimes.** Each connection lives in the tokio runtime that opened it. When one ends, or a handler blocks its only
///   thread, a statement on one of its connections fails if that was used within the last 2 seconds. Those that were idle for
///   longer are tested first, for half a second at most, and others are opened instead.
/// - **SQLite** is for the processes of one machine; it is opened in WAL mode with `synchronous = FULL`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sealed_session::store::SqlStore;
///
/// let store = SqlStore::connect("postgres://app@db/app").await?;
/// store.create_table().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqlStore {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    statements: Statements,
    clock: Box<dyn Clock>,
    /// Set once nothing remains to be done for the table.
    table: OnceCell<()>,
    sweep_every: Duration,
    sweeps: AtomicBool,
}

enum Pool {
    #[cfg(feature = "postgres")]
    Postgres(Connections<sqlx::Postgres>),
    #[cfg(feature = "mysql")]
    MySql(Connections<sqlx::MySql>),
    #[cfg(feature = "sqlite")]
    Sqlite(Connections<sqlx::Sqlite>),
}

/// Sweeps until the store is dropped.
async fn sweep_regularly(store: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(shared) = store.upgrade() else { return };
        let store = SqlStore { shared };
        loop {
            let swept = timeout(SWEEP_PATIENCE, store.sweep(SWEPT_AT_ONCE)).await;
            match swept.unwrap_or_else(|late| Err(StoreError::Timeout(late.into()))) {
                Ok(swept) if swept == SWEPT_AT_ONCE as u64 => {}
                Ok(_) => break,
                Err(error) => {
                    let source = std::error::Error::source(&error).map(tracing::field::display);
                    tracing::warn!(target: "sealed_session", %error, source, "expired rows were not swept, and take room until the next sweep does it");
                    break;
                }
            }
        }
    }
}

/// Runs a statement on whatever database it is. Returns how many rows it touched.
macro_rules! execute {
    ($shared:expr, $statement:ident $(, $argument:expr)* $(,)?) => {
        execute!(text $shared, &$shared.statements.$statement $(, $argument)*)
    };
    (text $shared:expr, $text:expr $(, $argument:expr)*) => {{
        let query = AssertSqlSafe(Arc::clone($text));
        match &$shared.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(connections) => match connections.take().await {
                Ok(mut connection) => {
                    let done = sqlx::query(query)$(.bind($argument))*.execute(&mut *connection).await;
                    connection.done(done).map(|done| done.rows_affected())
                }
                Err(error) => Err(error),
            },
            #[cfg(feature = "mysql")]
            Pool::MySql(connections) => match connections.take().await {
                Ok(mut connection) => {
                    let done = sqlx::query(query)$(.bind($argument))*.execute(&mut *connection).await;
                    connection.done(done).map(|done| done.rows_affected())
                }
                Err(error) => Err(error),
            },
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(connections) => match connections.take().await {
                Ok(mut connection) => {
                    let done = sqlx::query(query)$(.bind($argument))*.execute(&mut *connection).await;
                    connection.done(done).map(|done| done.rows_affected())
                }
                Err(error) => Err(error),
            },
        }
    }};
}

/// Runs a query on whatever database it is. Returns its first row, as `$read` reads it.
macro_rules! first {
    ($shared:expr, $statement:ident, $read:expr $(, $argument:expr)* $(,)?) => {{
        let query = AssertSqlSafe(Arc::clone(&$shared.statements.$statement));
        match &$shared.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(connections) => match connections.take().await {
                Ok(mut connection) => {
                    let row = sqlx::query(query)$(.bind($argument))*.fetch_optional(&mut *connection).await;
                    connection.done(row).map(|row| row.map(|row| $read(&row)))
                }
                Err(error) => Err(error),
            },
            #[cfg(feature = "mysql")]
            Pool::MySql(connections) => match connections.take().await {
                Ok(mut connection) => {
                    let row = sqlx::query(query)$(.bind($argument))*.fetch_optional(&mut *connection).await;
                    connection.done(row).map(|row| row.map(|row| $read(&row)))
                }
                Err(error) => Err(error),
            },
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(connections) => match connections.take().await {
                Ok(mut connection) => {
                    let row = sqlx::query(query)$(.bind($argument))*.fetch_optional(&mut *connection).await;
                    connection.done(row).map(|row| row.map(|row| $read(&row)))
                }
                Err(error) => Err(error),
            },
        }
    }};
}

/// What is read of a row, whatever the database.
trait Columns {
    fn bytes(&self, column: usize) -> Result<Vec<u8>, sqlx::Error>;
    fn integer(&self, column: usize) -> Result<i64, sqlx::Error>;
}

macro_rules! columns {
    ($feature:literal, $row:ty) => {
        #[cfg(feature = $feature)]
        impl Columns for $row {
            fn bytes(&self, column: usize) -> Result<Vec<u8>, sqlx::Error> {
                self.try_get(column)
            }

            fn integer(&self, column: usize) -> Result<i64, sqlx::Error> {
                self.try_get(column)
            }
        }
    };
}

columns!("postgres", sqlx::postgres::PgRow);
columns!("mysql", sqlx::mysql::MySqlRow);
columns!("sqlite", sqlx::sqlite::SqliteRow);

impl SqlStore {
    /// Connects with the default options.
    ///
    /// # Errors
    /// Those of [`SqlStoreOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        SqlStoreOptions::new().connect(url).await
    }

    /// A database with the default options, which need not be up yet.
    ///
    /// # Errors
    /// Those of [`SqlStoreOptions::connect_lazy`].
    pub fn connect_lazy(url: &str) -> Result<Self, StoreError> {
        SqlStoreOptions::new().connect_lazy(url)
    }

    /// Uses the application's own pool, with the default options; see [`SqlPool`].
    pub fn from_pool(pool: impl Into<SqlPool>) -> Self {
        SqlStoreOptions::new().over(pool.into())
    }

    /// Makes the table and its index if they are missing; the connection's user has to be allowed to, unless the table
    /// exists. See also [`SqlStoreOptions::create_table`], which does it once the database is up.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if the user may not; the others as for any call.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        // Of a table that is there the storage is its owner's matter, and takes a lock that all others would wait for. So does
        // PostgreSQL's `CREATE INDEX IF NOT EXISTS`, also where there is one: it would wait for a VACUUM, and every write for it.
        let statements = &self.shared.statements;
        let looked = match statements.dialect {
            Dialect::Postgres => self.plainly(&statements.look).await.err(),
            Dialect::MySql | Dialect::Sqlite => None,
        };
        if statements.dialect == Dialect::Postgres
            && looked.is_none()
            && matches!(self.plainly(&statements.is_indexed).await, Ok(1..))
        {
            return Ok(());
        }
        let is_new = looked.and_then(|error| code(&error)).as_deref() == Some("42P01");
        for makes in [&statements.create_table, &statements.create_index] {
            match self.plainly(makes).await {
                Ok(_) => {}
                // Another process was faster, between PostgreSQL's check and its creation.
                Err(error) if matches!(code(&error).as_deref(), Some("23505" | "42P07" | "42710")) => {}
                // Databases check the permission before they check whether anything has to be done.
                Err(error) if is_denied(&error) && self.plainly(&statements.look).await.is_ok() => {}
                Err(error) => return Err(failure(error)),
            }
        }
        if is_new && let Err(error) = self.plainly(&statements.store_plainly).await {
            tracing::debug!(target: "sealed_session", %error, "PostgreSQL will try to compress rows, in vain");
        }
        Ok(())
    }

    /// Runs one that takes no arguments. In a box, because several in one future take more stack than they should.
    fn plainly<'a>(
        &'a self,
        statement: &'a Arc<str>,
    ) -> Pin<Box<dyn Future<Output = Result<u64, sqlx::Error>> + Send + 'a>> {
        Box::pin(async move { execute!(text self.shared, statement) })
    }

    /// Before each statement: what had to wait for the database.
    async fn ready(&self) -> Result<(), StoreError> {
        self.start_sweeping();
        self.shared.table.get_or_try_init(|| self.create_table()).await.map(drop)
    }

    /// Once, as soon as there is a runtime: what is made before may be forked.
    fn start_sweeping(&self) {
        let interval = self.shared.sweep_every;
        if interval != Duration::MAX
            && !self.shared.sweeps.load(Ordering::Relaxed)
            && Handle::try_current().is_ok()
            && !self.shared.sweeps.swap(true, Ordering::Relaxed)
        {
            background::spawn(sweep_regularly(Arc::downgrade(&self.shared), interval));
        }
    }

    fn now(&self) -> i64 {
        Millis::of(self.shared.clock.now()).0
    }

    /// Writes where there was nothing: MySQL has no conditional upsert.
    async fn create(&self, key: &[u8], row: NewRow<'_>, expires_at: i64) -> Result<bool, sqlx::Error> {
        let (data, revision, now) = (row.data, &row.revision.as_bytes()[..], self.now());
        if self.shared.statements.dialect != Dialect::MySql {
            return Ok(execute!(self.shared, create, key, data, revision, expires_at, now)? > 0);
        }
        match execute!(self.shared, create, key, data, revision, expires_at) {
            Ok(created) => Ok(created > 0),
            Err(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()) => {
                Ok(execute!(self.shared, replace_expired, data, revision, expires_at, key, now)? > 0)
            }
            Err(error) => Err(error),
        }
    }

    /// Moves an expiry to no earlier than this. Where it need not move, nothing is written.
    async fn move_expiry(&self, key: &[u8], at: &[u8], expires_at: i64) -> Result<bool, sqlx::Error> {
        fn read(row: &impl Columns) -> Result<bool, sqlx::Error> {
            Ok(row.integer(0)? == 1)
        }
        let now = self.now();
        match self.shared.statements.dialect {
            // The driver makes it count the rows found (`CLIENT_FOUND_ROWS`), not those changed.
            Dialect::MySql => Ok(execute!(self.shared, extend, expires_at, key, at, now)? > 0),
            Dialect::Postgres => {
                match first!(self.shared, extend, read, expires_at, key, at, now)?.transpose()? {
                    // The statement sees the row as it was before somebody else moved it. To tell whether that was far enough
                    // takes another one, which waits and looks again.
                    Some(false) => Ok(execute!(self.shared, is_extended, expires_at, key, at, now)? > 0),
                    extended => Ok(extended.is_some()),
                }
            }
            // It has no statement for both. The second one makes no trip, and it is right whatever comes in between, because it
            // asks for a row of this revision that lasts for so long.
            Dialect::Sqlite => Ok(execute!(self.shared, extend, expires_at, key, at, now)? > 0
                || first!(self.shared, is_extended, read, expires_at, key, at, now)?.is_some()),
        }
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        fn read(row: &impl Columns) -> Result<Row, StoreError> {
            let corrupt = |error: sqlx::Error| StoreError::Corrupt(error.into());
            let revision = row.bytes(1).map_err(corrupt)?.try_into();
            let revision = revision.map_err(|_| StoreError::Corrupt("a revision has 16 bytes".into()))?;
            Ok(Row {
                data: row.bytes(0).map_err(corrupt)?,
                revision: Revision::from_bytes(revision),
                expires_at: Millis(row.integer(2).map_err(corrupt)?).to_datetime(),
            })
        }
        self.ready().await?;
        first!(self.shared, load, read, &key.as_bytes()[..], self.now()).map_err(failure)?.transpose()
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        self.ready().await?;
        let key = &key.as_bytes()[..];
        let expires_at = Millis::of(row.expires_at).0;
        let written = match expected {
            Expected::Absent => self.create(key, row, expires_at).await,
            Expected::At(expected) => {
                let (data, revision) = (row.data, &row.revision.as_bytes()[..]);
                let (expected, now) = (&expected.as_bytes()[..], self.now());
                execute!(self.shared, replace, data, revision, expires_at, key, expected, now)
                    .map(|rows| rows > 0)
            }
        };
        match written {
            Ok(true) => Ok(Written::Done),
            Ok(false) => Ok(Written::Conflict),
            Err(error) if is_overtaken(&error) => Ok(Written::Conflict),
            Err(error) => Err(failure(error)),
        }
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        self.ready().await?;
        let (key, at, expires_at) = (&key.as_bytes()[..], &at.as_bytes()[..], Millis::of(expires_at).0);
        match self.move_expiry(key, at, expires_at).await {
            Ok(extended) => Ok(extended),
            // On false the caller looks again.
            Err(error) if is_overtaken(&error) => Ok(false),
            Err(error) => Err(failure(error)),
        }
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        self.ready().await?;
        let deleted = execute!(self.shared, delete, &key.as_bytes()[..], self.now());
        Ok(deleted.map_err(failure)? > 0)
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        self.ready().await?;
        let (now, limit) = (self.now(), i64::try_from(limit).unwrap_or(i64::MAX));
        let swept = match self.shared.statements.dialect {
            Dialect::MySql => execute!(self.shared, sweep, now, limit),
            _ => execute!(self.shared, sweep, now, limit, now),
        };
        match swept {
            // Somebody else's statement went first, and the next sweep goes on.
            Err(error) if is_overtaken(&error) => Ok(0),
            swept => swept.map_err(failure),
        }
    }

    async fn count(&self) -> Result<u64, StoreError> {
        fn read(row: &impl Columns) -> Result<u64, StoreError> {
            let count = row.integer(0).map_err(|error| StoreError::Corrupt(error.into()))?;
            Ok(u64::try_from(count).unwrap_or(0))
        }
        self.ready().await?;
        first!(self.shared, count, read, self.now()).map_err(failure)?.unwrap_or(Ok(0))
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.ready().await?;
        execute!(self.shared, clear).map(drop).map_err(failure)
    }
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statements { dialect, table, .. } = &self.shared.statements;
        f.debug_struct("SqlStore").field("dialect", dialect).field("table", table).finish_non_exhaustive()
    }
}
