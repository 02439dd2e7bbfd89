//! One connection to a single server for each runtime that asks: actix-web's workers have one each, and a connection
//! that they shared would take each call to another thread and back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, RedisResult, Value};
use tokio::runtime::{Handle, Id};

use super::says;

/// Ids of runtimes do not come back, so those that have ended are forgotten when there are this many.
const MOST: usize = 256;
/// A connection that is younger is not left for a new one.
const YOUNG: Duration = Duration::from_millis(100);

pub(super) struct Connections {
    client: Client,
    config: ConnectionManagerConfig,
    made: Mutex<Vec<Made>>,
}

struct Made {
    by: Id,
    at: Instant,
    connection: ConnectionManager,
}

impl Connections {
    /// Those to this server, of which the first is there.
    pub(super) async fn open(client: Client, config: ConnectionManagerConfig) -> RedisResult<Self> {
        let connection = ConnectionManager::new_with_config(client.clone(), config.clone()).await?;
        let first = Made { by: Handle::current().id(), at: Instant::now(), connection };
        Ok(Self { client, config, made: Mutex::new(vec![first]) })
    }

    pub(super) async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        let answer = self.here()?.send_packed_command(command).await.and_then(Value::extract_error);
        if answer.as_ref().is_err_and(|error| says(error, "READONLY")) {
            self.leave();
        }
        answer
    }

    /// The connection of this runtime, which is made when it is used first.
    fn here(&self) -> RedisResult<ConnectionManager> {
        let by = Handle::current().id();
        let mut made = self.made();
        if let Some(made) = made.iter().find(|made| made.by == by) {
            return Ok(made.connection.clone());
        }
        if made.len() >= MOST {
            made.clear();
        }
        let connection = ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone())?;
        made.push(Made { by, at: Instant::now(), connection: connection.clone() });
        Ok(connection)
    }

    /// The server is not the primary any more. At its address there may be another one by now.
    fn leave(&self) {
        self.made().retain(|made| made.at.elapsed() < YOUNG);
    }

    fn made(&self) -> MutexGuard<'_, Vec<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
