//! One connection to a single server per runtime that asks: actix-web's workers have one each, and a shared connection
//! would take each call to another thread and back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisResult, Value};
use tokio::runtime::{Handle, Id};

use super::request::{Request, is_unanswered};
use super::says;
use crate::store::reach::Waiting;

/// Runtime ids are not reused, so all connections are forgotten when there are this many.
const MOST: usize = 256;
/// A younger connection is not replaced.
const YOUNG: Duration = Duration::from_millis(100);

pub(super) struct Connections {
    client: Client,
    config: ConnectionManagerConfig,
    at: String,
    made: Arc<Mutex<Vec<Made>>>,
}

#[derive(Clone)]
struct Made {
    by: Id,
    at: Instant,
    connection: ConnectionManager,
    /// Whether the server has ever answered.
    answered: Arc<AtomicBool>,
}

impl Connections {
    /// Connections to this server, none made yet.
    pub(super) fn new(client: Client, config: ConnectionManagerConfig) -> Self {
        let at = client.get_connection_info().addr().to_string();
        Self { client, config, at, made: Arc::default() }
    }

    /// Host and port.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// The first connection.
    pub(super) async fn connect(&self) -> RedisResult<()> {
        let connection = ConnectionManager::new_with_config(self.client.clone(), self.config.clone()).await?;
        self.made().push(Made::new(connection, true));
        Ok(())
    }

    pub(super) async fn ask(&self, request: &Request) -> RedisResult<Value> {
        let mut here = self.here()?;
        let waiting = {
            let (here, made) = (here.clone(), &self.made);
            Waiting::or_else(move |is_silent| here.given_up(made, request, is_silent))
        };
        let answer = request.on(&mut here.connection).await;
        waiting.over();
        match &answer {
            Err(error) if says(error, "READONLY") => self.leave(),
            Err(error) if error.is_timeout() && here.has_answered() => here.leave(&self.made),
            // It retries by itself, and would give the next request that outcome, however old the outcome and however
            // young the connection.
            Err(error) if error.code().is_none() => {
                here.leave(&self.made);
                self.leave();
            }
            _ => here.answered.store(true, Ordering::Relaxed),
        }
        answer
    }

    /// The connection of this runtime, made on first use.
    fn here(&self) -> RedisResult<Made> {
        let by = Handle::current().id();
        let mut made = self.made();
        if let Some(made) = made.iter().find(|made| made.by == by) {
            return Ok(made.clone());
        }
        if made.len() >= MOST {
            made.clear();
        }
        let connection = ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone())?;
        made.push(Made::new(connection, false));
        Ok(made.last().expect("it was pushed").clone())
    }

    /// The server is no longer the primary, or not there. Another one may have its address by now.
    fn leave(&self) {
        self.made().retain(|made| made.at.elapsed() < YOUNG);
    }

    fn made(&self) -> MutexGuard<'_, Vec<Made>> {
        lock(&self.made)
    }
}

fn lock(made: &Mutex<Vec<Made>>) -> MutexGuard<'_, Vec<Made>> {
    made.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Made {
    fn new(connection: ConnectionManager, answered: bool) -> Self {
        let by = Handle::current().id();
        Self { by, at: Instant::now(), connection, answered: Arc::new(answered.into()) }
    }

    fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    fn leave(&self, made: &Mutex<Vec<Self>>) {
        lock(made).retain(|made| !Arc::ptr_eq(&made.answered, &self.answered));
    }

    /// Nobody waits for the answer to this request any more. A connection that is still being made has its own time
    /// limit.
    fn given_up(&self, made: &Arc<Mutex<Vec<Self>>>, request: &Request, is_silent: bool) {
        if !self.has_answered() {
            return;
        }
        if is_silent {
            return self.leave(made);
        }
        if let (Ok(runtime), Some(look)) = (Handle::try_current(), request.look()) {
            let (here, made, mut connection) = (self.clone(), Arc::clone(made), self.connection.clone());
            runtime.spawn(async move {
                if is_unanswered(connection.send_packed_command(&look)).await {
                    here.leave(&made);
                }
            });
        }
    }
}
