//! What running every order of events has found, and what holds where many requests meet at one row.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream::FuturesUnordered;
use sealed_session::{
    Clock as _, CommitContext, Event, KeyRing, Origin, Rejection, Revocation, Session, Sessions,
};
use tokio::task::yield_now;

use crate::spy::{Fate, guarded, other_node, stored};
use crate::stored::spilled;
use crate::support::{Bed, Jar, MINUTE, key, now};

async fn loaded(sessions: &Sessions, jar: &Jar) -> Session {
    sessions.load([jar.0.as_ref().unwrap()]).await.unwrap()
}

async fn commit(sessions: &Sessions, session: &Session) -> Option<String> {
    sessions.commit(session, CommitContext::default()).await.unwrap().pop()
}

fn kept(line: Option<String>) -> Jar {
    Jar(line.map(|line| line.split(';').next().unwrap().to_owned()))
}

/// Begins with it, and then goes away.
async fn abandoned<F: Future>(future: F) {
    tokio::select! {
        biased;
        _ = future => panic!("it had to wait"),
        () = std::future::ready(()) => {}
    }
}

#[actix_web::test]
async fn what_ends_a_session_is_carried_to_its_end_where_the_client_has_gone() {
    type End = fn(&Session);
    let ends: [End; 3] = [Session::destroy, Session::renew, |session| session.authenticate("bob").unwrap()];
    for in_store in [false, true] {
        for (number, end) in ends.into_iter().enumerate() {
            let (bed, spy) = guarded(|builder| builder);
            let jar = if in_store { spilled(&bed).await } else { bed.logged_in().await };
            let session = loaded(&bed.sessions, &jar).await;
            end(&session);
            spy.slowly(true);
            abandoned(bed.sessions.commit(&session, CommitContext::default())).await;
            for _ in 0..100 {
                yield_now().await;
            }
            let other = Bed::on(KeyRing::new(key(1)), bed.clock.clone(), |b| b.store(spy.clone()));
            let origin = loaded(&other.sessions, &jar).await.origin();
            assert_eq!(origin, Origin::Rejected(Rejection::Revoked), "{number}, in the store: {in_store}");
        }
    }
}

#[actix_web::test]
async fn a_revocation_is_carried_to_its_end_where_the_client_has_gone() {
    let (bed, spy) = guarded(|builder| builder);
    let (mut jar, mut adas) = (bed.logged_in().await, Jar::default());
    bed.visit(&mut jar, |session| session.insert("b", 1).unwrap()).await;
    bed.visit(&mut adas, |session| session.authenticate("ada").unwrap()).await;
    let id = loaded(&bed.sessions, &jar).await.id();
    spy.slowly(true);
    abandoned(bed.sessions.revoke(id)).await;
    abandoned(bed.sessions.revoke_subject("ada")).await;
    for _ in 0..100 {
        yield_now().await;
    }
    for jar in [jar, adas] {
        assert_eq!(loaded(&bed.sessions, &jar).await.origin(), Origin::Rejected(Rejection::Revoked));
    }
}

#[actix_web::test]
async fn while_a_subject_is_revoked_under_one_key_after_the_other_nobody_fails_and_nobody_gets_away() {
    type Prolong = fn(&Session);
    for prolong in [Session::touch as Prolong, Session::renew] {
        let (before, spy) = guarded(|builder| builder);
        let mut jar = before.logged_in().await;
        before.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
        // The primary comes first, and its write is all that happens of this.
        let ring = KeyRing::from_keys([key(2), key(1)]).unwrap();
        let revokes = Bed::on(ring.clone(), before.clock.clone(), |b| b.store(spy.clone()));
        let bed = Bed::on(ring, before.clock.clone(), |b| b.store(spy.clone()));
        spy.next([Fate::Passes, Fate::Fails]);
        revokes.sessions.revoke_subject("ada").await.unwrap_err();

        let session = loaded(&bed.sessions, &jar).await;
        assert_eq!(session.subject().as_deref(), Some("ada"));
        prolong(&session);
        let jar = kept(commit(&bed.sessions, &session).await);
        let opener = bed.sessions.inspect(jar.value()).unwrap().key_id;
        assert_eq!(opener, key(1).id(), "where the rest of the revocation will meet it");
        assert_eq!(loaded(&bed.sessions, &jar).await.subject().as_deref(), Some("ada"));

        revokes.sessions.revoke_subject("ada").await.unwrap();
        bed.clock.advance(MINUTE);
        assert_eq!(loaded(&bed.sessions, &jar).await.origin(), Origin::Rejected(Rejection::Revoked));
    }
}

