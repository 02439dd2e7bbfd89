//! How cost grows: with the size of a session, the keys of a ring, the cookies of a request, and the sessions of a store.
//!
//! `cargo bench --all-features --bench scale` starts the servers by itself, and prints one JSON document for
//! benches/plots.py. Up to `SCALE_SESSIONS` sessions are put into each store, a million by default.

#![allow(missing_docs)]

use std::pin::pin;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use sealed_session::store::{self, Expected, MemoryStore, NewRow, Revision, RowKey, Store, Written};
use sealed_session::{CommitContext, Key, KeyRing, Sessions};
use serde_json::{Value, json};
use time::OffsetDateTime;

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing waits here"),
    }
}

/// Nanoseconds of a call, the best of many rounds.
fn best(mut call: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..60 {
        let calls = 60;
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    best
}

/// A request that reads, and one that also writes, in nanoseconds.
fn requests(sessions: &Sessions, cookie: &str) -> (f64, f64) {
    let read = best(|| {
        let session = ready(sessions.load([cookie])).unwrap();
        assert!(session.contains_key("data"));
        assert!(ready(sessions.commit(&session, CommitContext::default())).unwrap().is_none());
    });
    let write = best(|| {
        let session = ready(sessions.load([cookie])).unwrap();
        session.increment("n", 1).unwrap();
        ready(sessions.commit(&session, CommitContext::default())).unwrap();
    });
    (read, write)
}

fn by_size() -> Vec<Value> {
    let ring = KeyRing::new(Key::generate());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _enter = runtime.enter();
    let builder =
        Sessions::builder(ring).store(MemoryStore::new()).revocation(sealed_session::Revocation::Off);
    let sessions = builder.build().unwrap();
    let sizes =
        (6..=16).flat_map(|power| [1_usize << power, 3 << (power - 1)]).filter(|size| *size <= 1 << 16);
    sizes
        .map(|size| {
            let fill = |session: &sealed_session::Session| session.insert("data", "x".repeat(size));
            let cookie = ready(sessions.issue(fill)).unwrap();
            let (read, write) = requests(&sessions, &cookie);
            json!({ "x": size, "read": read, "write": write, "cookie": cookie.len() - 1 })
        })
        .collect()
}

fn by_keys() -> Vec<Value> {
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000]
        .into_iter()
        .map(|count| {
            let keys: Vec<Key> = (0..count).map(|_| Key::generate()).collect();
            let last = Sessions::builder(KeyRing::new(keys[count - 1].clone())).build().unwrap();
            let ring = KeyRing::from_keys(keys).unwrap();
            let sessions = Sessions::builder(ring).build().unwrap();
            let fill = |session: &sealed_session::Session| session.insert("data", "x".repeat(200));
            let cookies = [ready(sessions.issue(fill)).unwrap(), ready(last.issue(fill)).unwrap()];
            let [first, last] = cookies.map(|cookie| {
                best(|| assert!(ready(sessions.load([&cookie])).unwrap().contains_key("data")))
            });
            json!({ "x": count, "sealed by the first": first, "sealed by the last": last })
        })
        .collect()
}

fn by_cookies() -> Vec<Value> {
    let sessions = Sessions::builder(KeyRing::new(Key::generate())).cookie_name("s").build().unwrap();
    let fill = |session: &sealed_session::Session| session.insert("data", "x".repeat(200));
    let good = ready(sessions.issue(fill)).unwrap();
    let forged = format!("{}{}{}", &good[..60], if &good[60..61] == "A" { "B" } else { "A" }, &good[61..]);
    [1, 2, 5, 10, 20, 50, 100, 200]
        .into_iter()
        .map(|count| {
            let others: String = (1..count).map(|n| format!("c{n}=value; ")).collect();
            let ours = format!("{forged}; ").repeat(count - 1);
            let [others, forged] = [others, ours].map(|before| {
                let header = format!("{before}{good}");
                best(|| drop(ready(sessions.load([&header])).unwrap()))
            });
            json!({ "x": count, "of other names": others, "forged ones of ours": forged })
        })
        .collect()
}

