//! Rows in one file, by redb.

mod file;
mod tables;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redb::{Database, ReadTransaction, ReadableDatabase as _};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use self::tables::{EXPIRIES, ROWS, Tables, Task, split};
use crate::core::clock::{Clock, Millis, SystemClock};
use crate::core::error::{Source, StoreError};
use crate::store::{Expected, NewRow, ROW_KEY_LEN, Revision, Row, RowKey, Store, Written};

const OPEN_ELSEWHERE: &str = "another process has the file open, or another `RedbStore` of this one; open it once, \
                              outside of the closure of `HttpServer::new`, and clone `Sessions` into that";
const CLOSED: &str = "after a full disk the file is not open: it is being read through, or could not be opened again, and the log says why";
/// The most that one transaction does.
const BATCH: usize = 256;
/// So much may wait for a disk that stands still.
const MOST_WAITING: usize = 64 << 20;
/// Expired rows that a transaction drops beside its work.
const SWEPT_PER_BATCH: usize = 64;
/// For how long none is tried after a transaction that failed: opening the file again may mean to read all of it, and took
/// so long.
fn rest(opening: Duration) -> Duration {
    opening.saturating_mul(10).max(Duration::from_secs(2))
}

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
/// - **A full disk.** Writes fail with [`StoreError::Full`], whatever their size: a logout, too, that waits together with a
///   large row. So do those of the next 2 seconds, and then they are tried again. Meanwhile the file is opened again, as
///   after a crash: redb reads it through, and until then reads fail. If that takes long, the pause is ten times as long.
/// - **A failed disk.** After another I/O error, and after any error of `fsync`, redb neither writes nor reads what it has not
///   in memory before the process is restarted: after a failed `fsync`, nobody knows what is on the disk. Where that is how
///   a disk tells that it is full, as NFS does, and quotas of some file systems, a restart is needed.
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
    /// How many bytes wait to be written.
    waiting: Arc<AtomicUsize>,
}

struct Shared {
    /// `None` while it is opened again, and if it could not be.
    database: RwLock<Option<Database>>,
    /// Whether the disk has ever failed to sync. Then the file is not opened again: what was written, but is not on the disk,
    /// would be taken for stored, and referred to by what comes.
    has_lost: Arc<AtomicBool>,
    opens: Box<Opens>,
    clock: Box<dyn Clock>,
}

type Rest = fn(Duration) -> Duration;
type Opens = dyn Fn(&Arc<AtomicBool>) -> Result<Database, StoreError> + Send + Sync;

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

    /// How often expired rows are dropped while nothing is written; the default is a minute, and less than 1 ms is refused. With
    /// each write some are.
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
    /// [`StoreError::Unavailable`] if it cannot be opened, or another process has it open; [`StoreError::Misconfigured`] if the folder
    /// is not there, or the user may not; [`StoreError::Corrupt`] if it is no such file. Each names the file.
    pub fn open(self, path: impl AsRef<Path>) -> Result<RedbStore, StoreError> {
        if self.sweep_every < Duration::from_millis(1) {
            return Err(StoreError::Misconfigured(
                "sweep_every is 0; it must be at least 1 ms, and is a minute by default".into(),
            ));
        }
        let path = std::path::absolute(path.as_ref()).unwrap_or_else(|_| path.as_ref().into());
        let cache_bytes = self.cache_bytes;
        let opens = |file: File| -> Box<Opens> {
            Box::new(move |has_lost| file::database(file::backend(&file)?, cache_bytes, has_lost))
        };
        file::open(&path).and_then(|file| self.start(opens(file), rest)).map_err(|error| {
            let at = |source: Source| format!("{}: {source}", path.display()).into();
            match error {
                StoreError::Unavailable(source) => StoreError::Unavailable(at(source)),
                StoreError::Misconfigured(source) => StoreError::Misconfigured(at(source)),
                StoreError::Timeout(source) => StoreError::Timeout(at(source)),
                StoreError::Full(source) => StoreError::Full(at(source)),
                StoreError::Corrupt(source) => StoreError::Corrupt(at(source)),
            }
        })
    }

    fn start(self, opens: Box<Opens>, rest: Rest) -> Result<RedbStore, StoreError> {
        let has_lost = Arc::default();
        let database = RwLock::new(Some(opens(&has_lost)?));
        let shared = Arc::new(Shared { database, has_lost, opens, clock: self.clock });
        let (sender, jobs) = channel();
        let of_writer = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("session-store".into())
            .spawn(move || of_writer.work(&jobs, self.sweep_every, rest))
            .map_err(|error| StoreError::Unavailable(error.into()))?;
        Ok(RedbStore { shared, writer: Some((sender, writer)), waiting: Arc::default() })
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
        let room = Room::take(&self.waiting, task.len()).ok_or_else(|| {
            let reason = "the disk stands still, and so much waits for it that nothing more is taken";
            StoreError::Unavailable(reason.into())
        })?;
        let (answer, answered) = oneshot::channel();
        let (sender, _) = self.writer.as_ref().ok_or_else(closed)?;
        sender.send(Job { task, answer, _room: room }).map_err(|_| closed())?;
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
    _room: Room,
}

