//! What one request does while another one waits, in an order that a review found to go wrong.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use actix_web::http::header::SET_COOKIE;
use sealed_session::store::{Expected, NewRow, Revision, Store, Written};
use sealed_session::{
    Clock, CommitContext, CommitError, Event, FailurePolicy, Key, KeyRing, Lifetime, ManualClock, Origin,
    Placement, Rejection, Revocation, Session, Sessions, SessionsBuilder,
};
use time::OffsetDateTime;

use crate::framework::ask;
use crate::spy::{Fate, guarded, stored};
use crate::stored::spilled;
use crate::support::{Answer, Bed, DAY, MINUTE, NAME, Wrapped, key, now, start};

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
    let path = std::env::temp_dir().join(format!("sealed-session-meanwhile-{}.keys", Key::generate().id()));
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
        let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop();
        assert_eq!(line.is_none(), revoked);
        assert_ne!(ring.primary(), former, "it was the commit that looked");
        std::fs::remove_file(&path).unwrap();
    }
}

/// As while a rotation reaches one server after the other.
#[actix_web::test]
async fn a_renewal_that_meets_a_row_of_a_key_that_is_not_here_yet_ends_nothing_for_when_it_is() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = spilled(&bed).await;
    let ring = KeyRing::from_keys([key(2), key(1)]).unwrap();
    let store = Arc::clone(&spy);
    let other = Bed::on(ring, bed.clock.clone(), |builder| builder.store(store));
    let session = now(bed.sessions.load(jar.0.iter())).unwrap();
    session.renew();
    let (there, theirs) = (other.sessions.clone(), jar.clone());
    spy.before("write", move || {
        let session = now(there.load(theirs.0.iter())).unwrap();
        session.insert("n", 2).unwrap();
        now(there.commit(&session, CommitContext::default())).unwrap();
    });
    let renewed = now(bed.sessions.commit(&session, CommitContext::default()));
    assert!(matches!(renewed, Err(CommitError::Ended)), "{renewed:?}");
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Missing));
    bed.sessions.keys().add_retired(key(2)).unwrap();
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(2));
}

/// The last thing is taken out of the cart while another tab logs in.
#[actix_web::test]
async fn what_empties_a_session_that_a_login_has_ended_does_not_remove_the_logins_cookie() {
    let (bed, _) = guarded(|builder| builder);
    let jar = bed.logged_in().await;
    let load = || now(bed.sessions.load(jar.0.iter())).unwrap();
    let commit = |session: &Session| now(bed.sessions.commit(session, CommitContext::default())).unwrap();
    let [empties, logs_out] = [load(), load()];
    empties.clear();
    logs_out.destroy();
    bed.visit(&mut jar.clone(), |session| session.authenticate("ada").unwrap()).await;
    bed.events();
    assert_eq!(commit(&empties), [""; 0]);
    assert!(matches!(bed.events()[..], [Event::Lost { reason: Rejection::Revoked, .. }]));
    // Who logs out leaves the browser without a session.
    assert!(commit(&logs_out)[0].contains("Max-Age=0"));
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
    assert_eq!(bed.sessions.commit(&poll, CommitContext::default()).await.unwrap().pop(), None);
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
async fn a_row_that_lives_long_enough_is_asked_whether_it_goes_on_and_lives_no_longer() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| session.set_duration(30 * DAY).unwrap()).await;
    let [row] = spy.row_keys()[..] else { panic!("other rows") };
    let until = spy.rows.load(&row).await.unwrap().unwrap().expires_at;
    spy.calls();
    bed.visit(&mut jar, |session| session.set_duration(DAY).unwrap()).await;
    assert_eq!(spy.calls(), ["load", "extend"]);
    assert_eq!(spy.rows.load(&row).await.unwrap().unwrap().expires_at, until);
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
        assert_eq!(other.sessions.commit(&poll, CommitContext::default()).await.unwrap().pop(), None);
        assert_eq!(spy.calls(), ["extend", "load"]);
        assert_eq!(other.see(&login, Session::subject).await.as_deref(), Some("ada"));
    }
}

