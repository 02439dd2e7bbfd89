//! What is sent to a server at once, and whether anybody is there to answer.

use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, Pipeline, RedisResult, Value, cmd};
use tokio::time::timeout;

use crate::store::reach::SILENT;

/// A command, or two in one packet, of which the second answers.
pub(super) enum Request {
    One(Cmd),
    Two(Pipeline),
}

impl Request {
    pub(super) fn of(command: Cmd, before: Option<Cmd>) -> Self {
        match before {
            None => Self::One(command),
            Some(before) => {
                let mut both = Pipeline::with_capacity(2);
                both.add_command(before).add_command(command);
                Self::Two(both)
            }
        }
    }

    /// The answer of the last command, which tells what has become of the other one.
    pub(super) async fn on(&self, connection: &mut impl ConnectionLike) -> RedisResult<Value> {
        match self {
            Self::One(command) => connection.req_packed_command(command).await?.extract_error(),
            Self::Two(both) => {
                let answers = connection.req_packed_commands(both, 0, 2).await?;
                answers.into_iter().last().unwrap_or(Value::Nil).extract_error()
            }
        }
    }

    /// A small read of the key that it is about, with no permissions but the store's own.
    pub(super) fn look(&self) -> Option<Cmd> {
        let command = match self {
            Self::One(command) => command,
            Self::Two(both) => both.cmd_iter().last()?,
        };
        let arg = |n| match command.args_iter().nth(n) {
            Some(Arg::Simple(arg)) => Some(arg),
            _ => None,
        };
        let name = match arg(0)? {
            b"GET" | b"SET" | b"UNLINK" => arg(1)?,
            b"EVALSHA" | b"EVAL" => arg(3)?,
            _ => return None,
        };
        let mut look = cmd("GETRANGE");
        look.arg(name).arg(0).arg(0);
        Some(look)
    }
}

pub(super) async fn is_unanswered(answer: impl Future<Output = RedisResult<Value>>) -> bool {
    timeout(SILENT, answer).await.map_or(true, |answer| answer.is_err_and(|error| error.is_timeout()))
}
