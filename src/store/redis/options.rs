//! How a store in Redis connects.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo as _};

use super::cluster::Cluster;
use super::connections::Connections;
use super::tls::Tls;
use super::write::Scripts;
use super::{RedisStore, Servers, failure};
use crate::core::clock::{Clock, SystemClock};
use crate::core::error::StoreError;
use crate::store::reach::STORE_TIMEOUT;

/// How often the cluster's client follows a redirection, or tries again, before it gives up.
const CLUSTER_RETRIES: u32 = 3;
/// How many bytes wait for one system call. The driver's 8 KiB are two rows of 6,000.
const SENT_AT_ONCE: usize = 128 << 10;
/// How many requests wait for a connection before others wait for these. The driver's 50 are few for all requests of a worker.
const QUEUE: usize = 1_024;

/// Without Nagle's algorithm, which the driver leaves on: it keeps a request back until those before it on the connection are
/// acknowledged, which a server does with its answers.
fn at_once() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// A connection that the application already has, for [`RedisStore::from_connection`]. It is cloned for each request; the
/// clones share it.
///
/// | from | when it breaks |
/// |---|---|
/// | `redis::aio::ConnectionManager` | it reconnects |
/// | `redis::cluster_async::ClusterConnection` | it reconnects |
/// | `redis::aio::MultiplexedConnection` | it stays broken, and so does the store: for short-lived programs |
///
/// All are of version 1 of the crate `redis`, with any of its features and in either version of the protocol. How long to
/// wait for answers is the connection's own setting. So is `TcpSettings::set_nodelay(true)`, which the store sets for its own:
/// without it a command waits until those before it on the connection are acknowledged. A cluster's has to read from the masters,
/// as it does by default: with `read_from_replicas`, what was ended or written a moment ago is not seen. The rows are in its database, under the
/// store's prefix, and its user needs the permissions that [`RedisStore`] lists.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sealed_session::store::{RedisStore, RedisStoreOptions};
///
/// let connection = redis::Client::open("redis://127.0.0.1/")?.get_connection_manager().await?;
/// let store = RedisStore::from_connection(connection.clone());
/// let other = RedisStoreOptions::new().prefix("shop:session:").with_connection(connection);
/// # Ok(())
/// # }
/// ```
pub struct RedisConnection(Servers);

impl From<ConnectionManager> for RedisConnection {
    fn from(connection: ConnectionManager) -> Self {
        Self(Servers::Manager(connection))
    }
}

impl From<MultiplexedConnection> for RedisConnection {
    fn from(connection: MultiplexedConnection) -> Self {
        Self(Servers::Multiplexed(connection))
    }
}

impl From<ClusterConnection> for RedisConnection {
    fn from(connection: ClusterConnection) -> Self {
        Self(Servers::Cluster(Box::new(Cluster::of(connection))))
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").finish_non_exhaustive()
    }
}

/// How a [`RedisStore`] connects, and where its rows are.
#[must_use]
pub struct RedisStoreOptions {
    prefix: String,
    timeout: Duration,
    clock: Box<dyn Clock>,
    tls: Tls,
}

impl RedisStoreOptions {
    /// The defaults.
    pub fn new() -> Self {
        let (timeout, clock) = (STORE_TIMEOUT, Box::new(SystemClock));
        Self { prefix: "session:".into(), timeout, clock, tls: Tls::default() }
    }