#[actix_web::test]
async fn an_extension_that_others_write_past_looks_once_and_asks_again_and_ends_in_time() {
    let (bed, spy) = stored(|builder| builder.rolling(true).store_timeout(Duration::from_millis(50)));
    let jar = spilled(&bed).await;
    bed.clock.advance(MINUTE);
    let poll = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    assert_eq!(poll.len(), 2);
    let writes = |session: &Session| {
        session.skip_renewal();
        session.insert("n", 2).unwrap();
    };
    bed.visit(&mut jar.clone(), writes).await;
    spy.calls();
    assert!(bed.sessions.commit(&poll, CommitContext::default()).await.unwrap().pop().is_some());
    assert_eq!(spy.calls(), ["extend", "load", "extend"]);
    // One that is overtaken time and again is left to the next request.
    bed.clock.advance(MINUTE);
    let poll = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    assert_eq!(poll.len(), 2);
    spy.extends_none();
    tokio::time::pause();
    assert_eq!(bed.sessions.commit(&poll, CommitContext::default()).await.unwrap().pop(), None);
    let asked = spy.calls().iter().filter(|call| **call == "extend").count();
    assert!((2..40).contains(&asked), "{asked}");
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
    let closed = FailurePolicy::Closed;
    let (bed, spy) =
        guarded(|builder| builder.revocation(Revocation::EveryRequest).revocation_failure(closed));
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
    let path = std::env::temp_dir().join(format!("sealed-session-row-{}.keys", Key::generate().id()));
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

#[actix_web::test]
async fn a_mere_prolongation_that_would_have_to_spill_while_the_store_is_down_is_left_out() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.insert("more", "x".repeat(1_500)).unwrap()).await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.clock.advance(DAY - MINUTE);
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    let crowded = CommitContext { response_head_bytes: 3_000, secure: true };
    spy.go_down(true);
    assert_eq!(bed.sessions.commit(&session, crowded).await.unwrap().pop(), None);
}

#[actix_web::test]
async fn a_cookie_from_before_the_spill_is_replaced_also_where_save_has_written() {
    let (bed, _) = guarded(|builder| builder);
    let jar = bed.logged_in().await;
    // The answer to this one is lost.
    bed.peek(&jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    session.insert("n", 5).unwrap();
    session.save().await.unwrap();
    let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop();
    let cookie = line.expect("the reference").split(';').next().unwrap().to_owned();
    let value = cookie.strip_prefix("s=").unwrap();
    assert!(matches!(bed.sessions.inspect(value).unwrap().placement, Placement::Store { .. }));
    let session = bed.sessions.load([&cookie]).await.unwrap();
    assert_eq!(session.get::<u8>("n").unwrap(), Some(5));
    assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop(), None);
}

