//! What a thief of the store's content has: nothing, without a cookie *and* the ring.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mongodb::bson::Document;
use sealed_session::store::{
    Expected, MemoryStore, NewRow, Revision, Row, RowKey, Store, StoreError, Written,
};
use sealed_session::{CommitContext, Key, KeyRing, Origin, Rejection, Sessions};

use crate::engines::{Engine, Place, server, sessions_of};

const SECRET: &str = "the secret of this very session";

async fn check(engine: Engine) {
    let place = engine.place();
    let written = Arc::new(Recorder {
        store: place.open().await,
        bytes: Mutex::default(),
        keys: Mutex::default(),
        instead: Mutex::default(),
    });
    let store: Arc<dyn Store> = written.clone();
    let key = Key::generate();
    let sessions = sessions_of(&key, store.clone()).build().unwrap();
    let mut pairs = Vec::new();
    for n in 0..3 {
        let fill = |session: &sealed_session::Session| {
            session.set_subject(format!("ada {n}"))?;
            session.set_label("Firefox on Linux")?;
            session.insert("secret", SECRET.repeat(200))
        };
        pairs.push(sessions.issue(fill).await.unwrap());
    }
    let bytes = match engine {
        Engine::Memory => written.bytes.lock().unwrap().clone(),
        _ => dump(engine, &place).await,
    };
    assert!(bytes.len() > 3 * 200 * SECRET.len(), "the dump has the rows: {} bytes", bytes.len());
    let ids = pairs.iter().map(|pair| sessions.inspect(&pair["__Host-Http-session=".len()..]).unwrap().id);
    let ids: Vec<_> = ids.collect();
    let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    for needle in [SECRET, "secret", "ada ", "Firefox", "__Host-Http-session"] {
        assert!(!contains(needle.as_bytes()), "{needle:?} is in the dump");
    }
    for (id, pair) in ids.iter().zip(&pairs) {
        assert!(!contains(id.to_string().as_bytes()), "an id is in the dump");
        let value = &pair["__Host-Http-session=".len()..];
        assert!(!contains(&value.as_bytes()[..24]) && !contains(key.export().as_bytes()));
    }

    // A cookie and the rows without the ring: another key is no help.
    let thief = sessions_of(&Key::generate(), store.clone()).build().unwrap();
    let session = thief.load([&pairs[0]]).await.unwrap();
    assert!(matches!(session.origin(), Origin::Rejected(Rejection::UnknownKey(_))));
    // The ring and the rows without a cookie: the thief can seal references, but to an id of their own, which leads to no
    // row. Nothing in the interface takes an id; a guess is all there is.
    let forger = sessions_of(&key, Arc::new(MemoryStore::new())).build().unwrap();
    let thief: Sessions = sessions_of(&key, written.clone()).build().unwrap();
    let guess = async || forger.issue(|session| session.insert("n", "1".repeat(6_000))).await.unwrap();
    for _ in 0..100 {
        let guess = guess().await;
        assert!(forger.load([&guess]).await.unwrap().get::<String>("n").unwrap().is_some());
        let session = thief.load([&guess]).await.unwrap();
        assert_eq!(session.origin(), Origin::Rejected(Rejection::Missing));
        assert!(session.get::<String>("secret").unwrap().is_none());
    }
    // Even if each guess is led to a row that is there, it does not open it: the row is sealed under its id as well.
    // Before each there is the list of its subject's sessions.
    let rows = written.keys.lock().unwrap().clone();
    assert_eq!(rows.len(), 2 * 3);
    for (row, pair) in rows.into_iter().skip(1).step_by(2).zip(&pairs) {
        *written.instead.lock().unwrap() = Some(row);
        let session = thief.load([&guess().await]).await.unwrap();
        assert_eq!(session.origin(), Origin::Rejected(Rejection::Missing));
        let session = thief.load([pair]).await.unwrap();
        assert!(session.get::<String>("secret").unwrap().is_some(), "the row of this cookie");
    }
    *written.instead.lock().unwrap() = None;
    // Nor does a list tell anything without the ring. With it, it tells of a subject that somebody guesses.
    let stranger = sessions_of(&Key::generate(), store.clone()).build().unwrap();
    assert!(stranger.of("ada 0").await.unwrap().is_empty());
    assert!(thief.of("ada 3").await.unwrap().is_empty());
    assert_eq!(thief.of("ada 0").await.unwrap()[0].label.as_deref(), Some("Firefox on Linux"));
    // With both it opens, so the test has tried the right thing.
    let ring = KeyRing::new(key.clone());
    let owner = Sessions::builder(ring).store(store).build().unwrap();
    let session = owner.load([&pairs[0]]).await.unwrap();
    assert!(session.get::<String>("secret").unwrap().is_some());
    owner.commit(&session, CommitContext::default()).await.unwrap();
}

