//! Rows in Redis, a single server or a cluster.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, Value, cmd};
use time::OffsetDateTime;

use crate::clock::{Clock, Millis, SystemClock};
use crate::error::StoreError;
use crate::store::{Expected, NewRow, Revision, Row, RowKey, Store, Written};

/// Writes a row if what is expected is there; its expiry becomes the later one.
/// Arguments: data, revision, expiry, milliseconds until then, expected revision or "".
const WRITE: &str = r"
local present = redis.call('HMGET', KEYS[1], 'r', 'e')
if (present[1] or '') ~= ARGV[5] then return 0 end
local expiry, left = ARGV[3], tonumber(ARGV[4])
if present[1] then
  local before = redis.call('PTTL', KEYS[1])
  if before > left then expiry, left = present[2], before end
end
if left <= 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'd', ARGV[1], 'r', ARGV[2], 'e', expiry)
  redis.call('PEXPIRE', KEYS[1], left)
end
return 1
";
/// Moves the expiry of a row of this revision to later. Arguments: expiry, milliseconds until then, revision.
const EXTEND: &str = r"
if redis.call('HGET', KEYS[1], 'r') ~= ARGV[3] then return 0 end
local before = redis.call('PTTL', KEYS[1])
if tonumber(ARGV[2]) > before then
  redis.call('HSET', KEYS[1], 'e', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
";
/// Asked for of each `SCAN` and removed by each `UNLINK`.
const SCANNED: usize = 500;
/// How often the cluster's client follows a redirection, or tries again, before it gives up.
const CLUSTER_RETRIES: u32 = 3;

/// Keeps rows in Redis 6 or later (or Valkey): each a hash under its prefix, with a time to live.
///
/// One round trip for a read, one for a write: compare-and-set is one Lua script. Several requests share one
/// connection, which is made anew, after growing pauses, when it breaks.
///
/// # In production
/// - **Durability.** With Redis as it comes, a crash loses what was written since its last snapshot. What must survive it
///   needs `appendonly yes`; `appendfsync always` loses nothing that was acknowledged, `everysec` up to a second.
///   Replication is asynchronous: a failover may lose the last writes, and bring back what they ended.
/// - **Eviction.** `maxmemory-policy noeviction`, in a database of its own. Any other policy may drop living sessions;
///   with it, a full Redis refuses new ones ([`StoreError::Full`]).
/// - **Permissions.** `+hmget +hset +pttl +pexpire +del +unlink +eval +evalsha +scan` on `~prefix*`; a cluster's client
///   also needs `+cluster`.
/// - **Cluster.** `cluster-require-full-coverage no`, so that a lost master costs only the sessions that live on it.
/// - **TLS.** `rediss://`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sealed_session::store::{RedisStore, RedisStoreOptions};
///
/// let store = RedisStore::connect("redis://127.0.0.1/").await?;
/// let cluster = RedisStoreOptions::new()
///     .prefix("shop:session:")
///     .connect_cluster(["redis://10.0.0.1/", "redis://10.0.0.2/"])
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisStore {
    connection: Connection,
    prefix: Vec<u8>,
    write: Script,
    extend: Script,
    clock: Box<dyn Clock>,
}

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// How a [`RedisStore`] connects, and where its rows are.
#[must_use]
pub struct RedisStoreOptions {
    prefix: String,
    timeout: Duration,
    clock: Box<dyn Clock>,
}

impl RedisStoreOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { prefix: "session:".into(), timeout: Duration::from_secs(2), clock: Box::new(SystemClock) }
    }

    /// What the names of all keys start with; the default is `session:`. Stores with different prefixes, of which none
    /// starts with another, do not see each other's rows.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long to wait for a connection, and for an answer; the default is 2 s. The builder's `store_timeout` holds
    /// all the same.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the time comes from; the default is [`SystemClock`]. Redis is told spans, so its own clock may differ.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Connects to a single server: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] for an unusable address, or if nobody answers there.
    pub async fn connect(self, url: &str) -> Result<RedisStore, StoreError> {
        install_crypto(url);
        let client = Client::open(url).map_err(failure)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            .set_number_of_retries(2)
            .set_max_delay(Duration::from_secs(1));
        let connection = ConnectionManager::new_with_config(client, config).await.map_err(failure)?;
        Ok(self.store(Connection::Single(connection)))
    }

    /// Connects to a cluster, through any of these nodes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] for an unusable address, or if no node answers.
    pub async fn connect_cluster(
        self,
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<RedisStore, StoreError> {
        let urls: Vec<String> = urls.into_iter().map(|url| url.as_ref().to_owned()).collect();
        urls.iter().for_each(|url| install_crypto(url));
        let client = ClusterClient::builder(urls)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(20)
            .max_retry_wait(200)
            .connection_timeout(self.timeout)
            .response_timeout(self.timeout)
            .build()
            .map_err(failure)?;
        let connection = client.get_async_connection().await.map_err(failure)?;
        Ok(self.store(Connection::Cluster(connection)))
    }

    fn store(self, connection: Connection) -> RedisStore {
        RedisStore {
            connection,
            prefix: self.prefix.into_bytes(),
            write: Script::new(WRITE),
            extend: Script::new(EXTEND),
            clock: self.clock,
        }
    }
}

