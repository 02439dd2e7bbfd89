//! What happens to Redis: scripts forgotten, rows cut, a demoted primary, slots that move, and no room left. Each test that
//! does such a thing to a server has one of its own.

use std::collections::HashSet;
use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use sealed_session::ManualClock;
use sealed_session::store::{
    Expected, NewRow, ROW_KEY_LEN, RedisStore, RedisStoreOptions, Revision, RowKey, Store, StoreError,
    Written,
};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const HOUR: Duration = Duration::from_secs(3_600);
/// What does not pass through a script.
const LARGE: [u8; 5_000] = [7; 5_000];

/// A server of this test's own.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) port: u16,
    folder: PathBuf,
}

impl Server {
    pub(crate) async fn start(more: &[&str]) -> Self {
        let server = Self::bare(more);
        while server.ask(&["PING"]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    /// One that may not answer yet.
    fn bare(more: &[&str]) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("sealed-session-redis-{port}"));
        std::fs::create_dir_all(&folder).unwrap();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(more)
            .arg("--dir")
            .arg(&folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, port, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    pub(crate) async fn ask(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection().await?).await
    }

    /// A cluster of this node alone.
    pub(crate) async fn form_cluster(&self) {
        self.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
        while !self.says(&["CLUSTER", "INFO"], "cluster_state:ok").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells the process, by the name of a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// What a setting is.
    pub(crate) async fn setting(&self, name: &str) -> String {
        let answer = self.ask(&["CONFIG", "GET", name]).await.unwrap();
        let [_, value] = redis::from_redis_value::<[String; 2]>(answer).unwrap();
        value
    }

    /// Milliseconds that a key has left.
    async fn time_to_live(&self, name: &str) -> i64 {
        redis::from_redis_value(self.ask(&["PTTL", name]).await.unwrap()).unwrap()
    }

    pub(crate) async fn says(&self, words: &[&str], section: &str) -> bool {
        let answer = self.ask(words).await.unwrap();
        redis::from_redis_value::<String>(answer).unwrap().contains(section)
    }
}

/// An entry of the slow log: among other things the words of a command, each cut after 128 bytes.
type Ran = (u64, u64, u64, Vec<Vec<u8>>, String, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port below those that connections and whoever asks for any port are given, which begin at 32768.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| StdListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..32_768)).find(is_free).unwrap()
}

fn key(n: u16) -> RowKey {
    let mut bytes = [0; ROW_KEY_LEN];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    RowKey::from_bytes(bytes)
}

fn in_hours(hours: u32) -> OffsetDateTime {
    OffsetDateTime::now_utc() + HOUR * hours
}

/// Writes what expires in an hour; the revision that the row has then.
async fn put(
    store: &RedisStore,
    key: &RowKey,
    data: &[u8],
    expected: Expected,
) -> Result<Option<Revision>, StoreError> {
    let revision = Revision::random();
    let written = store.write(key, NewRow { data, revision, expires_at: in_hours(1) }, expected).await?;
    Ok((written == Written::Done).then_some(revision))
}

