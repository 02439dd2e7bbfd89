//! Stores over the connections, pools and clients of the application.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use redis::aio::ConnectionManager;
use sealed_session::store::{
    MongoStore, MongoStoreOptions, ROW_KEY_LEN, RedisConnection, RedisStore, RedisStoreOptions, RowKey,
    SqlPool, SqlStore, SqlStoreOptions, Store, conformance,
};
use serde::{Deserialize, Serialize};
use sqlx::Executor as _;
use sqlx::postgres::PgPoolOptions;

use crate::engines::{Engine, Place, server};
use crate::gate::in_full;

/// Of the application's own.
#[derive(Debug, Serialize, Deserialize)]
struct Visitor {
    name: String,
}

async fn conforms<S: Store>(engine: Engine, over: impl AsyncFn(&Place) -> S) {
    let places = Mutex::new(Vec::new());
    conformance::run(async || {
        let place = engine.place();
        let store = over(&place).await;
        places.lock().unwrap().push(place);
        store
    })
    .await;
}

fn on_redis<C: Into<RedisConnection> + Clone>(connection: C) -> impl AsyncFn(&Place) -> RedisStore {
    async move |place| {
        let options = RedisStoreOptions::new().prefix(format!("{}:", place.name));
        options.with_connection(connection.clone())
    }
}

fn redis_client(more: &str) -> redis::Client {
    redis::Client::open(server("TEST_REDIS") + more).unwrap()
}