#[actix_web::test]
async fn a_key_that_comes_while_a_subject_is_revoked_keeps_none_of_its_sessions() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    let session = loaded(&bed.sessions, &jar).await;
    // It is sealed under the new key before the revocation has written anything under the old one.
    session.touch();
    let (sessions, moved) = (bed.sessions.clone(), Arc::new(Mutex::new(Jar::default())));
    let sealed = Arc::clone(&moved);
    spy.before("write", move || {
        sessions.keys().rotate(key(2)).unwrap();
        *sealed.lock().unwrap() = kept(now(commit(&sessions, &session)));
    });
    bed.sessions.revoke_subject("ada").await.unwrap();
    let jar = moved.lock().unwrap().clone();
    assert_eq!(bed.sessions.inspect(jar.value()).unwrap().key_id, key(2).id());
    assert_eq!(loaded(&bed.sessions, &jar).await.origin(), Origin::Rejected(Rejection::Revoked));
}

/// A session that another node has moved into the store, with the cookie that this one issued since without having
/// heard of it.
async fn branched(bed: &Bed, other: &Bed) -> Jar {
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.insert("b", 1).unwrap()).await;
    let mut moved = jar.clone();
    other.visit(&mut moved, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    bed.visit(&mut jar, |session| session.insert("branch", 1).unwrap()).await;
    jar
}

#[actix_web::test]
async fn of_two_requests_with_a_cookie_that_is_newer_than_its_row_each_keeps_what_the_other_writes() {
    let (bed, spy) = guarded(|builder| builder);
    let other = Bed::on(KeyRing::new(key(1)), bed.clock.clone(), |b| b.store(spy.clone()));
    let jar = branched(&bed, &other).await;
    let (one, two) = (loaded(&other.sessions, &jar).await, loaded(&other.sessions, &jar).await);
    one.insert("one", 1).unwrap();
    two.increment("n", 1).unwrap();
    commit(&other.sessions, &one).await;
    let jar = kept(commit(&other.sessions, &two).await);
    let session = loaded(&other.sessions, &jar).await;
    assert_eq!(session.keys(), ["b", "branch", "n", "one"]);
    assert_eq!(session.get::<u8>("n").unwrap(), Some(2));
}

#[actix_web::test]
async fn a_login_over_a_session_that_was_ended_meanwhile_is_empty_also_where_its_cookie_was_newer_than_its_row()
 {
    let (bed, spy) = guarded(|builder| builder);
    let other = Bed::on(KeyRing::new(key(1)), bed.clock.clone(), |b| b.store(spy.clone()));
    let jar = branched(&bed, &other).await;
    let session = loaded(&other.sessions, &jar).await;
    bed.sessions.revoke(session.id()).await.unwrap();
    session.authenticate("ada").unwrap();
    session.insert("mine", 1).unwrap();
    let jar = kept(commit(&other.sessions, &session).await);
    assert_eq!(loaded(&other.sessions, &jar).await.keys(), ["mine"]);
}

#[actix_web::test]
async fn a_clock_that_is_set_back_during_a_request_does_not_shorten_the_row() {
    let (bed, _) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let session = loaded(&bed.sessions, &jar).await;
    session.renew();
    bed.clock.set(bed.clock.now() - Duration::from_secs(3600));
    let jar = kept(commit(&bed.sessions, &session).await);
    bed.clock.advance(Duration::from_secs(3600));
    let end = loaded(&bed.sessions, &jar).await.expires_at();
    bed.clock.set(end - Duration::from_secs(1));
    assert_eq!(loaded(&bed.sessions, &jar).await.origin(), Origin::Resumed);
}

#[actix_web::test]
async fn who_waited_for_a_row_is_told_by_the_one_before_what_is_there() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let mut sessions = Vec::new();
    for number in 0..10 {
        let session = loaded(&bed.sessions, &jar).await;
        session.increment("n", 1).unwrap();
        session.insert(format!("of {number}").as_str(), number).unwrap();
        sessions.push(session);
    }
    spy.calls();
    spy.slowly(true);
    join_all(sessions.iter().map(|session| commit(&bed.sessions, session))).await;
    assert_eq!(spy.calls(), ["write"; 10], "none of them reads the row again");
    let session = loaded(&bed.sessions, &jar).await;
    assert_eq!(session.get::<u8>("n").unwrap(), Some(11));
    assert_eq!(session.len(), 12);
}

