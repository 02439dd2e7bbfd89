//! Rows in Redis, a single server or a cluster.

mod cluster;
mod connections;
mod options;
mod request;
mod scan;
mod tls;

use std::fmt;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, RedisWrite as _, Script, ServerErrorKind, Value,
    cmd,
};
use time::OffsetDateTime;

use self::cluster::Cluster;
use self::connections::Connections;
pub use self::options::{RedisConnection, RedisStoreOptions};
use self::request::Request;
use self::scan::{Scan, is_row, is_stage};
use crate::core::clock::{Clock, Millis};
use crate::core::error::StoreError;
use crate::store::reach::Unreached;
use crate::store::{
    Expected, NewRow, REVISION_LEN, ROW_KEY_LEN, Revision, Row, RowKey, SMALL_ROW, Store, Written,
};

/// A row is one string: revision, expiry (milliseconds, big-endian), data.
const HEAD_LEN: usize = REVISION_LEN + size_of::<i64>();
/// Writes a row if what is expected is there; the later expiry stays. Where it is the one that is there already, so does the
/// time to live. A small row fits even into a full server, because
/// Redis no longer checks for room once a script has deleted something. Lua does no more than it must: mostly neither
/// revision nor expiry has changed, and one comparison tells; numbers are text, because it would write them as decimals of a
/// fraction. Arguments: the row, milliseconds until it expires, expected
/// revision and the new expiry or "". With a second key the row is what that key holds: it is renamed, or deleted where
/// something else is there; the answer 2 is that it cannot be renamed.
const WRITE: &str = r"
local head, left, later = redis.pcall('GETRANGE', KEYS[1], '0', '23'), ARGV[2], 0
if head == ARGV[3] then
  if head ~= '' and not KEYS[2] and tonumber(left) > 0 and not redis.pcall('SET', KEYS[1], ARGV[1], 'KEEPTTL').err then
    return 1
  end
else
  if head.err or #head ~= 24 or string.sub(head, 1, 16) ~= string.sub(ARGV[3], 1, 16) then
    if KEYS[2] then redis.call('DEL', KEYS[2]) end
    return head.err and head or 0
  end
  later = struct.unpack('>i8', head, 17) - struct.unpack('>i8', ARGV[3], 17)
  if later > 0 then left = left + later end
end
if KEYS[2] then
  if redis.call('PEXPIRE', KEYS[2], left) == 0 then return redis.error_reply('NOSTAGE it is gone') end
  if later > 0 then redis.call('SETRANGE', KEYS[2], '16', string.sub(head, 17)) end
  return redis.pcall('RENAME', KEYS[2], KEYS[1]).err and 2 or 1
end
if tonumber(left) <= 0 then
  redis.call('DEL', KEYS[1])
  return 1
end
local set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', left)
if set.err and #ARGV[1] <= 152 then
  redis.call('DEL', KEYS[1])
  set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', left)
end
if set.err then return set end
if later > 0 then redis.call('SETRANGE', KEYS[1], '16', string.sub(head, 17)) end
return 1
";
const _: () = assert!(HEAD_LEN == 24 && HEAD_LEN + SMALL_ROW == 152, "the scripts have the numbers");
/// Moves the expiry of a row of this revision to later. The time to live comes first, because no server is too full for
/// that. Arguments: revision, expiry as encoded in the row, milliseconds until then.
const EXTEND: &str = r"
local head = redis.call('GETRANGE', KEYS[1], '0', '23')
if #head < 24 or string.sub(head, 1, 16) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 and struct.unpack('>i8', ARGV[2]) > struct.unpack('>i8', head, 17) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('SETRANGE', KEYS[1], '16', ARGV[2])
end
return 1
";
/// Longer rows do not pass through Lua, which copies them. They are staged: set under a key of their own, sent together with
/// the script, which renames that. From this length on it costs Redis less: with 6,000 bytes two thirds.
const STAGED: usize = 2_048;
/// For so long nothing is staged after a server has refused it.
const NOT_STAGED: Duration = Duration::from_secs(60);
/// For how many milliseconds a row is staged at most: one that a broken connection leaves is gone then.
const STAGE: i64 = 60_000;

