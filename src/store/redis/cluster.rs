//! The connection to a cluster: a single one for all nodes and all runtimes.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use redis::aio::ConnectionLike as _;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{RedisError, RedisResult, Value};
use tokio::runtime::Handle;

use super::request::{Request, is_unanswered};
use crate::store::reach::{SharedConnect, Waiting};

/// Of the parts that revocation tells apart each has so many slots, next to one another as masters have them.
const SLOTS_OF_A_PART: u16 = 1_024;

/// Which part of a cluster a key is in.
pub(super) fn part(name: &[u8]) -> u16 {
    slot(name) / SLOTS_OF_A_PART
}

/// The hash slot of a key (Redis Cluster specification, "Key distribution model" and "Hash tags").
fn slot(name: &[u8]) -> u16 {
    let position = |of: &[u8], brace| of.iter().position(|&byte| byte == brace);
    let tag = position(name, b'{').and_then(|open| {
        let rest = &name[open + 1..];
        position(rest, b'}').filter(|&len| len > 0).map(|len| &rest[..len])
    });
    crc16::State::<crc16::XMODEM>::calculate(tag.unwrap_or(name)) % 16_384
}

#[derive(Clone)]
pub(super) struct Cluster {
    /// Set by the first successful attempt. It reconnects by itself what breaks, but not what falls silent: then it is
    /// replaced.
    connection: Arc<ArcSwapOption<ClusterConnection>>,
    /// What makes the connection, and the nodes asked first, unless it is the application's.
    origin: Option<(ClusterClient, String)>,
    attempts: SharedConnect<RedisError>,
}

impl Cluster {
    pub(super) fn new(client: ClusterClient, at: String) -> Self {
        Self { connection: Arc::default(), origin: Some((client, at)), attempts: SharedConnect::new() }
    }

    pub(super) fn of(connection: ClusterConnection) -> Self {
        let connection = Arc::new(ArcSwapOption::from_pointee(connection));
        Self { connection, origin: None, attempts: SharedConnect::new() }
    }

    pub(super) async fn ask(&self, request: &Request) -> RedisResult<Value> {
        let mut connection = self.connection().await?;
        let waiting = Waiting::or_else(|is_silent| match is_silent {
            true => self.succeed(),
            false => self.look_for(request),
        });
        let answer = request.on(&mut connection).await;
        waiting.over();
        if answer.as_ref().is_err_and(RedisError::is_timeout) {
            self.succeed();
        }
        answer
    }

    /// Checks whether the node of this request, for which nobody waits any more, is there.
    fn look_for(&self, request: &Request) {
        if let (Ok(runtime), Some(_), Some(look)) = (Handle::try_current(), &self.origin, request.look()) {
            let cluster = self.clone();
            runtime.spawn(async move {
                let Ok(mut connection) = cluster.connection().await else { return };
                if is_unanswered(connection.req_packed_command(&look)).await {
                    cluster.succeed();
                }
            });
        }
    }

    pub(super) async fn connection(&self) -> RedisResult<ClusterConnection> {
        loop {
            match (&*self.connection.load(), &self.origin) {
                (Some(connection), _) => return Ok(ClusterConnection::clone(connection)),
                (None, Some((client, _))) => self.connect(client).await?,
                (None, None) => unreachable!("there is a connection or what makes it"),
            }
        }
    }

    async fn connect(&self, client: &ClusterClient) -> RedisResult<()> {
        self.attempts.join(|| self.attempt(client)).await
    }

    fn attempt(&self, client: &ClusterClient) -> impl Future<Output = RedisResult<()>> + Send + use<> {
        let (client, connection) = (client.clone(), Arc::clone(&self.connection));
        async move {
            connection.store(Some(Arc::new(client.get_async_connection().await?)));
            Ok(())
        }
    }

    /// Asks the cluster again for its masters, over new connections; the silent one may have been replaced. Meanwhile the
    /// nodes that answer are asked over the former connections, so that nobody else waits.
    fn succeed(&self) {
        if let (Some((client, _)), Ok(_)) = (&self.origin, Handle::try_current()) {
            self.attempts.launch(|| self.attempt(client));
        }
    }

    /// The nodes that were asked, as long as none has answered.
    pub(super) fn at_if_unreached(&self) -> Option<&str> {
        let (_, at) = self.origin.as_ref()?;
        self.connection.load().is_none().then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // Its reference value, and its examples of tags.
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"), "an empty tag is none");
        assert_ne!(slot(b"foo{bar"), slot(b"bar"), "nor is one that does not end");
        assert_eq!((0..1_000_u32).map(|n| part(&n.to_be_bytes())).max(), Some(15));
    }
}
