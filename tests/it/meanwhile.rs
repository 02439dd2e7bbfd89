//! What one request does while another one waits, in an order that a review found to go wrong.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use sealed_session::store::Store;
use sealed_session::{
    CommitContext, FailurePolicy, Key, KeyRing, ManualClock, Origin, Rejection, Revocation, Session, Sessions,
};

use crate::spy::{Fate, guarded, stored};
use crate::stored::spilled;
use crate::support::{Bed, DAY, MINUTE, NAME, key, now, start};

#[actix_web::test]
async fn a_write_is_not_dropped_with_the_prolongation_that_cannot_be_asked_for() {
    let (bed, spy) = guarded(|builder| builder.rolling(true));
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.visit(&mut jar, |session| assert_eq!(session.len(), 2)).await;
    bed.clock.advance(Duration::from_secs(10));
    spy.calls();
    // The row is read, and its subject is known to be fine; whether it still is when the session is prolonged is not.
    spy.next([Fate::Passes, Fate::Fails]);
    let reply = bed.peek(&jar, |session| session.insert("k", 1).unwrap()).await;
    assert_eq!(spy.calls(), ["load", "load", "write"]);
    assert_eq!(reply.set_cookie(), None);
    bed.clock.advance(Duration::from_secs(2));
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("k").unwrap()).await, Some(1));
}

#[actix_web::test]
async fn a_renew_long_after_a_revocation_takes_no_generation_along_that_another_node_has_replaced() {
    let (bed, spy) = guarded(|builder| builder);
    let other = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
    bed.sessions.revoke_subject("ada").await.unwrap();
    other.sessions.revoke_subject("ada").await.unwrap();
    bed.clock.advance(2 * MINUTE);
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    let reply = bed.visit(&mut jar, Session::renew).await;
    assert_eq!(reply.status.as_u16(), 200);
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Resumed);
    assert_eq!(bed.see(&jar, Session::subject).await.as_deref(), Some("ada"));
}

#[tokio::test]
async fn a_key_that_is_revoked_in_its_file_during_a_request_issues_nothing_under_the_next_one() {
    let path = std::env::temp_dir().join(format!("sealed-session-meanwhile-{}.keys", std::process::id()));
    for revoked in [false, true] {
        let ring = KeyRing::open_or_create(&path).unwrap();
        let clock = ManualClock::at(start());
        let sessions =
            Sessions::builder(ring.clone()).cookie_name(NAME).clock(clock.clone()).build().unwrap();
        let cookie = sessions.issue(|session| session.insert("n", 1)).await.unwrap();
        let session = sessions.load([&cookie]).await.unwrap();
        session.insert("n", 2).unwrap();

        let elsewhere = KeyRing::open(&path).unwrap();
        let former = elsewhere.primary();
        elsewhere.rotate(Key::generate()).unwrap();
        if revoked {
            elsewhere.revoke(former).unwrap();
        }
        clock.advance(Duration::from_millis(1_500));
        let line = sessions.commit(&session, CommitContext::default()).await.unwrap();
        assert_eq!(line.is_none(), revoked);
        assert_ne!(ring.primary(), former, "it was the commit that looked");
        std::fs::remove_file(&path).unwrap();
    }
}

#[actix_web::test]
async fn a_poll_of_a_stored_session_that_answers_after_the_login_does_not_bring_the_old_cookie_back() {
    let (bed, _) = guarded(|builder| builder.rolling(true));
    let jar = spilled(&bed).await;
    let poll = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    assert_eq!(poll.len(), 2);
    let mut login = jar.clone();
    bed.visit(&mut login, |session| session.set_subject("ada").unwrap()).await;
    bed.clock.advance(Duration::from_millis(100));
    assert_eq!(bed.sessions.commit(&poll, CommitContext::default()).await.unwrap(), None);
    assert_eq!(bed.see(&login, Session::subject).await.as_deref(), Some("ada"));
}

#[actix_web::test]
async fn a_login_with_a_cookie_that_is_newer_than_the_row_keeps_what_only_the_cookie_has() {
    let (bed, spy) = guarded(|builder| builder);
    let other = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
    let mut jar = bed.logged_in().await;
    // Here it is known to be fine, and that the other node moves it is not heard of.
    bed.visit(&mut jar, |session| assert_eq!(session.len(), 1)).await;
    let mut moved = jar.clone();
    other.visit(&mut moved, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    bed.visit(&mut jar, |session| session.insert("cart", 7).unwrap()).await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("cart").unwrap()).await, Some(7));
}

#[actix_web::test]
async fn a_node_with_the_old_key_alone_sees_what_one_with_the_new_key_has_revoked() {
    let (bed, spy) = guarded(|builder| builder);
    let rotated = KeyRing::from_keys([key(2), key(1)]).unwrap();
    let other = Bed::on(rotated, bed.clock.clone(), |builder| builder.store(spy.clone()));
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    other.sessions.revoke_subject("ada").await.unwrap();
    bed.clock.advance(MINUTE);
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Revoked));
}

#[actix_web::test]
async fn a_spill_over_a_row_that_expires_at_that_moment_makes_another_one() {
    let (bed, spy) = stored(|builder| builder);
    let jar = bed.logged_in().await;
    let mut first = jar.clone();
    bed.visit(&mut first, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let [row] = spy.row_keys()[..] else { panic!("other rows") };
    let rows = Arc::clone(&spy);
    spy.before("load", move || assert!(now(rows.rows.delete(&row)).unwrap()));
    let mut second = jar.clone();
    bed.visit(&mut second, |session| session.insert("also", "x".repeat(5_000)).unwrap()).await;
    assert_eq!(bed.see(&second, Session::keys).await, ["also", "n"]);
}

#[actix_web::test]
async fn a_row_that_lives_long_enough_is_not_told_to_live_longer() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| session.set_duration(30 * DAY).unwrap()).await;
    spy.calls();
    bed.visit(&mut jar, |session| session.set_duration(DAY).unwrap()).await;
    assert_eq!(spy.calls(), ["load", "load"], "the second asks whether it goes on");
    assert_eq!(bed.see(&jar, Session::remaining).await, DAY);
}

