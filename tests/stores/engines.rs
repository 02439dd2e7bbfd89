//! The engines under test, each with its server's address from the environment.

use std::sync::Arc;

use sealed_session::store::{
    MemoryStore, MongoStoreOptions, RedbStore, RedisStoreOptions, SqlStoreOptions, Store,
};

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
    name: String,
}

impl Engine {
    pub(crate) fn place(self) -> Place {
        let id = u64::from_le_bytes(random());
        Place { engine: self, name: format!("t{id:016x}") }
    }
}

fn random() -> [u8; 8] {
    sealed_session::store::Revision::random().as_bytes()[..8].try_into().unwrap()
}

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: these tests run as `tests/servers.py cargo test --all-features --test stores`")
    })
}

impl Place {
    /// A handle of the store there. The in-process ones have but one per place.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        let name = &self.name;
        let file = std::env::temp_dir().join(format!("sealed-session-{}-{name}", std::process::id()));
        let sql = SqlStoreOptions::new().table(name).max_connections(8);
        let create = async |store: sealed_session::store::SqlStore| {
            store.create_table().await.unwrap();
            Arc::new(store)
        };
        match self.engine {
            Engine::Memory => Arc::new(MemoryStore::new()),
            Engine::Redb => Arc::new(RedbStore::open(file).unwrap()),
            Engine::Redis => {
                let options = RedisStoreOptions::new().prefix(format!("{name}:"));
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
            let file = format!("sealed-session-{}-{}{suffix}", std::process::id(), self.name);
            let _ = std::fs::remove_file(std::env::temp_dir().join(file));
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