impl Default for RedisStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RedisStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// rustls has to know one provider of ciphers for the whole process, or a `rediss://` address panics.
fn install_crypto(url: &str) {
    if url.starts_with("rediss:") && rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

impl RedisStore {
    /// Connects to a single server with the default options.
    ///
    /// # Errors
    /// Those of [`RedisStoreOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        RedisStoreOptions::new().connect(url).await
    }

    fn key(&self, key: &RowKey) -> Vec<u8> {
        [&self.prefix[..], key.to_string().as_bytes()].concat()
    }

    /// Milliseconds from now on, which may be none any more.
    fn span_until(&self, expires_at: OffsetDateTime) -> i64 {
        Millis::of(expires_at).minus(Millis::of(self.clock.now())).0
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let answer = match self.connection.clone() {
            Connection::Single(mut connection) => connection.req_packed_command(command).await,
            Connection::Cluster(mut connection) => connection.req_packed_command(command).await,
        };
        read(answer.and_then(Value::extract_error).map_err(failure)?)
    }

    /// Runs a script by its hash; a node that does not know it yet is given its text.
    async fn run(&self, script: &Script, text: &str, key: &[u8], args: &[&[u8]]) -> Result<bool, StoreError> {
        let command = |name: &str, script: &str| {
            let mut command = cmd(name);
            command.arg(script).arg(1).arg(key);
            for arg in args {
                command.arg(*arg);
            }
            command
        };
        let by_hash = command("EVALSHA", script.get_hash());
        let answer = match self.connection.clone() {
            Connection::Single(mut connection) => connection.req_packed_command(&by_hash).await,
            Connection::Cluster(mut connection) => connection.req_packed_command(&by_hash).await,
        };
        match answer.and_then(Value::extract_error) {
            Ok(value) => read(value),
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.query(&command("EVAL", text)).await
            }
            Err(error) => Err(failure(error)),
        }
    }

    /// The nodes that hold keys: `None` is the single server.
    async fn primaries(&self) -> Result<Vec<Option<SingleNodeRoutingInfo>>, StoreError> {
        if let Connection::Single(_) = self.connection {
            return Ok(vec![None]);
        }
        type Shard = (u16, u16, (String, u16));
        let mut slots = cmd("CLUSTER");
        slots.arg("SLOTS");
        let slots: Vec<Vec<Value>> = self.query(&slots).await?;
        let mut nodes = Vec::new();
        for mut slot in slots {
            // Start, end, the primary (address, port, id, ..), its replicas.
            if let Some(Value::Array(primary)) = slot.get_mut(2) {
                primary.truncate(2);
            }
            slot.truncate(3);
            let (_, _, (host, port)): Shard = read(Value::Array(slot))?;
            let node = Some(SingleNodeRoutingInfo::ByAddress { host, port });
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        Ok(nodes)
    }

    async fn scan(&self) -> Result<Scan, StoreError> {
        let escape = |&byte: &u8| if b"*?[]\\".contains(&byte) { vec![b'\\', byte] } else { vec![byte] };
        let pattern = [self.prefix.iter().flat_map(escape).collect(), b"*".to_vec()].concat();
        Ok(Scan { nodes: self.primaries().await?, cursor: b"0".to_vec(), pattern })
    }
}

