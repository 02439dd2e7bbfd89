//! Round trips, counted on the wire: one for a read, and one more for a write without conflict or for an extension; and what
//! the list of a subject's sessions adds, which is nothing where nobody logs in or out.

#[path = "../../benches/timing/turns.rs"]
mod turns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sealed_session::store::{MongoStoreOptions, RedisStoreOptions, SqlStoreOptions, Store};
use sealed_session::{CommitContext, ManualClock, Revocation, Session, Sessions};

use self::turns::Turns;
use crate::cluster::masters;
use crate::engines::{server, sessions};
use crate::redis::Server;

const REQUESTS: u64 = 50;

/// Where trips are counted: on the wire, or by the nodes of a cluster, whose own addresses the driver goes to.
enum Counter {
    Wire(Turns),
    Nodes([Server; 3]),
}

impl Counter {
    /// How many there were since the last time.
    async fn take(&self) -> u64 {
        let nodes = match self {
            Self::Wire(turns) => return turns.take(),
            Self::Nodes(nodes) => nodes,
        };
        let mut sum = 0;
        for node in nodes {
            let told = node.ask(&["INFO", "commandstats"]).await.unwrap();
            let told: String = redis::from_redis_value(told).unwrap();
            let count = |command: &str, fields: &[&str]| {
                let lines =
                    told.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command));
                let counts = lines.filter(|line| line.starts_with(':')).flat_map(|line| line[1..].split(','));
                let counts = counts.filter_map(|field| field.split_once('='));
                let counts = counts.filter(|(name, _)| fields.contains(name));
                counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum::<u64>()
            };
            let scripts =
                ["eval", "evalsha"].map(|name| count(name, &["calls", "rejected_calls"])).iter().sum::<u64>();
            // A script sets once within the node, or moves the time to live. What is set besides was sent.
            let within = count("evalsha", &["calls"]) - count("evalsha", &["failed_calls"])
                + count("eval", &["calls"]);
            let sets = count("set", &["calls"]) + count("pexpire", &["calls"]);
            sum += count("get", &["calls", "rejected_calls"]) + scripts + sets.saturating_sub(within);
            node.ask(&["CONFIG", "RESETSTAT"]).await.unwrap();
        }
        sum
    }
}

/// The address with a counting proxy before the server.
fn through(url: &str) -> (String, Counter) {
    let (before, rest) = url.split_once("127.0.0.1:").unwrap();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let turns = Turns::before(rest[..digits].parse().unwrap());
    (format!("{before}127.0.0.1:{}{}", turns.port, &rest[digits..]), Counter::Wire(turns))
}

async fn visit(sessions: &Sessions, pair: &str, work: impl Fn(&Session)) {
    let session = sessions.load([pair]).await.unwrap();
    work(&session);
    sessions.commit(&session, CommitContext::default()).await.unwrap();
}

async fn check(store: Arc<dyn Store>, counter: Counter, clock: ManualClock) {
    check_list(Arc::clone(&store), &counter, &clock).await;
    let still = sessions(Arc::clone(&store)).clock(clock.clone()).build().unwrap();
    let rolling = sessions(store).clock(clock.clone()).rolling(true).build().unwrap();
    let fill = |session: &Session| session.insert("filler", "x".repeat(6_000));
    let (one, other) = (still.issue(fill).await.unwrap(), rolling.issue(fill).await.unwrap());
    type Work = fn(&Session);
    let kinds: [(&str, &Sessions, &str, Work, u64); 3] = [
        ("read", &still, &one, |session| assert_eq!(session.len(), session.keys().len()), 1),
        ("write", &still, &one, |session| drop(session.increment("n", 1).unwrap().to_string()), 2),
        ("extend", &rolling, &other, |session| assert!(session.contains_key("filler")), 2),
    ];
    for (kind, sessions, pair, work, trips) in kinds {
        visit(sessions, pair, work).await;
        counter.take().await;
        let began = Instant::now();
        for _ in 0..REQUESTS {
            // Within one millisecond there is nothing to extend.
            clock.advance(Duration::from_millis(10));
            visit(sessions, pair, work).await;
        }
        assert_trips(kind, &counter, trips, began).await;
    }
}

/// So many for each request.
async fn assert_trips(kind: &str, counter: &Counter, trips: u64, began: Instant) {
    let counted = counter.take().await;
    // A driver's heartbeats may fall into it, two each second and connection.
    let beats = (3 + began.elapsed().as_secs() * 4).min(REQUESTS / 2);
    assert!(
        counted >= REQUESTS * trips && counted <= REQUESTS * trips + beats,
        "{kind}: {counted} for {REQUESTS}"
    );
}

/// Logins, requests and logouts of sessions in cookies, each of which asks: without the list, and with it.
async fn check_list(store: Arc<dyn Store>, counter: &Counter, clock: &ManualClock) {
    for (listed, login, ordinary, logout) in [(false, 1, 2, 3), (true, 4, 2, 5)] {
        let builder = sessions(Arc::clone(&store)).clock(clock.clone()).roster(listed);
        let sessions = builder.revocation(Revocation::EveryRequest).build().unwrap();
        let log_in = async || sessions.issue(|session| session.authenticate("ada")).await.unwrap();
        log_in().await;
        counter.take().await;
        let (began, mut pairs) = (Instant::now(), Vec::new());
        for _ in 0..REQUESTS {
            pairs.push(log_in().await);
        }
        assert_trips("login", counter, login, began).await;
        type Step = (&'static str, fn(&Session), u64);
        let steps: [Step; 2] = [
            ("ordinary", |session| assert_eq!(session.subject().as_deref(), Some("ada")), ordinary),
            ("logout", Session::destroy, logout),
        ];
        for (kind, work, trips) in steps {
            let began = Instant::now();
            for pair in &pairs {
                visit(&sessions, pair, work).await;
            }
            assert_trips(&format!("{kind}, listed: {listed}"), counter, trips, began).await;
        }
    }
}

fn start() -> ManualClock {
    ManualClock::at(time::OffsetDateTime::now_utc())
}

#[tokio::test]
async fn redis() {
    let (url, counter) = through(&server("TEST_REDIS"));
    let (clock, options) = (start(), RedisStoreOptions::new().prefix("trips:"));
    check(Arc::new(options.clock(clock.clone()).connect(&url).await.unwrap()), counter, clock).await;
}

#[tokio::test]
async fn redis_cluster() {
    let nodes = masters().await;
    let (clock, urls) = (start(), nodes.each_ref().map(Server::url));
    let store = RedisStoreOptions::new().clock(clock.clone()).connect_cluster(urls).await.unwrap();
    check(Arc::new(store), Counter::Nodes(nodes), clock).await;
}

#[tokio::test]
async fn mongodb() {
    let (url, counter) = through(&format!("{}&directConnection=true", server("TEST_MONGODB")));
    let (clock, options) = (start(), MongoStoreOptions::new().collection("trips"));
    check(Arc::new(options.clock(clock.clone()).connect(&url).await.unwrap()), counter, clock).await;
}

async fn sql(variable: &str) {
    let (url, counter) = through(&server(variable));
    let clock = start();
    let store = SqlStoreOptions::new().table("trips").clock(clock.clone()).connect(&url).await.unwrap();
    store.create_table().await.unwrap();
    check(Arc::new(store), counter, clock).await;
}

#[tokio::test]
async fn postgres() {
    sql("TEST_POSTGRES").await;
}

#[tokio::test]
async fn mariadb() {
    sql("TEST_MYSQL").await;
}
