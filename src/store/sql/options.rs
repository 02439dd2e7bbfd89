//! How a store in an SQL database connects.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::connections::Connections;
use super::dialect::{self, Dialect, Statements};
use super::failure::failure;
use super::{Pool, Shared, SqlStore};
use crate::core::clock::{Clock, SystemClock};
use crate::core::error::StoreError;
use crate::store::reach::STORE_TIMEOUT;

/// A pool that the application already has, for [`SqlStore::from_pool`]: `sqlx::PgPool`, `sqlx::MySqlPool` or
/// `sqlx::SqlitePool` of version 0.9 of the crate `sqlx`, each with its feature.
///
/// The store takes a connection for each statement and then gives it back, so nobody waits for one that it holds idle.
/// (It does keep some of its own pool's connections.) The pool pings each connection before it gives it out, which makes
/// two round trips of one, unless it has `test_before_acquire(false)`.
///
/// At most half of the pool's connections, or one, are in use for sessions at a time: while a lock on their table holds
/// these up, the application has the others. So no more statements than that run at once; a larger pool permits more. Where
/// they do not suffice, or the whole pool is busy, requests wait as long as the pool's `acquire_timeout`, for each of the two,
/// or the builder's `store_timeout`, and fail. As many again, on which the server has fallen silent, may have been taken out
/// of the pool; see [`max_connections`](SqlStoreOptions::max_connections).
///
/// - **PostgreSQL, MySQL.** Nothing to configure. The store uses single statements, outside of transactions.
/// - **SQLite.** The store's own connections have `journal_mode = WAL`, `synchronous = FULL` and a `busy_timeout`; those
///   of the pool are left as they are. Without WAL, readers and writers wait for each other; with `synchronous = NORMAL`,
///   a power loss may undo the last logouts; and with a `busy_timeout` of zero, requests fail instead of waiting.
///
/// ```no_run
/// # #[cfg(feature = "postgres")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sealed_session::store::{SqlStore, SqlStoreOptions};
///
/// let pool = sqlx::PgPool::connect("postgres://app@db/app").await?;
/// let store = SqlStore::from_pool(pool.clone());
/// let other = SqlStoreOptions::new().table("app.sessions").create_table(true).with_pool(pool)?;
/// # Ok(())
/// # }
/// ```
pub struct SqlPool(Pool);

#[cfg(feature = "postgres")]
impl From<sqlx::PgPool> for SqlPool {
    fn from(pool: sqlx::PgPool) -> Self {
        Self(Pool::Postgres(Connections::shared(pool)))
    }
}

#[cfg(feature = "mysql")]
impl From<sqlx::MySqlPool> for SqlPool {
    fn from(pool: sqlx::MySqlPool) -> Self {
        Self(Pool::MySql(Connections::shared(pool)))
    }
}

#[cfg(feature = "sqlite")]
impl From<sqlx::SqlitePool> for SqlPool {
    fn from(pool: sqlx::SqlitePool) -> Self {
        Self(Pool::Sqlite(Connections::shared(pool)))
    }
}

impl fmt::Debug for SqlPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlPool").finish_non_exhaustive()
    }
}

/// How an [`SqlStore`] connects, and where its rows are.
#[must_use]
pub struct SqlStoreOptions {
    table: String,
    max_connections: u32,
    timeout: Duration,
    create_table: bool,
    sweep_every: Duration,
    clock: Box<dyn Clock>,
}