#[actix_web::test]
async fn a_session_that_was_moved_meanwhile_is_asked_for_its_subject_as_any_other() {
    for writes in [false, true] {
        let (bed, spy) = guarded(|builder| builder);
        let other =
            Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
        let mut jar = bed.logged_in().await;
        bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
        bed.clock.advance(DAY - 3 * MINUTE);
        let here = bed.sessions.load(jar.0.iter()).await.unwrap();
        if writes {
            here.insert("n", 2).unwrap();
        }
        other.peek(&jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
        other.sessions.revoke_subject("ada").await.unwrap();
        assert_eq!(bed.sessions.commit(&here, CommitContext::default()).await.unwrap().pop(), None);
    }
}

#[actix_web::test]
async fn the_key_that_was_asked_for_is_the_key_that_seals_or_nothing_is_sealed() {
    for gone in [false, true] {
        let (bed, spy) = guarded(|builder| builder.rolling(true));
        let jar = spilled(&bed).await;
        bed.sessions.keys().rotate(key(2)).unwrap();
        bed.clock.advance(MINUTE);
        let session = bed.sessions.load(jar.0.iter()).await.unwrap();
        let keys = bed.sessions.keys().clone();
        spy.before("write", move || {
            keys.rotate(key(3)).unwrap();
            if gone {
                keys.revoke(key(2).id()).unwrap();
            }
        });
        let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop();
        assert_eq!(bed.sessions.keys().primary(), key(3).id());
        if gone {
            assert_eq!(line, None);
        } else {
            let line = line.unwrap();
            let value = line.split(';').next().unwrap().strip_prefix("s=").unwrap();
            assert_eq!(bed.sessions.inspect(value).unwrap().key_id, key(2).id());
            let resealed = |event: &Event| matches!(event, Event::Resealed { to, .. } if *to == key(2).id());
            assert!(bed.events().iter().any(resealed));
        }
    }
}

#[actix_web::test]
async fn with_rolling_a_late_answer_to_a_session_that_can_wait_issues_nothing_whatever_its_limits() {
    let long = || Lifetime::new(24 * 60 * MINUTE);
    for lifetime in [long(), long().idle(60 * MINUTE), long().absolute(60 * MINUTE)] {
        let bed = Bed::with(|builder| builder.lifetime(lifetime).rolling(true));
        let mut jar = bed.logged_in().await;
        for (minutes, waits) in [(10, true), (25, false)] {
            bed.clock.advance(minutes * MINUTE);
            let clock = bed.clock.clone();
            let late = move |session: &Session| {
                assert_eq!(session.len(), 1);
                clock.advance(Duration::from_millis(501));
            };
            // What the absolute limit ends is not prolonged by any cookie.
            let issues = !waits && lifetime == long().idle(60 * MINUTE);
            assert_eq!(bed.visit(&mut jar, late).await.set_cookie().is_some(), issues, "{lifetime:?}");
        }
    }
}

/// Or a late answer would put the cookie from before a login over that of the login, for nothing.
#[actix_web::test]
async fn near_the_absolute_end_a_late_answer_issues_nothing_because_it_would_move_nothing() {
    let day = 24 * 60 * MINUTE;
    for (days, until) in [(1, 29), (20, 25), (30, 16)] {
        let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(days * day)).rolling(true));
        let mut jar = bed.logged_in().await;
        for _ in 0..=2 * until {
            bed.clock.advance(day / 2);
            bed.visit(&mut jar, |session| assert_eq!(session.len(), 1)).await;
        }
        let late = bed.sessions.load(jar.0.iter()).await.unwrap();
        assert_eq!(late.len(), 1);
        bed.clock.advance(Duration::from_millis(501));
        assert_eq!(
            bed.sessions.commit(&late, CommitContext::default()).await.unwrap().pop(),
            None,
            "{days} days"
        );
    }
}

#[actix_web::test]
async fn rolling_prolongs_a_session_that_cannot_wait_also_in_a_late_answer() {
    for lifetime in [Lifetime::new(30 * MINUTE).fixed(), Lifetime::new(30 * MINUTE)] {
        let bed = Bed::with(|builder| builder.lifetime(lifetime).rolling(true));
        let mut jar = bed.logged_in().await;
        for (minutes, waits) in [(10, true), (10, false), (16, false)] {
            bed.clock.advance(minutes * MINUTE);
            let clock = bed.clock.clone();
            let reply = bed
                .visit(&mut jar, move |session| {
                    assert_eq!(session.len(), 1);
                    clock.advance(Duration::from_millis(501));
                })
                .await;
            assert_eq!(reply.set_cookie().is_none(), waits, "after {minutes}");
        }
    }
}

/// A clock that does something when it is asked.
#[derive(Clone)]
struct Hooked(ManualClock, Arc<Mutex<Option<Act>>>);

type Act = Box<dyn FnOnce() + Send>;

impl Clock for Hooked {
    fn now(&self) -> OffsetDateTime {
        let act = self.1.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
        self.0.now()
    }
}

#[tokio::test]
async fn what_a_clone_does_while_the_commit_looks_at_the_clock_is_part_of_it() {
    let manual = ManualClock::at(start());
    let clock = Hooked(manual.clone(), Arc::default());
    let build = |builder: SessionsBuilder| builder.cookie_name(NAME).clock(clock.clone()).build().unwrap();
    let in_cookie = build(Sessions::builder(KeyRing::new(key(1))));
    let store = crate::spy::Spy::new(&manual);
    let with_store = build(Sessions::builder(KeyRing::new(key(1))).store(store));
    for sessions in [in_cookie, with_store] {
        let cookie = sessions.issue(|session| session.insert("n", 1)).await.unwrap();
        let commit = async |act: fn(Session)| {
            let session = sessions.load([&cookie]).await.unwrap();
            session.insert("n", 2).unwrap();
            let clone = session.clone();
            *clock.1.lock().unwrap() = Some(Box::new(move || act(clone)));
            let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
            assert!(clock.1.lock().unwrap().is_none(), "the clock was asked");
            line
        };
        let line = commit(|clone| clone.insert("late", 1).unwrap()).await;
        let session = sessions.load([line.split(';').next().unwrap()]).await.unwrap();
        assert_eq!(session.keys(), ["late", "n"]);
        let line = commit(|clone| clone.insert("large", "x".repeat(2_000)).unwrap()).await;
        assert!(line.split(';').next().unwrap().len() <= 4_096);
        let line = commit(|clone| clone.destroy()).await;
        assert!(line.contains("Max-Age=0"), "{line}");
    }
}

