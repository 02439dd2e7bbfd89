//! How cost grows: with the size of a session, the keys of a ring, the cookies of a request, and the sessions of a store.
//!
//! `cargo bench --all-features --bench scale` starts the servers by itself, and prints one JSON document for
//! benches/plots.py. Up to `SCALE_SESSIONS` sessions are put into each store, a million by default, for at most
//! `SCALE_SECONDS`, 300 by default: of a store that takes longer the last figures are those of what it had by then.

#![allow(missing_docs)]

use std::pin::pin;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, doc};
use sealed_session::store::{self, MemoryStore, Store};
use sealed_session::{CommitContext, Key, KeyRing, Placement, Revocation, Sessions};
use serde_json::{Value, json};

/// Name + value of a cookie without data, which is that of a reference too.
const EMPTY: usize = 207;
/// Of each session in a store, in bytes: with what is around it, a row of 1,069.
const DATA: usize = 970;

#[derive(Clone, Copy)]
struct Limits {
    sessions: u64,
    /// How long a store is filled, in all.
    filling: Duration,
}

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
        assert!(ready(sessions.commit(&session, CommitContext::default())).unwrap().pop().is_none());
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
    let builder = Sessions::builder(ring).store(MemoryStore::new()).revocation(Revocation::Off);
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

/// Sessions that live in the store, however small, and ask it nothing else.
fn all_in(store: Arc<dyn Store>) -> Sessions {
    let builder = Sessions::builder(KeyRing::new(Key::generate())).store(store).spill_above(EMPTY);
    builder.revocation(Revocation::Off).store_timeout(Duration::from_secs(20)).build().unwrap()
}

/// A session with so many bytes of data; its cookie.
async fn issue(sessions: &Sessions, len: usize) -> String {
    sessions.issue(|session| session.insert("data", "x".repeat(len))).await.unwrap()
}

/// One request of a stored session, and how long it took in microseconds.
async fn request(sessions: &Sessions, cookie: &mut String, writes: bool) -> f64 {
    let start = Instant::now();
    let session = sessions.load([&*cookie]).await.unwrap();
    assert!(matches!(session.placement(), Placement::Store { .. }) && session.contains_key("data"));
    if writes {
        session.increment("n", 1).unwrap();
    }
    let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop();
    let took = start.elapsed();
    if let Some(line) = line {
        assert!(writes);
        line.split(';').next().unwrap().clone_into(cookie);
    }
    took.as_nanos() as f64 / 1_000.0
}

/// Fills a store, and measures requests each time that there are ten times as many sessions.
async fn by_rows(
    name: &str,
    store: Arc<dyn Store>,
    limits: Limits,
    used: impl AsyncFn() -> Option<u64>,
) -> Value {
    const LANES: usize = 8;
    const KEPT: u64 = 1_000;
    let sessions = all_in(store);
    let mut points = Vec::new();
    let empty = used().await;
    let (mut filled, mut target, mut spent) = (0, 1_000, Duration::ZERO);
    // Some of the cookies, evenly spread.
    let mut kept: Vec<(u64, String)> = Vec::new();
    while target <= limits.sessions && spent < limits.filling {
        let every = target / KEPT;
        kept.retain(|(n, _)| n % every == 0);
        let start = Instant::now();
        let deadline = start + (limits.filling - spent);
        let next = Arc::new(AtomicU64::new(filled));
        let done = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(AtomicU64::new(0));
        let mut lanes = tokio::task::JoinSet::new();
        for _ in 0..LANES {
            let (sessions, next) = (sessions.clone(), Arc::clone(&next));
            let (done, failed) = (Arc::clone(&done), Arc::clone(&failed));
            lanes.spawn(async move {
                let mut kept = Vec::new();
                while Instant::now() < deadline {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= target {
                        break;
                    }
                    // A store under this load may not answer in time; the session is tried again then.
                    let cookie = loop {
                        match sessions.issue(|session| session.insert("data", "x".repeat(DATA))).await {
                            Ok(cookie) => break cookie,
                            Err(error) if Instant::now() < deadline => {
                                failed.fetch_add(1, Ordering::Relaxed);
                                eprintln!("{error}");
                            }
                            Err(_) => return kept,
                        }
                    };
                    done.fetch_add(1, Ordering::Relaxed);
                    if n % every == 0 {
                        kept.push((n, cookie));
                    }
                }
                kept
            });
        }
        kept.extend(lanes.join_all().await.concat());
        let fill = start.elapsed();
        let done = done.load(Ordering::Relaxed);
        filled += done;
        let bytes = used().await.zip(empty).map(|(now, then)| now.saturating_sub(then) / filled);
        let mut times = [Vec::new(), Vec::new()];
        for i in 0..400 {
            let at = (i * 7_919) % kept.len();
            for (writes, times) in [false, true].into_iter().zip(&mut times) {
                times.push(request(&sessions, &mut kept[at].1, writes).await);
            }
        }
        let [read, write] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        points.push(json!({
            "x": filled, "read": read, "write": write, "bytes": bytes,
            "filled per second": done as f64 / fill.as_secs_f64(), "failed": failed.load(Ordering::Relaxed),
        }));
        eprintln!("{name}: {}", points[points.len() - 1]);
        (target, spent) = (target * 10, spent + fill);
    }
    json!({ "store": name, "points": points })
}

