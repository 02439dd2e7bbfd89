//! Round trips, counted on the wire: one for a read, and one more for a write without conflict or for an extension; and what
//! the list of a subject's sessions adds, which is nothing where nobody logs in or out.

#[path = "../../benches/timing/turns.rs"]
mod turns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sealed_session::store::{MongoStoreOptions, RedisStoreOptions, SqlStoreOptions, Store};
use sealed_session::{CommitContext, ManualClock, Revocation, Session, Sessions};

use self::turns::Turns;
use crate::engines::{server, sessions};

const REQUESTS: u64 = 50;

/// The address with a counting proxy before the server.
fn through(url: &str) -> (String, Turns) {
    let (before, rest) = url.split_once("127.0.0.1:").unwrap();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let turns = Turns::before(rest[..digits].parse().unwrap());
    (format!("{before}127.0.0.1:{}{}", turns.port, &rest[digits..]), turns)
}

async fn visit(sessions: &Sessions, pair: &str, work: impl Fn(&Session)) {
    let session = sessions.load([pair]).await.unwrap();
    work(&session);
    sessions.commit(&session, CommitContext::default()).await.unwrap();
}

async fn check(store: Arc<dyn Store>, turns: Turns, clock: ManualClock) {
    check_list(Arc::clone(&store), &turns, &clock).await;
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
        turns.take();
        let began = Instant::now();
        for _ in 0..REQUESTS {
            // Within one millisecond there is nothing to extend.
            clock.advance(Duration::from_millis(10));
            visit(sessions, pair, work).await;
        }
        assert_trips(kind, &turns, trips, began);
    }
}

/// So many for each request.
fn assert_trips(kind: &str, turns: &Turns, trips: u64, began: Instant) {
    let counted = turns.take();
    // A driver's heartbeats may fall into it, two each second and connection.
    let beats = (3 + began.elapsed().as_secs() * 4).min(REQUESTS / 2);
    assert!(
        counted >= REQUESTS * trips && counted <= REQUESTS * trips + beats,
        "{kind}: {counted} for {REQUESTS}"
    );
}

/// Logins, requests and logouts of sessions in cookies, each of which asks: without the list, and with it.
async fn check_list(store: Arc<dyn Store>, turns: &Turns, clock: &ManualClock) {
    for (listed, login, ordinary, logout) in [(false, 1, 2, 3), (true, 4, 2, 5)] {
        let builder = sessions(Arc::clone(&store)).clock(clock.clone()).roster(listed);
        let sessions = builder.revocation(Revocation::EveryRequest).build().unwrap();
        let log_in = async || sessions.issue(|session| session.authenticate("ada")).await.unwrap();
        log_in().await;
        turns.take();
        let (began, mut pairs) = (Instant::now(), Vec::new());
        for _ in 0..REQUESTS {
            pairs.push(log_in().await);
        }
        assert_trips("login", turns, login, began);
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
            assert_trips(&format!("{kind}, listed: {listed}"), turns, trips, began);
        }
    }
}

fn start() -> ManualClock {
    ManualClock::at(time::OffsetDateTime::now_utc())
}

#[tokio::test]
async fn redis() {
    let (url, turns) = through(&server("TEST_REDIS"));
    let (clock, options) = (start(), RedisStoreOptions::new().prefix("trips:"));
    check(Arc::new(options.clock(clock.clone()).connect(&url).await.unwrap()), turns, clock).await;
}

#[tokio::test]
async fn mongodb() {
    let (url, turns) = through(&format!("{}&directConnection=true", server("TEST_MONGODB")));
    let (clock, options) = (start(), MongoStoreOptions::new().collection("trips"));
    check(Arc::new(options.clock(clock.clone()).connect(&url).await.unwrap()), turns, clock).await;
}

async fn sql(variable: &str) {
    let (url, turns) = through(&server(variable));
    let clock = start();
    let store = SqlStoreOptions::new().table("trips").clock(clock.clone()).connect(&url).await.unwrap();
    store.create_table().await.unwrap();
    check(Arc::new(store), turns, clock).await;
}

#[tokio::test]
async fn postgres() {
    sql("TEST_POSTGRES").await;
}

#[tokio::test]
async fn mariadb() {
    sql("TEST_MYSQL").await;
}