#[actix_web::test]
async fn who_waited_for_a_row_that_was_ended_meanwhile_is_told_so() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let (ends, writes) = (loaded(&bed.sessions, &jar).await, loaded(&bed.sessions, &jar).await);
    ends.destroy();
    writes.insert("late", 1).unwrap();
    spy.calls();
    bed.events();
    spy.slowly(true);
    tokio::join!(commit(&bed.sessions, &ends), commit(&bed.sessions, &writes));
    assert_eq!(spy.calls(), ["write"]);
    let lost = |event: &Event| matches!(event, Event::Lost { reason: Rejection::Revoked, .. });
    assert!(bed.events().iter().any(lost));
}

#[actix_web::test]
async fn nothing_is_handed_on_by_a_write_that_failed_or_under_keys_that_have_changed() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let loads = async || {
        let (one, two) = (loaded(&bed.sessions, &jar).await, loaded(&bed.sessions, &jar).await);
        one.increment("n", 1).unwrap();
        two.increment("n", 1).unwrap();
        spy.calls();
        (one, two)
    };
    spy.slowly(true);
    let (one, two) = loads().await;
    spy.next([Fate::Fails]);
    let failed = bed.sessions.commit(&one, CommitContext::default());
    let (failed, _) = tokio::join!(failed, commit(&bed.sessions, &two));
    failed.unwrap_err();
    assert_eq!(spy.calls(), ["write", "load", "load", "write"], "the first looks whether it was applied");

    let (one, two) = loads().await;
    let ring = bed.sessions.keys().clone();
    spy.before("write", move || ring.rotate(key(9)).unwrap());
    tokio::join!(commit(&bed.sessions, &one), commit(&bed.sessions, &two));
    assert_eq!(spy.calls(), ["write", "load", "write"]);
    assert_eq!(loaded(&bed.sessions, &jar).await.get::<u8>("n").unwrap(), Some(4));
}

#[actix_web::test]
async fn who_extends_a_row_after_somebody_else_who_failed_there_reads_it_once() {
    let (bed, spy) = stored(|builder| builder.rolling(true));
    let jar = spilled(&bed).await;
    bed.clock.advance(MINUTE);
    let (one, two) = (loaded(&bed.sessions, &jar).await, loaded(&bed.sessions, &jar).await);
    let polls = loaded(&bed.sessions, &jar).await;
    for session in [&one, &two] {
        session.skip_renewal();
        session.increment("n", 1).unwrap();
    }
    commit(&bed.sessions, &one).await;
    spy.calls();
    spy.slowly(true);
    spy.next([Fate::Fails]);
    let fails = bed.sessions.commit(&two, CommitContext::default());
    let (failed, extended) = join(fails, commit(&bed.sessions, &polls)).await;
    failed.unwrap_err();
    assert!(extended.is_some());
    assert_eq!(spy.calls(), ["write", "extend", "load", "load", "extend"], "one look is the writer's own");
}

#[tokio::test]
async fn who_waits_to_write_a_row_has_begun_before_its_last_writer_goes_on() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    spy.calls();
    spy.slowly(true);
    let visitor = async || {
        let session = loaded(&bed.sessions, &jar).await;
        session.increment("n", 1).unwrap();
        commit(&bed.sessions, &session).await;
        spy.calls()
    };
    let mut visitors: FuturesUnordered<_> = (0..2).map(|_| visitor()).collect();
    let first = visitors.next().await.unwrap();
    assert_eq!(first, ["load", "load", "write", "write"], "the second write is under way");
    assert_eq!(visitors.next().await.unwrap(), [""; 0]);
}

/// Time passes only while everybody waits, so the test does not depend on how fast the machine is.
#[tokio::test(start_paused = true)]
async fn two_nodes_that_are_hot_at_one_row_let_one_another_in() {
    // One node's visits alone would take longer than the other one waits.
    const PATIENCE: Duration = Duration::from_millis(1_200);
    const VISITORS: u64 = 16;
    const VISITS: u64 = 300;
    let (bed, spy) = stored(|builder| builder.store_timeout(PATIENCE));
    let other =
        Bed::on(KeyRing::new(key(1)), bed.clock.clone(), |b| b.store(spy.clone()).store_timeout(PATIENCE));
    let jar = spilled(&bed).await;
    spy.takes(Duration::from_millis(1));
    let visitor = async |sessions: &Sessions| {
        for _ in 0..VISITS {
            let session = loaded(sessions, &jar).await;
            session.increment("n", 1).unwrap();
            commit(sessions, &session).await;
        }
    };
    let visitors =
        (0..VISITORS).map(|number| visitor(if number % 2 == 0 { &bed.sessions } else { &other.sessions }));
    join_all(visitors).await;
    let session = loaded(&bed.sessions, &jar).await;
    assert_eq!(session.get::<u64>("n").unwrap(), Some(1 + VISITORS * VISITS));
}