#[actix_web::test]
async fn the_row_of_a_subject_that_cannot_be_read_is_replaced_by_a_login_and_by_a_revocation() {
    for revokes in [false, true] {
        let (bed, spy) = guarded(|builder| builder.revocation_failure(FailurePolicy::Closed));
        bed.sessions.revoke_subject("ada").await.unwrap();
        let [place] = spy.row_keys()[..] else { panic!("other rows") };
        let row = spy.rows.load(&place).await.unwrap().unwrap();
        let garbage = NewRow { data: b"garbage", revision: Revision::random(), expires_at: row.expires_at };
        let written = spy.rows.write(&place, garbage, Expected::At(row.revision)).await.unwrap();
        assert_eq!(written, Written::Done);
        if revokes {
            bed.sessions.revoke_subject("ada").await.unwrap();
        }
        let mut jar = bed.logged_in().await;
        let reply = bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
        assert_eq!(reply.status.as_u16(), 200);
        bed.clock.advance(2 * MINUTE);
        assert_eq!(bed.see(&jar, Session::subject).await.as_deref(), Some("ada"));
    }
}

#[actix_web::test]
async fn a_driver_that_repeats_the_write_of_the_new_row_does_not_make_a_renew_fail() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = spilled(&bed).await;
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    session.renew();
    spy.conflict_with_itself();
    let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
    assert_eq!(bed.sessions.load([line.split(';').next().unwrap()]).await.unwrap().len(), 2);
}

#[actix_web::test]
async fn data_of_a_session_that_was_moved_goes_into_its_row_also_where_its_subject_cannot_be_asked_for() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.clock.advance(DAY - 3 * MINUTE);
    let here = bed.sessions.load(jar.0.iter()).await.unwrap();
    here.insert("n", 2).unwrap();
    let other = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
    other
        .peek(&jar, |session| {
            session.skip_renewal();
            session.insert("large", "x".repeat(5_000)).unwrap();
        })
        .await;
    spy.next([Fate::Passes, Fate::Fails]);
    assert_eq!(bed.sessions.commit(&here, CommitContext::default()).await.unwrap().pop(), None);
    let read = |session: &Session| (session.keys(), session.get::<u8>("n").unwrap());
    let keys = ["large", "n"].map(str::to_owned).to_vec();
    assert_eq!(other.see(&jar, read).await, (keys, Some(2)));
}

#[actix_web::test]
async fn a_login_with_a_cookie_that_is_no_newer_than_the_row_takes_along_what_was_written_there() {
    let (bed, spy) = guarded(|builder| builder);
    let other = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
    let jar = bed.logged_in().await;
    let login = bed.sessions.load(jar.0.iter()).await.unwrap();
    other.peek(&jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    login.set_subject("ada").unwrap();
    let line = bed.sessions.commit(&login, CommitContext::default()).await.unwrap().pop().unwrap();
    let session = bed.sessions.load([line.split(';').next().unwrap()]).await.unwrap();
    assert_eq!(
        (session.subject().as_deref(), session.keys()),
        (Some("ada"), vec!["large".into(), "n".into()])
    );
}

#[actix_web::test]
async fn a_destroy_that_meets_a_row_which_vanishes_leaves_a_mark_if_a_cookie_could_do_without_the_row() {
    for in_cookie in [true, false] {
        let (bed, spy) = guarded(|builder| builder);
        let jar = if in_cookie { bed.logged_in().await } else { spilled(&bed).await };
        let session = bed.sessions.load(jar.0.iter()).await.unwrap();
        session.destroy();
        if in_cookie {
            bed.peek(&jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
            let [row] = spy.row_keys()[..] else { panic!("other rows") };
            let rows = Arc::clone(&spy);
            spy.before("load", move || assert!(now(rows.rows.delete(&row)).unwrap()));
        } else {
            spy.rows.clear().await.unwrap();
        }
        spy.calls();
        assert!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().is_some());
        assert_eq!(spy.rows.count().await.unwrap(), u64::from(in_cookie));
        assert_eq!(
            spy.calls(),
            if in_cookie { vec!["write", "load", "write"] } else { vec!["write", "load"] }
        );
        let other =
            Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
        assert_eq!(other.see(&jar, Session::len).await, 0);
    }
}

#[actix_web::test]
async fn a_reload_in_the_middle_of_a_request_keeps_what_the_request_has_changed() {
    let (bed, _) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    session.insert("ours", 1).unwrap();
    bed.peek(&jar, |session| session.insert("theirs", 2).unwrap()).await;
    session.reload().await.unwrap();
    assert_eq!(session.keys(), ["large", "n", "ours", "theirs"]);
    bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("ours").unwrap()).await, Some(1));
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("theirs").unwrap()).await, Some(2));
}

