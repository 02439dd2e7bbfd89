//! Rows in one file, by redb.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use crate::core::clock::{Clock, Millis, SystemClock};
use crate::core::error::{Source, StoreError};
use crate::store::{Expected, NewRow, REVISION_LEN, ROW_KEY_LEN, Revision, Row, RowKey, Store, Written};

/// Key → revision, expiry (milliseconds, big-endian), data.
const ROWS: TableDefinition<'_, &[u8; ROW_KEY_LEN], &[u8]> = TableDefinition::new("rows");
/// (expiry, key): which rows expire when.
const EXPIRIES: TableDefinition<'_, (i64, &[u8; ROW_KEY_LEN]), ()> = TableDefinition::new("expiries");
const OPEN_ELSEWHERE: &str = "another process has the file open, or another `RedbStore` of this one; open it once, \
                              outside of the closure of `HttpServer::new`, and clone `Sessions` into that";
const HEAD_LEN: usize = REVISION_LEN + size_of::<i64>();
/// The most that one transaction does.
const BATCH: usize = 256;
/// Expired rows that a transaction drops beside its work.
const SWEPT_PER_BATCH: usize = 64;

/// Keeps rows in one file: the store of a single process that has no database server.
///
/// A thread of its own writes, and takes what waits into one transaction, so that many requests share the cost of
/// reaching the disk. Expired rows leave by themselves.
///
/// # In production
/// - **Durability.** What was acknowledged is on the disk (`fsync`): it survives a killed process and a power cut, as
///   far as the disk tells the truth.
/// - **One process.** The file is locked; a second process gets [`StoreError::Unavailable`]. In a rolling deploy on one
///   machine the old process has to close it first.
/// - **Permissions.** The file is made with mode 0600. Its content is sealed, but who can write it can end sessions.
/// - **Size.** The space of dropped rows is used again; the file does not shrink.
/// - **A failed disk.** After an I/O error the file is not written again before the process is restarted.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let store = sealed_session::store::RedbStore::open("sessions.redb")?;
/// # Ok(())
/// # }
/// ```
pub struct RedbStore {
    shared: Arc<Shared>,
    /// Taken when it is dropped.
    writer: Option<(Sender<Job>, JoinHandle<()>)>,
}

struct Shared {
    database: Database,
    clock: Box<dyn Clock>,
}

/// How a [`RedbStore`] works.
#[must_use]
pub struct RedbStoreOptions {
    cache_bytes: usize,
    sweep_every: Duration,
    clock: Box<dyn Clock>,
}

impl RedbStoreOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { cache_bytes: 64 << 20, sweep_every: Duration::from_secs(60), clock: Box::new(SystemClock) }
    }

    /// How much of the file is kept in memory; the default is 64 MiB.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How often expired rows are dropped while nothing is written; the default is a minute. With each write some are.
    pub fn sweep_every(mut self, interval: Duration) -> Self {
        self.sweep_every = interval;
        self
    }

    /// Where the time comes from; the default is [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be opened, or another process has it open; [`StoreError::Corrupt`] if
    /// it is no such file. Each names the file.
    pub fn open(self, path: impl AsRef<Path>) -> Result<RedbStore, StoreError> {
        let path = std::path::absolute(path.as_ref()).unwrap_or_else(|_| path.as_ref().into());
        self.open_at(&path).map_err(|error| {
            let at = |source: Source| format!("{}: {source}", path.display()).into();
            match error {
                StoreError::Unavailable(source) => StoreError::Unavailable(at(source)),
                StoreError::Timeout(source) => StoreError::Timeout(at(source)),
                StoreError::Full(source) => StoreError::Full(at(source)),
                StoreError::Corrupt(source) => StoreError::Corrupt(at(source)),
            }
        })
    }

    fn open_at(self, path: &Path) -> Result<RedbStore, StoreError> {
        let file = private(path).map_err(|error| StoreError::Unavailable(error.into()))?;
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        let backend = FileBackend::new(file).map_err(failure)?;
        let database = builder.create_with_backend(backend).map_err(failure)?;
        let begin = database.begin_write().map_err(failure)?;
        begin.open_table(ROWS).map_err(failure)?;
        begin.open_table(EXPIRIES).map_err(failure)?;
        begin.commit().map_err(failure)?;

        let shared = Arc::new(Shared { database, clock: self.clock });
        let (sender, jobs) = channel();
        let of_writer = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("session-store".into())
            .spawn(move || of_writer.work(&jobs, self.sweep_every))
            .map_err(|error| StoreError::Unavailable(error.into()))?;
        Ok(RedbStore { shared, writer: Some((sender, writer)) })
    }
}