/// What a site on paper is reckoned from: requests of its kinds of sessions. The store is in memory, so that no server's
/// time is in them.
fn of_a_site() -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _enter = runtime.enter();
    let of = |sessions: Sessions, len: usize| {
        let cookie = ready(issue(&sessions, len));
        let (read, write) = requests(&sessions, &cookie);
        json!({ "read": read, "write": write, "cookie": cookie.len() - 1 })
    };
    let in_cookies = Sessions::builder(KeyRing::new(Key::generate())).build().unwrap();
    json!({
        "300 bytes in the cookie": of(in_cookies, 300),
        "8,192 bytes in a store": of(all_in(Arc::new(MemoryStore::new())), 8_192),
        "300 bytes in a store": of(all_in(Arc::new(MemoryStore::new())), 300),
    })
}

/// The bytes in a store of what such a site keeps there, each.
async fn kept_of_a_site(store: Arc<dyn Store>, used: impl AsyncFn() -> Option<u64>) -> Value {
    const COUNT: u64 = 10_000;
    let sessions = all_in(store.clone());
    let mut found = serde_json::Map::new();
    for (what, len) in [("a session of 300 bytes", 300), ("a session of 8,192 bytes", 8_192)] {
        let before = used().await;
        for _ in 0..COUNT {
            issue(&sessions, len).await;
        }
        found.insert(what.into(), used().await.zip(before).map(|(now, then)| (now - then) / COUNT).into());
    }
    let marking = Sessions::builder(KeyRing::new(Key::generate())).store(store).build().unwrap();
    let before = used().await;
    for _ in 0..COUNT {
        let cookie = issue(&marking, 300).await;
        let session = marking.load([&cookie]).await.unwrap();
        session.destroy();
        marking.commit(&session, CommitContext::default()).await.unwrap();
    }
    found.insert("a mark".into(), used().await.zip(before).map(|(now, then)| (now - then) / COUNT).into());
    found.into()
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/statm").ok()?;
    status.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4_096)
}

/// The first line of the answer of a program that is what is looked for.
fn ask<T>(program: &str, args: &[&str], look: impl Fn(&str) -> Option<T>) -> Option<T> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| look(line.trim()))
}

fn number(line: &str) -> Option<u64> {
    line.trim_start_matches("used_memory:").parse().ok()
}

