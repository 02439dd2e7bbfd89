//! A connection in use, and those that are kept between statements. None goes back to the store's own pool, which would
//! ping it, and wait for a silent server's answer for as long as TCP does.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection, Database, Error};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::leads_nowhere;
use crate::store::reach::SILENT;

/// One that was idle for longer is pinged first.
const FRESH: Duration = Duration::from_secs(2);
/// One that is older is closed, so that unused connections are given back.
const OLD: Duration = Duration::from_secs(600);

/// Connections that nobody uses, the most recently used last.
pub(super) struct IdleConnections<D: Database> {
    idle: Mutex<Vec<IdleConnection<D>>>,
}

pub(super) struct IdleConnection<D: Database> {
    connection: PoolConnection<D>,
    made: Instant,
    /// When the server answered on it; `None` if it has since failed to answer on another.
    heard: Option<Instant>,
}

impl<D: Database> IdleConnections<D> {
    pub(super) fn new() -> Self {
        Self { idle: Mutex::new(Vec::new()) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<IdleConnection<D>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pop(&self) -> Option<IdleConnection<D>> {
        let mut idle = self.idle();
        for old in idle.extract_if(.., |idle| idle.made.elapsed() >= OLD) {
            tokio::spawn(timeout(SILENT, old.connection.detach().close()));
        }
        idle.pop()
    }

    fn push(&self, connection: PoolConnection<D>, made: Instant) {
        self.idle().push(IdleConnection { connection, made, heard: Some(Instant::now()) });
    }

    /// All lead to the same server, which has not answered on one of them.
    fn mark_unverified(&self) {
        self.idle().iter_mut().for_each(|idle| idle.heard = None);
    }

    pub(super) fn close(&self) {
        self.idle().drain(..).for_each(|idle| drop(idle.connection.detach()));
    }
}

/// Connections go back to the pool in a task; without a runtime they are closed instead.
impl<D: Database> Drop for IdleConnections<D> {
    fn drop(&mut self) {
        if Handle::try_current().is_err() {
            self.close();
        }
    }
}

/// A connection in use. Dropped without an answer, as by an abandoned request, it is pinged, and closed if the server
/// does not answer in time.
pub(super) struct HeldConnection<D: Database> {
    /// `Some` until it is dropped.
    connection: Option<PoolConnection<D>>,
    made: Instant,
    since: Instant,
    /// Whether it was idle and is being pinged, so that silence says something about all idle ones.
    is_asked: bool,
    idle: Arc<IdleConnections<D>>,
    /// `None` for the application's pool.
    permit: Option<OwnedSemaphorePermit>,
}

impl<D: Database> HeldConnection<D> {
    pub(super) fn new(
        connection: PoolConnection<D>,
        made: Instant,
        idle: &Arc<IdleConnections<D>>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (since, idle) = (Instant::now(), Arc::clone(idle));
        Self { connection: Some(connection), made, since, is_asked: false, idle, permit }
    }

    /// A kept connection, if the server is still there; or the permit for another one.
    pub(super) async fn again(
        IdleConnection { connection, made, heard }: IdleConnection<D>,
        idle: &Arc<IdleConnections<D>>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, Option<OwnedSemaphorePermit>> {
        let mut held = Self::new(connection, made, idle, permit);
        if heard.is_some_and(|heard| heard.elapsed() < FRESH) {
            return Ok(held);
        }
        held.is_asked = true;
        if !answers::<D>(&mut held).await {
            held.connection.take().map(PoolConnection::detach);
            idle.close();
            return Err(held.permit.take());
        }
        held.is_asked = false;
        held.since = Instant::now();
        Ok(held)
    }

    /// Keeps the connection for the next statement, unless this one failed in a way that may have broken it. One that is
    /// of no use any more is dropped: another server may have the address.
    pub(super) fn done<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        let keeps = match &outcome {
            Ok(_) => true,
            Err(error @ Error::Database(_)) => !leads_nowhere(error),
            // Dropping it finds out whether it is broken.
            Err(_) => return outcome,
        };
        if let Some(connection) = self.connection.take()
            && self.permit.is_some()
        {
            match keeps {
                true => self.idle.push(connection, self.made),
                false => drop(connection.detach()),
            }
        }
        outcome
    }
}

impl<D: Database> Drop for HeldConnection<D> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        self.idle.mark_unverified();
        match Handle::try_current() {
            Ok(runtime) if self.since.elapsed() < SILENT => {
                let (idle, permit) = (Arc::clone(&self.idle), self.permit.take());
                runtime.spawn(settle(connection, self.made, self.is_asked, idle, permit));
            }
            _ => drop(connection.detach()),
        }
    }
}

/// What happens to a connection whose answer nobody waits for any more.
async fn settle<D: Database>(
    mut connection: PoolConnection<D>,
    made: Instant,
    is_asked: bool,
    idle: Arc<IdleConnections<D>>,
    permit: Option<OwnedSemaphorePermit>,
) {
    if !answers::<D>(&mut connection).await {
        drop(connection.detach());
        if is_asked {
            idle.close();
        }
    } else if permit.is_some() {
        idle.push(connection, made);
    }
}

async fn answers<D: Database>(connection: &mut D::Connection) -> bool {
    matches!(timeout(SILENT, connection.ping()).await, Ok(Ok(())))
}

const THERE: &str = "the connection is there until it is dropped";

impl<D: Database> Deref for HeldConnection<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        self.connection.as_ref().expect(THERE)
    }
}

impl<D: Database> DerefMut for HeldConnection<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        self.connection.as_mut().expect(THERE)
    }
}