#[actix_web::test]
async fn parallel_requests_of_a_session_whose_subject_was_revoked_elsewhere_ask_once() {
    let (bed, spy) = guarded(|builder| builder);
    let other = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    other.sessions.revoke_subject("ada").await.unwrap();
    bed.clock.advance(2 * MINUTE);
    spy.calls();
    spy.slowly(true);
    let cookie = [jar.0.as_ref().unwrap()];
    let load = || bed.sessions.load(cookie);
    let (a, b, c, d) = tokio::join!(load(), load(), load(), load());
    for session in [a, b, c, d] {
        assert_eq!(session.unwrap().origin(), Origin::Rejected(Rejection::Revoked));
    }
    assert_eq!(spy.calls(), ["load", "load"], "for the session and for its subject");
}

#[actix_web::test]
async fn a_request_has_one_session_also_where_the_store_was_asked_for_one_who_came_first() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = bed.logged_in().await;
    bed.clock.advance(DAY - 3 * MINUTE);
    let poll = bed.sessions.load(jar.0.iter()).await.unwrap();
    bed.clock.advance(MINUTE);
    spy.slowly(true);
    let sessions = bed.sessions.clone();
    let cookie = [jar.0.as_ref().unwrap().as_bytes()];
    let reply = ask(Wrapped::Once(&bed.sessions), &cookie, async move |request| {
        let mut first = Box::pin(request.session());
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        // Another request of the session hears meanwhile that all is fine.
        let _ = sessions.commit(&poll, CommitContext::default()).await.unwrap();
        let second = now(request.session())?;
        let first = first.await?;
        first.insert("one", 1)?;
        second.insert("other", 1)?;
        assert_eq!(first.keys(), ["n", "one", "other"]);
        Ok(Answer::ok())
    });
    assert!(reply.await.headers.contains_key(SET_COOKIE));
}

#[actix_web::test]
async fn a_login_whose_key_is_taken_away_while_the_store_is_asked_has_to_be_tried_again() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    session.set_subject("eve").unwrap();
    let keys = bed.sessions.keys().clone();
    spy.before("load", move || {
        keys.rotate(key(3)).unwrap();
        keys.revoke(key(2).id()).unwrap();
    });
    assert!(bed.sessions.commit(&session, CommitContext::default()).await.is_err());
    assert_eq!(bed.see(&jar, Session::subject).await.as_deref(), Some("ada"));
}

#[actix_web::test]
async fn a_commit_waits_for_a_save_of_the_same_session_and_writes_what_that_could_not() {
    for fails in [true, false] {
        let (bed, spy) = stored(|builder| builder);
        let jar = spilled(&bed).await;
        let session = bed.sessions.load(jar.0.iter()).await.unwrap();
        session.increment("n", 1).unwrap();
        spy.calls();
        spy.slowly(true);
        spy.next(fails.then_some(Fate::Fails));
        let (saved, committed) =
            tokio::join!(session.save(), bed.sessions.commit(&session, CommitContext::default()));
        assert_eq!((saved.is_err(), committed.unwrap().len()), (fails, 0));
        assert_eq!(spy.calls(), if fails { vec!["write", "load", "write"] } else { vec!["write"] });
        spy.slowly(false);
        assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(2));
    }
}
