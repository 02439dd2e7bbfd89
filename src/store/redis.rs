//! Rows in Redis, a single server or a cluster.

mod cluster;
mod connections;
mod options;
mod request;
mod scan;
mod tls;
mod write;

use std::fmt;
use std::io::Write as _;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, RedisWrite as _, Value, cmd};
use time::OffsetDateTime;

use self::cluster::Cluster;
use self::connections::Connections;
pub use self::options::{RedisConnection, RedisStoreOptions};
use self::request::Request;
use self::scan::{Scan, is_row, is_stage};
use self::write::Scripts;
use crate::core::clock::{Clock, Millis};
use crate::core::error::{Source, StoreError};
use crate::store::reach::Unreached;
use crate::store::{Expected, NewRow, REVISION_LEN, Revision, Row, RowKey, Store, Written};

/// A row is one string: revision, expiry (milliseconds, big-endian), data.
const HEAD_LEN: usize = REVISION_LEN + size_of::<i64>();

/// Keeps rows in Redis 6.2 or later (or Valkey; tests run 7.0): each a string under its prefix, with a time to live.
///
/// One round trip for a read, one for a write: a new row is a `SET .. NX`, and compare-and-set is a Lua script of two
/// commands. On a single server a row of more than 2 KiB that replaces another does not go through Lua, but into a key beside
/// the row's, which the script renames; where the server refuses that, through Lua all the same, and the log says so. Each
/// runtime, such as each worker of actix-web, has one connection, which its requests share. It is replaced when it breaks, by
/// the next request, and when the server has become a replica. [`connect_lazy`](Self::connect_lazy) starts even while the
/// server is down.
///
/// [`from_connection`](Self::from_connection) takes a connection that the application already has. This makes version 1
/// of the crate `redis` part of this crate's public interface: moving to the next one is a breaking release.
///
/// # In production
/// - **Durability.** With Redis's defaults, a crash loses what was written since the last snapshot. What must survive a
///   crash needs `appendonly yes`; `appendfsync always` loses nothing that was acknowledged, `everysec` up to a second.
///   Replication is asynchronous: a failover loses what the old primary acknowledged and its replica had not received,
///   and brings back the sessions that these writes ended. `min-replicas-to-write 1` with `min-replicas-max-lag 1` bounds
///   that to some two seconds for a primary that is cut off; it takes two replicas, or the new primary refuses writes.
///   `WAIT` is not used.
/// - **Eviction.** `maxmemory-policy noeviction`, in a database of its own. Any other policy may drop living sessions;
///   with `noeviction`, a full Redis refuses new ones ([`StoreError::Full`]), but accepts the small rows that end
///   sessions.
/// - **Permissions.** `+get +getrange +set +setrange +rename +pexpire +del +unlink +eval +evalsha +scan` on
///   `~prefix*`; a cluster's client also needs `+cluster +asking +ping`, and an address with the number of a database `+select`.
/// - **Cluster.** `cluster-require-full-coverage no`, so that a lost master costs only the sessions on it, the answers
///   that it would have given whether others and their users were revoked (`FailurePolicy` says what happens then), and the
///   logins and logouts that have to write there.
/// - **Repeated commands.** A cluster's driver repeats a command whose answer was lost, up to three times.
/// - **TLS.** `rediss://` or `valkeys://`; with an authority of your own
///   [`root_certificates`](RedisStoreOptions::root_certificates), or `?ssl_ca_certs=/path/ca.pem` in the address.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sealed_session::store::{RedisStore, RedisStoreOptions};
///
/// let store = RedisStore::connect("redis://127.0.0.1/").await?;
/// let lazy = RedisStore::connect_lazy("valkey://127.0.0.1/")?;
/// let cluster = RedisStoreOptions::new()
///     .prefix("shop:session:")
///     .connect_cluster(["redis://10.0.0.1/", "redis://10.0.0.2/"])
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisStore {
    servers: Servers,
    prefix: Vec<u8>,
    scripts: Scripts,
    clock: Box<dyn Clock>,
}

enum Servers {
    Single(Box<Connections>),
    Manager(ConnectionManager),
    Multiplexed(MultiplexedConnection),
    Cluster(Box<Cluster>),
}

