//! Where connections come from. The store's own are kept between statements: the pool pings each one that it gets back,
//! which would be a second round trip per statement. Nor does it say why it gets none: it retries while a server refuses,
//! until its time is up. So those who wait ask the server too.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{ConnectOptions as _, Connection, Database, Error, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::connection::{HeldConnection, IdleConnections};
use crate::store::reach::{SharedConnect, Unreached};

/// A caller that waits longer for a connection asks the server.
const PROMPT: Duration = Duration::from_millis(50);
/// How long a server that has answered is not asked again.
const ANSWERED: Duration = Duration::from_secs(1);

type Options<D> = <<D as Database>::Connection as Connection>::Options;

pub(super) struct Connections<D: Database> {
    source: Source<D>,
    pub(super) patience: Duration,
    /// For those in use, including those whose answer nobody waits for any more.
    permits: Arc<Semaphore>,
    most: u32,
    /// Empty with the application's pool.
    idle: Arc<IdleConnections<D>>,
    server: SharedConnect<Unreached>,
    asked: Arc<Mutex<Asked>>,
}

enum Source<D: Database> {
    /// A pool of the store's own, made when it is needed, because it needs a runtime.
    Own {
        options: Options<D>,
        connections: u32,
        /// There are as many permits as it has connections, so with one of them nobody waits for it.
        pool: OnceLock<Pool<D>>,
    },
    /// The application's. It gets each connection back at once, and permits are for half of them, so that the application
    /// has others while all that the store may take wait for a lock.
    Shared(Pool<D>),
}

/// The outcome of asking the server last.
#[derive(Default)]
struct Asked {
    answered: Option<Instant>,
    /// It is up but accepts nobody just now; the pool retries.
    declined: Option<Unreached>,
}

pub(super) trait Driver: Database {
    /// Whether a connection can be used again after a future on it was dropped. It counts the answers that it waits for
    /// and takes whole messages only, or it has a thread that goes on. MySQL's forgets a ping that was sent, and the
    /// length of a row that has not arrived.
    const CATCHES_UP: bool;

    /// Where the server is, for error messages: host and port, or a socket; `None`, if there is none.
    fn location(options: &Options<Self>) -> Option<String>;
}

#[cfg(feature = "postgres")]
impl Driver for sqlx::Postgres {
    const CATCHES_UP: bool = true;

    fn location(options: &Options<Self>) -> Option<String> {
        Some(located(options.get_socket(), options.get_host(), options.get_port()))
    }
}

#[cfg(feature = "mysql")]
impl Driver for sqlx::MySql {
    const CATCHES_UP: bool = false;

    fn location(options: &Options<Self>) -> Option<String> {
        Some(located(options.get_socket(), options.get_host(), options.get_port()))
    }
}

#[cfg(feature = "sqlite")]
impl Driver for sqlx::Sqlite {
    const CATCHES_UP: bool = true;

