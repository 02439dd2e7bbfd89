//! Servers that are not there, not there yet or not there any more, and those that let nobody in: what the errors say, how
//! soon, and that the stores find their way back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sealed_session::store::{
    Expected, MongoStore, MongoStoreOptions, NewRow, ROW_KEY_LEN, RedbStoreOptions, RedisStore,
    RedisStoreOptions, Revision, RowKey, SqlStore, SqlStoreOptions, Store, StoreError, Written, conformance,
    open, open_lazy,
};
use sqlx::Executor as _;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::engines::{Engine, server};
use crate::gate::{Gate, in_full};

const SECRETS: [&str; 2] = ["ada-lovelace", "s3cret-pass"];
const LONG: Duration = Duration::from_secs(30);

fn address(engine: Engine) -> String {
    match engine {
        Engine::Redis => server("TEST_REDIS"),
        Engine::RedisCluster => {
            let nodes = server("TEST_REDIS_CLUSTER");
            let first = nodes.trim_start_matches("redis-cluster://").split(',').next().unwrap();
            format!("redis://{first}/")
        }
        // Or it would go by the address that the server tells, which no gate is before.
        Engine::Mongo => server("TEST_MONGODB") + "&directConnection=true",
        Engine::Postgres => server("TEST_POSTGRES"),
        Engine::MariaDb => server("TEST_MYSQL"),
        Engine::Memory | Engine::Redb | Engine::Sqlite => unreachable!("there is no server"),
    }
}

/// With user and password in it.
fn with_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{}:{}@{rest}", SECRETS[0], SECRETS[1])
}

fn lazy(engine: Engine, place: &str, url: &str) -> Result<Arc<dyn Store>, StoreError> {
    let redis = RedisStoreOptions::new().prefix(format!("{place}:"));
    Ok(match engine {
        Engine::Redis => Arc::new(redis.connect_lazy(url)?),
        Engine::RedisCluster => Arc::new(redis.connect_cluster_lazy([url])?),
        Engine::Mongo => Arc::new(MongoStoreOptions::new().collection(place).connect_lazy(url)?),
        _ => Arc::new(SqlStoreOptions::new().table(place).create_table(true).connect_lazy(url)?),
    })
}

async fn eager(engine: Engine, url: &str) -> Result<(), StoreError> {
    match engine {
        Engine::Redis => RedisStore::connect(url).await.map(drop),
        Engine::RedisCluster => RedisStoreOptions::new().connect_cluster([url]).await.map(drop),
        Engine::Mongo => MongoStore::connect(url).await.map(drop),
        _ => SqlStore::connect(url).await.map(drop),
    }
}

fn key(n: u8) -> RowKey {
    RowKey::from_bytes([n; ROW_KEY_LEN])
}

async fn create(store: &dyn Store, n: u8) -> Result<Written, StoreError> {
    let expires_at = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    let row = NewRow { data: b"data", revision: Revision::random(), expires_at };
    store.write(&key(n), row, Expected::Absent).await
}

fn assert_told(error: &StoreError, wanted: &[&str]) {
    let told = in_full(error);
    for part in wanted {
        assert!(told.contains(part), "{part:?} is not in {told:?}");
    }
    for secret in SECRETS {
        assert!(!told.contains(secret), "{told}");
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
    }
}

