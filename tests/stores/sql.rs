//! What the SQL stores ask of a database: the connections that they keep and leave, permissions, the sweep in the background.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealed_session::store::{
    Expected, NewRow, ROW_KEY_LEN, Revision, RowKey, SqlStore, SqlStoreOptions, Store, StoreError, Written,
};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, Executor as _, MySqlPool, PgPool};
use time::OffsetDateTime;

use crate::engines::{Engine, Place, server};
use crate::gate::{Gate, in_full};

const LONG: Duration = Duration::from_secs(30);
/// As many connections as a store here has.
const FEW: u32 = 4;

fn key() -> RowKey {
    RowKey::from_bytes([1; ROW_KEY_LEN])
}

fn later() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::from_secs(3_600)
}

async fn write(store: &SqlStore, expires_at: OffsetDateTime) -> Result<Revision, StoreError> {
    let revision = Revision::random();
    let row = NewRow { data: b"data", revision, expires_at };
    assert_eq!(store.write(&key(), row, Expected::Absent).await?, Written::Done);
    Ok(revision)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// PostgreSQL with a table, and a store there of a user of its own, who may no more than the documentation says.
struct Limited {
    place: Place,
    pool: PgPool,
    user: &'static str,
    url: String,
}

impl Limited {
    async fn new(user: &'static str) -> Self {
        let (url, place) = (server("TEST_POSTGRES"), Engine::Postgres.place());
        let pool = PgPool::connect(&url).await.unwrap();
        SqlStoreOptions::new().table(&place.name).create_table(true).connect(&url).await.unwrap();
        let it = Self { url: url.replace("test@", &format!("{user}@")), place, pool, user };
        it.run(&format!("CREATE ROLE {user} LOGIN")).await;
        it.run(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {user}", it.place.name)).await;
        it
    }

    async fn run(&self, statement: &str) {
        self.pool.execute(AssertSqlSafe(statement)).await.unwrap();
    }

    fn store(&self) -> SqlStore {
        SqlStoreOptions::new().table(&self.place.name).max_connections(FEW).connect_lazy(&self.url).unwrap()
    }

    /// The same with a pool of the application's.
    async fn store_in_a_pool(&self) -> (SqlStore, PgPool) {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(FEW);
        let pool = options.acquire_timeout(Duration::from_secs(1)).connect(&self.url).await.unwrap();
        let store = SqlStoreOptions::new().table(&self.place.name).with_pool(pool.clone()).unwrap();
        (store, pool)
    }

    /// The connections on which the store has run statements.
    async fn connections(&self, also: &str) -> BTreeSet<i32> {
        let (user, table) = (self.user, &self.place.name);
        let pids = format!(
            "SELECT pid FROM pg_stat_activity WHERE usename = '{user}' AND query LIKE '%{table}%' AND {also}"
        );
        sqlx::query_scalar(AssertSqlSafe(pids)).fetch_all(&self.pool).await.unwrap().into_iter().collect()
    }

    async fn waits_for_a_lock(&self) {
        until("it waits for the lock", async || {
            !self.connections("wait_event_type = 'Lock'").await.is_empty()
        })
        .await;
    }

    /// Somebody else changes the row, and has not come to an end.
    async fn other_writer(&self) -> sqlx::Transaction<'static, sqlx::Postgres> {
        let mut other = self.pool.begin().await.unwrap();
        let change = format!("UPDATE {} SET expires_at = expires_at + 1", self.place.name);
        other.execute(AssertSqlSafe(change)).await.unwrap();
        other
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_another_writer_has_overtaken_costs_no_connection() {
    let it = Limited::new("overtaken").await;
    it.run("ALTER ROLE overtaken SET default_transaction_isolation = 'repeatable read'").await;
    let store = it.store();
    let revision = write(&store, later()).await.unwrap();
    let before = it.connections("true").await;
    assert_eq!(before.len(), 1);
    let other = it.other_writer().await;
    let extends = tokio::spawn({
        let store = store.clone();
        async move { store.extend(&key(), revision, later()).await }
    });
    it.waits_for_a_lock().await;
    other.commit().await.unwrap();
    assert!(!extends.await.unwrap().unwrap(), "it is overtaken: 40001");
    assert!(store.load(&key()).await.unwrap().is_some());
    assert_eq!(it.connections("true").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_that_is_given_up_costs_no_other_connection() {
    let it = Limited::new("slow").await;
    let store = it.store();
    let revision = write(&store, later()).await.unwrap();
    // All of them at once, for which the table is locked until they wait.
    let mut lock = it.pool.begin().await.unwrap();
    let statement = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", it.place.name);
    lock.execute(AssertSqlSafe(statement)).await.unwrap();
    let loads: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.load(&key()).await })
        })
        .collect();
    until("all wait", async || it.connections("wait_event_type = 'Lock'").await.len() == 4).await;
    lock.commit().await.unwrap();
    for load in loads {
        load.await.unwrap().unwrap().unwrap();
    }
    let before = it.connections("true").await;
    assert_eq!(before.len(), 4);
    let other = it.other_writer().await;
    let one = key();
    let extends = store.extend(&one, revision, later());
    assert!(tokio::time::timeout(Duration::from_millis(700), extends).await.is_err(), "the row is locked");
    // Each is asked, and is there.
    for _ in 0..8 {
        assert!(store.load(&key()).await.unwrap().is_some());
    }
    let after = it.connections("true").await;
    assert!(before.difference(&after).count() <= 1, "{before:?}, {after:?}");
    other.commit().await.unwrap();
}

/// Calls that are given up, before and after silence is certain, while something on the server holds all up.
async fn is_given_up_for(duration: Duration, store: &SqlStore) {
    let until = Instant::now() + duration;
    let callers = (0..16_u8).map(|n| async move {
        let patience = Duration::from_millis(if n % 2 == 0 { 700 } else { 300 });
        while Instant::now() < until {
            let revision = Revision::random();
            let row = NewRow { data: b"data", revision, expires_at: later() };
            let answer =
                tokio::time::timeout(patience, store.write(&key(), row, Expected::At(revision))).await;
            assert!(!matches!(answer, Ok(Ok(_))), "it is held up");
        }
    });
    futures_util::future::join_all(callers).await;
}

/// The server does not notice that its client is gone while a statement waits for a lock there.
async fn what_is_held_up_is_bounded(
    store: &SqlStore,
    connections: u32,
    count: impl AsyncFn() -> i64,
    release: impl AsyncFnOnce(),
) {
    is_given_up_for(Duration::from_secs(4), store).await;
    let most = count().await;
    // One connection may be there to see whether the server lives.
    assert!(most <= i64::from(2 * connections + 1), "{most} connections");
    assert!(
        most > i64::from(connections),
        "others are tried, because the server may have been replaced: {most}"
    );
    release().await;
    let row = tokio::time::timeout(Duration::from_secs(2), store.load(&key())).await;
    assert!(row.expect("it is back at once").unwrap().is_some());
    until("what was left has ended", async || count().await <= i64::from(FEW + 1)).await;
    // And may be left again.
    futures_util::future::join_all(
        (0..16).map(async |_| assert!(store.load(&key()).await.unwrap().is_some())),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_in_postgresql_holds_up_a_bounded_number_of_connections() {
    for (user, is_shared) in [("held_up", false), ("held_up_in_a_pool", true)] {
        let it = Limited::new(user).await;
        let (store, connections) =
            if is_shared { (it.store_in_a_pool().await.0, FEW / 2) } else { (it.store(), FEW) };
        write(&store, later()).await.unwrap();
        let mut other = it.pool.begin().await.unwrap();
        let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", it.place.name);
        other.execute(AssertSqlSafe(lock)).await.unwrap();
        let count = format!("SELECT COUNT(*) FROM pg_stat_activity WHERE usename = '{user}'");
        let count =
            async || sqlx::query_scalar(AssertSqlSafe(count.clone())).fetch_one(&it.pool).await.unwrap();
        what_is_held_up_is_bounded(&store, connections, count, async || other.commit().await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_in_postgresql_leaves_the_application_half_of_its_pool() {
    let it = Limited::new("half").await;
    let (store, pool) = it.store_in_a_pool().await;
    write(&store, later()).await.unwrap();
    let mut other = it.pool.begin().await.unwrap();
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", it.place.name);
    other.execute(AssertSqlSafe(lock)).await.unwrap();
    let application = async {
        for _ in 0..30 {
            let queries = (0..FEW / 2).map(|_| {
                tokio::time::timeout(Duration::from_secs(1), sqlx::query("SELECT 1").fetch_one(&pool))
            });
            for answer in futures_util::future::join_all(queries).await {
                answer.expect("it has a connection").unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    futures_util::future::join(is_given_up_for(Duration::from_secs(3), &store), application).await;
    // Those that wait, and one that is told why, before the request gives up.
    let one = key();
    let mut told = Vec::new();
    futures_util::future::join_all(
        (0..FEW).map(|_| tokio::time::timeout(Duration::from_secs(2), store.load(&one))),
    )
    .await
    .into_iter()
    .flatten()
    .for_each(|answer| told.push(in_full(&answer.unwrap_err())));
    let busy = "all 2 connections that the store may take out of the pool are busy";
    assert!(!told.is_empty() && told.iter().all(|told| told.contains(busy)), "{told:?}");
    other.commit().await.unwrap();
    assert!(store.load(&one).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_in_mariadb_holds_up_a_bounded_number_of_connections() {
    let (url, place) = (server("TEST_MYSQL"), Engine::MariaDb.place());
    let pool = MySqlPool::connect(&url).await.unwrap();
    let options = || SqlStoreOptions::new().table(&place.name).max_connections(FEW);
    options().create_table(true).connect(&url).await.unwrap();
    for statement in [
        "CREATE USER 'held_up'@'127.0.0.1'".to_owned(),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO 'held_up'@'127.0.0.1'", place.name),
    ] {
        pool.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    let store = options().connect_lazy(&url.replace("root@", "held_up@")).unwrap();
    write(&store, later()).await.unwrap();
    let mut other = pool.begin().await.unwrap();
    let lock = format!("SELECT * FROM {} FOR UPDATE", place.name);
    other.execute(AssertSqlSafe(lock)).await.unwrap();
    let count = async || {
        let count = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'held_up'";
        sqlx::query_scalar(count).fetch_one(&pool).await.unwrap()
    };
    what_is_held_up_is_bounded(&store, FEW, count, async || other.commit().await.unwrap()).await;
}

/// Then nothing says that the server is there, and others are tried at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_falls_silent_on_all_connections_is_left_on_all() {
    let (url, place) = (server("TEST_POSTGRES"), Engine::Postgres.place());
    let mut gate = Gate::before(&url);
    gate.open();
    let options = SqlStoreOptions::new().table(&place.name).create_table(true).max_connections(FEW);
    let store = options.connect(&gate.url(&url)).await.unwrap();
    write(&store, later()).await.unwrap();
    let one = key();
    let load = async |patience| tokio::time::timeout(patience, store.load(&one)).await;
    let all = async |patience| futures_util::future::join_all((0..FEW).map(|_| load(patience))).await;
    for load in all(LONG).await {
        assert!(load.unwrap().unwrap().is_some());
    }
    gate.hush();
    for load in all(Duration::from_millis(700)).await {
        assert!(load.is_err(), "it is silent on this one");
    }
    let row = tokio::time::timeout(Duration::from_secs(2), store.load(&one)).await;
    assert!(row.expect("it is answered by another").unwrap().is_some());
}

/// The answer to what was given up comes when something else is asked on the same connection.
async fn an_answer_is_never_taken_for_anothers(store: SqlStore, gate: &Gate, lull: Duration) {
    let absent = RowKey::from_bytes([2; ROW_KEY_LEN]);
    write(&store, later()).await.unwrap();
    for round in 0..3 {
        assert!(store.load(&key()).await.unwrap().is_some());
        tokio::time::sleep(lull).await;
        gate.hold_up(true);
        let given_up = tokio::time::timeout(Duration::from_millis(200), store.load(&key())).await;
        assert!(given_up.is_err(), "it is held up");
        gate.hold_up(false);
        for n in 0..4 {
            let row = store.load(&key()).await.unwrap();
            assert_eq!(row.expect("it is there").data, b"data", "{round} {n}");
            assert!(store.load(&absent).await.unwrap().is_none());
            let row = NewRow { data: b"other", revision: Revision::random(), expires_at: later() };
            let written = store.write(&key(), row, Expected::At(Revision::random())).await.unwrap();
            assert_eq!(written, Written::Conflict, "{round} {n}");
        }
    }
}

/// In MariaDB what is given up is a statement, or the question whether the server is there, which an idle connection is asked.
#[tokio::test(flavor = "multi_thread")]
async fn what_mariadb_answers_late_is_nobody_elses_answer() {
    for (lull, is_shared) in
        [(Duration::ZERO, false), (Duration::from_millis(2_100), false), (Duration::ZERO, true)]
    {
        let (url, place) = (server("TEST_MYSQL"), Engine::MariaDb.place());
        let mut gate = Gate::before(&url);
        gate.open();
        let options = SqlStoreOptions::new().table(&place.name).create_table(true);
        let store = if is_shared {
            let pool = sqlx::mysql::MySqlPoolOptions::new().max_connections(1).connect(&gate.url(&url)).await;
            options.with_pool(pool.unwrap()).unwrap()
        } else {
            options.max_connections(1).connect(&gate.url(&url)).await.unwrap()
        };
        an_answer_is_never_taken_for_anothers(store, &gate, lull).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgresql_answers_late_is_nobody_elses_answer() {
    for lull in [Duration::ZERO, Duration::from_millis(2_100)] {
        let (url, place) = (server("TEST_POSTGRES"), Engine::Postgres.place());
        let mut gate = Gate::before(&url);
        gate.open();
        let options = SqlStoreOptions::new().table(&place.name).create_table(true).max_connections(1);
        let store = options.connect(&gate.url(&url)).await.unwrap();
        an_answer_is_never_taken_for_anothers(store, &gate, lull).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_create_nothing_in_postgresql_needs_nothing_but_the_table() {
    let it = Limited::new("limited").await;
    let made = |table: &str| SqlStoreOptions::new().table(table).create_table(true);
    let lazy = made(&it.place.name).connect_lazy(&it.url).unwrap();
    write(&lazy, later()).await.unwrap();
    let eager = made(&it.place.name).connect(&it.url).await.unwrap();
    assert!(eager.load(&key()).await.unwrap().is_some());
    eager.create_table().await.unwrap();
    let lacks = made("not_there").connect_lazy(&it.url).unwrap();
    // Older ones let everybody create tables in `public`.
    it.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let error = lacks.load(&key()).await.unwrap_err();
    assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
    let told = in_full(&error);
    assert!(told.contains("permission denied"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_create_nothing_in_mariadb_needs_nothing_but_the_table() {
    let (url, place) = (server("TEST_MYSQL"), Engine::MariaDb.place());
    let pool = MySqlPool::connect(&url).await.unwrap();
    let made = |table: &str| SqlStoreOptions::new().table(table).create_table(true);
    made(&place.name).connect(&url).await.unwrap();
    for statement in [
        "CREATE USER 'limited'@'127.0.0.1'".to_owned(),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO 'limited'@'127.0.0.1'", place.name),
    ] {
        pool.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    let url = url.replace("root@", "limited@");
    let lazy = made(&place.name).connect_lazy(&url).unwrap();
    write(&lazy, later()).await.unwrap();
    assert!(made(&place.name).connect(&url).await.unwrap().load(&key()).await.unwrap().is_some());
    let error = made("not_there").connect_lazy(&url).unwrap().load(&key()).await.unwrap_err();
    assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
    let told = in_full(&error);
    assert!(told.contains("denied"), "{told}");
}

/// Where an index belongs to its table's schema, that is said before its own name.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_a_schema_is_made_with_its_index() {
    let (file, place) = (Engine::Sqlite.place(), Engine::Postgres.place());
    let sqlite = format!("sqlite:{}", file.file().display());
    let main =
        SqlStoreOptions::new().table("main.sessions").create_table(true).connect(&sqlite).await.unwrap();
    write(&main, later()).await.unwrap();
    main.create_table().await.unwrap();
    let pool = sqlx::SqlitePool::connect(&sqlite).await.unwrap();
    let index = "SELECT name FROM main.sqlite_schema WHERE type = 'index' AND tbl_name = 'sessions' AND sql IS NOT NULL";
    let indexes: Vec<String> = sqlx::query_scalar(index).fetch_all(&pool).await.unwrap();
    assert_eq!(indexes, ["sessions_expires_at"]);
    let table = format!("public.{}", place.name);
    let public = SqlStoreOptions::new().table(&table).create_table(true);
    write(&public.connect(&server("TEST_POSTGRES")).await.unwrap(), later()).await.unwrap();
    let pool = PgPool::connect(&server("TEST_POSTGRES")).await.unwrap();
    let index = format!(
        "SELECT indexname FROM pg_indexes WHERE tablename = '{}' AND indexname LIKE '%expires%'",
        place.name
    );
    let indexes: Vec<String> = sqlx::query_scalar(AssertSqlSafe(index)).fetch_all(&pool).await.unwrap();
    assert_eq!(indexes, [format!("public_{}_expires_at", place.name)]);
}

/// Writing would be a sync.
#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_moves_nothing_writes_nothing() {
    let (file, place) = (Engine::Sqlite.place(), Engine::Postgres.place());
    let sqlite = format!("sqlite:{}", file.file().display());
    let postgres = server("TEST_POSTGRES");
    let options = |table: &str| SqlStoreOptions::new().table(table).create_table(true);
    let until = later();
    let in_sqlite = options(&file.name).connect(&sqlite).await.unwrap();
    let (of_sqlite, of_postgres) = (write(&in_sqlite, until).await.unwrap(), {
        let store = options(&place.name).connect(&postgres).await.unwrap();
        write(&store, until).await.unwrap()
    });
    let in_postgres = options(&place.name).connect(&postgres).await.unwrap();
    let mut looks = sqlx::SqlitePool::connect(&sqlite).await.unwrap().acquire().await.unwrap();
    let pool = PgPool::connect(&postgres).await.unwrap();
    // Another one of either, as soon as anybody has written.
    let mut versions = async || {
        let sqlite =
            sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(&mut *looks).await.unwrap();
        let row = format!("SELECT ctid::TEXT FROM {}", place.name);
        let postgres: String = sqlx::query_scalar(AssertSqlSafe(row)).fetch_one(&pool).await.unwrap();
        (sqlite, postgres)
    };
    let before = versions().await;
    for (store, revision) in [(&in_sqlite, of_sqlite), (&in_postgres, of_postgres)] {
        assert!(store.extend(&key(), revision, until).await.unwrap());
        assert!(store.extend(&key(), revision, until - LONG).await.unwrap());
        assert!(!store.extend(&key(), Revision::random(), until - LONG).await.unwrap());
        assert!(!store.extend(&key(), Revision::random(), until + LONG).await.unwrap());
    }
    assert_eq!(versions().await, before);
    assert!(in_sqlite.extend(&key(), of_sqlite, until + LONG).await.unwrap());
    assert!(in_postgres.extend(&key(), of_postgres, until + LONG).await.unwrap());
    let after = versions().await;
    assert!(after.0 != before.0 && after.1 != before.1);
}

/// The statement that extends sees a row as it was before whoever holds it has moved it, or written over it.
#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_waits_for_another_is_told_what_has_become_of_the_row() {
    let (url, place) = (server("TEST_POSTGRES"), Engine::Postgres.place());
    let pool = PgPool::connect(&url).await.unwrap();
    let options = SqlStoreOptions::new().table(&place.name).create_table(true).timeout(LONG);
    let store = options.connect(&url).await.unwrap();
    let until_then = later();
    let revision = write(&store, until_then).await.unwrap();
    let held_up = format!(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{}%'",
        place.name
    );
    for (change, moves, extended) in [
        ("expires_at = expires_at + 60000", 30, true),
        ("expires_at = expires_at + 1000", 120, true),
        ("revision = '\\x01'", 240, false),
    ] {
        let mut other = pool.begin().await.unwrap();
        let change = format!("UPDATE {} SET {change}", place.name);
        other.execute(AssertSqlSafe(change.clone())).await.unwrap();
        let extends = tokio::spawn({
            let store = store.clone();
            async move { store.extend(&key(), revision, until_then + Duration::from_secs(moves)).await }
        });
        until("it waits", async || {
            let waiting: i64 =
                sqlx::query_scalar(AssertSqlSafe(held_up.clone())).fetch_one(&pool).await.unwrap();
            waiting > 0
        })
        .await;
        other.commit().await.unwrap();
        assert_eq!(extends.await.unwrap().unwrap(), extended, "{change}");
        if extended {
            let expires_at = store.load(&key()).await.unwrap().unwrap().expires_at;
            assert!(
                expires_at + Duration::from_millis(1) > until_then + Duration::from_secs(moves),
                "{change}"
            );
        }
    }
}

/// As the pages advise: then it is the server's load that has to be looked at, and not whether it is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_mariadb_cuts_off_for_its_time_is_told_as_that() {
    let (url, place) = (server("TEST_MYSQL"), Engine::MariaDb.place());
    let limited = MySqlPoolOptions::new().after_connect(|connection, _| {
        Box::pin(async move { connection.execute("SET max_statement_time = 0.3").await.map(drop) })
    });
    let limited = limited.connect(&url).await.unwrap();
    let store = SqlStoreOptions::new().table(&place.name).create_table(true).with_pool(limited).unwrap();
    write(&store, later()).await.unwrap();
    let pool = MySqlPool::connect(&url).await.unwrap();
    let mut other = pool.begin().await.unwrap();
    let locks = format!("SELECT id FROM {} FOR UPDATE", place.name);
    other.execute(AssertSqlSafe(locks)).await.unwrap();
    let error = store.delete(&key()).await.unwrap_err();
    assert!(matches!(error, StoreError::Timeout(_)), "{error:?}");
    other.rollback().await.unwrap();
    assert!(store.delete(&key()).await.unwrap());
}

/// As a VACUUM has it, for which `CREATE INDEX IF NOT EXISTS` would wait, and all who write for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_while_postgres_vacuums_holds_up_nobody() {
    let (url, place) = (server("TEST_POSTGRES"), Engine::Postgres.place());
    let options = || SqlStoreOptions::new().table(&place.name).create_table(true);
    let store = options().connect(&url).await.unwrap();
    write(&store, later()).await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    let mut other = pool.begin().await.unwrap();
    let lock = format!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE", place.name);
    other.execute(AssertSqlSafe(lock)).await.unwrap();
    let starts = tokio::time::timeout(Duration::from_secs(10), options().connect(&url)).await;
    let second = starts.expect("it does not wait").unwrap();
    for store in [&store, &second] {
        assert!(store.load(&key()).await.unwrap().is_some());
        assert!(store.delete(&key()).await.is_ok());
        write(store, later()).await.unwrap();
    }
    other.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_does_not_try_to_compress_what_is_sealed_in_a_new_table() {
    let (url, new, former) = (server("TEST_POSTGRES"), Engine::Postgres.place(), Engine::Postgres.place());
    let pool = PgPool::connect(&url).await.unwrap();
    let made = format!(
        "CREATE TABLE {} (id BYTEA PRIMARY KEY, revision BYTEA NOT NULL, expires_at BIGINT NOT NULL, data BYTEA NOT NULL)",
        former.name
    );
    pool.execute(AssertSqlSafe(made)).await.unwrap();
    for (place, storage) in [(&new, "e"), (&former, "x")] {
        let options = SqlStoreOptions::new().table(&place.name).create_table(true);
        write(&options.connect(&url).await.unwrap(), later()).await.unwrap();
        let is = format!(
            "SELECT attstorage::TEXT FROM pg_attribute WHERE attrelid = '{}'::REGCLASS AND attname = 'data'",
            place.name
        );
        let is: String = sqlx::query_scalar(AssertSqlSafe(is)).fetch_one(&pool).await.unwrap();
        assert_eq!(is, storage, "of a table that is there it stays");
    }
}

/// In a table without row ids a row of 1,100 bytes takes a page of its own.
#[tokio::test(flavor = "multi_thread")]
async fn rows_in_sqlite_share_pages_and_tables_made_otherwise_stay() {
    const ROWS: u64 = 200;
    let (new, former) = (Engine::Sqlite.place(), Engine::Sqlite.place());
    let pool = async |place: &Place| {
        let url = format!("sqlite:{}?mode=rwc", place.file().display());
        sqlx::SqlitePool::connect(&url).await.unwrap()
    };
    let made = "CREATE TABLE sealed_sessions (id BLOB PRIMARY KEY, revision BLOB NOT NULL, \
                expires_at INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID";
    sqlx::query(made).execute(&pool(&former).await).await.unwrap();
    let mut bytes = Vec::new();
    for place in [&new, &former] {
        let store = SqlStore::connect(&format!("sqlite:{}", place.file().display())).await.unwrap();
        store.create_table().await.unwrap();
        for n in 0..ROWS {
            let id = [Revision::random(), Revision::random()].map(|half| *half.as_bytes()).concat();
            let key = RowKey::from_bytes(id.try_into().unwrap());
            let first = Revision::random();
            let row = |data, revision| NewRow { data, revision, expires_at: later() };
            let written = store.write(&key, row(&[7; 1_100], first), Expected::Absent).await.unwrap();
            assert_eq!(written, Written::Done);
            let next = Revision::random();
            let written = store.write(&key, row(&[n as u8; 1_100], next), Expected::At(first)).await.unwrap();
            assert_eq!(written, Written::Done);
            assert!(store.extend(&key, next, later() + LONG).await.unwrap());
            let row = store.load(&key).await.unwrap().unwrap();
            assert_eq!((row.revision, row.data), (next, vec![n as u8; 1_100]));
        }
        assert_eq!(store.count().await.unwrap(), ROWS);
        let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let size: i64 = sqlx::query_scalar(pages).fetch_one(&pool(place).await).await.unwrap();
        bytes.push(size as u64 / ROWS);
    }
    assert!(bytes[0] < 2_000 && bytes[1] > 4_000, "{bytes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_goes_on_after_a_server_that_has_fallen_silent() {
    let (url, place) = (server("TEST_POSTGRES"), Engine::Postgres.place());
    let pool = PgPool::connect(&url).await.unwrap();
    let mut gate = Gate::before(&url);
    gate.open();
    let options = SqlStoreOptions::new().table(&place.name).create_table(true);
    let direct = options.sweep_every(Duration::MAX).connect(&url).await.unwrap();
    let _swept: Arc<SqlStore> = Arc::new(
        SqlStoreOptions::new()
            .table(&place.name)
            .sweep_every(Duration::from_millis(50))
            .connect_lazy(&gate.url(&url))
            .unwrap(),
    );
    let count = format!("SELECT COUNT(*) FROM {}", place.name);
    let is_swept = async || {
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count.clone())).fetch_one(&pool).await.unwrap();
        rows == 0
    };
    let expired = OffsetDateTime::now_utc() - Duration::from_secs(60);
    for _ in 0..2 {
        write(&direct, expired).await.unwrap();
        until("it is swept", is_swept).await;
        gate.hush();
    }
}
