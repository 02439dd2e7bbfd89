//! Round trips, counted on the wire: one for a read, and one more for a write without conflict or for an extension.

#[path = "../../benches/timing/turns.rs"]
mod turns;

use std::sync::Arc;
use std::time::Duration;

use sealed_session::store::{MongoStoreOptions, RedisStoreOptions, SqlStoreOptions, Store};
use sealed_session::{CommitContext, ManualClock, Session, Sessions};

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
        let began = std::time::Instant::now();
        for _ in 0..REQUESTS {
            // Within one millisecond there is nothing to extend.
            clock.advance(Duration::from_millis(10));
            visit(sessions, pair, work).await;
        }
        let counted = turns.take();
        // A driver's heartbeats may fall into it, two each second and connection.
        let beats = (3 + began.elapsed().as_secs() * 4).min(REQUESTS / 2);
        assert!(
            counted >= REQUESTS * trips && counted <= REQUESTS * trips + beats,
            "{kind}: {counted} for {REQUESTS}"
        );
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