/// Again and again, until it comes to something.
async fn until<T, E>(what: &str, try_it: impl AsyncFn() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        if let Ok(done) = try_it().await {
            return done;
        }
        assert!(began.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A request waits for 2 s, and is to be told.
const GIVEN_UP: Duration = Duration::from_millis(1_950);

/// As long as it takes this engine to tell that it is refused. MongoDB's driver waits for a server to come.
fn patience(engine: Engine) -> Duration {
    Duration::from_millis(if engine == Engine::Mongo { 4_000 } else { 1_300 })
}

macro_rules! on_each_server {
    ($check:path) => {
        on_each_engine!($check; redis Redis, redis_cluster RedisCluster, mongodb Mongo, postgres Postgres, mariadb MariaDb);
    };
}

async fn refused(engine: Engine) {
    let gate = Gate::before(&address(engine));
    let url = with_secrets(&gate.url(&address(engine)));
    let began = Instant::now();
    let error = eager(engine, &url).await.unwrap_err();
    assert!(began.elapsed() < patience(engine), "{:?}", began.elapsed());
    assert_told(&error, &["refused", &gate.at()]);
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

async fn unresolvable(engine: Engine) {
    let gate = Gate::before(&address(engine));
    let url = with_secrets(&gate.url(&address(engine)).replace("127.0.0.1", "nobody.invalid"));
    let error = eager(engine, &url).await.unwrap_err();
    assert_told(&error, &["nobody.invalid:", "failed to lookup address information"]);
    let store = lazy(engine, "t", &url).unwrap();
    assert_told(
        &store.load(&key(1)).await.unwrap_err(),
        &["nobody.invalid:", "failed to lookup address information"],
    );
}

/// A server that takes connections and never answers.
async fn silent(engine: Engine) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let gate = Gate::before(&address(engine));
    let at = listener.local_addr().unwrap().to_string();
    let url = gate.url(&address(engine)).replace(&gate.at(), &at);
    let store = lazy(engine, "t", &url).unwrap();
    let began = Instant::now();
    let error = store.load(&key(1)).await.unwrap_err();
    let most = if engine == Engine::RedisCluster { 3 * GIVEN_UP } else { GIVEN_UP };
    assert!(began.elapsed() < most, "{:?}", began.elapsed());
    assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Timeout(_)), "{error:?}");
    assert_told(&error, &[&at]);
}

async fn comes_later(engine: Engine) {
    let place = engine.place();
    let mut gate = Gate::before(&address(engine));
    let store = lazy(engine, &place.name, &gate.url(&address(engine))).unwrap();
    for _ in 0..2 {
        let mut requests = JoinSet::new();
        for n in 0..50 {
            let store = Arc::clone(&store);
            requests.spawn(async move {
                let began = Instant::now();
                (create(&*store, n).await.unwrap_err(), began.elapsed())
            });
        }
        for (error, took) in requests.join_all().await {
            assert_told(&error, &["refused", &gate.at()]);
            assert!(took < patience(engine), "{took:?}");
        }
    }
    gate.open();
    let began = Instant::now();
    assert_eq!(until("it is found", async || create(&*store, 1).await).await, Written::Done);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(store.load(&key(1)).await.unwrap().unwrap().data, b"data");
    assert_eq!(store.count().await.unwrap(), 1, "what failed was not done");
}

async fn goes_and_comes_back(engine: Engine) {
    let place = engine.place();
    let mut gate = Gate::before(&address(engine));
    let store = lazy(engine, &place.name, &gate.url(&address(engine))).unwrap();
    gate.open();
    assert_eq!(until("it is found", async || create(&*store, 1).await).await, Written::Done);
    for _ in 0..2 {
        gate.close().await;
        // The connections that were there end first, and who has one hears of nothing else.
        let began = Instant::now();
        loop {
            let one = Instant::now();
            let answer = store.load(&key(1)).await;
            // One that began to connect in the last moment is told that nothing answers, before its request gives up.
            assert!(one.elapsed() < patience(engine).max(GIVEN_UP), "{:?}", one.elapsed());
            assert!(began.elapsed() < LONG, "{answer:?}");
            let Err(error) = answer else { continue };
            if in_full(&error).contains("refused") {
                assert_told(&error, &[&gate.at()]);
                break;
            }
        }
        gate.open();
        let row = until("it is found again", async || store.load(&key(1)).await).await;
        assert_eq!(row.unwrap().data, b"data");
    }
}

/// A machine hangs or loses its power: nothing is answered and nothing closed. What comes in its place is found by new
/// connections, which nobody but the store makes. Requests do not wait for ever, but for so long.
async fn falls_silent_after(
    engine: Engine,
    lull: Duration,
    store: Arc<dyn Store>,
    gate: Gate,
    patience: Duration,
) {
    assert_eq!(until("it is found", async || create(&*store, 1).await).await, Written::Done);
    for round in 0..2 {
        // As many connections as a store keeps. Who gets one that leads to the former server gives up, as a request does.
        let one = key(1);
        let load = async || {
            let row = tokio::time::timeout(Duration::from_secs(2), store.load(&one)).await;
            row.unwrap_or_else(|late| Err(StoreError::Timeout(late.into())))
        };
        let loads = (0..20).map(|_| until("it is read", load));
        futures_util::future::join_all(loads).await.into_iter().for_each(|row| assert!(row.is_some()));
        tokio::time::sleep(lull).await;
        gate.hush();
        let began = Instant::now();
        let found = loop {
            match tokio::time::timeout(patience, store.load(&key(1))).await {
                Ok(Ok(row)) => break row,
                _ => assert!(
                    began.elapsed() < Duration::from_secs(20),
                    "{engine:?}, round {round}: it waits for the silent one"
                ),
            }
        };
        assert_eq!(found.unwrap().data, b"data");
    }
}