impl Default for RedbStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RedbStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStoreOptions").field("cache_bytes", &self.cache_bytes).finish_non_exhaustive()
    }
}

fn private(path: &Path) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl RedbStore {
    /// Opens the file, or makes it, with the default options.
    ///
    /// # Errors
    /// Those of [`RedbStoreOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        RedbStoreOptions::new().open(path)
    }

    /// Hands a job to the writer and waits until it is on the disk.
    async fn write(&self, task: Task) -> Result<u64, StoreError> {
        let closed = || StoreError::Unavailable("the thread that writes has ended".into());
        let (answer, answered) = oneshot::channel();
        let (sender, _) = self.writer.as_ref().ok_or_else(closed)?;
        sender.send(Job { task, answer }).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let answer = tokio::task::spawn_blocking(move || read(&shared)).await;
        answer.map_err(|error| StoreError::Unavailable(error.into()))?
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // The file can be opened again once this returns.
        if let Some((sender, writer)) = self.writer.take() {
            drop(sender);
            let _ = writer.join();
        }
    }
}

struct Job {
    task: Task,
    answer: oneshot::Sender<Result<u64, StoreError>>,
}

impl Job {
    /// Whether nobody waits for it any more. Then it is not carried out: its request was told that it failed, and after a
    /// disk that stood still those who wait would come after all who did.
    fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }
}

enum Task {
    Write { key: RowKey, data: Vec<u8>, revision: Revision, expires_at: Millis, expected: Expected },
    Extend { key: RowKey, at: Revision, expires_at: Millis },
    Delete { key: RowKey },
    Sweep { limit: usize },
    Clear,
}

/// The tables of one transaction.
struct Tables<'t> {
    rows: redb::Table<'t, &'static [u8; ROW_KEY_LEN], &'static [u8]>,
    expiries: redb::Table<'t, (i64, &'static [u8; ROW_KEY_LEN]), ()>,
    now: Millis,
}

impl Shared {
    /// The writer's life: takes what waits, does it in one transaction, answers.
    fn work(&self, jobs: &Receiver<Job>, sweep_every: Duration) {
        loop {
            let mut batch = Vec::new();
            match jobs.recv_timeout(sweep_every) {
                Ok(job) if job.is_given_up() => continue,
                Ok(job) => batch.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            batch.extend(jobs.try_iter().filter(|job| !job.is_given_up()).take(BATCH - 1));
            let done = self.transact(&batch);
            for (at, job) in batch.into_iter().enumerate() {
                let answer = match &done {
                    Ok(answers) => Ok(answers[at]),
                    Err(error) => Err(again(error)),
                };
                // Nobody waits any more where the request was given up meanwhile.
                let _ = job.answer.send(answer);
            }
        }
    }

    fn transact(&self, batch: &[Job]) -> Result<Vec<u64>, redb::Error> {
        let now = Millis::of(self.clock.now());
        let transaction = self.database.begin_write()?;
        let mut answers = Vec::with_capacity(batch.len());
        {
            let rows = transaction.open_table(ROWS)?;
            let expiries = transaction.open_table(EXPIRIES)?;
            let mut tables = Tables { rows, expiries, now };
            for job in batch {
                answers.push(tables.carry_out(&job.task)?);
            }
            tables.sweep(SWEPT_PER_BATCH)?;
        }
        transaction.commit()?;
        Ok(answers)
    }

    fn live(&self, key: &RowKey) -> Result<Option<Row>, redb::Error> {
        let now = Millis::of(self.clock.now());
        let transaction = self.database.begin_read()?;
        let rows = transaction.open_table(ROWS)?;
        let Some(stored) = rows.get(key.as_bytes())? else { return Ok(None) };
        let (revision, expires_at, data) = split(stored.value())?;
        let row = Row { data: data.to_vec(), revision, expires_at: expires_at.to_datetime() };
        Ok((expires_at > now).then_some(row))
    }
}

impl Tables<'_> {
    fn carry_out(&mut self, task: &Task) -> Result<u64, StorageError> {
        match task {
            Task::Write { key, data, revision, expires_at, expected } => {
                let present = self.live(key)?;
                let expires_at = match (expected, present) {
                    (Expected::Absent, None) => *expires_at,
                    (Expected::At(expected), Some((present, before))) if present == *expected => {
                        before.max(*expires_at)
                    }
                    _ => return Ok(0),
                };
                self.put(key, *revision, expires_at, data)?;
                Ok(1)
            }
            Task::Extend { key, at, expires_at } => match self.live(key)? {
                Some((present, before)) if present == *at => {
                    if before < *expires_at {
                        let data = self.rows.get(key.as_bytes())?.map(|row| row.value()[HEAD_LEN..].to_vec());
                        self.put(key, present, *expires_at, &data.unwrap_or_default())?;
                    }
                    Ok(1)
                }
                _ => Ok(0),
            },
            Task::Delete { key } => {
                let was_live = self.live(key)?.is_some();
                self.remove(key)?;
                Ok(u64::from(was_live))
            }
            Task::Sweep { limit } => self.sweep(*limit),
            Task::Clear => {
                self.rows.retain(|_, _| false)?;
                self.expiries.retain(|_, ()| false)?;
                Ok(0)
            }
        }
    }

