//! A cluster of Redis that has lost a master, as its sessions see it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sealed_session::store::{
    Expected, NewRow, ROW_KEY_LEN, RedisStoreOptions, Revision, Row, RowKey, Store, StoreError, Written,
};
use sealed_session::{CommitContext, FailurePolicy, Key, KeyRing, Origin, Revocation, Session, Sessions};
use time::OffsetDateTime;

use crate::redis::{Server, free_port};

/// Keeps what was asked for, and when.
#[derive(Debug)]
struct Asked<S> {
    store: S,
    keys: Mutex<Vec<(RowKey, Instant)>>,
}

impl<S> Asked<S> {
    fn take(&self) -> Vec<(RowKey, Instant)> {
        std::mem::take(&mut self.keys.lock().unwrap())
    }
}

#[async_trait]
impl<S: Store> Store for Asked<S> {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.keys.lock().unwrap().push((*key, Instant::now()));
        self.store.load(key).await
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        self.store.write(key, row, expected).await
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
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

    fn part(&self, key: &RowKey) -> u16 {
        self.store.part(key)
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
/// The first of three masters has the slots below this.
const LOST: u16 = 4_096;

pub(crate) async fn masters() -> [Server; 3] {
    let node = || async {
        let bus = free_port().to_string();
        let partly = ["--cluster-require-full-coverage", "no", "--cluster-node-timeout", "60000"];
        Server::start(&[&["--cluster-enabled", "yes", "--cluster-port", &bus], &partly[..]].concat()).await
    };
    let nodes = [node().await, node().await, node().await];
    for (node, (epoch, first, last)) in
        nodes.iter().zip([("1", "0", "4095"), ("2", "4096", "10000"), ("3", "10001", "16383")])
    {
        node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", epoch]).await.unwrap();
        node.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await.unwrap();
        let (port, bus) = (nodes[0].port.to_string(), nodes[0].setting("cluster-port").await);
        node.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await.unwrap();
    }
    for node in &nodes {
        while !node.says(&["CLUSTER", "INFO"], "cluster_slots_assigned:16384").await
            || !node.says(&["CLUSTER", "INFO"], "cluster_state:ok").await
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    nodes
}

/// The names of keys that are asked of the cluster, in its slots.
async fn slots(node: &Server, keys: &[RowKey]) -> Vec<u16> {
    let mut slots = Vec::new();
    for key in keys {
        let slot = node.ask(&["CLUSTER", "KEYSLOT", &format!("session:{key}")]).await.unwrap();
        slots.push(redis::from_redis_value::<u16>(slot).unwrap());
    }
    slots
}

/// Whether sessions in cookies were revoked is not asked of the lost master more than it can bear, and of the others as
/// ever: not one of the sessions that only they have to be asked about fails, or waits to be prolonged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_master_costs_no_session_that_only_the_others_know() {
    let [mut lost, second, third] = masters().await;
    let urls = [&lost, &second, &third].map(Server::url);
    let store = RedisStoreOptions::new().connect_cluster(urls).await.unwrap();
    let asked = Arc::new(Asked { store, keys: Mutex::default() });
    let builder = Sessions::builder(KeyRing::new(Key::generate())).store(Arc::clone(&asked));
    let sessions = builder
        .revocation(Revocation::EveryRequest)
        .revocation_failure(FailurePolicy::Closed)
        .roster(false)
        .rolling(true)
        .build()
        .unwrap();

    // Of some nobody has logged in: the store is asked about the session alone. Of others it is asked about the user, too.
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for n in 0.. {
        let questions = 1 + n % 2;
        if theirs.len() >= 12 && others.len() >= 30 {
            break;
        }
        let user = |session: &Session| match questions {
            1 => session.insert("n", n),
            _ => session.set_subject(format!("user-{n}")),
        };
        let pair = sessions.issue(user).await.unwrap();
        asked.take();
        assert_eq!(sessions.load([&pair]).await.unwrap().origin(), Origin::Resumed);
        let keys: Vec<RowKey> = asked.take().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), questions);
        let slots = slots(&second, &keys).await;
        for (key, slot) in keys.iter().zip(&slots) {
            assert_eq!(asked.part(key), slot / 1_024);
        }
        let is_lost = slots.iter().any(|slot| *slot < LOST);
        if is_lost { theirs.push(pair) } else { others.push(pair) }
    }

    lost.process.kill().unwrap();
    lost.process.wait().unwrap();
    asked.take();
    let (began, mut rounds) = (Instant::now(), 0);
    while rounds < 5 || began.elapsed() < Duration::from_secs(3) {
        rounds += 1;
        for pair in &theirs {
            sessions.load([pair]).await.expect_err("nobody knows");
        }
        for pair in &others {
            let session = sessions.load([pair]).await.expect("another master answers for it");
            assert_eq!(session.origin(), Origin::Resumed);
            let lines = sessions.commit(&session, CommitContext::default()).await.unwrap();
            assert_eq!(lines.len(), 1, "it is prolonged");
        }
    }
    let questions = asked.take();
    for part in 0..LOST / 1_024 {
        let of_part = questions.iter().filter(|(key, _)| asked.part(key) == part).map(|(_, at)| *at);
        let times: Vec<Instant> = of_part.collect();
        for pair in times.windows(2) {
            let between = pair[1] - pair[0];
            assert!(
                between >= Duration::from_secs(1),
                "{between:?} after it was asked in vain, {rounds} rounds"
            );
        }
    }
}