async fn falls_silent(engine: Engine) {
    let (place, mut gate) = (engine.place(), Gate::before(&address(engine)));
    let store = lazy(engine, &place.name, &gate.url(&address(engine))).unwrap();
    gate.open();
    falls_silent_after(engine, Duration::ZERO, store, gate, Duration::from_secs(1)).await;
}

/// Connections that have been idle for so long are asked first, and do not answer either.
async fn falls_silent_in_a_lull(engine: Engine) {
    let (place, mut gate) = (engine.place(), Gate::before(&address(engine)));
    let store = lazy(engine, &place.name, &gate.url(&address(engine))).unwrap();
    gate.open();
    falls_silent_after(engine, Duration::from_secs(3), store, gate, Duration::from_secs(1)).await;
}

/// As with a `store_timeout` that is shorter than any time after which silence is certain.
async fn falls_silent_to_the_impatient(engine: Engine) {
    let (place, mut gate) = (engine.place(), Gate::before(&address(engine)));
    let store = lazy(engine, &place.name, &gate.url(&address(engine))).unwrap();
    gate.open();
    falls_silent_after(engine, Duration::ZERO, store, gate, Duration::from_millis(300)).await;
}

/// The pool asks what is idle in it, and what the store has waited for in vain costs no place there.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_falls_silent_behind_a_pool_of_the_applications_is_left() {
    let (url, place, mut gate) =
        (address(Engine::Postgres), Engine::Postgres.place(), Gate::before(&address(Engine::Postgres)));
    gate.open();
    let pool = sqlx::PgPool::connect(&gate.url(&url)).await.unwrap();
    let store = SqlStoreOptions::new().table(&place.name).create_table(true).with_pool(pool).unwrap();
    falls_silent_after(Engine::Postgres, Duration::ZERO, Arc::new(store), gate, Duration::from_secs(1)).await;
}

/// The store's own time limit is shorter than half a second, and the request's is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_falls_silent_is_left_after_a_short_timeout_too() {
    let (place, mut gate) = (Engine::Redis.place(), Gate::before(&address(Engine::Redis)));
    let store =
        RedisStoreOptions::new().prefix(format!("{}:", place.name)).timeout(Duration::from_millis(300));
    let store = Arc::new(store.connect_lazy(&gate.url(&address(Engine::Redis))).unwrap());
    gate.open();
    falls_silent_after(Engine::Redis, Duration::ZERO, store, gate, Duration::from_secs(2)).await;
}

/// While the store prepares for its first operation, and every request waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_that_falls_silent_after_its_greeting_is_tried_again() {
    let (place, mut gate) = (Engine::Mongo.place(), Gate::before(&address(Engine::Mongo)));
    let store = lazy(Engine::Mongo, &place.name, &gate.url(&address(Engine::Mongo))).unwrap();
    gate.only_greets.store(true, Ordering::SeqCst);
    gate.open();
    for _ in 0..2 {
        let one = key(1);
        let error = tokio::time::timeout(LONG, store.load(&one)).await.expect("it gives up").unwrap_err();
        assert!(matches!(error, StoreError::Timeout(_) | StoreError::Unavailable(_)), "{error:?}");
    }
    gate.only_greets.store(false, Ordering::SeqCst);
    assert_eq!(until("it is found", async || create(&*store, 1).await).await, Written::Done);
}

/// The number of connections that 400 requests make of a server that ends each.
async fn is_not_hammered(engine: Engine) {
    let mut gate = Gate::before(&address(engine));
    gate.open_to_nobody();
    let store = lazy(engine, "t", &gate.url(&address(engine))).unwrap();
    for _ in 0..4 {
        let mut requests = JoinSet::new();
        for n in 0..100 {
            let store = Arc::clone(&store);
            requests.spawn(async move { create(&*store, n).await.unwrap_err() });
        }
        requests.join_all().await;
    }
    let made = gate.connections.load(Ordering::SeqCst);
    assert!((1..40).contains(&made), "{made}");
}

