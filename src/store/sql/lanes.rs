//! Connections that are kept in hand between statements. The pool itself asks each that it gets back whether it is still
//! there, which would be a second round trip for each statement.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{Database, Error, Pool};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// One that was idle for longer goes back to the pool, which asks it.
const FRESH: Duration = Duration::from_secs(2);
/// One that was in hand for longer does, too, so that the pool can replace it in time.
const IN_HAND: Duration = Duration::from_secs(600);

pub(super) struct Lanes<D: Database> {
    pool: Pool<D>,
    /// As many as the pool has connections, so that who has one never waits for the pool.
    permits: Semaphore,
    patience: Duration,
    /// The one used last is the last.
    idle: Mutex<Vec<Idle<D>>>,
}

struct Idle<D: Database> {
    connection: PoolConnection<D>,
    taken: Instant,
    used: Instant,
}

impl<D: Database> Lanes<D> {
    pub(super) fn new(pool: Pool<D>, connections: u32, patience: Duration) -> Self {
        let permits = Semaphore::new(connections as usize);
        Self { pool, permits, patience, idle: Mutex::default() }
    }

    /// A connection, for one statement.
    pub(super) async fn take(&self) -> Result<Lane<'_, D>, Error> {
        let permit = timeout(self.patience, self.permits.acquire()).await.map_err(|_| Error::PoolTimedOut)?;
        let permit = permit.map_err(|_| Error::PoolClosed)?;
        let in_hand = self.in_hand();
        let (connection, taken) = match in_hand {
            Some(idle) => (idle.connection, idle.taken),
            None => (self.pool.acquire().await?, Instant::now()),
        };
        Ok(Lane { connection, taken, lanes: self, permit })
    }

    fn in_hand(&self) -> Option<Idle<D>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |idle: &Idle<D>| idle.used.elapsed() < FRESH && idle.taken.elapsed() < IN_HAND;
        // What is not fresh any more is dropped, which is how the pool gets it back.
        idle.retain(fresh);
        idle.pop()
    }
}

/// A connection in use. Dropped, as after a failure or by a request that was given up, it goes back to the pool.
pub(super) struct Lane<'l, D: Database> {
    connection: PoolConnection<D>,
    taken: Instant,
    lanes: &'l Lanes<D>,
    #[expect(dead_code, reason = "held, not read")]
    permit: SemaphorePermit<'l>,
}

impl<D: Database> Lane<'_, D> {
    /// Keeps the connection for the next statement, unless this one failed in a way that may have broken it.
    pub(super) fn done<T>(self, outcome: Result<T, Error>) -> Result<T, Error> {
        if matches!(outcome, Ok(_) | Err(Error::Database(_))) {
            let idle = Idle { connection: self.connection, taken: self.taken, used: Instant::now() };
            self.lanes.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        }
        outcome
    }
}

impl<D: Database> Deref for Lane<'_, D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        &self.connection
    }
}

impl<D: Database> DerefMut for Lane<'_, D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        &mut self.connection
    }
}

/// The options of a pool that gives out connections which are there.
pub(super) fn pool<D: Database>(connections: u32, patience: Duration) -> PoolOptions<D> {
    PoolOptions::new().max_connections(connections).acquire_timeout(patience)
}