#[actix_web::test]
async fn a_revocation_by_id_lengthens_the_mark_that_is_there() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = bed.logged_in().await;
    let id = bed.see(&jar, Session::id).await;
    bed.visit(&mut jar, Session::destroy).await;
    let [key] = spy.row_keys()[..] else { panic!("other rows") };
    let before = spy.rows.load(&key).await.unwrap().unwrap().expires_at;
    bed.sessions.revoke(id).await.unwrap();
    let after = spy.rows.load(&key).await.unwrap().unwrap().expires_at;
    assert!(after > before + Duration::from_secs(300 * 24 * 3600), "{before} {after}");
}

#[actix_web::test]
async fn a_poll_of_a_stored_session_on_another_node_that_answers_after_the_login_issues_nothing() {
    for lasts in [false, true] {
        let (bed, spy) = stored(|builder| builder.rolling(true));
        let other = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| {
            builder.store(spy.clone()).rolling(true)
        });
        let mut jar = spilled(&bed).await;
        if lasts {
            bed.visit(&mut jar, |session| session.set_duration(30 * DAY).unwrap()).await;
            bed.visit(&mut jar, |session| session.set_duration(DAY).unwrap()).await;
        }
        bed.clock.advance(MINUTE);
        let poll = other.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
        assert_eq!(poll.len(), 2);
        let mut login = jar.clone();
        bed.visit(&mut login, |session| session.set_subject("ada").unwrap()).await;
        bed.clock.advance(Duration::from_millis(100));
        spy.calls();
        assert_eq!(other.sessions.commit(&poll, CommitContext::default()).await.unwrap(), None);
        assert_eq!(spy.calls(), if lasts { vec!["load"] } else { vec!["extend", "load"] });
        assert_eq!(other.see(&login, Session::subject).await.as_deref(), Some("ada"));
    }
}

#[actix_web::test]
async fn a_login_after_two_nodes_have_revoked_its_subject_counts_on_both_at_once() {
    for policy in [FailurePolicy::Open, FailurePolicy::Closed] {
        let (bed, spy) = guarded(|builder| builder.revocation_failure(policy));
        let other =
            Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
        let login = async |bed: &Bed| {
            let mut jar = bed.logged_in().await;
            bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
            jar
        };
        let former = login(&bed).await;
        assert_eq!(bed.see(&former, Session::origin).await, Origin::Resumed);
        let late = login(&bed).await;
        assert_eq!(bed.see(&late, Session::origin).await, Origin::Resumed);
        bed.sessions.revoke_subject("ada").await.unwrap();
        bed.clock.advance(Duration::from_secs(1));
        other.sessions.revoke_subject("ada").await.unwrap();
        let jar = login(&other).await;
        assert_eq!(bed.see(&jar, Session::origin).await, Origin::Resumed);
        assert_eq!(bed.see(&jar, Session::subject).await.as_deref(), Some("ada"));

        // A session that is over is asked for once, and not with each of its requests.
        spy.calls();
        for calls in [1, 0, 0] {
            assert_eq!(bed.see(&former, Session::origin).await, Origin::Rejected(Rejection::Revoked));
            assert_eq!(spy.calls().len(), calls);
        }
        // As long as the store does not tell, what this node knows counts.
        spy.go_down(true);
        assert_eq!(bed.see(&late, Session::origin).await, Origin::Rejected(Rejection::Revoked));
    }
}

#[actix_web::test]
async fn where_every_request_asks_none_waits_for_the_question_of_another_one() {
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    let cookie = [jar.0.as_ref().unwrap()];
    for answered in 0..2 {
        spy.next((0..answered).map(|_| Fate::Passes).chain([Fate::Hangs]));
        let mut hangs = Box::pin(bed.sessions.load(cookie));
        assert!(hangs.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let session = bed.sessions.load(cookie).await.unwrap();
        assert_eq!(session.subject().as_deref(), Some("ada"));
    }
}

#[tokio::test]
async fn a_row_under_a_key_that_was_rotated_in_elsewhere_makes_the_ring_look() {
    let path = std::env::temp_dir().join(format!("sealed-session-row-{}.keys", std::process::id()));
    let clock = ManualClock::at(start());
    let spy = crate::spy::Spy::new(&clock);
    let node = || {
        let ring = KeyRing::open_or_create(&path).unwrap();
        let builder = Sessions::builder(ring).cookie_name(NAME).clock(clock.clone());
        builder.store(Arc::clone(&spy)).build().unwrap()
    };
    let [here, elsewhere] = [(); 2].map(|()| node());
    let cookie = here.issue(|session| session.insert("large", "x".repeat(5_000))).await.unwrap();
    assert_eq!(here.load([&cookie]).await.unwrap().len(), 1);

    elsewhere.keys().rotate(Key::generate()).unwrap();
    let session = elsewhere.load([&cookie]).await.unwrap();
    session.insert("n", 1).unwrap();
    elsewhere.commit(&session, CommitContext::default()).await.unwrap();
    // The cookie that led there is still on its way.
    let session = here.load([&cookie]).await.unwrap();
    assert_eq!(session.origin(), Origin::Resumed);
    assert_eq!(session.get::<u8>("n").unwrap(), Some(1));
    assert_eq!(here.keys().primary(), elsewhere.keys().primary());
    std::fs::remove_file(&path).unwrap();
}