async fn conforms(engine: Engine) {
    let places = std::sync::Mutex::new(Vec::new());
    conformance::run(async || {
        let place = engine.place();
        let store = lazy(engine, &place.name, &address(engine)).unwrap();
        places.lock().unwrap().push(place);
        store
    })
    .await;
}

mod connecting {
    on_each_server!(super::refused);
}
mod names {
    // The nodes of a cluster are asked by the same code as a single server.
    on_each_server!(super::unresolvable);
}
mod silence {
    on_each_server!(super::silent);
}
mod later {
    on_each_server!(super::comes_later);
}
mod again {
    // A cluster tells its own addresses, which the gate is not before.
    on_each_engine!(super::goes_and_comes_back; redis Redis, mongodb Mongo, postgres Postgres, mariadb MariaDb);
}
mod after_silence {
    on_each_engine!(super::falls_silent; redis Redis, mongodb Mongo, postgres Postgres, mariadb MariaDb);
}
mod after_silence_in_a_lull {
    on_each_engine!(super::falls_silent_in_a_lull; redis Redis, mongodb Mongo, postgres Postgres, mariadb MariaDb);
}
mod after_silence_to_the_impatient {
    on_each_engine!(super::falls_silent_to_the_impatient; redis Redis, mongodb Mongo, postgres Postgres, mariadb MariaDb);
}
mod restraint {
    on_each_server!(super::is_not_hammered);
}
mod lazy_conformance {
    on_each_server!(super::conforms);
}

#[test]
fn a_lazy_store_is_made_without_a_runtime_and_used_in_another_than_it_began_in() {
    for engine in [
        Engine::Redis,
        Engine::RedisCluster,
        Engine::Mongo,
        Engine::Postgres,
        Engine::MariaDb,
        Engine::Sqlite,
    ] {
        let place = engine.place();
        let url = match engine {
            Engine::Sqlite => format!("sqlite:{}", place.file().display()),
            engine => address(engine),
        };
        let store = lazy(engine, &place.name, &url).unwrap();
        // Each with a runtime of its own, which ends. The connections of SQL stores end with it.
        let runtimes = if matches!(engine, Engine::Postgres | Engine::MariaDb) { 1 } else { 3 };
        for n in 1..=runtimes {
            one_threaded().block_on(async {
                assert_eq!(create(&*store, n).await.unwrap(), Written::Done, "{engine:?} {n}");
                assert!(store.load(&key(1)).await.unwrap().is_some(), "{engine:?} {n}");
            });
        }
    }
}

fn one_threaded() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// As a handler that hashes a password does, in the worker that was the first to ask.
#[test]
fn a_runtime_that_is_blocked_holds_up_no_other_that_uses_the_same_store() {
    for engine in [Engine::Redis, Engine::RedisCluster, Engine::Mongo] {
        let place = engine.place();
        let store = lazy(engine, &place.name, &address(engine)).unwrap();
        let (one, other) = (one_threaded(), one_threaded());
        assert_eq!(one.block_on(create(&*store, 1)).unwrap(), Written::Done);
        // From here on nobody drives the first one.
        let within = Duration::from_secs(1);
        for n in 2..=20 {
            let created = other.block_on(async { tokio::time::timeout(within, create(&*store, n)).await });
            assert!(matches!(created, Ok(Ok(Written::Done))), "{engine:?} {n}: {created:?}");
        }
        drop(one);
    }
}