/// A websocket whose cookie was from before the move: that it has written does not make what it reads later old.
#[actix_web::test]
async fn a_stream_that_came_with_a_cookie_from_before_the_move_sees_what_others_have_written_since() {
    let (bed, _) = guarded(|builder| builder);
    let before = bed.logged_in().await;
    let mut jar = before.clone();
    bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let stream = loaded(&bed.sessions, &before).await;
    stream.insert("opened", true).unwrap();
    commit(&bed.sessions, &stream).await;
    let late = loaded(&bed.sessions, &before).await;
    late.insert("x", 7).unwrap();
    commit(&bed.sessions, &late).await;
    stream.reload().await.unwrap();
    assert_eq!(stream.get("x").unwrap(), Some(7));
    stream.insert("y", 8).unwrap();
    stream.save().await.unwrap();
    let seen = loaded(&bed.sessions, &jar).await;
    let of = |name| seen.get::<u8>(name).unwrap();
    assert_eq!((of("x"), of("y")), (Some(7), Some(8)));
}

/// A write that was applied without its writer having been told, and over which somebody on another node has written by the time
/// that one looks: it was done, and so is not done again. As long as the row remembers it.
#[tokio::test]
async fn what_others_have_written_over_was_written_once_all_the_same() {
    const MOST: usize = 4;
    for is_repeated in [true, false] {
        for others in 1..=MOST + 1 {
            let (bed, spy) = stored(|builder| builder);
            let there = other_node(&bed, &spy, |builder| builder.revocation(Revocation::Off));
            let jar = spilled(&bed).await;
            let ours = loaded(&bed.sessions, &jar).await;
            ours.increment("n", 1).unwrap();
            let mut theirs = Vec::new();
            for _ in 0..others {
                let session = loaded(&there.sessions, &jar).await;
                session.increment("n", 10).unwrap();
                theirs.push(session);
            }
            let node = there.sessions.clone();
            let others_write = move || {
                for session in &theirs {
                    let mut commit = std::pin::pin!(node.commit(session, CommitContext::default()));
                    let polled = commit.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(matches!(polled, Poll::Ready(Ok(_))), "nothing waits here");
                }
            };
            let answer = if is_repeated {
                spy.conflict_with_itself();
                spy.before("repeat", others_write);
                bed.sessions.commit(&ours, CommitContext::default()).await
            } else {
                spy.next([Fate::AppliedButTimesOut]);
                spy.before("load", others_write);
                bed.sessions.commit(&ours, CommitContext::default()).await
            };
            let n: i64 = loaded(&bed.sessions, &jar).await.get("n").unwrap().unwrap();
            let once = 1 + 1 + 10 * i64::try_from(others).unwrap();
            // Beyond what it remembers, who is repeated counts again, and who has waited is told that nobody knows.
            let remembered = others <= MOST;
            assert_eq!(answer.is_ok(), remembered || is_repeated, "{is_repeated} {others}");
            assert_eq!(n, if remembered || !is_repeated { once } else { once + 1 }, "{is_repeated} {others}");
        }
    }
}

/// The same where a driver repeats the others' writes too, as it does with all of them when a cluster fails over: none of the places
/// that a row has for former revisions is lost to that.
#[tokio::test]
async fn a_repeated_write_takes_one_place_among_those_that_a_row_remembers() {
    let (bed, spy) = stored(|builder| builder);
    let there = other_node(&bed, &spy, |builder| builder.revocation(Revocation::Off));
    let jar = spilled(&bed).await;
    let ours = loaded(&bed.sessions, &jar).await;
    ours.increment("n", 1).unwrap();
    let (sessions, theirs) = (there.sessions.clone(), loaded(&there.sessions, &jar).await);
    let again = Arc::clone(&spy);
    let others_write = move || {
        for n in 0..4 {
            theirs.increment("n", 10).unwrap();
            if n == 1 {
                again.conflict_with_itself();
            }
            let mut save = std::pin::pin!(theirs.save());
            let polled = save.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Ok(()))), "nothing waits here");
        }
        drop(sessions);
    };
    spy.conflict_with_itself();
    spy.before("repeat", others_write);
    commit(&bed.sessions, &ours).await;
    assert_eq!(loaded(&bed.sessions, &jar).await.get::<i64>("n").unwrap(), Some(1 + 1 + 40));
}