/// Keeps rows in Redis 6.2 or later (or Valkey): each a string under its prefix, with a time to live.
///
/// One round trip for a read, one for a write: compare-and-set is a Lua script of two commands. On a single server a row of
/// more than 2 KiB does not go through Lua, but into a key beside the row's, which the script renames; where the server refuses
/// that, through Lua all the same, and the log says so. Each runtime, such as
/// each worker of actix-web, has one connection, which its requests share. It is replaced when it breaks, by the next
/// request, and when the server has become a replica. [`connect_lazy`](Self::connect_lazy) starts even while the server
/// is down.
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
///   `~prefix*`; a cluster's client also needs `+cluster`.
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
    write: Script,
    extend: Script,
    /// From when on large rows are staged, after the server has refused one.
    stages_from: Mutex<OffsetDateTime>,
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

    /// Adds the name of the key where this revision of a row is staged. The row's name is in braces, so that a server that is
    /// part of a cluster has both keys in one slot, unless the prefix has a brace without its pair.
    fn stage_name(&self, key: &RowKey, revision: &Revision, command: &mut Cmd) {
        let mut name = command.writer_for_next_arg();
        let mut pieces = [&self.prefix, &b"{"[..], &self.prefix].into_iter();
        let of_row =
            pieces.try_for_each(|piece| name.write_all(piece)).and_then(|()| write!(name, "{key}}}:"));
        let digits = u128::from_be_bytes(*revision.as_bytes());
        of_row.and_then(|()| write!(name, "{digits:032x}")).expect("a command grows");
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

    /// Runs a script by its hash; a node that does not know it yet is sent its text. Each argument is in pieces. What is
    /// staged is set before, under its name.
    async fn run(
        &self,
        script: &Script,
        text: &str,
        key: &RowKey,
        staged: Option<Staged<'_>>,
        args: &[&[&[u8]]],
    ) -> RedisResult<Value> {
        let request = |name: &str, script: &str| {
            let len = args.iter().copied().flatten().map(|piece| piece.len()).sum::<usize>();
            let room = name.len() + script.len() + 1 + 3 * (self.prefix.len() + 2 * ROW_KEY_LEN) + len;
            let mut command = Cmd::with_capacity(5 + args.len(), room);
            command.arg(name).arg(script).arg(1 + usize::from(staged.is_some()));
            self.name(key, &mut command);
            let before = staged.map(|staged| {
                self.stage_name(key, staged.revision, &mut command);
                self.stage(key, staged)
            });
            args.iter().for_each(|pieces| add(&mut command, pieces));
            Request::of(command, before)
        };
        match self.ask(&request("EVALSHA", script.get_hash())).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(&request("EVAL", text)).await
            }
            outcome => outcome,
        }
    }

    /// What a script has answered.
    fn outcome(&self, answer: RedisResult<Value>) -> Result<bool, StoreError> {
        read(answer.map_err(|error| self.failure(error))?)
    }

    /// The command that sets a row under its revision's name.
    fn stage(&self, key: &RowKey, Staged { revision, row }: Staged<'_>) -> Cmd {
        let len = row.iter().map(|piece| piece.len()).sum::<usize>();
        let mut set = Cmd::with_capacity(5, self.prefix.len() + 4 * ROW_KEY_LEN + len);
        set.arg("SET");
        self.stage_name(key, revision, &mut set);
        add(&mut set, row);
        set.arg("PX").arg(STAGE);
        set
    }

    /// Whether a row of this length, that lives for so long, is staged. In a cluster it is not, because both names would have
    /// to stay on one node while their slot moves.
    fn stages(&self, len: usize, milliseconds: i64) -> bool {
        len > STAGED
            && milliseconds > STAGE
            && !matches!(self.servers, Servers::Cluster(_))
            && self.clock.now() >= *self.stages_from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away what was staged where it cannot become the row, and stages nothing for a while.
    async fn unstage(&self, key: &RowKey, revision: &Revision, why: &str) {
        let mut command = cmd("UNLINK");
        self.stage_name(key, revision, &mut command);
        // If that fails, it is gone in a minute.
        drop(self.ask(&Request::of(command, None)).await);
        *self.stages_from.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now() + NOT_STAGED;
        tracing::warn!(
            target: "sealed_session",
            why,
            "Redis does not rename a key, so large rows go through a script, which takes it longer; \
             permit RENAME, and keep keys of one slot together"
        );
    }
}