impl RedisStore {
    /// Connects to a single server with the default options.
    ///
    /// # Errors
    /// Those of [`RedisStoreOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        RedisStoreOptions::new().connect(url).await
    }

    /// A single server with the default options, which need not be up yet.
    ///
    /// # Errors
    /// Those of [`RedisStoreOptions::connect_lazy`].
    pub fn connect_lazy(url: &str) -> Result<Self, StoreError> {
        RedisStoreOptions::new().connect_lazy(url)
    }

    /// Uses the application's own connection, with the default options; see [`RedisConnection`].
    pub fn from_connection(connection: impl Into<RedisConnection>) -> Self {
        RedisStoreOptions::new().with_connection(connection)
    }

    /// Adds the name of a row's key to a command.
    fn name(&self, key: &RowKey, command: &mut Cmd) {
        let mut name = command.writer_for_next_arg();
        let written = name.write_all(&self.prefix).and_then(|()| write!(name, "{key}"));
        written.expect("a command grows");
    }

    /// Milliseconds from now, zero or less if that has passed.
    fn span_until(&self, expires_at: OffsetDateTime) -> i64 {
        Millis::of(expires_at).minus(Millis::of(self.clock.now())).0
    }

    async fn query<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        read(self.ask(&Request::of(command, None)).await.map_err(|error| self.failure(error))?)
    }

    async fn ask(&self, request: &Request) -> RedisResult<Value> {
        match &self.servers {
            Servers::Single(connections) => connections.ask(request).await,
            Servers::Manager(connection) => request.on(&mut connection.clone()).await,
            Servers::Multiplexed(connection) => request.on(&mut connection.clone()).await,
            Servers::Cluster(cluster) => cluster.ask(request).await,
        }
    }

    fn failure(&self, error: RedisError) -> StoreError {
        let at = match &self.servers {
            Servers::Single(connections) => Some(connections.at()),
            Servers::Cluster(cluster) => cluster.at_if_unreached(),
            Servers::Manager(_) | Servers::Multiplexed(_) => None,
        };
        failure(error, at)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let mut command = cmd("GET");
        self.name(key, &mut command);
        let request = Request::of(command, None);
        let answer = match self.ask(&request).await {
            // As a server or a proxy closes what was idle for long. To read twice does no harm.
            Err(error) if error.is_connection_dropped() && !error.is_connection_refusal() => {
                self.ask(&request).await
            }
            answer => answer,
        };
        let mut data = match answer.map_err(|error| self.failure(error))? {
            Value::BulkString(data) => data,
            Value::Nil => return Ok(None),
            _ => {
                return Err(StoreError::Corrupt("GET was answered with something else than a string".into()));
            }
        };
        let (revision, expires_at) = split(&data).ok_or_else(|| {
            StoreError::Corrupt(format!("{key:?} holds {} bytes, which are no row", data.len()).into())
        })?;
        data.drain(..HEAD_LEN);
        Ok(Some(Row { data, revision, expires_at: expires_at.to_datetime() }))
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        self.write_row(key, row, expected).await
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        self.extend_row(key, at, expires_at).await
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        let mut command = cmd("UNLINK");
        self.name(key, &mut command);
        self.query(command).await
    }

    /// Redis drops expired keys by itself.
    async fn sweep(&self, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let (mut scan, mut count) = (Scan::begin(self).await?, 0);
        while let Some(keys) = scan.next(self).await? {
            count += keys.iter().filter(|key| is_row(key, &self.prefix)).count() as u64;
        }
        Ok(count)
    }

    async fn clear(&self) -> Result<(), StoreError> {
        let mut scan = Scan::begin(self).await?;
        while let Some(keys) = scan.next(self).await? {
            // What others keep under the prefix stays. One by one: a cluster's keys lie in different slots.
            for key in keys.into_iter().filter(|key| is_row(key, &self.prefix) || is_stage(key, &self.prefix))
            {
                let mut command = cmd("UNLINK");
                command.arg(key);
                self.query::<i64>(command).await?;
            }
        }
        Ok(())
    }

    fn part(&self, key: &RowKey) -> u16 {
        let Servers::Cluster(_) = &self.servers else { return 0 };
        let mut name = self.prefix.clone();
        write!(name, "{key}").expect("a Vec grows");
        cluster::part(&name)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.servers {
            Servers::Single(_) | Servers::Manager(_) | Servers::Multiplexed(_) => "single",
            Servers::Cluster(_) => "cluster",
        };
        let prefix = String::from_utf8_lossy(&self.prefix);
        f.debug_struct("RedisStore").field("kind", &kind).field("prefix", &prefix).finish_non_exhaustive()
    }
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|error| StoreError::Corrupt(error.into()))
}

/// Revision and expiry of a row.
fn split(row: &[u8]) -> Option<(Revision, Millis)> {
    let (revision, rest) = row.split_first_chunk()?;
    let expires_at = rest.first_chunk()?;
    Some((Revision::from_bytes(*revision), Millis(i64::from_be_bytes(*expires_at))))
}

/// Whether the error has this code, from a command or from one that a script called, where Redis 6 puts its own code
/// first.
fn says(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code) || error.detail().is_some_and(|text| text.contains(code))
}

/// Whether it is for an operator to mend: the password is wrong or missing, or the user may not do that.
fn is_refused(error: &RedisError) -> bool {
    let by_kind = matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig);
    // A cluster's driver says the last of these in the detail of another error.
    let codes = ["NOAUTH", "WRONGPASS", "NOPERM", "AuthenticationFailed"];
    by_kind || codes.iter().any(|code| says(error, code))
}

/// The store's error for a Redis error; `at` is the server concerned.
fn failure(error: RedisError, at: Option<&str>) -> StoreError {
    let (kind, what): (fn(Source) -> StoreError, _) = match () {
        () if says(&error, "OOM") => return StoreError::Full(error.into()),
        () if says(&error, "WRONGTYPE") => return StoreError::Corrupt(error.into()),
        () if is_refused(&error) => (StoreError::Misconfigured, "no connection to"),
        () if error.is_timeout() => (StoreError::Timeout, "no answer from"),
        () => (StoreError::Unavailable, "no connection to"),
    };
    kind(match at {
        Some(at) if error.code().is_none() => Unreached::new(format!("{what} {at}"), error).into(),
        _ => error.into(),
    })
}