on_each_engine!(check);

/// What is in the place, by another client than the store.
async fn dump(engine: Engine, place: &Place) -> Vec<u8> {
    match engine {
        Engine::Memory => unreachable!("there is no other client"),
        Engine::Redb | Engine::Sqlite => {
            let read =
                |suffix| std::fs::read(format!("{}{suffix}", place.file().display())).unwrap_or_default();
            ["", "-wal"].map(read).concat()
        }
        Engine::Redis => redis_dump(&server("TEST_REDIS"), &place.name).await,
        Engine::RedisCluster => {
            let mut bytes = Vec::new();
            for node in server("TEST_REDIS_CLUSTER").trim_start_matches("redis-cluster://").split(',') {
                bytes.extend(redis_dump(&format!("redis://{node}/"), &place.name).await);
            }
            bytes
        }
        Engine::Mongo => {
            let client = mongodb::Client::with_uri_str(server("TEST_MONGODB")).await.unwrap();
            let collection = client.default_database().unwrap().collection::<Document>(&place.name);
            let mut cursor = collection.find(Document::new()).await.unwrap();
            let mut bytes = Vec::new();
            while cursor.advance().await.unwrap() {
                bytes.extend_from_slice(cursor.current().as_bytes());
            }
            bytes
        }
        Engine::Postgres => {
            let pool = sqlx::PgPool::connect(&server("TEST_POSTGRES")).await.unwrap();
            sql_dump::<sqlx::Postgres>(&pool, &place.name).await
        }
        Engine::MariaDb => {
            let pool = sqlx::MySqlPool::connect(&server("TEST_MYSQL")).await.unwrap();
            sql_dump::<sqlx::MySql>(&pool, &place.name).await
        }
    }
}

async fn redis_dump(url: &str, prefix: &str) -> Vec<u8> {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut keys = redis::cmd("KEYS");
    keys.arg(format!("{prefix}*"));
    let mut bytes = Vec::new();
    for key in keys.query_async::<Vec<Vec<u8>>>(&mut connection).await.unwrap() {
        bytes.extend_from_slice(&key);
        let mut get = redis::cmd("GET");
        get.arg(&key);
        bytes.extend(get.query_async::<Vec<u8>>(&mut connection).await.unwrap());
    }
    bytes
}

async fn sql_dump<D: sqlx::Database>(pool: &sqlx::Pool<D>, table: &str) -> Vec<u8>
where
    for<'c> &'c sqlx::Pool<D>: sqlx::Executor<'c, Database = D>,
    for<'q> D::Arguments: sqlx::IntoArguments<D>,
    (Vec<u8>, Vec<u8>, Vec<u8>): for<'r> sqlx::FromRow<'r, D::Row> + Send + Unpin,
{
    let query = sqlx::AssertSqlSafe(format!("SELECT id, revision, data FROM {table}"));
    let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = sqlx::query_as(query).fetch_all(pool).await.unwrap();
    rows.into_iter().flat_map(|(id, revision, data)| [id, revision, data].concat()).collect()
}

/// Keeps what is written, for the store that nobody else can look into.
#[derive(Debug)]
struct Recorder {
    store: Arc<dyn Store>,
    bytes: Mutex<Vec<u8>>,
    /// In the order in which they were written first.
    keys: Mutex<Vec<RowKey>>,
    /// Whose row is answered, whichever is asked for.
    instead: Mutex<Option<RowKey>>,
}

#[async_trait]
impl Store for Recorder {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let key = self.instead.lock().unwrap().unwrap_or(*key);
        self.store.load(&key).await
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        {
            let mut keys = self.keys.lock().unwrap();
            if !keys.contains(key) {
                keys.push(*key);
            }
        }
        self.bytes.lock().unwrap().extend([&key.as_bytes()[..], row.data].concat());
        self.store.write(key, row, expected).await
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: time::OffsetDateTime,
    ) -> Result<bool, StoreError> {
        self.store.extend(key, at, expires_at).await
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        self.store.delete(key).await
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        self.store.sweep(limit).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.store.count().await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.store.clear().await
    }
}