#[test]
fn what_can_never_be_used_is_an_error_at_once() {
    let sql = SqlStoreOptions::new;
    let pg = "postgres://ada-lovelace:s3cret-pass@127.0.0.1:1/app";
    let redis = RedisStoreOptions::new;
    let unusable = [
        sql().connect_lazy("postgres://ada-lovelace:s3cret-pass@127.0.0.1:port/app").map(drop),
        sql().connect_lazy("sqlserver://ada-lovelace:s3cret-pass@127.0.0.1/app").map(drop),
        sql().max_connections(0).connect_lazy(pg).map(drop),
        sql().sweep_every(Duration::ZERO).connect_lazy(pg).map(drop),
        RedbStoreOptions::new().sweep_every(Duration::ZERO).open("/nowhere/sessions.redb").map(drop),
        sql().table("no; drop").connect_lazy(pg).map(drop),
        redis().connect_lazy("redis://ada-lovelace:s3cret-pass@127.0.0.1:port/").map(drop),
        redis().connect_lazy("http://ada-lovelace:s3cret-pass@127.0.0.1/").map(drop),
        redis().connect_cluster_lazy(["redis://127.0.0.1/", "ada-lovelace:s3cret-pass"]).map(drop),
        redis().connect_cluster_lazy([""; 0]).map(drop),
        MongoStore::connect_lazy("mongodb://ada-lovelace:s3cret-pass@127.0.0.1:port/").map(drop),
        MongoStore::connect_lazy("http://ada-lovelace:s3cret-pass@127.0.0.1/").map(drop),
    ];
    for (n, error) in unusable.into_iter().enumerate() {
        let Err(error) = error else { panic!("{n} is usable") };
        assert_told(&error, &["the session store cannot be used as it is configured"]);
    }
    let none = sql().max_connections(0).connect_lazy(pg).unwrap_err();
    assert_told(&none, &["max_connections is 0; it must be at least 1"]);
    let always = sql().sweep_every(Duration::ZERO).connect_lazy(pg).unwrap_err();
    assert_told(&always, &["sweep_every is 0; it must be at least 1 ms"]);
    let always =
        RedbStoreOptions::new().sweep_every(Duration::ZERO).open("/nowhere/sessions.redb").unwrap_err();
    assert_told(&always, &["sweep_every is 0; it must be at least 1 ms"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_not_escaped_is_in_no_message() {
    for scheme in
        ["redis", "valkeys", "redis-cluster", "mongodb", "mongodb+srv", "postgres", "mysql", "sqlite"]
    {
        for wrong in ["?", "#", "/", "@", ":", "%", "[", "]", ",", " ", "\\"] {
            let url = format!("{scheme}://{}:{}{wrong}x@127.0.0.1:1/app", SECRETS[0], SECRETS[1]);
            if let Err(error) = open(&url).await {
                let told = in_full(&error);
                assert!(!told.contains(SECRETS[1]), "{url}: {told}");
            }
            if let Ok(store) = open_lazy(&url).await {
                let told = in_full(&store.load(&key(1)).await.unwrap_err());
                assert!(!told.contains(SECRETS[1]), "{url}: {told}");
            }
        }
    }
    let Err(error) = MongoStore::connect_lazy("mongodb://ada:s3cret-pass?x@127.0.0.1/") else {
        panic!("usable")
    };
    assert_told(&error, &["percent-encoded"]);
}

/// Told by the server itself, at `connect` and to requests.
async fn is_not_let_in(engine: Engine, url: &str, wanted: &[&str]) {
    let store = lazy(engine, "t", url).unwrap();
    let errors = [
        eager(engine, url).await.unwrap_err(),
        store.load(&key(1)).await.unwrap_err(),
        store.load(&key(1)).await.unwrap_err(),
    ];
    for error in errors {
        assert_told(&error, wanted);
        assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_wrong_password_for_postgresql_is_told_so() {
    let url = server("TEST_POSTGRES");
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    pool.execute("CREATE ROLE locked LOGIN PASSWORD 'another one'").await.unwrap();
    let locked = url.replace("test@", "locked:s3cret-pass@");
    is_not_let_in(
        Engine::Postgres,
        &locked,
        &["password authentication failed", "no connection to 127.0.0.1:"],
    )
    .await;
    pool.execute("ALTER ROLE locked PASSWORD 's3cret-pass'").await.unwrap();
    let store = SqlStore::connect_lazy(&locked).unwrap();
    // It is let in, and there is no table.
    let error = store.load(&key(1)).await.unwrap_err();
    assert_told(&error, &["sealed_sessions"]);
    assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_has_become_a_standby_is_left_for_the_new_one() {
    let url = server("TEST_POSTGRES");
    let (pool, place) = (sqlx::PgPool::connect(&url).await.unwrap(), Engine::Postgres.place());
    let admins = lazy(Engine::Postgres, &place.name, &url).unwrap();
    assert_eq!(create(&*admins, 1).await.unwrap(), Written::Done);
    // What connects now may only read, like who is still connected to a former primary; what connects later is on the new one.
    let table = &place.name;
    for statement in [
        "CREATE ROLE fallen LOGIN".to_owned(),
        "ALTER ROLE fallen SET default_transaction_read_only = on".to_owned(),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO fallen"),
    ] {
        pool.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    let store = SqlStoreOptions::new().table(table).max_connections(4);
    let store = store.connect_lazy(&url.replace("test@", "fallen@")).unwrap();
    let one = key(1);
    let loads = futures_util::future::join_all((0..8).map(|_| store.load(&one))).await;
    assert!(loads.iter().all(|row| matches!(row, Ok(Some(_)))), "{loads:?}");
    pool.execute("ALTER ROLE fallen RESET default_transaction_read_only").await.unwrap();
    let mut refusals = 0;
    while let Err(error) = create(&store, 2).await {
        assert_told(&error, &["read-only transaction"]);
        refusals += 1;
        assert!(refusals <= 4);
    }
    assert_eq!(
        refusals, 1,
        "the connections that there were are read-only, and all of them are left with the first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_wrong_password_for_mariadb_is_told_so() {
    let url = server("TEST_MYSQL");
    let pool = sqlx::MySqlPool::connect(&url).await.unwrap();
    pool.execute("CREATE USER 'locked'@'127.0.0.1' IDENTIFIED BY 'another one'").await.unwrap();
    let locked = url.replace("root@", "locked:s3cret-pass@");
    is_not_let_in(Engine::MariaDb, &locked, &["Access denied", "no connection to 127.0.0.1:"]).await;
}

/// One connection of the store's, and a statement on it that takes long.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_connections_that_are_busy_is_told_so() {
    let (url, place) = (server("TEST_POSTGRES"), Engine::Postgres.place());
    let options = SqlStoreOptions::new().table(&place.name).max_connections(1).create_table(true);
    let store = options.timeout(Duration::from_millis(500)).connect(&url).await.unwrap();
    let mut other = sqlx::PgPool::connect(&url).await.unwrap().begin().await.unwrap();
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", place.name);
    other.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    let key = key(1);
    let (busy, waits) = (store.load(&key), store.load(&key));
    let first = {
        let busy = std::pin::pin!(busy);
        let waits = std::pin::pin!(waits);
        match futures_util::future::select(busy, waits).await {
            futures_util::future::Either::Left(_) => panic!("nobody waits for the lock"),
            futures_util::future::Either::Right((waited, busy)) => {
                other.commit().await.unwrap();
                assert!(busy.await.unwrap().is_none());
                waited
            }
        }
    };
    assert_told(&first.unwrap_err(), &["all 1 connections are busy"]);
    assert!(store.load(&key).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_its_address_a_store_is_opened_at_once_or_when_it_is_there() {
    let pg = "postgres://ada-lovelace:s3cret-pass@127.0.0.1:1/app";
    let cases = [
        ("redis://:s3cret-pass@127.0.0.1:1/", "127.0.0.1:1: Connection refused"),
        ("valkey://:s3cret-pass@127.0.0.1:1/", "127.0.0.1:1: Connection refused"),
        ("valkeys://:s3cret-pass@127.0.0.1:1/", "127.0.0.1:1: Connection refused"),
        ("redis-cluster://127.0.0.1:1,127.0.0.1:2", "127.0.0.1:1, 127.0.0.1:2: "),
        ("valkey-cluster://127.0.0.1:1", "127.0.0.1:1: "),
        ("mongodb://127.0.0.1:1/", "Connection refused"),
        (pg, "127.0.0.1:1: error communicating with database: Connection refused"),
        ("mysql://root@127.0.0.1:1/t", "127.0.0.1:1: error communicating with database: Connection refused"),
    ];
    for (url, told) in cases {
        let error = open(url).await.unwrap_err();
        assert!(in_full(&error).contains(told), "{}", in_full(&error));
        assert!(!in_full(&error).contains(SECRETS[1]), "{}", in_full(&error));
        let store = open_lazy(url).await.unwrap();
        assert_told(&store.load(&key(1)).await.unwrap_err(), &[told]);
    }
    let valkey = [
        server("TEST_REDIS").replace("redis:", "valkey:"),
        server("TEST_REDIS_CLUSTER").replace("redis-cluster:", "valkey-cluster:"),
    ];
    for url in valkey {
        for store in [open(&url).await.unwrap(), open_lazy(&url).await.unwrap()] {
            assert!(store.load(&key(7)).await.unwrap().is_none(), "{url}");
        }
    }
    assert!(open_lazy("redb:/nowhere/at/all.redb").await.is_err(), "files are opened at once");
    assert!(open_lazy("sqlite:/nowhere/at/all.sqlite").await.is_err(), "files are opened at once");
}