    fn location(_: &Options<Self>) -> Option<String> {
        None
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn located(socket: Option<&std::path::PathBuf>, host: &str, port: u16) -> String {
    match socket {
        Some(socket) => socket.display().to_string(),
        None => format!("{host}:{port}"),
    }
}

impl<D: Driver> Connections<D> {
    pub(super) fn own(options: Options<D>, connections: u32, patience: Duration) -> Self {
        Self::over(Source::Own { options, connections, pool: OnceLock::new() }, connections, patience)
    }

    pub(super) fn shared(pool: Pool<D>) -> Self {
        let (connections, patience) =
            (pool.options().get_max_connections(), pool.options().get_acquire_timeout());
        Self::over(Source::Shared(pool), (connections / 2).max(1), patience)
    }

    fn over(source: Source<D>, most: u32, patience: Duration) -> Self {
        let keeps = matches!(source, Source::Own { .. });
        Self {
            source,
            patience,
            permits: Arc::new(Semaphore::new(most as usize)),
            most,
            idle: Arc::new(IdleConnections::new(most, keeps, D::CATCHES_UP)),
            server: SharedConnect::new(),
            asked: Arc::default(),
        }
    }

    /// A connection, for one statement.
    pub(super) async fn take(&self) -> Result<HeldConnection<D>, Error> {
        let mut permit = Some(self.permit().await?);
        if let Some(idle) = self.idle.pop() {
            match HeldConnection::again(idle, &self.idle, permit).await {
                Ok(connection) => return Ok(connection),
                Err(its) => permit = its,
            }
        }
        let connection = self.acquire().await?;
        Ok(HeldConnection::new(connection, Instant::now(), &self.idle, permit))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        let (patience, whose) = match &self.source {
            Source::Own { .. } => (self.patience, ""),
            Source::Shared(pool) => {
                (pool.options().get_acquire_timeout(), " that the store may take out of the pool")
            }
        };
        match timeout(patience, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| Error::PoolClosed),
            Err(_) => Err(busy(self.most, whose)),
        }
    }

    fn pool(&self) -> &Pool<D> {
        match &self.source {
            Source::Own { options, connections, pool, .. } => pool.get_or_init(|| {
                PoolOptions::new()
                    .max_connections(*connections)
                    .acquire_timeout(self.patience)
                    .connect_lazy_with(options.clone())
            }),
            Source::Shared(pool) => pool,
        }
    }

    /// A connection of the pool, or why there is none.
    async fn acquire(&self) -> Result<PoolConnection<D>, Error> {
        let pool = self.pool();
        let Some(at) = D::location(&pool.connect_options()) else {
            return pool.acquire().await.map_err(|error| match error {
                Error::PoolTimedOut => self.busy(),
                error => error,
            });
        };
        // As long as the server is down, one caller asks for all.
        if self.server.failed() && pool.num_idle() == 0 {
            self.ask(&at).await?;
        }
        let mut acquired = pin!(pool.acquire());
        let acquired = match timeout(PROMPT, &mut acquired).await {
            Ok(acquired) => acquired,
            Err(_) => match select(acquired, pin!(self.ask(&at))).await {
                Either::Left((acquired, _)) => acquired,
                Either::Right((Ok(()), acquired)) => acquired.await,
                Either::Right((Err(unreached), _)) => return Err(unreached),
            },
        };
        acquired.map_err(|error| match error {
            Error::PoolTimedOut => self.timed_out(&at),
            Error::PoolClosed => error,
            // It could not connect, and does not retry.
            error => {
                let unreached = unreached(&at, error);
                self.server.fail(unreached.clone());
                carried(unreached)
            }
        })
    }

    /// Asks the server for a connection outside the pool, unless somebody does so already.
    async fn ask(&self, at: &str) -> Result<(), Error> {
        let (options, asked, at) = (self.pool().connect_options(), Arc::clone(&self.asked), at.to_owned());
        // Before the pool gives up.
        let patience = (self.patience / 2).max(self.patience.saturating_sub(2 * PROMPT));
        let attempt = async move {
            let answered = lock(&asked).answered;
            if let Some(answered) = answered {
                sleep(ANSWERED.saturating_sub(answered.elapsed())).await;
            }
            let (answered, declined, outcome) = match timeout(patience, options.connect()).await {
                Ok(Ok(connection)) => {
                    // Whether closing works or not, the server has answered.
                    let _ = connection.close().await;
                    (Some(Instant::now()), None, Ok(()))
                }
                Ok(Err(Error::Database(error))) if error.is_transient_in_connect_phase() => {
                    (None, Some(unreached(&at, Error::Database(error))), Ok(()))
                }
                Ok(Err(error)) => (None, None, Err(unreached(&at, error))),
                Err(late) => (None, None, Err(unreached(&at, late))),
            };
            *lock(&asked) = Asked { answered, declined };
            outcome
        };
        self.server.join(|| attempt).await.map_err(carried)
    }

    fn timed_out(&self, at: &str) -> Error {
        let asked = lock(&self.asked);
        match (&asked.declined, asked.answered) {
            (Some(declined), _) => carried(declined.clone()),
            (None, Some(_)) => self.busy(),
            (None, None) => carried(unreached(at, Error::PoolTimedOut)),
        }
    }

    /// The pool is.
    fn busy(&self) -> Error {
        busy(self.pool().options().get_max_connections(), "")
    }
}

fn busy(connections: u32, whose: &str) -> Error {
    let what = format!("all {connections} connections{whose} are busy");
    carried(Unreached::new(what, Error::PoolTimedOut))
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unreached(at: &str, why: impl std::error::Error + Send + Sync + 'static) -> Unreached {
    Unreached::new(format!("no connection to {at}"), why)
}

/// As an error of the driver, in the variant that carries others.
fn carried(unreached: Unreached) -> Error {
    Error::Configuration(unreached.into())
}