/// A row that is set before the script runs which makes it the row.
#[derive(Clone, Copy)]
struct Staged<'a> {
    revision: &'a Revision,
    row: &'a [&'a [u8]],
}

/// Adds an argument that is in pieces.
fn add(command: &mut Cmd, pieces: &[&[u8]]) {
    let mut arg = command.writer_for_next_arg();
    pieces.iter().try_for_each(|piece| arg.write_all(piece)).expect("a command grows");
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let mut command = cmd("GET");
        self.name(key, &mut command);
        let mut data =
            match self.ask(&Request::of(command, None)).await.map_err(|error| self.failure(error))? {
                Value::BulkString(data) => data,
                Value::Nil => return Ok(None),
                _ => {
                    return Err(StoreError::Corrupt(
                        "GET was answered with something else than a string".into(),
                    ));
                }
            };
        let (revision, expires_at) = split(&data).ok_or_else(|| {
            StoreError::Corrupt(format!("{key:?} holds {} bytes, which are no row", data.len()).into())
        })?;
        data.drain(..HEAD_LEN);
        Ok(Some(Row { data, revision, expires_at: expires_at.to_datetime() }))
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        let expires_at = Millis::of(row.expires_at).0.to_be_bytes();
        let written = |done| if done { Written::Done } else { Written::Conflict };
        let milliseconds = self.span_until(row.expires_at);
        let stored = [row.revision.as_bytes(), &expires_at[..], row.data];
        let head: &[&[u8]] = match &expected {
            Expected::Absent => &[],
            Expected::At(revision) => &[revision.as_bytes(), &expires_at],
        };
        let left = milliseconds.to_string();
        let left: &[&[u8]] = &[left.as_bytes()];
        if self.stages(row.data.len(), milliseconds) {
            let staged = Staged { revision: &row.revision, row: &stored };
            let answer = self.run(&self.write, WRITE, key, Some(staged), &[&[], left, head]).await;
            match &answer {
                Ok(Value::Int(2)) => {
                    self.unstage(
                        key,
                        &row.revision,
                        "RENAME failed in the script: no permission, or another name for it",
                    )
                    .await
                }
                Err(error) if refuses_stages(error) => {
                    self.unstage(key, &row.revision, &error.to_string()).await;
                }
                Err(error) if says(error, "NOSTAGE") => {}
                _ => return self.outcome(answer).map(written),
            }
        }
        let answer = self.run(&self.write, WRITE, key, None, &[&stored, left, head]).await;
        self.outcome(answer).map(written)
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let left = self.span_until(expires_at).to_string();
        let expires_at = Millis::of(expires_at).0.to_be_bytes();
        let args: &[&[&[u8]]] = &[&[at.as_bytes()], &[&expires_at], &[left.as_bytes()]];
        self.outcome(self.run(&self.extend, EXTEND, key, None, args).await)
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

/// Whether a server runs no script over a row's key and the one beside it, because they are in different slots, or its user
/// may use only the one.
fn refuses_stages(error: &RedisError) -> bool {
    says(error, "CROSSSLOT") || says(error, "NOPERM")
}

/// The store's error for a Redis error; `at` is the server concerned.
fn failure(error: RedisError, at: Option<&str>) -> StoreError {
    if says(&error, "OOM") {
        StoreError::Full(error.into())
    } else if says(&error, "WRONGTYPE") {
        StoreError::Corrupt(error.into())
    } else if error.is_timeout() {
        StoreError::Timeout(match at {
            Some(at) => Unreached::new(format!("no answer from {at}"), error).into(),
            None => error.into(),
        })
    } else {
        StoreError::Unavailable(match at {
            Some(at) if error.code().is_none() => {
                Unreached::new(format!("no connection to {at}"), error).into()
            }
            _ => error.into(),
        })
    }
}