/// What the figures depend on.
fn machine(postgres: &str) -> Value {
    let text = |line: &str| Some(line.to_owned());
    let after = |line: &str, name: &str| {
        line.strip_prefix(name)?.split_once(": ").map(|(_, found)| found.trim().to_owned())
    };
    let found = [
        ("CPU", ask("cat", &["/proc/cpuinfo"], |line| after(line, "model name"))),
        ("cores", ask("nproc", &[], text)),
        (
            "RAM",
            ask("cat", &["/proc/meminfo"], |line| {
                line.strip_prefix("MemTotal:").map(|rest| rest.trim().to_owned())
            }),
        ),
        ("kernel", ask("uname", &["-r"], text)),
        ("compiler", ask("rustc", &["--version"], text)),
        ("Redis", ask("redis-server", &["--version"], text)),
        ("PostgreSQL", ask("psql", &[postgres, "-At", "-c", "show server_version"], text)),
        ("MariaDB", ask("mariadbd", &["--version"], text)),
    ];
    found
        .into_iter()
        .map(|(name, found)| (name.to_owned(), Value::from(found)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The data and the indexes, as the server reckons them.
async fn of_collection(database: &mongodb::Database) -> Option<u64> {
    let stats = database.run_command(doc! { "collStats": "sessions" }).await.ok()?;
    let number = |name| match stats.get(name)? {
        Bson::Int32(number) => u64::try_from(*number).ok(),
        Bson::Int64(number) => u64::try_from(*number).ok(),
        Bson::Double(number) => Some(*number as u64),
        _ => None,
    };
    Some(number("storageSize")? + number("totalIndexSize")?)
}

fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"))
}

async fn by_sessions(limits: Limits) -> (Vec<Value>, Value) {
    let folder = std::env::temp_dir().join(format!("sealed-session-scale-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let size = |path: &str| {
        let len = |end| std::fs::metadata(format!("{path}{end}")).map_or(0, |found| found.len());
        ["", "-wal"].into_iter().map(len).sum()
    };
    let mut stores = Vec::new();
    let memory = Arc::new(MemoryStore::new().max_bytes(8 << 30));
    stores.push(by_rows("memory", memory, limits, async || resident()).await);
    for (name, scheme) in [("redb", "redb"), ("SQLite", "sqlite")] {
        let path = file(name);
        let store = store::open(&format!("{scheme}:{path}")).await.unwrap();
        stores.push(by_rows(name, store, limits, async || Some(size(&path))).await);
        std::fs::remove_file(path).unwrap();
    }
    let redis = address("TEST_REDIS");
    let port = redis.trim_end_matches('/').rsplit(':').next().unwrap();
    let used = async || ask("redis-cli", &["-p", port, "info", "memory"], number);
    let store = store::open(&redis).await.unwrap();
    let of_a_site = kept_of_a_site(store.clone(), used).await;
    stores.push(by_rows("Redis", store, limits, used).await);

    let url = address("TEST_POSTGRES");
    let query = "select pg_total_relation_size('sealed_sessions')";
    let used = async || ask("psql", &[&url, "-At", "-c", query], number);
    stores.push(by_rows("PostgreSQL", store::open(&url).await.unwrap(), limits, used).await);

    let url = address("TEST_MYSQL");
    let port = url.rsplit(':').next().unwrap().trim_end_matches("/t");
    let query = "analyze table sealed_sessions; select data_length + index_length from information_schema.tables \
        where table_name = 'sealed_sessions'";
    let client = ["--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "-N", "-e", query, "t"];
    let used = async || ask("mariadb", &client, number);
    stores.push(by_rows("MariaDB", store::open(&url).await.unwrap(), limits, used).await);

    let url = address("TEST_MONGODB");
    let client = mongodb::Client::with_uri_str(&url).await.unwrap();
    let database = client.default_database().unwrap();
    let used = async || of_collection(&database).await;
    stores.push(by_rows("MongoDB wire", store::open(&url).await.unwrap(), limits, used).await);
    std::fs::remove_dir_all(&folder).unwrap();
    (stores, of_a_site)
}

fn setting<T: std::str::FromStr>(variable: &str, default: T) -> T {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
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
    let limits = Limits {
        sessions: setting("SCALE_SESSIONS", 1_000_000),
        filling: Duration::from_secs(setting("SCALE_SECONDS", 300)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (size, keys, cookies, site) = (by_size(), by_keys(), by_cookies(), of_a_site());
    let (stores, kept) = runtime.block_on(by_sessions(limits));
    let machine = machine(&address("TEST_POSTGRES"));
    let found = json!({
        "machine": machine, "size": size, "keys": keys, "cookies": cookies, "stores": stores, "site": site, "kept": kept,
    });
    println!("{found}");
    ExitCode::SUCCESS
}
