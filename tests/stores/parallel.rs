//! 64 requests of one stored session at once, on two nodes: every change is there.

use std::sync::Arc;

use sealed_session::{CommitContext, Placement};
use tokio::task::JoinSet;

use crate::engines::{Engine, sessions};

const REQUESTS: usize = 64;

async fn check(engine: Engine) {
    let place = engine.place();
    let (one, key) = (place.open().await, sealed_session::Key::generate());
    // Two nodes where the engine allows it; two instances over one handle where it does not.
    let other = if engine.is_embedded() { Arc::clone(&one) } else { place.open().await };
    let node = |store| crate::engines::sessions_of(&key, store).build().unwrap();
    let nodes = [node(one), node(other)];

    let pair = nodes[0].issue(|session| session.insert("large", "x".repeat(5_000))).await.unwrap();
    let mut requests = JoinSet::new();
    for n in 0..REQUESTS {
        let (sessions, pair) = (nodes[n % 2].clone(), pair.clone());
        requests.spawn(async move {
            let session = sessions.load([&pair]).await.unwrap();
            assert!(matches!(session.placement(), Placement::Store { .. }));
            session.insert(&format!("key {n}"), n).unwrap();
            session.increment("count", 1).unwrap();
            sessions.commit(&session, CommitContext::default()).await.unwrap();
        });
    }
    requests.join_all().await;

    let session = nodes[1].load([&pair]).await.unwrap();
    for n in 0..REQUESTS {
        assert_eq!(session.get::<usize>(&format!("key {n}")).unwrap(), Some(n));
    }
    assert_eq!(session.get::<usize>("count").unwrap(), Some(REQUESTS));
    assert_eq!(session.len(), REQUESTS + 2);
}

/// 64 requests that all spill the same cookie session at once.
async fn spill(engine: Engine) {
    let place = engine.place();
    let store = place.open().await;
    let sessions = sessions(Arc::clone(&store)).build().unwrap();
    let pair = sessions.issue(|session| session.insert("n", 1)).await.unwrap();
    let mut requests = JoinSet::new();
    for n in 0..REQUESTS {
        let (sessions, pair) = (sessions.clone(), pair.clone());
        requests.spawn(async move {
            let session = sessions.load([&pair]).await.unwrap();
            session.insert(&format!("key {n}"), "x".repeat(4_000)).unwrap();
            session.increment("count", 1).unwrap();
            sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap()
        });
    }
    let lines = requests.join_all().await;
    assert_eq!(store.count().await.unwrap(), 1);
    for line in [&lines[0], &lines[REQUESTS - 1]] {
        let session = sessions.load([line.split(';').next().unwrap()]).await.unwrap();
        assert_eq!(session.get::<usize>("count").unwrap(), Some(REQUESTS));
        assert_eq!(session.len(), REQUESTS + 2);
    }
}

mod writes {
    on_each_engine!(super::check);
}

mod spills {
    on_each_engine!(super::spill);
}
