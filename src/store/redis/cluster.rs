//! The connection to a cluster, which is one for all nodes and all runtimes.

use std::sync::{Arc, OnceLock};

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{RedisError, RedisResult};

use crate::store::reach::Attempts;

pub(super) struct Cluster {
    /// There from the first attempt on that succeeds; what breaks later is mended behind it.
    connection: Arc<OnceLock<ClusterConnection>>,
    /// What makes it, and the nodes that it asks first, unless it was there from the beginning.
    origin: Option<(ClusterClient, String)>,
    attempts: Attempts<RedisError>,
}

impl Cluster {
    pub(super) fn new(client: ClusterClient, at: String) -> Self {
        Self { connection: Arc::default(), origin: Some((client, at)), attempts: Attempts::new() }
    }

    pub(super) fn of(connection: ClusterConnection) -> Self {
        Self { connection: Arc::new(connection.into()), origin: None, attempts: Attempts::new() }
    }

    pub(super) async fn connection(&self) -> RedisResult<ClusterConnection> {
        loop {
            match (self.connection.get(), &self.origin) {
                (Some(connection), _) => return Ok(connection.clone()),
                (None, Some((client, _))) => self.connect(client).await?,
                (None, None) => unreachable!("there is a connection or what makes it"),
            }
        }
    }

    async fn connect(&self, client: &ClusterClient) -> RedisResult<()> {
        let (client, connection) = (client.clone(), Arc::clone(&self.connection));
        let attempt = async move {
            let made = client.get_async_connection().await?;
            connection.get_or_init(|| made);
            Ok(())
        };
        self.attempts.join(|| attempt).await
    }

    /// The nodes that were asked, as long as none has answered.
    pub(super) fn at_if_unreached(&self) -> Option<&str> {
        let (_, at) = self.origin.as_ref()?;
        self.connection.get().is_none().then_some(at)
    }
}