    /// What the names of all keys start with; the default is `session:`. Stores do not see each other's rows if neither's
    /// prefix starts with the other's.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long to wait for a connection, and for an answer; the default is 1.5 s. With a cluster a connection has to be
    /// there in a third of it, so that a node that is silent does not hold up what others are asked for longer than that
    /// waits. The builder's `store_timeout` still applies, but cannot tell the cause, so this should be shorter.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the time comes from; the default is [`SystemClock`]. Redis gets time spans, so its own clock may differ.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// The authorities, as certificates in PEM, that servers' certificates are checked against, instead of those of
    /// `webpki-roots`: for an authority of your own. Only for addresses with TLS, which can also name a file with them:
    /// `rediss://host/?ssl_ca_certs=/path/ca.pem`, which goes before this.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.roots = Some(pem.into());
        self
    }

    /// The certificate that servers are shown, with those between it and their authority, and its private key, both in PEM.
    /// A Redis server with TLS asks for one unless it is told `tls-auth-clients no`. Only for addresses with TLS, which
    /// can also name files with them: `?ssl_certfile=/path/client.pem&ssl_keyfile=/path/client.key`, which go before this.
    pub fn client_certificate(mut self, chain_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        let (client_cert, client_key) = (chain_pem.into(), key_pem.into());
        self.tls.client = Some(ClientTlsConfig { client_cert, client_key });
        self
    }

    /// Connects to a single server: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS; `valkey://` and
    /// `valkeys://` are the same.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable address, and if the server refuses the password; [`StoreError::Unavailable`] if none
    /// answers there.
    pub async fn connect(self, url: &str) -> Result<RedisStore, StoreError> {
        let connections = self.connections(url)?;
        connections.connect().await.map_err(|error| failure(error, Some(connections.at())))?;
        Ok(self.store(Servers::Single(Box::new(connections))))
    }

    /// A single server that need not be up yet: the first request that asks the store connects, and as long as it does
    /// not answer, requests that need it fail and share one attempt at a time.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable address.
    pub fn connect_lazy(self, url: &str) -> Result<RedisStore, StoreError> {
        let connections = self.connections(url)?;
        Ok(self.store(Servers::Single(Box::new(connections))))
    }

    /// Connects to a cluster, through any of these nodes.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable address, [`StoreError::Unavailable`] if no node answers.
    pub async fn connect_cluster(
        self,
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<RedisStore, StoreError> {
        let cluster = self.cluster(urls)?;
        cluster.connection().await.map_err(|error| failure(error, cluster.at_if_unreached()))?;
        Ok(self.store(Servers::Cluster(Box::new(cluster))))
    }

    /// A cluster whose nodes need not be up yet, as with [`connect_lazy`](Self::connect_lazy).
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable address.
    pub fn connect_cluster_lazy(
        self,
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<RedisStore, StoreError> {
        let cluster = self.cluster(urls)?;
        Ok(self.store(Servers::Cluster(Box::new(cluster))))
    }

    /// Uses the application's own connection; see [`RedisConnection`]. It keeps its own timeouts, and
    /// [`timeout`](Self::timeout) is ignored.
    pub fn with_connection(self, connection: impl Into<RedisConnection>) -> RedisStore {
        self.store(connection.into().0)
    }

    fn connections(&self, url: &str) -> Result<Connections, StoreError> {
        let mut tls = self.tls.clone();
        let info = info(&mut tls, url)?;
        let client = match tls.certificates()? {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        };
        let client = client.map_err(|error| failure(error, None))?;
        // Retrying in vain would take longer than anybody waits.
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            .set_number_of_retries(0)
            .set_pipeline_buffer_size(QUEUE)
            .set_write_backpressure_boundary(SENT_AT_ONCE);
        Ok(Connections::new(client, config))
    }

    fn cluster(&self, urls: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Cluster, StoreError> {
        let mut tls = self.tls.clone();
        let infos = urls.into_iter().map(|url| info(&mut tls, url.as_ref()));
        let infos: Vec<_> = infos.collect::<Result<_, _>>()?;
        let at: Vec<_> = infos.iter().map(|info| info.addr().to_string()).collect();
        let mut builder = ClusterClient::builder(infos);
        if let Some(certificates) = tls.certificates()? {
            builder = builder.certs(certificates);
        }
        let client = builder
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(20)
            .max_retry_wait(200)
            // All requests wait while it connects to a node, twice in a row to one that is silent.
            .connection_timeout(self.timeout / 3)
            .response_timeout(self.timeout)
            .write_backpressure_boundary(SENT_AT_ONCE)
            .tcp_settings(at_once())
            .build()
            .map_err(|error| failure(error, None))?;
        Ok(Cluster::new(client, at.join(", ")))
    }

    fn store(self, servers: Servers) -> RedisStore {
        RedisStore { servers, prefix: self.prefix.into_bytes(), scripts: Scripts::new(), clock: self.clock }
    }
}

/// The server at this address, which may name files for TLS.
fn info(tls: &mut Tls, url: &str) -> Result<ConnectionInfo, StoreError> {
    let info = tls.take_from(url)?.into_connection_info();
    Ok(info.map_err(|error| failure(error, None))?.set_tcp_settings(at_once()))
}

impl Default for RedisStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RedisStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_is_kept_back_until_another_one_is_answered() {
        let info = info(&mut Tls::default(), "redis://127.0.0.1/").unwrap();
        assert!(info.tcp_settings().nodelay());
    }
}
