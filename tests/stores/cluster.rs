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

/// The first of three masters has the slots below this.
const LOST: u16 = 4_096;

async fn masters() -> [Server; 3] {
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