#[tokio::test]
async fn what_is_no_row_is_corrupt_and_not_absent_and_stays() {
    let server = Server::start(&[]).await;
    let store = RedisStoreOptions::new().prefix("").connect(&server.url()).await.unwrap();
    for (n, words) in [(1, vec!["SET", "", "shorter than a head"]), (2, vec!["HSET", "", "r", "v"])] {
        let (key, revision) = (key(n), Revision::random());
        let name = key.to_string();
        let words: Vec<_> =
            words.into_iter().map(|word| if word.is_empty() { &name } else { word }).collect();
        server.ask(&words).await.unwrap();
        assert!(matches!(store.load(&key).await, Err(StoreError::Corrupt(_))), "{words:?}");
        let foreign =
            |answer: Result<bool, StoreError>| matches!(answer, Ok(false) | Err(StoreError::Corrupt(_)));
        for data in [&b"data"[..], &LARGE] {
            for expected in [Expected::Absent, Expected::At(revision)] {
                let written = put(&store, &key, data, expected).await;
                assert!(foreign(written.map(|written| written.is_some())), "{words:?}");
            }
        }
        let beside = server.ask(&["KEYS", "{*"]).await.unwrap();
        assert_eq!(beside, redis::Value::Array(Vec::new()), "nothing is left there");
        assert!(foreign(store.extend(&key, revision, in_hours(2)).await), "{words:?}");
        assert!(matches!(store.load(&key).await, Err(StoreError::Corrupt(_))), "{words:?}");
        assert!(store.delete(&key).await.unwrap());
        assert!(put(&store, &key, b"data", Expected::Absent).await.unwrap().is_some());
    }
    // The revision alone is no row either, for somebody who knows it.
    let (key, revision) = (key(3), Revision::from_bytes(*b"sixteen bytes, 1"));
    server.ask(&["SET", &key.to_string(), "sixteen bytes, 1"]).await.unwrap();
    assert!(!store.extend(&key, revision, in_hours(2)).await.unwrap());
    assert!(matches!(put(&store, &key, b"data", Expected::At(revision)).await, Ok(None)));
    assert!(matches!(store.load(&key).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_row_that_is_created_needs_no_script_and_comes_over_no_other() {
    let server = Server::start(&[]).await;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    for (n, data) in [(1, &b"data"[..]), (2, &LARGE)] {
        let first = put(&store, &key(n), data, Expected::Absent).await.unwrap().unwrap();
        assert!((3_590_000..=3_600_000).contains(&server.time_to_live(&format!("session:{}", key(n))).await));
        assert_eq!(put(&store, &key(n), b"other", Expected::Absent).await.unwrap(), None);
        let row = store.load(&key(n)).await.unwrap().unwrap();
        assert_eq!((row.revision, &row.data[..]), (first, data));
    }
    assert!(server.says(&["INFO", "commandstats"], "cmdstat_set:calls=4,").await);
    assert!(!server.says(&["INFO", "commandstats"], "cmdstat_eval").await);
}

#[tokio::test]
async fn a_server_that_forgets_its_scripts_is_given_them_again() {
    let server = Server::start(&[]).await;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut at = put(&store, &key(1), b"data", Expected::Absent).await.unwrap().unwrap();
    for n in 2..5 {
        server.ask(&["SCRIPT", "FLUSH"]).await.unwrap();
        at = put(&store, &key(1), b"more", Expected::At(at)).await.unwrap().unwrap();
        server.ask(&["SCRIPT", "FLUSH"]).await.unwrap();
        at = put(&store, &key(1), &LARGE, Expected::At(at)).await.unwrap().unwrap();
        server.ask(&["SCRIPT", "FLUSH"]).await.unwrap();
        assert!(store.extend(&key(1), at, in_hours(n)).await.unwrap());
    }
}

#[tokio::test]
async fn time_to_live_and_expiry_move_together_and_nothing_left_is_no_row() {
    let server = Server::start(&[]).await;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let name = format!("session:{}", key(1));
    let lives = async || server.time_to_live(&name).await;
    let both = async |hours: i64| {
        let expires_at = store.load(&key(1)).await.unwrap().unwrap().expires_at;
        let left = (expires_at - OffsetDateTime::now_utc()).whole_milliseconds();
        for left in [i128::from(lives().await), left] {
            let expected = i128::from(hours) * 3_600_000;
            assert!((expected - 10_000..=expected).contains(&left), "{left} of {expected}");
        }
    };
    let first = put(&store, &key(1), b"data", Expected::Absent).await.unwrap().unwrap();
    both(1).await;
    assert!(store.extend(&key(1), first, in_hours(3)).await.unwrap());
    both(3).await;
    // The write is of an hour, and the row is of three.
    let second = put(&store, &key(1), b"next", Expected::At(first)).await.unwrap().unwrap();
    both(3).await;
    let second = put(&store, &key(1), &LARGE, Expected::At(second)).await.unwrap().unwrap();
    both(3).await;
    let third = Revision::random();
    let row = NewRow { data: b"last", revision: third, expires_at: in_hours(5) };
    assert_eq!(store.write(&key(1), row, Expected::At(second)).await.unwrap(), Written::Done);
    both(5).await;
    assert!(!store.extend(&key(1), second, in_hours(9)).await.unwrap(), "of another revision");
    both(5).await;
    let large = NewRow { data: &LARGE, revision: first, expires_at: in_hours(7) };
    assert_eq!(store.write(&key(1), large, Expected::At(third)).await.unwrap(), Written::Done);
    both(7).await;
    for gone in [&b"gone"[..], &LARGE] {
        let past = NewRow { data: gone, revision: first, expires_at: OffsetDateTime::now_utc() - HOUR };
        assert_eq!(store.write(&key(2), past, Expected::Absent).await.unwrap(), Written::Done);
        assert_eq!(server.ask(&["DBSIZE"]).await.unwrap(), redis::Value::Int(1));
    }
}

/// Most writes move nothing. They leave the time to live to the server instead of counting it anew.
#[tokio::test]
async fn a_write_that_does_not_move_the_expiry_keeps_the_time_to_live() {
    let server = Server::start(&[]).await;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let name = format!("session:{}", key(1));
    let lives = async || server.time_to_live(&name).await;
    let until = in_hours(1);
    let write = async |data: &[u8], at: Expected, expires_at| {
        let revision = Revision::random();
        let row = NewRow { data, revision, expires_at };
        assert_eq!(store.write(&key(1), row, at).await.unwrap(), Written::Done);
        Expected::At(revision)
    };
    let at = write(b"first", Expected::Absent, until).await;
    assert!((3_590_000..=3_600_000).contains(&lives().await));
    server.ask(&["PEXPIRE", &name, "90000"]).await.unwrap();
    let at = write(b"second", at, until).await;
    assert!((80_000..=90_000).contains(&lives().await), "it is what the server had");
    let row = store.load(&key(1)).await.unwrap().unwrap();
    assert_eq!(row.data, b"second");
    assert!((row.expires_at - until).abs() <= Duration::from_millis(1));
    let at = write(b"third", at, until + HOUR).await;
    assert!((7_190_000..=7_200_000).contains(&lives().await));
    // A node whose clock says that it is over leaves nothing, whatever the server has.
    let late = ManualClock::at(until + 2 * HOUR);
    let late = RedisStoreOptions::new().clock(late).connect(&server.url()).await.unwrap();
    let row = NewRow { data: b"over", revision: Revision::random(), expires_at: until + HOUR };
    assert_eq!(late.write(&key(1), row, at).await.unwrap(), Written::Done);
    assert_eq!(store.load(&key(1)).await.unwrap(), None);
}

/// Large rows are set beside the row first. Whoever comes second leaves nothing there; what a broken connection leaves there is
/// no row, and goes with the rest.
#[tokio::test]
async fn what_is_staged_is_no_row_and_does_not_stay() {
    let server = Server::start(&["--slowlog-log-slower-than", "0"]).await;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let keys = async || -> Vec<String> {
        redis::from_redis_value(server.ask(&["KEYS", "*"]).await.unwrap()).unwrap()
    };
    let first = put(&store, &key(1), &LARGE, Expected::Absent).await.unwrap().unwrap();
    let second = put(&store, &key(1), &LARGE, Expected::At(first)).await.unwrap().unwrap();
    for late in [Expected::Absent, Expected::At(first)] {
        assert_eq!(put(&store, &key(1), &[8; 5_000], late).await.unwrap(), None);
    }
    let row = store.load(&key(1)).await.unwrap().unwrap();
    assert_eq!((row.revision, row.data), (second, LARGE.to_vec()));
    let name = format!("session:{}", key(1));
    assert_eq!(keys().await, [name.as_str()]);
    // Each under a name of its own: another's could come between the two commands of one.
    let ran: Vec<Ran> =
        redis::from_redis_value(server.ask(&["SLOWLOG", "GET", "-1"]).await.unwrap()).unwrap();
    let sets = ran.iter().map(|(_, _, _, words, ..)| words).filter(|words| words[0] == b"SET");
    let staged: HashSet<&Vec<u8>> =
        sets.map(|words| &words[1]).filter(|set| *set != name.as_bytes()).collect();
    assert_eq!(staged.len(), 2, "those over a row");

    let left = format!("session:{{{name}}}:{}", "0".repeat(32));
    server.ask(&["SET", &left, "what a connection that broke has left"]).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 1);
    assert!(put(&store, &key(1), &LARGE, Expected::At(second)).await.unwrap().is_some());
    store.clear().await.unwrap();
    assert!(keys().await.is_empty());
}

/// On several connections to one row, so large that a server reads the beginning of one between parts of another: each write is
/// there once, and none under another's revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_large_writes_at_once_none_is_lost() {
    let server = Server::start(&[]).await;
    let mut writers = Vec::new();
    for writer in 0..8 {
        let patient = RedisStoreOptions::new().timeout(Duration::from_secs(60));
        let store = patient.connect(&server.url()).await.unwrap();
        writers.push(tokio::spawn(async move {
            for _ in 0..20 {
                loop {
                    let row = store.load(&key(1)).await.unwrap();
                    let expected = row.as_ref().map_or(Expected::Absent, |row| Expected::At(row.revision));
                    let mut data = row.map_or(vec![0; 300_000], |row| row.data);
                    data[writer] += 1;
                    if put(&store, &key(1), &data, expected).await.unwrap().is_some() {
                        break;
                    }
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let data = store.load(&key(1)).await.unwrap().unwrap().data;
    assert_eq!(data[..8], [20; 8]);
    let keys: Vec<String> = redis::from_redis_value(server.ask(&["KEYS", "*"]).await.unwrap()).unwrap();
    assert_eq!(keys.len(), 1);
}

#[tokio::test]
async fn a_full_server_refuses_new_rows_and_takes_what_ends_sessions() {
    let server = Server::start(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]).await;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let (large, mut last) = (vec![7; 20_000], None);
    let mut n = 0;
    let full = loop {
        match put(&store, &key(n), &large, Expected::Absent).await {
            Ok(revision) => last = Some((key(n), revision.unwrap())),
            Err(error) => break error,
        }
        n += 1;
    };
    assert!(matches!(full, StoreError::Full(_)), "{full:?}");
    // Fill what the last large one left, which the server may find again once it is done with the call.
    let fill = async |from: u16| {
        for n in from..from + 25_000 {
            if put(&store, &key(n), &[7; 97], Expected::Absent).await.is_err() {
                return;
            }
        }
        panic!("it is never full");
    };
    fill(10_000).await;
    let (present, at) = last.unwrap();
    assert_eq!(store.load(&present).await.unwrap().unwrap().data, large, "reading goes on");
    let again = put(&store, &present, &large, Expected::At(at)).await;
    assert!(matches!(again, Err(StoreError::Full(_))), "{again:?}");
    assert_eq!(store.load(&present).await.unwrap().unwrap().revision, at, "and what was there is there");
    // A refusal is an answer, for which no connection is given up, however old.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let connections = async || -> u64 {
        let stats: String = redis::from_redis_value(server.ask(&["INFO", "stats"]).await.unwrap()).unwrap();
        let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        count.unwrap().parse().unwrap()
    };
    let before = connections().await;
    for _ in 0..3 {
        assert!(matches!(put(&store, &present, &large, Expected::At(at)).await, Err(StoreError::Full(_))));
    }
    assert_eq!(connections().await, before + 1, "that of the question");

    assert!(store.extend(&present, at, in_hours(2)).await.unwrap(), "no more room is needed for it");
    let until = store.load(&present).await.unwrap().unwrap().expires_at;
    assert!(until > in_hours(1) + HOUR / 2);
    fill(35_000).await;
    let new_mark = put(&store, &key(9_999), &[1; 96], Expected::Absent).await.unwrap();
    assert!(new_mark.is_some(), "a session in a cookie is ended");
    let mark = put(&store, &present, &[1; 96], Expected::At(at)).await.unwrap().unwrap();
    assert!(store.extend(&present, mark, in_hours(3)).await.unwrap(), "and the mark lasts longer");
    let stale = put(&store, &present, &[2; 96], Expected::At(at)).await.unwrap();
    assert_eq!(stale, None);
    let there = store.load(&present).await.unwrap().unwrap();
    assert_eq!(there.data, [1; 96]);
    // Also where the expiry stays as it is.
    fill(5_000).await;
    let write = async |data: &[u8]| {
        let next = NewRow { data, revision: Revision::random(), expires_at: there.expires_at };
        store.write(&present, next, Expected::At(mark)).await
    };
    let refused = write(&[3; 5_000]).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    let refused = write(&[3; 1_000]).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert_eq!(write(&[3; 96]).await.unwrap(), Written::Done);
    assert_eq!(store.load(&present).await.unwrap().unwrap().data, [3; 96]);
}

/// An address that leads to this server, and later to another one, as that of a primary does.
async fn leading_to(target: &Arc<AtomicU16>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Arc::clone(target);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", target.load(Ordering::SeqCst))).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    format!("redis://127.0.0.1:{port}/")
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_for_the_one_at_its_address() {
    let (former, next) = (Server::start(&[]).await, Server::start(&[]).await);
    let (of_former, of_next) = (former.port.to_string(), next.port.to_string());
    next.ask(&["REPLICAOF", "127.0.0.1", &of_former]).await.unwrap();
    while !next.says(&["INFO", "replication"], "master_link_status:up").await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let target = Arc::new(AtomicU16::new(former.port));
    let store = RedisStore::connect(&leading_to(&target).await).await.unwrap();
    let at = put(&store, &key(1), b"data", Expected::Absent).await.unwrap().unwrap();
    let name = format!("session:{}", key(1));
    while next.ask(&["EXISTS", &name]).await.unwrap() != redis::Value::Int(1) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    next.ask(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    former.ask(&["REPLICAOF", "127.0.0.1", &of_next]).await.unwrap();
    target.store(next.port, Ordering::SeqCst);
    let mut refused = 0;
    let began = std::time::Instant::now();
    let written = loop {
        match put(&store, &key(1), b"next", Expected::At(at)).await {
            Ok(written) => break written,
            Err(StoreError::Unavailable(_)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it stays with the former one");
    };
    assert!(refused > 0, "the former one has refused it");
    assert!(written.is_some(), "and the new one has not");
    assert_eq!(store.load(&key(1)).await.unwrap().unwrap().data, b"next");
    assert!(store.extend(&key(1), written.unwrap(), in_hours(2)).await.unwrap());
}

/// Slots wander from node to node while each of many rows is counted up; no step is lost and none is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_while_rows_are_written_lose_nothing() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "5000"];
        nodes.push(Server::start(&options).await);
    }
    let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let cluster = async |words: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.arg("--cluster").args(words).arg("--cluster-yes").stdout(Stdio::null());
        let done = tokio::task::spawn_blocking(move || command.status().unwrap().success());
        assert!(done.await.unwrap(), "{words:?}");
    };
    let [one, two, three] = &addresses[..] else { unreachable!() };
    cluster(&["create", one, two, three, "--cluster-replicas", "0"]).await;
    for node in &nodes {
        while !node.says(&["CLUSTER", "INFO"], "cluster_state:ok").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let urls = addresses.iter().map(|address| format!("redis://{address}/"));
    let store = Arc::new(RedisStoreOptions::new().connect_cluster(urls).await.unwrap());
    let moving = Arc::new(AtomicBool::new(true));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, moving) = (Arc::clone(&store), Arc::clone(&moving));
            tokio::spawn(async move {
                let mut counts = vec![0_u32; 100];
                while moving.load(Ordering::SeqCst) {
                    for (n, count) in (0..).zip(&mut counts) {
                        let key = key(writer * 100 + n);
                        let found = store.load(&key).await.unwrap();
                        let seen =
                            found.as_ref().map(|row| u32::from_be_bytes(row.data[..].try_into().unwrap()));
                        assert_eq!(seen.unwrap_or(0), *count);
                        *count += 1;
                        let expected = found.map_or(Expected::Absent, |row| Expected::At(row.revision));
                        let at = put(&store, &key, &count.to_be_bytes(), expected).await.unwrap();
                        assert!(
                            store
                                .extend(&key, at.expect("nobody else writes it"), in_hours(2))
                                .await
                                .unwrap()
                        );
                    }
                }
                counts.iter().map(|&count| u64::from(count)).sum::<u64>()
            })
        })
        .collect();
    let mut ids = Vec::new();
    for node in &nodes {
        let id = node.ask(&["CLUSTER", "MYID"]).await.unwrap();
        ids.push(redis::from_redis_value::<String>(id).unwrap());
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let (from, to) = (&ids[from], &ids[to]);
        let words = ["reshard", one, "--cluster-from", from, "--cluster-to", to, "--cluster-slots", "1000"];
        cluster(&words).await;
    }
    moving.store(false, Ordering::SeqCst);
    let mut steps = 0;
    for writer in writers {
        steps += writer.await.unwrap();
    }
    assert!(steps > 800, "{steps} is too few to have met a slot on its way");
    assert_eq!(store.count().await.unwrap(), 800);
}

#[tokio::test]
async fn who_has_a_wrong_password_or_none_is_told_so_and_no_error_has_it() {
    let server = Server::bare(&["--requirepass", "right-one"]);
    let with = |password: &str| server.url().replace("redis://", &format!("redis://{password}"));
    let right = RedisStore::connect_lazy(&with(":right-one@")).unwrap();
    while right.load(&key(1)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (password, told) in [(":s3cret-pass@", "Password authentication failed"), ("", "NOAUTH")] {
        let url = with(password);
        let lazy = RedisStore::connect_lazy(&url).unwrap();
        let mut errors = vec![lazy.load(&key(1)).await.unwrap_err(), lazy.load(&key(1)).await.unwrap_err()];
        if !password.is_empty() {
            errors.push(RedisStore::connect(&url).await.unwrap_err());
        }
        for error in errors {
            assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
            let error = format!("{} {error:?}", crate::gate::in_full(&error));
            assert!(error.contains(told) && !error.contains("s3cret"), "{error}");
        }
    }
    // The password that was wrong is the right one.
    let lazy = RedisStore::connect_lazy(&with(":s3cret-pass@")).unwrap();
    lazy.load(&key(1)).await.unwrap_err();
    let mut connection = redis::Client::open(with(":right-one@")).unwrap();
    redis::cmd("CONFIG").arg(&["SET", "requirepass", "s3cret-pass"]).exec(&mut connection).unwrap();
    let began = std::time::Instant::now();
    while lazy.load(&key(1)).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "it is never asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_documented_permissions_are_enough() {
    let source = include_str!("../../src/store/redis.rs");
    let documented =
        source.split("**Permissions.** `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    assert!(documented.contains("+evalsha"), "{documented}");
    let server = Server::start(&[]).await;
    let mut user = vec!["ACL", "SETUSER", "app", "on", ">secret", "~session:*"];
    user.extend(documented.split(' '));
    server.ask(&user).await.unwrap();
    let url = server.url().replace("redis://", "redis://app:secret@");
    let numbered = format!("{}/1", url.trim_end_matches('/'));
    assert!(RedisStore::connect(&numbered).await.is_err());
    server.ask(&["ACL", "SETUSER", "app", "+select"]).await.unwrap();
    RedisStore::connect(&numbered).await.unwrap();
    let store = Arc::new(RedisStore::connect(&url).await.unwrap());
    let first = put(&store, &key(1), &LARGE, Expected::Absent).await.unwrap().unwrap();
    let second = put(&store, &key(1), &LARGE, Expected::At(first)).await.unwrap().unwrap();
    assert_eq!(put(&store, &key(1), &LARGE, Expected::At(first)).await.unwrap(), None);
    assert!(server.says(&["INFO", "commandstats"], "cmdstat_rename:calls=1,").await);
    assert!(store.extend(&key(1), second, in_hours(2)).await.unwrap());
    put(&store, &key(1), b"ended", Expected::At(second)).await.unwrap().unwrap();
    assert!(store.delete(&key(1)).await.unwrap());
    put(&store, &key(2), b"data", Expected::Absent).await.unwrap().unwrap();
    assert_eq!(store.count().await.unwrap(), 1);
    store.clear().await.unwrap();
    assert!(store.load(&key(2)).await.unwrap().is_none());
}

/// A server's `timeout`, a proxy or a firewall closes what was idle: the next request finds out, and need not fail for it.
#[tokio::test]
async fn a_row_is_read_over_a_fresh_connection_where_the_former_one_was_closed() {
    let server = Server::start(&[]).await;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    put(&store, &key(1), b"data", Expected::Absent).await.unwrap().unwrap();
    for _ in 0..3 {
        server.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
        assert_eq!(store.load(&key(1)).await.unwrap().unwrap().data, b"data");
        // Also long after it was made.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn keys_of_others_under_the_prefix_are_neither_counted_nor_cleared() {
    let server = Server::start(&[]).await;
    let store = Arc::new(RedisStore::connect(&server.url()).await.unwrap());
    put(&store, &key(1), b"data", Expected::Absent).await.unwrap().unwrap();
    server.ask(&["SET", "session:42", "of another"]).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 1);
    store.clear().await.unwrap();
    assert!(store.load(&key(1)).await.unwrap().is_none());
    assert!(server.says(&["GET", "session:42"], "of another").await);
}

/// Where the two keys cannot be brought together, large rows are written all the same, and nothing stays beside them.
#[tokio::test]
async fn a_server_that_refuses_what_is_staged_gets_the_row_through_the_script() {
    let permitted = "+get +getrange +set +setrange +pexpire +del +unlink +eval +evalsha +scan";
    let all = "+@all -rename";
    // In a prefix like this the brace of the row's name is not the first.
    let apart = ["--cluster-enabled", "yes", "--cluster-port"];
    for (options, permissions, keys, prefix) in [
        (&[][..], permitted, "~session:*", "session:"),
        (&[], all, "~session:*", "session:"),
        (&[], "+@all", "~session:[A-Za-z]*", "session:"),
        (&["--rename-command", "RENAME", ""], "+@all", "~*", "session:"),
        (&apart, "+@all", "~*", "a}b:"),
    ] {
        let bus = free_port().to_string();
        let mut options =
            [&["--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000"], options].concat();
        if options.contains(&"--cluster-port") {
            options.push(&bus);
        }
        let server = Server::start(&options).await;
        if options.contains(&"--cluster-port") {
            server.form_cluster().await;
        }
        let mut user = vec!["ACL", "SETUSER", "app", "on", ">secret", keys];
        user.extend(permissions.split(' '));
        server.ask(&user).await.unwrap();
        let url = server.url().replace("redis://", "redis://app:secret@");
        let clock = ManualClock::at(OffsetDateTime::now_utc());
        let options = RedisStoreOptions::new().prefix(prefix).clock(clock.clone());
        let store = options.connect(&url).await.unwrap();
        let mut at = Expected::Absent;
        for _ in 0..3 {
            at = Expected::At(put(&store, &key(1), &LARGE, at).await.unwrap().unwrap());
        }
        assert_eq!(store.load(&key(1)).await.unwrap().unwrap().data, LARGE, "{permissions}");
        let there: Vec<String> = redis::from_redis_value(server.ask(&["KEYS", "*"]).await.unwrap()).unwrap();
        assert_eq!(there, [format!("{prefix}{}", key(1))], "{permissions}");
        let staged = async || {
            let ran = server.ask(&["SLOWLOG", "GET", "-1"]).await.unwrap();
            let ran: Vec<Ran> = redis::from_redis_value(ran).unwrap();
            let beside = format!("{prefix}{{");
            ran.iter().filter(|ran| ran.3[0] == b"SET" && ran.3[1].starts_with(beside.as_bytes())).count()
        };
        let before = staged().await;
        assert!(before <= 2, "by hash, and perhaps by text, and then no more: {before}");
        clock.advance(Duration::from_secs(60));
        at = Expected::At(put(&store, &key(1), &LARGE, at).await.unwrap().unwrap());
        put(&store, &key(1), &LARGE, at).await.unwrap().unwrap();
        // What is refused at once does not get as far as the log.
        let tried = usize::from(!keys.contains('['));
        assert_eq!(staged().await, before + tried, "{permissions}");
    }
}

/// What was staged may be gone when the script comes: that row is written through the script, and the next one is staged again.
#[tokio::test]
async fn what_is_gone_before_it_is_the_row_is_written_through_the_script() {
    let server = Server::start(&[]).await;
    let (listener, goes) =
        (TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Arc::new(AtomicBool::new(false)));
    let url = format!("redis://{}/", listener.local_addr().unwrap());
    let (port, is_to_go) = (server.port, Arc::clone(&goes));
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut redis = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        redis.set_nodelay(true).unwrap();
        let ((mut asks, mut hears), (mut answers, mut takes)) = (client.split(), redis.split());
        let asking = async {
            let mut packet = vec![0; 1 << 16];
            loop {
                let len = asks.read(&mut packet).await.unwrap();
                let lasts = b"$5\r\n60000\r\n";
                let rest = match packet[..len].windows(lasts.len()).position(|bytes| bytes == lasts) {
                    Some(at) if is_to_go.load(Ordering::SeqCst) => {
                        takes.write_all(&packet[..at]).await.unwrap();
                        takes.write_all(b"$1\r\n1\r\n").await.unwrap();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        &packet[at + lasts.len()..len]
                    }
                    _ => &packet[..len],
                };
                takes.write_all(rest).await.unwrap();
            }
        };
        tokio::select! { () = asking => {}, _ = tokio::io::copy(&mut answers, &mut hears) => {} }
    });
    let store = RedisStore::connect(&url).await.unwrap();
    let at = put(&store, &key(1), &LARGE, Expected::Absent).await.unwrap().unwrap();
    let mut at = put(&store, &key(1), &LARGE, Expected::At(at)).await.unwrap().unwrap();
    for (gone, renamed) in [(true, 1), (false, 2), (true, 2), (false, 3)] {
        goes.store(gone, Ordering::SeqCst);
        at = put(&store, &key(1), &LARGE, Expected::At(at)).await.unwrap().unwrap();
        let count = format!("cmdstat_rename:calls={renamed},");
        assert!(server.says(&["INFO", "commandstats"], &count).await, "{count}");
    }
}

/// A node of a cluster, spoken to as if it were alone, runs a script only over keys of one slot.
#[tokio::test]
async fn what_is_staged_is_in_the_slot_of_its_row() {
    let server =
        Server::start(&["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()]).await;
    server.form_cluster().await;
    for prefix in ["session:", "{shop}:session:"] {
        let store = RedisStoreOptions::new().prefix(prefix).connect(&server.url()).await.unwrap();
        server.ask(&["CONFIG", "RESETSTAT"]).await.unwrap();
        let mut at = Expected::Absent;
        for _ in 0..3 {
            at = Expected::At(put(&store, &key(1), &LARGE, at).await.unwrap().unwrap());
        }
        assert_eq!(store.load(&key(1)).await.unwrap().unwrap().data, LARGE);
        assert!(server.says(&["INFO", "commandstats"], "cmdstat_rename:calls=2,").await, "{prefix}");
    }
}
