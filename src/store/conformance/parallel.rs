//! What many do at once.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::{HOUR, WRITERS, create, data, expect, key, put};
use crate::store::{Expected, NewRow, Revision, Store, Written};

/// Each revision of a row is followed by exactly one other, however many try.
pub(super) async fn writers(store: impl Store) {
    let (store, key) = (Arc::new(store), key(1));
    let mut present = Revision::random();
    expect("create", put(&store, &key, b"start", present, Expected::Absent).await, Written::Done);
    for _ in 0..4 {
        let mut tries = JoinSet::new();
        for n in 0..WRITERS {
            let store = Arc::clone(&store);
            tries.spawn(async move {
                let (data, revision) = (n.to_string().into_bytes(), Revision::random());
                let written = put(&store, &key, &data, revision, Expected::At(present)).await;
                (written == Written::Done).then_some((data, revision))
            });
        }
        let winners: Vec<_> = tries.join_all().await.into_iter().flatten().collect();
        expect("winners among 64 parallel writers of one revision", winners.len(), 1);
        let found = store.load(&key).await.unwrap().expect("conformance, parallel writers: the row is gone");
        expect("what is there is what the winner wrote", (found.data, found.revision), winners[0].clone());
        present = winners[0].1;
    }
}

pub(super) async fn creators(store: impl Store) {
    let (store, key) = (Arc::new(store), key(1));
    let past =
        NewRow { data: b"old", revision: Revision::random(), expires_at: OffsetDateTime::now_utc() - HOUR };
    expect("create", store.write(&key, past, Expected::Absent).await.unwrap(), Written::Done);
    let mut tries = JoinSet::new();
    for n in 0..WRITERS {
        let store = Arc::clone(&store);
        tries.spawn(async move {
            let (data, revision) = (n.to_string().into_bytes(), Revision::random());
            let written = put(&store, &key, &data, revision, Expected::Absent).await;
            (written == Written::Done).then_some((data, revision))
        });
    }
    let winners: Vec<_> = tries.join_all().await.into_iter().flatten().collect();
    expect("winners among 64 parallel creators over an expired row", winners.len(), 1);
    let found =
        store.load(&key).await.unwrap().expect("conformance, parallel creators: the row is not there");
    expect("what is there is what the winner wrote", (found.data, found.revision), winners[0].clone());
}

/// An extension neither undoes a write nor is undone by one.
pub(super) async fn extenders(store: impl Store) {
    let (store, key) = (Arc::new(store), key(1));
    let mut present = Revision::random();
    expect("create", put(&store, &key, b"start", present, Expected::Absent).await, Written::Done);
    for round in 1..=4 {
        let next = Revision::random();
        let mut extends = JoinSet::new();
        let mut writes = JoinSet::new();
        for n in 0..WRITERS as u32 {
            let at = Arc::clone(&store);
            let until = OffsetDateTime::now_utc() + HOUR + HOUR * round + Duration::from_secs(60) * n;
            extends.spawn(async move { at.extend(&key, present, until).await.unwrap().then_some(until) });
            if n == WRITERS as u32 / 2 {
                let store = Arc::clone(&store);
                writes.spawn(async move { put(&store, &key, b"next", next, Expected::At(present)).await });
            }
        }
        let until = extends.join_all().await.into_iter().flatten().max();
        expect("write among extensions", writes.join_all().await, vec![Written::Done]);
        let found =
            store.load(&key).await.unwrap().expect("conformance, parallel extenders: the row is gone");
        expect("an extension undoes no write", (found.data, found.revision), (b"next".to_vec(), next));
        let short = until.map_or(time::Duration::ZERO, |until| until - found.expires_at);
        assert!(short < time::Duration::SECOND, "conformance, a write has undone an extension: by {short}");
        present = next;
    }
}

/// What is created over an expired row is not swept with it.
pub(super) async fn sweepers(store: impl Store) {
    const ROWS: u8 = 16;
    let store = Arc::new(store);
    for _ in 0..8 {
        let past = OffsetDateTime::now_utc() - HOUR;
        let mut tasks = JoinSet::new();
        for n in 0..ROWS {
            store.delete(&key(n)).await.unwrap();
            let row = NewRow { data: b"old", revision: Revision::random(), expires_at: past };
            expect("create", store.write(&key(n), row, Expected::Absent).await.unwrap(), Written::Done);
        }
        for n in 0..ROWS {
            let at = Arc::clone(&store);
            tasks.spawn(async move {
                let _ = at.sweep(usize::from(ROWS)).await.unwrap();
            });
            let at = Arc::clone(&store);
            tasks.spawn(async move {
                // One that is being dropped at this moment may be in the way.
                let mut tries = 0;
                while create(&*at, &key(n)).await != Written::Done {
                    tries += 1;
                    assert!(tries < 100, "conformance: nothing can be created over a row that has expired");
                }
            });
        }
        tasks.join_all().await;
        for n in 0..ROWS {
            expect(
                "what was created beside a sweep stays",
                data(&*store, &key(n)).await,
                Some(b"data".to_vec()),
            );
        }
    }
}