fn cluster_client() -> redis::cluster::ClusterClient {
    let nodes = server("TEST_REDIS_CLUSTER");
    let nodes = nodes.strip_prefix("redis-cluster://").unwrap().split(',');
    redis::cluster::ClusterClient::new(nodes.map(|node| format!("redis://{node}/"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_connection_of_redis() {
    let connection = redis_client("").get_multiplexed_async_connection().await.unwrap();
    conforms(Engine::Redis, on_redis(connection)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_connection_of_redis_that_speaks_resp3() {
    let connection = redis_client("?protocol=resp3").get_multiplexed_async_connection().await.unwrap();
    conforms(Engine::Redis, on_redis(connection)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_connection_manager_of_redis() {
    let connection = ConnectionManager::new(redis_client("")).await.unwrap();
    conforms(Engine::Redis, on_redis(connection)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_connection_to_a_cluster_of_redis() {
    conforms(Engine::RedisCluster, on_redis(cluster_client().get_async_connection().await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_pools() {
    let file = Engine::Sqlite.place();
    let sqlite = format!("sqlite:{}?mode=rwc", file.file().display());
    type Chosen = fn(&Pools) -> SqlPool;
    let pools: [(Engine, Chosen); 3] = [
        (Engine::Postgres, |pools| pools.0.clone().into()),
        (Engine::MariaDb, |pools| pools.1.clone().into()),
        (Engine::Sqlite, |pools| pools.2.clone().into()),
    ];
    struct Pools(sqlx::PgPool, sqlx::MySqlPool, sqlx::SqlitePool);
    let made = Pools(
        sqlx::PgPool::connect(&server("TEST_POSTGRES")).await.unwrap(),
        sqlx::MySqlPool::connect(&server("TEST_MYSQL")).await.unwrap(),
        sqlx::SqlitePool::connect(&sqlite).await.unwrap(),
    );
    for (engine, pool) in pools {
        conforms(engine, async |place| {
            let options = SqlStoreOptions::new().table(&place.name).create_table(true);
            options.with_pool(pool(&made)).unwrap()
        })
        .await;
    }
    assert!(SqlStoreOptions::new().table("no; drop").with_pool(made.0.clone()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_collection() {
    let client = mongodb::Client::with_uri_str(server("TEST_MONGODB")).await.unwrap();
    conforms(Engine::Mongo, async |place| {
        let collection = client.default_database().unwrap().collection::<Visitor>(&place.name);
        MongoStore::from_collection(&collection)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_default_options() {
    let key = RowKey::from_bytes([9; ROW_KEY_LEN]);
    let connection = ConnectionManager::new(redis_client("")).await.unwrap();
    assert!(RedisStore::from_connection(connection).load(&key).await.unwrap().is_none());
    let pool = sqlx::MySqlPool::connect(&server("TEST_MYSQL")).await.unwrap();
    let store = SqlStore::from_pool(pool);
    store.create_table().await.unwrap();
    assert!(store.load(&key).await.unwrap().is_none());
}

/// One connection for both: the store gives it back after each statement, and says so when it gets none.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_one_connection_is_shared() {
    let (url, place) = (server("TEST_POSTGRES"), Engine::Postgres.place());
    // Shorter than the time for which connections of the store's own are kept in hand.
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(1_500));
    let pool = options.connect(&url).await.unwrap();
    let options = SqlStoreOptions::new().table(&place.name).create_table(true);
    let store = options.with_pool(pool.clone()).unwrap();
    let key = RowKey::from_bytes([1; ROW_KEY_LEN]);
    for _ in 0..20 {
        assert!(store.load(&key).await.unwrap().is_none());
        pool.execute("SELECT 1").await.expect("the store has given it back");
    }
    let held = pool.acquire().await.unwrap();
    let told = in_full(&store.load(&key).await.unwrap_err());
    assert!(told.contains("all 1 connections are busy"), "{told}");
    let waits = tokio::spawn({
        let store = store.clone();
        async move { store.load(&key).await }
    });
    tokio::task::yield_now().await;
    drop(held);
    assert!(waits.await.unwrap().unwrap().is_none(), "who waited for it got it");
}

/// By a store of its own and by one over a collection.
#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_made_by_which_expired_rows_go() {
    let client = mongodb::Client::with_uri_str(server("TEST_MONGODB")).await.unwrap();
    for own in [true, false] {
        let place = Engine::Mongo.place();
        let collection = client.default_database().unwrap().collection::<Visitor>(&place.name);
        let _store = if own {
            MongoStoreOptions::new().collection(&place.name).connect(&server("TEST_MONGODB")).await.unwrap()
        } else {
            let store = MongoStore::from_collection(&collection);
            assert!(store.load(&RowKey::from_bytes([1; ROW_KEY_LEN])).await.unwrap().is_none());
            store
        };
        let began = std::time::Instant::now();
        while !collection.list_index_names().await.is_ok_and(|names| names.contains(&"e_1".to_owned())) {
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whatever the application wants for its own documents.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_read_and_written_with_majority() {
    let seen: Arc<Mutex<Vec<mongodb::bson::Document>>> = Arc::default();
    let mut options = mongodb::options::ClientOptions::parse(server("TEST_MONGODB")).await.unwrap();
    let events = Arc::clone(&seen);
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(started) = event {
            events.lock().unwrap().push(started.command);
        }
    }));
    options.write_concern = Some(mongodb::options::WriteConcern::nodes(1));
    let client = mongodb::Client::with_options(options).unwrap();
    let place = Engine::Mongo.place();
    let collection = client.default_database().unwrap().collection::<Visitor>(&place.name);
    let store = MongoStoreOptions::new().create_index(false).with_collection(&collection);
    let key = RowKey::from_bytes([1; ROW_KEY_LEN]);
    store.load(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    let seen = seen.lock().unwrap();
    let concern = |command: &str, concern: &str, field: &str| {
        let command = seen.iter().find(|seen| seen.contains_key(command)).expect("it was sent");
        command.get_document(concern).unwrap().get_str(field).unwrap().to_owned()
    };
    assert_eq!(concern("find", "readConcern", "level"), "majority");
    assert_eq!(concern("delete", "writeConcern", "w"), "majority");
    assert!(!seen.iter().any(|seen| seen.contains_key("createIndexes")), "as it was told");
}
