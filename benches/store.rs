//! What a request with a stored session costs, per engine: round trips, counted on the wire, and time. Fails if there is one too
//! many.
//!
//! `cargo bench --all-features --bench store` starts the servers by itself (with Python, see tests/servers.py), and runs
//! actix-session's Redis store beside it (see benches/peers).
//!
//! The session holds 6,000 bytes. *read* gets a value, *write* also changes one, *extend* is read on a request that
//! prolongs the session, which is the one where each does (`rolling`).

#[path = "timing/requests.rs"]
mod requests;
#[path = "timing/turns.rs"]
mod turns;

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use actix_web::{App, HttpResponse, test, web};
use sealed_session::store::{
    MemoryStore, MongoStore, RedbStore, RedisStore, RedisStoreOptions, SqlStore, Store,
};
use sealed_session::{Clock, Key, KeyRing, Lifetime, Session, SessionMiddleware, Sessions};
use time::OffsetDateTime;

use requests::{Row, measure};
use turns::Turns;

const SERVERS: &str = "TEST_REDIS";

async fn read(session: Session) -> HttpResponse {
    assert_eq!(session.get::<u32>("n").unwrap(), Some(1));
    HttpResponse::Ok().finish()
}

async fn write(session: Session) -> HttpResponse {
    session.increment("count", 1).unwrap();
    HttpResponse::Ok().finish()
}

/// Shows another millisecond at each look, because within one there is nothing to extend.
#[derive(Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> OffsetDateTime {
        let ahead = self.0.fetch_add(1, Ordering::Relaxed);
        OffsetDateTime::now_utc() + time::Duration::milliseconds(ahead)
    }
}

/// The three requests, over this store.
async fn three(store: Arc<dyn Store>, turns: Option<&Turns>) -> [Row; 3] {
    let ring = KeyRing::new(Key::generate());
    let of = |lifetime| Sessions::builder(ring.clone()).store(Arc::clone(&store)).lifetime(lifetime);
    let hour = Duration::from_secs(3_600);
    let lasting = of(Lifetime::new(24 * hour)).build().unwrap();
    let extended = of(Lifetime::new(hour)).rolling(true).clock(Ticking::default()).build().unwrap();
    let fill = |session: &Session| {
        session.insert("n", 1)?;
        session.insert("filler", "x".repeat(6_000))
    };
    let lasts = lasting.issue(fill).await.unwrap();
    let ends = extended.issue(fill).await.unwrap();
    let mut rows = Vec::new();
    for (sessions, cookie, path) in
        [(&lasting, &lasts, "/read"), (&lasting, &lasts, "/write"), (&extended, &ends, "/read")]
    {
        let app = App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/read", web::get().to(read))
            .route("/write", web::get().to(write));
        let app = test::init_service(app).await;
        rows.push(measure(&app, path, cookie, turns).await);
    }
    rows.try_into().ok().unwrap()
}

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"))
}

/// The address with the proxy's port in place of the server's.
fn through(url: &str) -> (String, Turns) {
    let (before, rest) = url.split_once("127.0.0.1:").unwrap();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let turns = Turns::before(rest[..digits].parse().unwrap());
    (format!("{before}127.0.0.1:{}{}", turns.port, &rest[digits..]), turns)
}

async fn networked<S: Store>(name: &str, url: &str, open: impl AsyncFn(String) -> S) {
    let (proxied, turns) = through(url);
    let counted = three(Arc::new(open(proxied).await), Some(&turns)).await;
    for (row, (request, trips)) in counted.iter().zip([("read", 1.0), ("write", 2.0), ("extend", 2.0)]) {
        // A driver may send a heartbeat meanwhile.
        let taken = row.turns.unwrap_or(f64::NAN);
        assert!((trips..trips + 0.1).contains(&taken), "{name}, {request}: {taken} trips instead of {trips}");
    }
    let timed = three(Arc::new(open(url.to_owned()).await), None).await;
    requests::print(name, Some(counted), timed);
}

async fn embedded(name: &str, store: Arc<dyn Store>) {
    requests::print(name, None, three(store, None).await);
}

fn head() {
    println!("{:24}{:>26}{:>26}{:>26}", "", "read", "write", "extend");
    println!("{:24}{}", "", "    trips    us    99 % us".repeat(3));
}

async fn all() {
    let folder = std::env::temp_dir().join(format!("sealed-session-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    head();
    embedded("memory", Arc::new(MemoryStore::new())).await;
    embedded("redb", Arc::new(RedbStore::open(folder.join("s.redb")).unwrap())).await;
    let sqlite = SqlStore::connect(&format!("sqlite:{}", folder.join("s.sqlite").display())).await.unwrap();
    sqlite.create_table().await.unwrap();
    embedded("SQLite", Arc::new(sqlite)).await;
    networked("Redis", &server("TEST_REDIS"), async |url| RedisStore::connect(&url).await.unwrap()).await;
    let nodes = server("TEST_REDIS_CLUSTER");
    let nodes =
        nodes.trim_start_matches("redis-cluster://").split(',').map(|node| format!("redis://{node}/"));
    embedded("Redis Cluster", Arc::new(RedisStoreOptions::new().connect_cluster(nodes).await.unwrap())).await;
    // Else the driver goes to the address that the server tells, past the proxy.
    let mongodb = format!("{}&directConnection=true", server("TEST_MONGODB"));
    networked("MongoDB wire", &mongodb, async |url| MongoStore::connect(&url).await.unwrap()).await;
    let sql = async |url: String| {
        let store = SqlStore::connect(&url).await.unwrap();
        store.create_table().await.unwrap();
        store
    };
    networked("PostgreSQL", &server("TEST_POSTGRES"), sql).await;
    networked("MariaDB", &server("TEST_MYSQL"), sql).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Runs a program of the benches' own package, in the folder of this one.
fn peer(name: &str) -> bool {
    let root = env!("CARGO_MANIFEST_DIR");
    let manifest = format!("{root}/benches/peers/Cargo.toml");
    let target = format!("{root}/target/peers");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut run = Command::new(cargo);
    run.args([
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--manifest-path",
        &manifest,
        "--target-dir",
        &target,
    ]);
    run.args(["--bin", name]).status().is_ok_and(|status| status.success())
}

fn main() -> ExitCode {
    if std::env::var_os(SERVERS).is_none() {
        let servers = format!("{}/tests/servers.py", env!("CARGO_MANIFEST_DIR"));
        let this = std::env::current_exe().unwrap();
        let status = Command::new("python3").arg(servers).arg(this).status();
        return if status.is_ok_and(|status| status.success()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    actix_web::rt::System::new().block_on(all());
    if peer("actix_session_redis") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