/// The names of all keys, some at a time.
struct Scan {
    nodes: Vec<Option<SingleNodeRoutingInfo>>,
    cursor: Vec<u8>,
    pattern: Vec<u8>,
}

impl Scan {
    async fn next(&mut self, store: &RedisStore) -> Result<Option<HashSet<Vec<u8>>>, StoreError> {
        let Some(node) = self.nodes.last().cloned() else { return Ok(None) };
        let mut scan = cmd("SCAN");
        scan.arg(&self.cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(SCANNED);
        let (cursor, keys): (Vec<u8>, HashSet<Vec<u8>>) = match (node, store.connection.clone()) {
            (Some(node), Connection::Cluster(mut connection)) => {
                let answer = connection.route_command(scan, RoutingInfo::SingleNode(node)).await;
                read(answer.map_err(failure)?)?
            }
            _ => store.query(&scan).await?,
        };
        self.cursor = cursor;
        if self.cursor == b"0" {
            self.nodes.pop();
        }
        Ok(Some(keys))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let mut command = cmd("HMGET");
        command.arg(self.key(key)).arg(&["d", "r", "e"]);
        let fields: [Option<Vec<u8>>; 3] = self.query(&command).await?;
        let [Some(data), Some(revision), Some(expires_at)] = fields else { return Ok(None) };
        let corrupt = || StoreError::Corrupt(format!("the fields of {key:?} are not those of a row").into());
        let revision = Revision::from_bytes(revision.try_into().map_err(|_| corrupt())?);
        let expires_at = String::from_utf8(expires_at).ok().and_then(|text| text.parse().ok());
        let expires_at = Millis(expires_at.ok_or_else(corrupt)?).to_datetime();
        Ok(Some(Row { data, revision, expires_at }))
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        let expected = match &expected {
            Expected::Absent => &[][..],
            Expected::At(revision) => revision.as_bytes(),
        };
        let expires_at = Millis::of(row.expires_at).0.to_string();
        let left = self.span_until(row.expires_at).to_string();
        let args = [row.data, row.revision.as_bytes(), expires_at.as_bytes(), left.as_bytes(), expected];
        let done = self.run(&self.write, WRITE, &self.key(key), &args).await?;
        Ok(if done { Written::Done } else { Written::Conflict })
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let (moment, left) = (Millis::of(expires_at).0.to_string(), self.span_until(expires_at).to_string());
        let args = [moment.as_bytes(), left.as_bytes(), at.as_bytes()];
        self.run(&self.extend, EXTEND, &self.key(key), &args).await
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        let mut command = cmd("UNLINK");
        command.arg(self.key(key));
        self.query(&command).await
    }

    /// Redis drops expired keys by itself.
    async fn sweep(&self, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let (mut scan, mut count) = (self.scan().await?, 0);
        while let Some(keys) = scan.next(self).await? {
            count += keys.len() as u64;
        }
        Ok(count)
    }

    async fn clear(&self) -> Result<(), StoreError> {
        let mut scan = self.scan().await?;
        while let Some(keys) = scan.next(self).await? {
            // One by one: those of a cluster lie in different slots.
            for key in keys {
                let mut command = cmd("UNLINK");
                command.arg(key);
                self.query::<i64>(&command).await?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.connection {
            Connection::Single(_) => "single",
            Connection::Cluster(_) => "cluster",
        };
        let prefix = String::from_utf8_lossy(&self.prefix);
        f.debug_struct("RedisStore").field("kind", &kind).field("prefix", &prefix).finish_non_exhaustive()
    }
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|error| StoreError::Corrupt(error.into()))
}

fn failure(error: RedisError) -> StoreError {
    match error.code() {
        Some("OOM") => StoreError::Full(error.into()),
        Some("WRONGTYPE") => StoreError::Corrupt(error.into()),
        _ if error.is_timeout() => StoreError::Timeout(error.into()),
        _ => StoreError::Unavailable(error.into()),
    }
}
