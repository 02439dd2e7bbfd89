//! Ending sessions that live in cookies, on two nodes over each engine.

use std::sync::Arc;
use std::time::Duration;

use sealed_session::{CommitContext, Key, Origin, Rejection, Revocation, Session, Sessions};

use crate::engines::{Engine, sessions_of};

const REVOKED: Origin = Origin::Rejected(Rejection::Revoked);

async fn answer(sessions: &Sessions, pair: &str, work: impl FnOnce(&Session)) -> Option<String> {
    let session = sessions.load([pair]).await.unwrap();
    work(&session);
    let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop()?;
    Some(line.split(';').next().unwrap().to_owned())
}

async fn origin(sessions: &Sessions, pair: &str) -> Origin {
    sessions.load([pair]).await.unwrap().origin()
}

async fn check(engine: Engine) {
    let place = engine.place();
    let (one, key) = (place.open().await, Key::generate());
    let other = if engine.is_embedded() { Arc::clone(&one) } else { place.open().await };
    let node = |store, revocation| sessions_of(&key, store).revocation(revocation).build().unwrap();
    let here = node(Arc::clone(&one), Revocation::Every(Duration::from_secs(60)));
    let there = node(other, Revocation::EveryRequest);

    // A logout, a login and an id, each with the cookie that somebody kept.
    for way in 0..3 {
        let kept = here.issue(|session| session.insert("n", 1)).await.unwrap();
        assert_eq!(origin(&there, &kept).await, Origin::Resumed);
        match way {
            0 => drop(answer(&here, &kept, Session::destroy).await),
            1 => {
                let renewed = answer(&here, &kept, Session::renew).await.unwrap();
                assert_eq!(origin(&there, &renewed).await, Origin::Resumed);
            }
            _ => here.revoke(here.inspect(&kept[kept.find('=').unwrap() + 1..]).unwrap().id).await.unwrap(),
        }
        assert_eq!(origin(&here, &kept).await, REVOKED);
        assert_eq!(origin(&there, &kept).await, REVOKED);
    }
    assert_eq!(one.count().await.unwrap(), 3, "a mark each");

    // A subject's sessions, in cookies and in the store.
    let mut adas = Vec::new();
    for n in 0..4 {
        let fill = |session: &Session| {
            session.set_subject("ada")?;
            session.insert("data", "x".repeat(if n % 2 == 0 { 10 } else { 5_000 }))
        };
        adas.push(here.issue(fill).await.unwrap());
    }
    let bob = here.issue(|session| session.set_subject("bob")).await.unwrap();
    there.revoke_subject("ada").await.unwrap();
    for pair in &adas {
        assert_eq!(origin(&there, pair).await, REVOKED);
    }
    assert_eq!(origin(&there, &bob).await, Origin::Resumed);
    let again = there.issue(|session| session.set_subject("ada")).await.unwrap();
    assert_eq!(origin(&there, &again).await, Origin::Resumed);
    there.revoke_subject("ada").await.unwrap();
    assert_eq!(origin(&there, &again).await, REVOKED);

    // What one node moves into the store is a reference to the other, whatever cookie comes.
    let small = here.issue(|session| session.insert("n", 1)).await.unwrap();
    answer(&here, &small, |session| session.insert("data", "x".repeat(5_000)).unwrap()).await.unwrap();
    let seen = there.load([&small]).await.unwrap();
    assert_eq!(seen.keys(), ["data", "n"]);
}

on_each_engine!(check);