impl SqlStoreOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            table: "sealed_sessions".into(),
            max_connections: 10,
            timeout: STORE_TIMEOUT,
            create_table: false,
            sweep_every: Duration::from_secs(300),
            clock: Box::new(SystemClock),
        }
    }

    /// The name of the table, with or without a schema before it; the default is `sealed_sessions`. Letters, digits
    /// and `_`.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// The most connections that the store uses at a time, at least one; the default is 10.
    ///
    /// As many again may be left on the server. When a request gives up a statement, and the server is silent for half a
    /// second, the connection is left, and another one tried, which reaches the server's replacement if there is one. But
    /// if the server is only held up, by a lock or for lack of a synchronous standby, the statement goes on there, whether
    /// its connection is closed or not. So the store keeps count of those that it has left, until the server answers on
    /// them or ends them, or has said nothing for 15 minutes. Once there are this many, it tries no others: those in use
    /// stay in use, and requests wait for [`timeout`](Self::timeout) and fail with `all 10 connections are busy`. A
    /// `statement_timeout` of the database's user (PostgreSQL), or `max_statement_time` (MariaDB), ends those that wait for a
    /// lock.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// How long to wait for a connection, and in SQLite for a lock; the default is 1.5 s. The builder's `store_timeout`
    /// still applies, but cannot tell the cause, so this should be shorter.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether the store makes its table and index if they are missing: `connect` at once, the others before their first
    /// statement, and again with the next ones until it succeeds. The default is false; the user has to be allowed to,
    /// unless the table exists already. A table without its index works, but is slow to sweep. In MySQL it needs the index:
    /// without it a sweep locks the rows that it looks at, and this does not add it to a table that is there.
    pub fn create_table(mut self, create: bool) -> Self {
        self.create_table = create;
        self
    }

    /// How often expired rows are deleted; the default is 5 minutes, and less than 1 ms is refused. `Duration::MAX`: never, because another
    /// process does, or calls [`Store::sweep`](crate::store::Store::sweep).
    pub fn sweep_every(mut self, interval: Duration) -> Self {
        self.sweep_every = interval;
        self
    }

    /// Where the time comes from; the default is [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Connects to the database of this address.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable address, table name or number of connections, and if the server refuses the user;
    /// [`StoreError::Unavailable`] if none answers
    /// there.
    pub async fn connect(self, url: &str) -> Result<SqlStore, StoreError> {
        let store = self.connect_lazy(url)?;
        store.shared.pool.connect().await.map_err(failure)?;
        store.ready().await?;
        Ok(store)
    }

    /// A database that need not be up yet: the first request that asks the store connects, and as long as it does not
    /// answer, requests that need it fail and share one attempt at a time. Have the table made with
    /// [`create_table`](Self::create_table), or by hand.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable address, table name or number of connections.
    pub fn connect_lazy(self, url: &str) -> Result<SqlStore, StoreError> {
        self.check()?;
        let pool = self.pool(url)?;
        Ok(self.over(pool))
    }

    /// Uses the application's own pool; see [`SqlPool`]. The pool's own settings say how many connections there are,
    /// of which the store takes half, and how long to wait for one: [`max_connections`](Self::max_connections) is ignored, and [`timeout`](Self::timeout)
    /// only says when a database that does not answer counts as down.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable table name.
    pub fn with_pool(self, pool: impl Into<SqlPool>) -> Result<SqlStore, StoreError> {
        self.check()?;
        Ok(self.over(pool.into()))
    }

    fn check(&self) -> Result<(), StoreError> {
        if !dialect::is_table_name(&self.table) {
            return Err(unusable(format!(
                "table name {:?} is not usable: letters, digits and `_`, not a digit first, `schema.table` at most",
                self.table
            )));
        }
        if self.max_connections == 0 {
            return Err(unusable("max_connections is 0; it must be at least 1".into()));
        }
        if self.sweep_every < Duration::from_millis(1) {
            return Err(unusable(
                "sweep_every is 0; it must be at least 1 ms, and is 5 minutes by default".into(),
            ));
        }
        Ok(())
    }

    fn pool(&self, url: &str) -> Result<SqlPool, StoreError> {
        let (connections, patience) = (self.max_connections, self.timeout);
        let pool = match url.split(':').next().unwrap_or_default() {
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                let options: sqlx::postgres::PgConnectOptions = url.parse().map_err(failure)?;
                Pool::Postgres(Connections::own(options, connections, patience))
            }
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => {
                let options: sqlx::mysql::MySqlConnectOptions = url.parse().map_err(failure)?;
                Pool::MySql(Connections::own(options, connections, patience))
            }
            #[cfg(feature = "sqlite")]
            "sqlite" => {
                use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
                let options: SqliteConnectOptions = url.parse().map_err(failure)?;
                let options = options
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(patience);
                Pool::Sqlite(Connections::own(options, connections, patience))
            }
            scheme => {
                return Err(unusable(format!(
                    "address scheme {scheme:?} is not known; it may be {}",
                    dialect::SCHEMES.join(", ")
                )));
            }
        };
        Ok(SqlPool(pool))
    }

    pub(super) fn over(self, SqlPool(mut pool): SqlPool) -> SqlStore {
        pool.set_patience(self.timeout);
        let statements = Statements::new(pool.dialect(), &self.table);
        let store = SqlStore {
            shared: Arc::new(Shared {
                pool,
                statements,
                clock: self.clock,
                table: if self.create_table { OnceCell::new() } else { OnceCell::new_with(Some(())) },
                sweep_every: self.sweep_every,
                sweeps: AtomicBool::new(false),
            }),
        };
        store.start_sweeping();
        store
    }
}

fn unusable(reason: String) -> StoreError {
    StoreError::Misconfigured(reason.into())
}

impl Pool {
    fn dialect(&self) -> Dialect {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Dialect::Postgres,
            #[cfg(feature = "mysql")]
            Self::MySql(_) => Dialect::MySql,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    fn set_patience(&mut self, patience: Duration) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(connections) => connections.patience = patience,
            #[cfg(feature = "mysql")]
            Self::MySql(connections) => connections.patience = patience,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connections) => connections.patience = patience,
        }
    }

    /// The first connection.
    async fn connect(&self) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(connections) => connections.take().await?.done(Ok(())),
            #[cfg(feature = "mysql")]
            Self::MySql(connections) => connections.take().await?.done(Ok(())),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connections) => connections.take().await?.done(Ok(())),
        }
    }
}

impl Default for SqlStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SqlStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStoreOptions").field("table", &self.table).finish_non_exhaustive()
    }
}