/// The driver connects to a node that does not answer again and again, and holds up all requests meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_master_holds_up_what_the_others_are_asked_for_less_than_anybody_waits() {
    // Longer than the default, and all else with it: these machines have other things to do.
    let timeout = Duration::from_millis(4_500);
    let [silent, second, third] = masters().await;
    let urls = [&silent, &second, &third].map(Server::url);
    let store = Arc::new(RedisStoreOptions::new().timeout(timeout).connect_cluster(urls).await.unwrap());
    let (mut its, mut others) = (Vec::new(), Vec::new());
    while its.is_empty() || others.len() < 20 {
        let mut bytes = [0; ROW_KEY_LEN];
        bytes[..16].copy_from_slice(Revision::random().as_bytes());
        let key = RowKey::from_bytes(bytes);
        if slots(&second, &[key]).await[0] < LOST { its.push(key) } else { others.push(key) }
    }
    silent.signal("STOP");
    let until = Instant::now() + 5 * timeout;
    let asked: Vec<_> = (0..4)
        .map(|n| {
            let (store, keys) = (Arc::clone(&store), others.clone());
            tokio::spawn(async move {
                for key in keys.iter().cycle().skip(n) {
                    if Instant::now() > until {
                        break;
                    }
                    store.load(key).await.expect("its master is there");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        })
        .collect();
    while Instant::now() < until {
        store.load(&its[0]).await.expect_err("nobody answers for it");
        // As often as revocation would.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for asked in asked {
        asked.await.unwrap();
    }
    silent.signal("CONT");
    while store.load(&its[0]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A slot's keys go from one node to the other while they are read and written, whether the nodes know the scripts or not: what a
/// client meets is where a key is now (`MOVED`), or only for this once (`ASK`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_while_its_rows_are_written_loses_none_and_leaves_nothing_behind() {
    let nodes = masters().await;
    let urls = nodes.each_ref().map(Server::url);
    let store = RedisStoreOptions::new().connect_cluster(urls).await.unwrap();
    let keys: Vec<RowKey> = (0..24_u8).map(|n| RowKey::from_bytes([n; ROW_KEY_LEN])).collect();
    let slots = slots(&nodes[1], &keys).await;
    let mut ids = Vec::new();
    for node in &nodes {
        let id = node.ask(&["CLUSTER", "MYID"]).await.unwrap();
        ids.push(redis::from_redis_value::<String>(id).unwrap());
    }
    for (n, (key, slot)) in keys.iter().zip(slots).enumerate() {
        let (large, forgets) = (n % 2 == 1, n % 4 < 2);
        let source = usize::from(slot >= LOST) + usize::from(slot > 10_000);
        let target = (source + 1) % 3;
        let (slot, name) = (slot.to_string(), format!("session:{key}"));
        let mut at = Expected::Absent;
        let mut write = async |of: u8| {
            let data = vec![of; if large { 20_000 } else { 20 }];
            let (revision, expires_at) = (Revision::random(), OffsetDateTime::now_utc() + HOUR);
            if forgets {
                for node in &nodes {
                    node.ask(&["SCRIPT", "FLUSH"]).await.unwrap();
                }
            }
            let row = NewRow { data: &data, revision, expires_at };
            assert_eq!(store.write(key, row, at).await.unwrap(), Written::Done, "{n}, {of}");
            let late = NewRow { data: b"late", revision: Revision::random(), expires_at };
            assert_eq!(store.write(key, late, at).await.unwrap(), Written::Conflict, "{n}, {of}");
            assert_eq!(store.load(key).await.unwrap().unwrap().data, data, "{n}, {of}");
            assert!(store.extend(key, revision, expires_at + HOUR).await.unwrap(), "{n}, {of}");
            at = Expected::At(revision);
        };
        write(1).await;
        nodes[target].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[source]]).await.unwrap();
        nodes[source].ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[target]]).await.unwrap();
        // Its slot is on its way, and the row is still here.
        write(2).await;
        let port = nodes[target].port.to_string();
        nodes[source].ask(&["MIGRATE", "127.0.0.1", &port, &name, "0", "5000"]).await.unwrap();
        // The row is there, and its slot is not yet.
        write(3).await;
        for node in [target, source] {
            nodes[node].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[target]]).await.unwrap();
        }
        // The third node hears of it late, and so does the client.
        write(4).await;
        let names = nodes[target].ask(&["KEYS", &format!("*{key}*")]).await.unwrap();
        assert_eq!(redis::from_redis_value::<Vec<String>>(names).unwrap(), [name]);
        assert!(store.delete(key).await.unwrap());
    }
    let mut met = String::new();
    for node in &nodes {
        assert_eq!(node.ask(&["DBSIZE"]).await.unwrap(), redis::Value::Int(0));
        let errors = node.ask(&["INFO", "errorstats"]).await.unwrap();
        met += &redis::from_redis_value::<String>(errors).unwrap();
    }
    for error in ["MOVED", "ASK", "NOSCRIPT"] {
        assert!(met.contains(&format!("errorstat_{error}:")), "no client met {error}: {met}");
    }
}
