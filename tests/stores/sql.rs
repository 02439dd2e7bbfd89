//! What the SQL stores ask of a database: the connections that they keep and leave, permissions, the sweep in the background.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealed_session::store::{
    Expected, NewRow, ROW_KEY_LEN, Revision, RowKey, SqlStore, SqlStoreOptions, Store, StoreError, Written,
};
use sqlx::{AssertSqlSafe, Executor as _, MySqlPool, PgPool};
use time::OffsetDateTime;

use crate::engines::{Engine, Place, server};
use crate::gate::{Gate, in_full};

const LONG: Duration = Duration::from_secs(30);
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
        SqlStoreOptions::new().table(&self.place.name).max_connections(4).connect_lazy(&self.url).unwrap()
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
    let told = in_full(&lacks.load(&key()).await.unwrap_err());
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
    let told = in_full(&made("not_there").connect_lazy(&url).unwrap().load(&key()).await.unwrap_err());
    assert!(told.contains("denied"), "{told}");
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
