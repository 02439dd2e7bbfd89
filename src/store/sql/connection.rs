//! A connection in use, and those that are kept between statements. None goes back to the store's own pool, which would
//! ping it, and wait for a silent server's answer for as long as TCP does.

use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Database, Error};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

use super::failure::leads_nowhere;
use crate::store::reach::SILENT;

/// One that was idle for longer is pinged first.
const FRESH: Duration = Duration::from_secs(2);
/// One that is older is closed, so that unused connections are given back.
const OLD: Duration = Duration::from_secs(600);
/// A server that has said nothing for so long is gone. About then TCP too gives up one that acknowledges nothing.
const GONE: Duration = Duration::from_secs(900);

/// Connections that nobody uses, the most recently used last.
pub(super) struct IdleConnections<D: Database> {
    idle: Mutex<Vec<IdleConnection<D>>>,
    /// Places for those that are left: as many as there may be in use.
    left: Arc<Semaphore>,
    /// Whether any are; otherwise the application's pool gets them back at once.
    keeps: bool,
    /// Whether the driver reads what was not waited for before it asks anything else, wherever a future was dropped.
    catches_up: bool,
}

pub(super) struct IdleConnection<D: Database> {
    connection: PoolConnection<D>,
    made: Instant,
    /// When the server answered on it; `None` if it has since failed to answer on another.
    heard: Option<Instant>,
}

impl<D: Database> IdleConnections<D> {
    pub(super) fn new(connections: u32, keeps: bool, catches_up: bool) -> Self {
        let left = Arc::new(Semaphore::new(connections as usize));
        Self { idle: Mutex::new(Vec::new()), left, keeps, catches_up }
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
        if self.keeps {
            self.idle().push(IdleConnection { connection, made, heard: Some(Instant::now()) });
        }
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

/// A connection in use. Dropped without an answer, as by an abandoned request, it is pinged, and left if the server does
/// not answer in time. If it does, it is kept, unless the driver may have lost track of the answers.
pub(super) struct HeldConnection<D: Database> {
    /// `Some` until it is dropped.
    connection: Option<PoolConnection<D>>,
    made: Instant,
    since: Instant,
    /// Whether it was idle and is being pinged, so that silence says something about all idle ones.
    is_asked: bool,
    idle: Arc<IdleConnections<D>>,
    /// As well.
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

    /// Keeps the connection for the next statement, unless this one failed in a way that may have broken it. If the server is
    /// of no use any more, all that lead there are dropped: another one may have the address.
    pub(super) fn done<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        let keeps = match &outcome {
            Ok(_) => true,
            Err(error @ Error::Database(_)) => !leads_nowhere(error),
            // Dropping it finds out whether it is broken.
            Err(_) => return outcome,
        };
        if let Some(connection) = self.connection.take() {
            match keeps {
                true => self.idle.push(connection, self.made),
                false => {
                    drop(connection.detach());
                    self.idle.close();
                }
            }
        }
        outcome
    }
}

impl<D: Database> Drop for HeldConnection<D> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        self.idle.mark_unverified();
        let Ok(runtime) = Handle::try_current() else { return drop(connection.detach()) };
        let (idle, permit) = (Arc::clone(&self.idle), self.permit.take());
        let is_silent = self.since.elapsed() >= SILENT;
        runtime.spawn(settle(connection, self.made, is_silent, self.is_asked, idle, permit));
    }
}

/// What happens to a connection whose answer nobody waits for any more.
async fn settle<D: Database>(
    mut connection: PoolConnection<D>,
    made: Instant,
    is_silent: bool,
    is_asked: bool,
    idle: Arc<IdleConnections<D>>,
    permit: Option<OwnedSemaphorePermit>,
) {
    let answer = match is_silent {
        true => None,
        false => timeout(SILENT, connection.ping()).await.ok(),
    };
    match answer {
        // Even if the server is there: the next statement might read an answer to this one.
        Some(_) if !idle.catches_up => drop(connection.detach()),
        Some(Ok(())) => idle.push(connection, made),
        Some(Err(_)) => drop(connection.detach()),
        // No statement runs there, so the server ends it as soon as it is closed.
        None if is_asked => {
            drop(connection.detach());
            idle.close();
        }
        None => {
            let places = Arc::clone(&idle.left);
            // The store may be dropped meanwhile.
            drop(idle);
            leave(connection, places, permit).await;
        }
    }
}

/// Leaves a connection on which the server is silent. If the server is gone, only another connection reaches what has
/// replaced it, so there may be another one at once. But it may be there, with a statement that waits for a lock, and then
/// it would not notice that the connection is closed: one after the other would be left there, until the server takes no
/// more. So as many places as there are connections are for those that are left, each until the server answers, or ends it.
/// A connection that finds no place stays in use until then.
async fn leave<D: Database>(
    mut connection: PoolConnection<D>,
    places: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
) {
    let gone = Instant::now() + GONE;
    let place = {
        let found = pin!(places.acquire_owned());
        match select(found, pin!(is_over::<D>(&mut connection, gone))).await {
            Either::Left((place, _)) => place.ok(),
            Either::Right(_) => None,
        }
    };
    let mut connection = connection.detach();
    drop(permit);
    if let Some(place) = place {
        is_over::<D>(&mut connection, gone).await;
        drop(connection);
        drop(place);
    }
}

/// Waits until the server has answered, has ended the connection or must be gone.
async fn is_over<D: Database>(connection: &mut D::Connection, gone: Instant) {
    let _ = timeout_at(gone.into(), connection.ping()).await;
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
