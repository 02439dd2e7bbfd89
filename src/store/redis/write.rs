//! Writing a row: one that is created is set where there is none; over another a script compares and sets, and a large row is
//! set beside it first.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, RedisWrite as _, Script, ServerErrorKind, Value, cmd};
use time::OffsetDateTime;

use super::request::Request;
use super::{HEAD_LEN, RedisStore, Servers, read, says};
use crate::core::clock::Millis;
use crate::core::error::StoreError;
use crate::store::{Expected, NewRow, ROW_KEY_LEN, Revision, RowKey, SMALL_ROW, Written};

/// Writes a row if what is expected is there; the later expiry stays. Where it is the one that is there already, so does the
/// time to live. A small row fits even into a full server, because Redis no longer checks for room once a script has deleted
/// something. Lua does no more than it must: mostly neither revision nor expiry has changed, and one comparison tells; numbers
/// are text, because it would write them as decimals of a fraction.
///
/// Arguments: the row, milliseconds until it expires, expected revision and the new expiry or "". With a second key the row is
/// what that key holds: it is renamed, or deleted where something else is there; the answer 2 is that it cannot be renamed.
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
if set.err and #ARGV[1] <= 120 then
  redis.call('DEL', KEYS[1])
  set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', left)
end
if set.err then return set end
if later > 0 then redis.call('SETRANGE', KEYS[1], '16', string.sub(head, 17)) end
return 1
";
const _: () = assert!(HEAD_LEN == 24 && HEAD_LEN + SMALL_ROW == 120, "the scripts have the numbers");

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

/// The scripts, and whether large rows are staged.
pub(super) struct Scripts {
    write: Script,
    extend: Script,
    /// From when on they are, after the server has refused one.
    stages_from: Mutex<OffsetDateTime>,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let stages_from = OffsetDateTime::UNIX_EPOCH.into();
        Self { write: Script::new(WRITE), extend: Script::new(EXTEND), stages_from }
    }
}

/// A row that is set before the script runs which makes it the row.
#[derive(Clone, Copy)]
struct Staged<'a> {
    revision: &'a Revision,
    row: &'a [&'a [u8]],
}

impl RedisStore {
    /// Writes a row over what is expected, in one trip.
    pub(super) async fn write_row(
        &self,
        key: &RowKey,
        row: NewRow<'_>,
        expected: Expected,
    ) -> Result<Written, StoreError> {
        let expires_at = Millis::of(row.expires_at).0.to_be_bytes();
        let written = |done| if done { Written::Done } else { Written::Conflict };
        let milliseconds = self.span_until(row.expires_at);
        let stored = [row.revision.as_bytes(), &expires_at[..], row.data];
        if expected == Expected::Absent && milliseconds > 0 {
            match self.create_row(key, &stored, milliseconds).await {
                // The script brings a small row even into a full server, and tells whether there was a row already.
                Err(StoreError::Full(_)) => {}
                created => return created.map(written),
            }
        }
        let head: &[&[u8]] = match &expected {
            Expected::Absent => &[],
            Expected::At(revision) => &[revision.as_bytes(), &expires_at],
        };
        let left = milliseconds.to_string();
        let left: &[&[u8]] = &[left.as_bytes()];
        if expected != Expected::Absent && self.stages(row.data.len(), milliseconds) {
            let staged = Staged { revision: &row.revision, row: &stored };
            let answer = self.run(&self.scripts.write, WRITE, key, Some(staged), &[&[], left, head]).await;
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
        let answer = self.run(&self.scripts.write, WRITE, key, None, &[&stored, left, head]).await;
        self.outcome(answer).map(written)
    }

    /// A row that is created needs no script.
    async fn create_row(&self, key: &RowKey, row: &[&[u8]], milliseconds: i64) -> Result<bool, StoreError> {
        let mut set = self.set(row, |set| self.name(key, set));
        set.arg("NX").arg("PX").arg(milliseconds);
        match self.ask(&Request::of(set, None)).await.map_err(|error| self.failure(error))? {
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            _ => Err(StoreError::Corrupt("SET was answered with neither OK nor nothing".into())),
        }
    }

    /// Moves the expiry of a row of this revision to later.
    pub(super) async fn extend_row(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let left = self.span_until(expires_at).to_string();
        let expires_at = Millis::of(expires_at).0.to_be_bytes();
        let args: &[&[&[u8]]] = &[&[at.as_bytes()], &[&expires_at], &[left.as_bytes()]];
        self.outcome(self.run(&self.scripts.extend, EXTEND, key, None, args).await)
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
        let mut set = self.set(row, |set| self.stage_name(key, revision, set));
        set.arg("PX").arg(STAGE);
        set
    }

    /// The beginning of the command that sets a row.
    fn set(&self, row: &[&[u8]], name: impl FnOnce(&mut Cmd)) -> Cmd {
        let len = row.iter().map(|piece| piece.len()).sum::<usize>();
        let mut set = Cmd::with_capacity(6, 2 * self.prefix.len() + 6 * ROW_KEY_LEN + len);
        set.arg("SET");
        name(&mut set);
        add(&mut set, row);
        set
    }

    /// Whether a row of this length, that lives for so long, is staged. In a cluster it is not, because both names would have
    /// to stay on one node while their slot moves.
    fn stages(&self, len: usize, milliseconds: i64) -> bool {
        len > STAGED
            && milliseconds > STAGE
            && !matches!(self.servers, Servers::Cluster(_))
            && self.clock.now() >= *self.scripts.stages_from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away what was staged where it cannot become the row, and stages nothing for a while.
    async fn unstage(&self, key: &RowKey, revision: &Revision, why: &str) {
        let mut command = cmd("UNLINK");
        self.stage_name(key, revision, &mut command);
        // If that fails, it is gone in a minute.
        drop(self.ask(&Request::of(command, None)).await);
        *self.scripts.stages_from.lock().unwrap_or_else(PoisonError::into_inner) =
            self.clock.now() + NOT_STAGED;
        tracing::warn!(
            target: "sealed_session",
            why,
            "Redis does not rename a key, so large rows go through a script, which takes it longer; \
             permit RENAME, and keep keys of one slot together"
        );
    }
}

/// Adds an argument that is in pieces.
fn add(command: &mut Cmd, pieces: &[&[u8]]) {
    let mut arg = command.writer_for_next_arg();
    pieces.iter().try_for_each(|piece| arg.write_all(piece)).expect("a command grows");
}

/// Whether a server runs no script over a row's key and the one beside it, because they are in different slots, or its user
/// may use only the one.
fn refuses_stages(error: &RedisError) -> bool {
    says(error, "CROSSSLOT") || says(error, "NOPERM")
}
