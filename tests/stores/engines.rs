//! The engines under test, each with its server's address from the environment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sealed_session::store::{
    MemoryStore, MongoStoreOptions, RedbStore, RedisStoreOptions, SqlStoreOptions, Store,
};
use sealed_session::{Clock, Key, KeyRing, Sessions, SessionsBuilder, SystemClock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Memory,
    Redb,
    Redis,
    RedisCluster,
    Mongo,
    Postgres,
    MariaDb,
    Sqlite,
}

/// A place of its own in an engine: a prefix, a table, a collection, a file.
pub(crate) struct Place {
    engine: Engine,
    pub(crate) name: String,
}

impl Engine {
    /// Whether one handle, in one process, is all there is.
    pub(crate) fn is_embedded(self) -> bool {
        matches!(self, Self::Memory | Self::Redb)
    }

    pub(crate) fn place(self) -> Place {
        let id = u64::from_le_bytes(random());
        Place { engine: self, name: format!("t{id:016x}") }
    }
}

/// Sessions over a store, under a key of their own.
pub(crate) fn sessions(store: Arc<dyn Store>) -> SessionsBuilder {
    sessions_of(&Key::generate(), store)
}

/// One node of those that share a key.
pub(crate) fn sessions_of(key: &Key, store: Arc<dyn Store>) -> SessionsBuilder {
    // Longer than the default: these machines have other things to do.
    Sessions::builder(KeyRing::new(key.clone())).store(store).store_timeout(Duration::from_secs(20))
}

fn random() -> [u8; 8] {
    sealed_session::store::Revision::random().as_bytes()[..8].try_into().unwrap()
}

pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: these tests run as `tests/servers.py cargo test --all-features --test stores`")
    })
}

impl Place {
    pub(crate) fn file(&self) -> PathBuf {
        std::env::temp_dir().join(format!("sealed-session-{}-{}", std::process::id(), self.name))
    }

    /// A handle of the store there. The in-process ones have but one per place.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        self.open_at(&SystemClock).await
    }

    /// The same with another clock, in the stores that are tested with one.
    pub(crate) async fn open_at(&self, clock: &(impl Clock + Clone)) -> Arc<dyn Store> {
        let name = &self.name;
        let file = self.file();
        let sql = SqlStoreOptions::new().table(name).max_connections(8).clock(clock.clone());
        let create = async |store: sealed_session::store::SqlStore| {
            store.create_table().await.unwrap();
            Arc::new(store)
        };
        match self.engine {
            Engine::Memory => Arc::new(MemoryStore::new()),
            Engine::Redb => Arc::new(RedbStore::open(file).unwrap()),
            Engine::Redis => {
                let options = RedisStoreOptions::new().prefix(format!("{name}:")).clock(clock.clone());
                Arc::new(options.connect(&server("TEST_REDIS")).await.unwrap())
            }
            Engine::RedisCluster => {
                let nodes = server("TEST_REDIS_CLUSTER");
                let nodes = nodes.strip_prefix("redis-cluster://").unwrap().split(',');
                let options = RedisStoreOptions::new().prefix(format!("{name}:"));
                Arc::new(options.connect_cluster(nodes.map(|node| format!("redis://{node}/"))).await.unwrap())
            }
            Engine::Mongo => {
                let options = MongoStoreOptions::new().collection(name);
                Arc::new(options.connect(&server("TEST_MONGODB")).await.unwrap())
            }
            Engine::Postgres => create(sql.connect(&server("TEST_POSTGRES")).await.unwrap()).await,
            Engine::MariaDb => create(sql.connect(&server("TEST_MYSQL")).await.unwrap()).await,
            Engine::Sqlite => create(sql.connect(&format!("sqlite:{}", file.display())).await.unwrap()).await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.file().display()));
        }
    }
}

/// A test per engine, named after it.
macro_rules! on_each_engine {
    ($check:path) => {
        on_each_engine!($check;
            memory Memory, redb Redb, redis Redis, redis_cluster RedisCluster, mongodb Mongo, postgres Postgres,
            mariadb MariaDb, sqlite Sqlite);
    };
    ($check:path; $($name:ident $engine:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $check($crate::engines::Engine::$engine).await;
            }
        )*
    };
}