/// What a job takes of the memory for those that wait, also for one that was given up.
struct Room {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    /// `None`: more waits than may.
    fn take(waiting: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let room = Self { waiting: Arc::clone(waiting), bytes };
        let before = waiting.fetch_add(bytes, Ordering::AcqRel);
        (before <= MOST_WAITING).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Job {
    /// Whether nobody waits for it any more. Then it is not carried out: its request was told that it failed, and after a
    /// disk that stood still those who wait would come after all who did.
    fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }
}

/// A transaction that failed, and for how long none is tried.
struct Failed {
    at: Instant,
    pause: Duration,
    error: Arc<redb::Error>,
}

impl Shared {
    /// The writer's life: takes what waits, does it in one transaction, answers.
    fn work(&self, jobs: &Receiver<Job>, sweep_every: Duration, rest: Rest) {
        let mut failed: Option<Failed> = None;
        loop {
            let mut batch = Vec::new();
            match jobs.recv_timeout(sweep_every) {
                Ok(job) if job.is_given_up() => continue,
                Ok(job) => batch.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            batch.extend(jobs.try_iter().filter(|job| !job.is_given_up()).take(BATCH - 1));
            let done = match &failed {
                Some(failed) if failed.at.elapsed() < failed.pause => Err(Arc::clone(&failed.error)),
                _ => {
                    let (done, since) = match self.attempt(&batch, rest) {
                        Ok(answers) => (Ok(answers), None),
                        Err(failed) => (Err(Arc::clone(&failed.error)), Some(failed)),
                    };
                    failed = since;
                    done
                }
            };
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

    /// A transaction. After a full disk, redb does nothing with a file before it is opened again.
    fn attempt(&self, batch: &[Job], rest: Rest) -> Result<Vec<u64>, Failed> {
        let is_closed = self.database.read().unwrap_or_else(PoisonError::into_inner).is_none();
        let mut opening = if is_closed { self.open_again() } else { Duration::ZERO };
        self.transact(batch).map_err(|error| {
            if let redb::Error::Io(error) = &error
                && is_full(error)
                && !self.has_lost.load(Ordering::SeqCst)
            {
                opening = self.open_again();
            }
            Failed { at: Instant::now(), pause: rest(opening), error: Arc::new(error) }
        })
    }

    /// Returns how long it took. Nobody waits for it: reads fail meanwhile.
    fn open_again(&self) -> Duration {
        let began = Instant::now();
        // It has the file's lock until it is dropped.
        drop(self.replace(None));
        if self.has_lost.load(Ordering::SeqCst) {
            tracing::warn!(target: "sealed_session", "the disk has failed to sync, so the store's file is not opened again before the process is restarted");
            return began.elapsed();
        }
        match (self.opens)(&self.has_lost) {
            Ok(opened) => drop(self.replace(Some(opened))),
            Err(error) => {
                let source = std::error::Error::source(&error).map(tracing::field::display);
                tracing::warn!(target: "sealed_session", %error, source, "after a full disk the store's file cannot be opened again yet");
            }
        }
        began.elapsed()
    }

    fn replace(&self, database: Option<Database>) -> Option<Database> {
        std::mem::replace(&mut *self.database.write().unwrap_or_else(PoisonError::into_inner), database)
    }

    fn transact(&self, batch: &[Job]) -> Result<Vec<u64>, redb::Error> {
        let now = Millis::of(self.clock.now());
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let transaction = database.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_write()?;
        let mut answers = Vec::with_capacity(batch.len());
        let is_changed = {
            let rows = transaction.open_table(ROWS)?;
            let expiries = transaction.open_table(EXPIRIES)?;
            let mut tables = Tables { rows, expiries, now, is_changed: false };
            for job in batch {
                answers.push(tables.carry_out(&job.task)?);
            }
            tables.sweep(SWEPT_PER_BATCH)?;
            tables.is_changed
        };
        // A commit syncs even where there is nothing to write.
        if is_changed {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(answers)
    }

    fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(database.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_read()?)
    }

    fn live(&self, key: &RowKey) -> Result<Option<Row>, redb::Error> {
        let now = Millis::of(self.clock.now());
        let transaction = self.begin_read()?;
        let rows = transaction.open_table(ROWS)?;
        let Some(stored) = rows.get(key.as_bytes())? else { return Ok(None) };
        let (revision, expires_at, data) = split(stored.value())?;
        let row = Row { data: data.to_vec(), revision, expires_at: expires_at.to_datetime() };
        Ok((expires_at > now).then_some(row))
    }
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
            let transaction = shared.begin_read()?;
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
        redb::Error::DatabaseClosed => failure(redb::Error::DatabaseClosed),
        redb::Error::Corrupted(reason) => failure(redb::Error::Corrupted(reason.clone())),
        error => StoreError::Unavailable(error.to_string().into()),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn failure(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) if is_full(&error) => StoreError::Full(error.into()),
        // What redb says of a file that does not begin as its own do.
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Corrupt("it is no file of redb".into())
        }
        redb::Error::DatabaseAlreadyOpen => StoreError::Unavailable(OPEN_ELSEWHERE.into()),
        redb::Error::DatabaseClosed => StoreError::Unavailable(CLOSED.into()),
        error @ redb::Error::Corrupted(_) => StoreError::Corrupt(error.into()),
        error => StoreError::Unavailable(error.into()),
    }
}

#[cfg(test)]
mod tests;