fn key(n: u64) -> RowKey {
    let mut bytes = [0; 32];
    // Spread like the hashes that keys are.
    for (part, word) in bytes.chunks_mut(8).zip(1_u64..) {
        part.copy_from_slice(
            &(n + 1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(7)
                .wrapping_mul(2 * word + 1)
                .to_le_bytes(),
        );
    }
    RowKey::from_bytes(bytes)
}

async fn write(store: &dyn Store, n: u64, data: &[u8], expected: Expected) -> Revision {
    let revision = Revision::random();
    let row = NewRow { data, revision, expires_at: OffsetDateTime::now_utc() + Duration::from_secs(86_400) };
    assert_eq!(store.write(&key(n), row, expected).await.unwrap(), Written::Done);
    revision
}

/// Fills a store, and measures a read and a write each time that there are ten times as many rows.
async fn by_rows(name: &str, store: Arc<dyn Store>, most: u64, used: impl AsyncFn() -> Option<u64>) -> Value {
    const LANES: u64 = 8;
    let data = vec![7; 1_024];
    let mut points = Vec::new();
    let empty = used().await;
    let (mut filled, mut target) = (0, 1_000);
    while target <= most {
        let start = Instant::now();
        let mut lanes = tokio::task::JoinSet::new();
        for lane in 0..LANES {
            let (store, data) = (Arc::clone(&store), data.clone());
            lanes.spawn(async move {
                for n in (filled..target).filter(|n| n % LANES == lane) {
                    write(&*store, n, &data, Expected::Absent).await;
                }
            });
        }
        lanes.join_all().await;
        let fill = start.elapsed();
        let mut times = [Vec::new(), Vec::new()];
        for i in 0..400 {
            let n = (i * 7_919) % target;
            let start = Instant::now();
            let row = store.load(&key(n)).await.unwrap().unwrap();
            times[0].push(start.elapsed().as_nanos() as f64 / 1_000.0);
            let start = Instant::now();
            write(&*store, n, &data, Expected::At(row.revision)).await;
            times[1].push(start.elapsed().as_nanos() as f64 / 1_000.0);
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let bytes = used().await.zip(empty).map(|(now, then)| now.saturating_sub(then) / target);
        let [mut reads, mut writes] = times;
        points.push(json!({
            "x": target, "read": median(&mut reads), "write": median(&mut writes), "bytes": bytes,
            "filled per second": (target - filled) as f64 / fill.as_secs_f64(),
        }));
        eprintln!("{name}: {}", points[points.len() - 1]);
        (filled, target) = (target, target * 10);
    }
    store.clear().await.unwrap();
    json!({ "store": name, "points": points })
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/statm").ok()?;
    status.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4_096)
}

fn ask(program: &str, args: &[&str], env: &[(&str, &str)]) -> Option<u64> {
    let output = Command::new(program).args(args).envs(env.iter().copied()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.trim_start_matches("used_memory:").trim().parse().ok())
}

async fn by_sessions(most: u64) -> Vec<Value> {
    let folder = std::env::temp_dir().join(format!("sealed-session-scale-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let size = |path: String| {
        ["", "-wal"]
            .iter()
            .filter_map(|end| std::fs::metadata(format!("{path}{end}")).ok())
            .map(|m| m.len())
            .sum()
    };
    let mut stores = Vec::new();
    let memory = Arc::new(MemoryStore::new().max_bytes(8 << 30));
    stores.push(by_rows("memory", memory, most, async || resident()).await);
    let path = file("s.redb");
    let redb = store::open(&format!("redb:{path}")).await.unwrap();
    stores.push(by_rows("redb", redb, most.min(100_000), async || Some(size(path.clone()))).await);
    let path = file("s.sqlite");
    let sqlite = store::open(&format!("sqlite:{path}")).await.unwrap();
    stores.push(by_rows("SQLite", sqlite, most.min(100_000), async || Some(size(path.clone()))).await);
    let address =
        |variable: &str| std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    let redis = address("TEST_REDIS");
    let port = redis.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    let used = async || ask("redis-cli", &["-p", &port, "info", "memory"], &[]);
    stores.push(by_rows("Redis", store::open(&redis).await.unwrap(), most, used).await);
    for (name, variable) in [("PostgreSQL", "TEST_POSTGRES"), ("MariaDB", "TEST_MYSQL")] {
        let url = address(variable);
        let used = async || match name {
            "PostgreSQL" => {
                let query = "select sum(pg_total_relation_size(oid)) from pg_class where relname like '%session%' and relkind = 'r'";
                ask("psql", &[&url, "-At", "-c", query], &[])
            }
            _ => None,
        };
        stores.push(by_rows(name, store::open(&url).await.unwrap(), most, used).await);
    }
    let mongodb = store::open(&address("TEST_MONGODB")).await.unwrap();
    stores.push(by_rows("MongoDB wire", mongodb, most.min(10_000), async || None).await);
    std::fs::remove_dir_all(&folder).unwrap();
    stores
}

fn main() -> ExitCode {
    if std::env::var_os("TEST_REDIS").is_none() {
        let servers = format!("{}/tests/servers.py", env!("CARGO_MANIFEST_DIR"));
        let status = Command::new("python3").arg(servers).arg(std::env::current_exe().unwrap()).status();
        return if status.is_ok_and(|status| status.success()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let most = std::env::var("SCALE_SESSIONS").ok().and_then(|most| most.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (size, keys, cookies) = (by_size(), by_keys(), by_cookies());
    let stores = runtime.block_on(by_sessions(most));
    println!("{}", json!({ "size": size, "keys": keys, "cookies": cookies, "stores": stores }));
    ExitCode::SUCCESS
}