    fn live(&self, key: &RowKey) -> Result<Option<(Revision, Millis)>, StorageError> {
        let Some(stored) = self.rows.get(key.as_bytes())? else { return Ok(None) };
        let (revision, expires_at, _) = split(stored.value())?;
        Ok((expires_at > self.now).then_some((revision, expires_at)))
    }

    fn put(
        &mut self,
        key: &RowKey,
        revision: Revision,
        expires_at: Millis,
        data: &[u8],
    ) -> Result<(), StorageError> {
        self.remove(key)?;
        let stored = [&revision.as_bytes()[..], &expires_at.0.to_be_bytes(), data].concat();
        self.rows.insert(key.as_bytes(), &stored[..])?;
        self.expiries.insert((expires_at.0, key.as_bytes()), ())?;
        Ok(())
    }

    fn remove(&mut self, key: &RowKey) -> Result<(), StorageError> {
        let before = match self.rows.remove(key.as_bytes())? {
            Some(stored) => split(stored.value())?.1,
            None => return Ok(()),
        };
        self.expiries.remove((before.0, key.as_bytes()))?;
        Ok(())
    }

    fn sweep(&mut self, limit: usize) -> Result<u64, StorageError> {
        let mut expired = Vec::new();
        for entry in self.expiries.iter()?.take(limit) {
            let (entry, _) = entry?;
            let (expires_at, key) = entry.value();
            if expires_at > self.now.0 {
                break;
            }
            expired.push(RowKey::from_bytes(*key));
        }
        for key in &expired {
            self.remove(key)?;
        }
        Ok(expired.len() as u64)
    }
}

/// Revision, expiry and data of what was stored.
fn split(stored: &[u8]) -> Result<(Revision, Millis, &[u8]), StorageError> {
    let corrupted = || StorageError::Corrupted("a row is shorter than its head".into());
    let (revision, rest) = stored.split_first_chunk().ok_or_else(corrupted)?;
    let (expires_at, data) = rest.split_first_chunk().ok_or_else(corrupted)?;
    Ok((Revision::from_bytes(*revision), Millis(i64::from_be_bytes(*expires_at)), data))
}

#[async_trait]
impl Store for RedbStore {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let key = *key;
        self.read(move |shared| shared.live(&key).map_err(failure)).await
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        let NewRow { data, revision, expires_at } = row;
        let (data, expires_at) = (data.to_vec(), Millis::of(expires_at));
        let done = self.write(Task::Write { key: *key, data, revision, expires_at, expected }).await?;
        Ok(if done == 1 { Written::Done } else { Written::Conflict })
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        Ok(self.write(Task::Extend { key: *key, at, expires_at: Millis::of(expires_at) }).await? == 1)
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        Ok(self.write(Task::Delete { key: *key }).await? == 1)
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        self.write(Task::Sweep { limit }).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let count = |shared: &Shared| -> Result<u64, redb::Error> {
            let now = Millis::of(shared.clock.now());
            let transaction = shared.database.begin_read()?;
            let expiries = transaction.open_table(EXPIRIES)?;
            let first = (now.0 + 1, &[0; ROW_KEY_LEN]);
            Ok(expiries.range(first..)?.count() as u64)
        };
        self.read(move |shared| count(shared).map_err(failure)).await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.write(Task::Clear).await.map(drop)
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").finish_non_exhaustive()
    }
}

/// The error of a transaction, for each job that was in it.
fn again(error: &redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => failure(redb::Error::Io(io::Error::new(error.kind(), error.to_string()))),
        redb::Error::Corrupted(reason) => failure(redb::Error::Corrupted(reason.clone())),
        error => StoreError::Unavailable(error.to_string().into()),
    }
}

fn failure(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
            StoreError::Full(error.into())
        }
        // What redb says of a file that does not begin as its own do.
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Corrupt("it is no file of redb".into())
        }
        redb::Error::DatabaseAlreadyOpen => StoreError::Unavailable(OPEN_ELSEWHERE.into()),
        error @ redb::Error::Corrupted(_) => StoreError::Corrupt(error.into()),
        error => StoreError::Unavailable(error.into()),
    }
}

#[cfg(test)]
mod tests;
