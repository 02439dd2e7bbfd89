//! Sessions in cookies that are ended on the server: at once where it happened, elsewhere within the stated time, and
//! with no way out in between.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use futures_util::FutureExt as _;
use sealed_session::store::{Expected, MemoryStore, NewRow, Revision, Store};
use sealed_session::{
    CommitContext, CommitError, ConfigError, Event, FailurePolicy, Key, KeyRing, Lifetime, ManualClock,
    Origin, Placement, Rejection, Revocation, RevokeError, Session, Sessions, SessionsBuilder,
};

use crate::spy::{Fate, Spy, guarded, other_node, status};
use crate::stored::spilled;
use crate::support::{Answer, Bed, DAY, Jar, MINUTE, MS, key, start};

const REVOKED: Origin = Origin::Rejected(Rejection::Revoked);

async fn origin(bed: &Bed, jar: &Jar) -> Origin {
    bed.see(jar, Session::origin).await
}

/// A browser that is logged in as this subject.
async fn login(bed: &Bed, subject: &'static str) -> Jar {
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, move |session| session.set_subject(subject).unwrap()).await;
    jar
}

#[test]
fn settings_that_contradict_each_other_are_errors() {
    let ring = || KeyRing::new(Key::generate());
    let without = || Sessions::builder(ring());
    let with = || Sessions::builder(ring()).store(MemoryStore::new());
    for builder in
        [without().revocation(Revocation::EveryRequest), without().revocation(Revocation::Every(MINUTE))]
    {
        assert_eq!(builder.build().unwrap_err(), ConfigError::NeedsStore { setting: "revocation" });
    }
    let error = without().revocation_failure(FailurePolicy::Closed).build().unwrap_err();
    assert_eq!(error, ConfigError::NeedsStore { setting: "revocation_failure" });
    for every in [Duration::ZERO, Duration::from_micros(999), DAY + MS] {
        let error = with().revocation(Revocation::Every(every)).build().unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { setting: "revocation", .. }), "{error}");
    }
    assert!(without().revocation(Revocation::Off).build().is_ok());
    for revocation in [Revocation::Off, Revocation::EveryRequest, Revocation::Every(MS)] {
        assert!(with().revocation(revocation).build().is_ok());
    }
}

/// A session in the store of this subject, as a stream holds it: its response has left, and what it saves goes on.
async fn stream(bed: &Bed, subject: &'static str) -> (Session, Jar) {
    let mut jar = login(bed, subject).await;
    bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
    session.reload().await.unwrap();
    bed.events();
    (session, jar)
}

async fn is_over(bed: &Bed, stream: &Session, reason: Rejection) {
    let lost = Event::Lost { id: stream.id(), reason };
    let told = || bed.events().into_iter().filter(|event| *event == lost).count();
    assert!(matches!(stream.reload().await, Err(CommitError::Ended)));
    assert_eq!(told(), 0, "nothing was to be written, as when users log out while a stream is open");
    stream.insert("secret", 1).unwrap();
    assert!(matches!(stream.save().await, Err(CommitError::Ended)));
    assert!(matches!(stream.reload().await, Err(CommitError::Ended)));
    assert_eq!(told(), 2);
}

/// It asks for no other session that would be refused.
#[actix_web::test]
async fn a_stream_hears_that_its_user_was_revoked_or_its_key() {
    let every = |builder: SessionsBuilder| builder.revocation(Revocation::Every(MINUTE));
    let (bed, spy) = guarded(every);
    let (ada, of_ada) = stream(&bed, "ada").await;
    let (bob, _) = stream(&bed, "bob").await;
    spy.calls();
    ada.reload().await.unwrap();
    ada.insert("n", 2).unwrap();
    ada.save().await.unwrap();
    assert_eq!(spy.calls(), ["load", "write"], "the answer of the last question is good for a minute");

    // Here at once.
    bed.sessions.revoke_subject("ada").await.unwrap();
    is_over(&bed, &ada, Rejection::Revoked).await;
    assert_eq!(origin(&bed, &of_ada).await, REVOKED);
    // Elsewhere within the minute.
    other_node(&bed, &spy, every).sessions.revoke_subject("bob").await.unwrap();
    bob.reload().await.unwrap();
    bed.clock.advance(MINUTE);
    is_over(&bed, &bob, Rejection::Revoked).await;

    // Who says "everywhere but here" goes on.
    let (eve, of_eve) = stream(&bed, "eve").await;
    let mut here = of_eve.clone();
    let sessions = bed.sessions.clone();
    let session = sessions.load([here.0.as_ref().unwrap()]).await.unwrap();
    sessions.revoke_subject("eve").await.unwrap();
    session.renew();
    let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
    here.0 = Some(line.split(';').next().unwrap().to_owned());
    assert_eq!(bed.see(&here, Session::subject).await.as_deref(), Some("eve"));
    is_over(&bed, &eve, Rejection::Revoked).await;

    let (nobodys, _) = {
        let mut jar = bed.logged_in().await;
        bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
        (bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap(), jar)
    };
    let key = bed.sessions.inspect(of_eve.value()).unwrap().key_id;
    let ring = bed.sessions.keys();
    ring.rotate(Key::generate()).unwrap();
    ring.revoke(key).unwrap();
    bed.events();
    is_over(&bed, &nobodys, Rejection::RevokedKey(key)).await;
}

/// The same of a session in its cookie: there is no row of it that would be read.
#[actix_web::test]
async fn a_stream_of_a_session_in_a_cookie_hears_that_it_is_over() {
    let every = |builder: SessionsBuilder| builder.revocation(Revocation::Every(MINUTE));
    let (bed, spy) = guarded(every);
    let open = async |subject: &'static str| {
        let jar = login(&bed, subject).await;
        let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
        bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
        assert!(session.reload().await.is_ok());
        (session, jar)
    };
    let is_over = async |session: &Session| {
        bed.events();
        assert!(matches!(session.reload().await, Err(CommitError::Ended)));
        assert_eq!(bed.events(), [], "nothing is lost by that");
        assert!(session.insert("n", 2).is_err(), "what is in a cookie cannot be changed any more");
    };
    let (ada, _) = open("ada").await;
    spy.calls();
    ada.reload().await.unwrap();
    assert_eq!(spy.calls(), [""; 0], "the answers of the last question are good for a minute");
    bed.sessions.revoke_subject("ada").await.unwrap();
    is_over(&ada).await;

    let (bob, mut of_bob) = open("bob").await;
    let other = other_node(&bed, &spy, every);
    other.visit(&mut of_bob, Session::destroy).await;
    bob.reload().await.unwrap();
    bed.clock.advance(MINUTE);
    is_over(&bob).await;

    // As a request with its cookie would.
    let (sue, _) = open("sue").await;
    bed.clock.advance(DAY - MS);
    sue.reload().await.unwrap();
    bed.clock.advance(MS);
    is_over(&sue).await;

    // One that began in the request that opened the stream.
    let new = bed.sessions.load([""; 0]).await.unwrap();
    new.insert("n", 1).unwrap();
    bed.sessions.commit(&new, CommitContext::default()).await.unwrap();
    new.reload().await.unwrap();
    bed.sessions.revoke(new.id()).await.unwrap();
    is_over(&new).await;

    let (eve, _) = open("eve").await;
    spy.go_down(true);
    eve.reload().await.unwrap();
    bed.clock.advance(MINUTE);
    bed.events();
    eve.reload().await.unwrap();
    assert!(bed.events().contains(&Event::Unconfirmed { id: eve.id() }), "as for a request, by default");
}

/// A cookie that is issued again for a raised limit could come after the logout's, or the next user's.
#[actix_web::test]
async fn a_raised_limit_is_given_to_nobody_who_has_logged_out_elsewhere() {
    let with = |lifetime: Lifetime| {
        move |builder: SessionsBuilder| builder.revocation(Revocation::Every(MINUTE)).lifetime(lifetime)
    };
    let (bed, spy) = guarded(with(Lifetime::new(DAY).fixed().idle(30 * MINUTE)));
    let later = other_node(&bed, &spy, with(Lifetime::new(DAY).fixed()));
    let mut jar = bed.logged_in().await;
    // Near its end, so that what is given then is less than what it was given.
    bed.clock.advance(29 * MINUTE);
    let session = later.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    assert_eq!(session.origin(), Origin::Resumed, "and for a minute this is known here");
    let before = jar.clone();
    bed.visit(&mut jar, Session::destroy).await;
    assert!(later.sessions.commit(&session, CommitContext::default()).await.unwrap().is_empty());
    assert_eq!(later.peek(&before, |_| ()).await.set_cookie(), None);
}

/// The request that opened the stream has sealed it under the new key.
#[actix_web::test]
async fn a_stream_outlasts_the_key_that_its_session_has_left() {
    let (bed, _) = guarded(|builder| builder.revocation(Revocation::Off));
    let jar = bed.logged_in().await;
    let old = bed.sessions.inspect(jar.value()).unwrap().key_id;
    bed.sessions.keys().rotate(Key::generate()).unwrap();
    let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().len(), 1);
    bed.sessions.keys().revoke(old).unwrap();
    session.reload().await.unwrap();
}

/// Whoever stops waiting has lost nothing: not while the user is asked about, and not while the row is written or read.
#[actix_web::test]
async fn what_is_given_up_leaves_the_changes_to_the_response() {
    for (passes, saves, goes_on) in [0, 1]
        .into_iter()
        .flat_map(|n| [(n, true, true), (n, true, false), (n, false, true), (n, false, false)])
    {
        let (bed, spy) = guarded(|builder| {
            builder.revocation(Revocation::Every(MINUTE)).store_timeout(Duration::from_millis(50))
        });
        let mut jar = login(&bed, "ada").await;
        bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
        let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
        session.insert("n", 7).unwrap();
        bed.clock.advance(MINUTE);
        spy.calls();
        spy.next([Fate::Passes, Fate::Hangs].into_iter().skip(1 - passes));
        {
            let at_the_store = async { if saves { session.save().await } else { session.reload().await } };
            let at_the_store = std::pin::pin!(at_the_store);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(at_the_store.poll(&mut context).is_pending());
            assert_eq!(spy.calls().len(), passes + 1);
            if goes_on {
                session.insert("since", 1).unwrap();
            }
        }
        bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
        let seen =
            bed.see(&jar, |session| (session.get::<u8>("n").unwrap(), session.get::<u8>("since").unwrap()));
        assert_eq!(seen.await, (Some(7), goes_on.then_some(1)), "{passes} {saves} {goes_on}");
    }
}

/// What it does while it is asked once.
async fn once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    let mut future = future;
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

/// The store may carry out a write for which nobody waits any more, and the next one must not do it again.
#[actix_web::test]
async fn what_a_save_increments_that_is_given_up_counts_once() {
    for (goes_on, saves_again) in [(false, false), (true, false), (false, true), (true, true)] {
        let (bed, spy) = guarded(|builder| builder);
        let jar = spilled(&bed).await;
        let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
        session.increment("n", 10).unwrap();
        spy.next([Fate::AppliedThenTakes(5)]);
        {
            let save = std::pin::pin!(session.save());
            assert!(!once(save).await, "it is given up");
        }
        if goes_on {
            session.increment("n", 100).unwrap();
        }
        if saves_again {
            session.save().await.unwrap();
        }
        bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
        let n = bed.see(&jar, |session| session.get::<i64>("n").unwrap()).await;
        assert_eq!(n, Some(if goes_on { 111 } else { 11 }), "{goes_on} {saves_again}");
    }
}

/// Whoever logs out and closes the tab is logged out, also behind a `save` that goes on.
#[actix_web::test]
async fn a_logout_that_has_to_wait_for_a_save_is_carried_out_though_nobody_waits_for_it() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = spilled(&bed).await;
    let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    session.insert("n", 2).unwrap();
    spy.next([Fate::AppliedThenTakes(5)]);
    {
        let save = std::pin::pin!(session.save());
        assert!(!once(save).await, "it is given up");
    }
    session.destroy();
    {
        let commit = std::pin::pin!(bed.sessions.commit(&session, CommitContext::default()));
        assert!(!once(commit).await, "and so is the logout");
    }
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
    assert_eq!(origin(&bed, &jar).await, REVOKED);
}

/// The browser forgets the session, and the user may try again, where the logout cannot even begin.
#[actix_web::test]
async fn a_logout_whose_turn_does_not_come_takes_the_cookie_out_of_the_browser() {
    let (bed, spy) = guarded(|builder| builder.store_timeout(Duration::from_millis(20)));
    let jar = spilled(&bed).await;
    let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    spy.next([Fate::Hangs]);
    let mut reload = std::pin::pin!(session.reload());
    assert!(!once(reload.as_mut()).await);
    session.destroy();
    match bed.sessions.commit(&session, CommitContext::default()).await {
        Err(CommitError::NotEnded { set_cookies, .. }) => assert!(set_cookies[0].contains("Max-Age=0")),
        outcome => panic!("{outcome:?}"),
    }
}

/// One arm of a `select!` waits while the other asks again.
#[actix_web::test]
async fn a_reload_that_nobody_polls_holds_up_no_save_and_no_response_for_ever() {
    let (bed, spy) = guarded(|builder| builder.store_timeout(Duration::from_millis(20)));
    let jar = spilled(&bed).await;
    let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    session.insert("n", 2).unwrap();
    spy.next([Fate::Hangs]);
    let mut reload = std::pin::pin!(session.reload());
    assert!(!once(reload.as_mut()).await);
    const WHILE: Duration = Duration::from_secs(5);
    let saved = tokio::time::timeout(WHILE, session.save()).await;
    assert!(matches!(saved, Ok(Err(CommitError::Conflict))));
    let commit = bed.sessions.commit(&session, CommitContext::default());
    assert!(matches!(tokio::time::timeout(WHILE, commit).await, Ok(Err(CommitError::Conflict))));
    assert!(reload.await.is_err(), "it had its time as well");
    session.save().await.unwrap();
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(2));
}

/// One thief with a copy of the cookie needs no more than many requests at once to be ahead of the owner in each queue.
#[actix_web::test]
async fn who_writes_a_session_without_a_pause_cannot_keep_it_from_being_ended() {
    for renews in [false, true] {
        let (bed, spy) = guarded(|builder| builder.store_timeout(Duration::from_millis(200)));
        let jar = spilled(&bed).await;
        spy.takes(Duration::from_millis(5));
        let over = std::cell::Cell::new(false);
        let thief = async || {
            let mut writes = 0;
            while !over.get() {
                let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
                if session.origin() != Origin::Resumed || session.increment("n", 1).is_err() {
                    break;
                }
                writes += u32::from(bed.sessions.commit(&session, CommitContext::default()).await.is_ok());
            }
            writes
        };
        let owner = async {
            // All have read it by then, and wait for their turn to write.
            let mut writes = 0;
            while writes < 3 {
                writes += spy.calls().iter().filter(|call| **call == "write").count();
                tokio::task::yield_now().await;
            }
            let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
            if renews {
                session.renew()
            } else {
                session.destroy()
            }
            let outcome = bed.sessions.commit(&session, CommitContext::default()).await;
            over.set(true);
            outcome.map(|lines| lines.len())
        };
        let thieves = async {
            let mut all: Vec<_> = (0..200).map(|_| Box::pin(thief())).collect();
            std::future::poll_fn(|context| {
                all.retain_mut(|one| one.as_mut().poll(context).is_pending());
                if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        };
        let ((), ended) = tokio::join!(thieves, owner);
        assert_eq!(ended.unwrap(), 1, "{renews}");
        spy.takes(Duration::ZERO);
        assert_eq!(origin(&bed, &jar).await, REVOKED);
    }
}

/// What is not known is not permitted, unless that was asked for.
#[actix_web::test]
async fn a_stream_whose_user_cannot_be_asked_about_goes_on_only_where_failures_are_open() {
    for policy in [FailurePolicy::Closed, FailurePolicy::Open] {
        let (bed, spy) =
            guarded(|builder| builder.revocation(Revocation::Every(MINUTE)).revocation_failure(policy));
        let (session, _) = stream(&bed, "ada").await;
        bed.clock.advance(MINUTE);
        spy.next([Fate::Fails]);
        let reloaded = session.reload().await;
        let unconfirmed = bed.events().contains(&Event::Unconfirmed { id: session.id() });
        match policy {
            FailurePolicy::Open => assert!(reloaded.is_ok() && unconfirmed),
            _ => assert!(matches!(reloaded, Err(CommitError::Store(_))) && !unconfirmed),
        }
    }
}

#[actix_web::test]
async fn revoking_while_it_is_off_is_an_error_that_says_what_to_add() {
    let off = Sessions::builder(KeyRing::new(key(1))).store(MemoryStore::new()).revocation(Revocation::Off);
    for sessions in [Bed::new().sessions, off.build().unwrap()] {
        let id = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
        for error in [sessions.revoke(id).await.unwrap_err(), sessions.revoke_subject("a").await.unwrap_err()]
        {
            assert!(matches!(error, RevokeError::Off));
            assert!(error.to_string().contains(".store("), "{error}");
        }
    }
}

/// Every cookie of a session's life: the first, more data, prolonged, moved into the store.
async fn a_life(bed: &Bed) -> (Jar, Vec<Jar>) {
    let mut jar = bed.logged_in().await;
    let mut all = vec![jar.clone()];
    bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    all.push(jar.clone());
    bed.clock.advance(DAY - 3 * MINUTE);
    bed.visit(&mut jar, |session| assert_eq!(session.len(), 1)).await;
    all.push(jar.clone());
    bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    all.push(jar.clone());
    (jar, all)
}

#[actix_web::test]
async fn a_session_that_was_asked_for_when_it_was_prolonged_is_not_asked_for_again_within_the_time() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = bed.logged_in().await;
    bed.clock.advance(DAY - 3 * MINUTE);
    let reply = bed.visit(&mut jar, |session| assert_eq!(session.len(), 1)).await;
    assert!(reply.set_cookie().is_some());
    spy.calls();
    bed.visit(&mut jar, |session| assert_eq!(session.len(), 1)).await;
    assert_eq!(spy.calls(), [""; 0]);
}

#[actix_web::test]
async fn a_late_answer_that_only_prolongs_is_left_out_also_where_it_would_ask_first() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = bed.logged_in().await;
    bed.clock.advance(DAY - 3 * MINUTE);
    let clock = bed.clock.clone();
    spy.calls();
    let late = move |session: &Session| {
        assert_eq!(session.len(), 1);
        clock.advance(Duration::from_millis(501));
    };
    assert_eq!(bed.visit(&mut jar, late).await.set_cookie(), None);
    assert_eq!(spy.calls(), ["load"], "when it was loaded, and not for an extension that waits");
}

#[actix_web::test]
async fn a_mere_extension_of_a_session_that_was_moved_meanwhile_follows_it_and_writes_nothing_over_it() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let mut jar = bed.logged_in().await;
    bed.clock.advance(DAY - 3 * MINUTE);
    // The other node has heard that all is fine, and does not know of the move.
    let mut old = jar.clone();
    assert_eq!(origin(&other, &old).await, Origin::Resumed);
    bed.visit(&mut jar, |session| {
        session.skip_renewal();
        session.insert("large", "x".repeat(5_000)).unwrap();
    })
    .await;
    spy.calls();
    let reply = other.visit(&mut old, |session| assert_eq!(session.len(), 1)).await;
    assert!(reply.set_cookie().is_some());
    assert_eq!(spy.calls(), ["load", "extend"]);
    assert_eq!(other.see(&old, Session::len).await, 2);
}

#[actix_web::test]
async fn after_a_logout_no_cookie_of_the_session_is_accepted_here_at_once_and_elsewhere_within_the_time() {
    for way in [0, 1, 2] {
        let (bed, spy) = guarded(|builder| builder);
        let other = other_node(&bed, &spy, |builder| builder);
        let (jar, all) = a_life(&bed).await;
        // The other process has seen each of them.
        for old in &all[1..] {
            assert_eq!(origin(&other, old).await, Origin::Resumed);
        }
        match way {
            0 => assert!(bed.peek(&jar, Session::destroy).await.removes()),
            1 => assert!(bed.peek(&jar, Session::renew).await.set_cookie().is_some()),
            _ => bed.sessions.revoke(bed.see(&jar, Session::id).await).await.unwrap(),
        }
        bed.events();
        for old in &all[1..] {
            assert_eq!(origin(&bed, old).await, REVOKED);
            assert_eq!(bed.rejections(), [Rejection::Revoked], "told once");
        }
        bed.clock.advance(MINUTE);
        for old in &all[1..] {
            let reply = other.peek(old, |session| assert_eq!(session.origin(), REVOKED)).await;
            assert_eq!(reply.set_cookie(), None, "a late answer must not remove a newer cookie");
        }
    }
}

#[actix_web::test]
async fn elsewhere_a_cached_answer_counts_to_the_millisecond_and_with_every_request_there_is_none() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let strict = other_node(&bed, &spy, |builder| builder.revocation(Revocation::EveryRequest));
    let off = other_node(&bed, &spy, |builder| builder.revocation(Revocation::Off));
    let jar = bed.logged_in().await;
    for node in [&other, &strict, &off] {
        assert_eq!(origin(node, &jar).await, Origin::Resumed);
    }
    bed.peek(&jar, Session::destroy).await;
    assert_eq!(origin(&strict, &jar).await, REVOKED);
    bed.clock.advance(MINUTE - MS);
    assert_eq!(origin(&other, &jar).await, Origin::Resumed);
    bed.clock.advance(MS);
    assert_eq!(origin(&other, &jar).await, REVOKED);
    assert_eq!(origin(&off, &jar).await, Origin::Resumed);
}

#[actix_web::test]
async fn the_store_is_asked_once_per_session_and_once_per_subject_and_minute_also_by_parallel_requests() {
    let (bed, spy) = guarded(|builder| builder);
    let jars = [login(&bed, "ada").await, login(&bed, "ada").await, bed.logged_in().await];
    let fresh = other_node(&bed, &spy, |builder| builder);
    spy.calls();
    for minute in 0..5 {
        for _ in 0..30 {
            for jar in &jars {
                assert_eq!(origin(&fresh, jar).await, Origin::Resumed);
            }
            bed.clock.advance(Duration::from_secs(2));
        }
        let lists = if minute == 0 { 2 } else { 0 };
        let calls = spy.calls();
        assert_eq!(calls, vec!["load"; 4 + lists], "three sessions and one subject, in minute {minute}");
    }

    spy.slowly(true);
    let loads = (0..50).map(|n| {
        let (sessions, jar) = (fresh.sessions.clone(), jars[n % 3].clone());
        tokio::spawn(async move { sessions.load(jar.0.iter()).await.unwrap().origin() })
    });
    for load in loads.collect::<Vec<_>>() {
        assert_eq!(load.await.unwrap(), Origin::Resumed);
    }
    assert_eq!(spy.calls(), ["load"; 4]);
}

#[actix_web::test]
async fn a_request_that_does_not_use_the_session_asks_nothing() {
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
    let jar = login(&bed, "ada").await;
    spy.calls();
    bed.call(&[jar.0.as_ref().unwrap().as_bytes()], |_| Ok(Answer::ok())).await;
    assert_eq!(spy.calls(), [""; 0]);
}

#[actix_web::test]
async fn open_uses_what_the_store_does_not_answer_for_and_closed_refuses_it_and_neither_besieges_the_store() {
    tokio::time::pause();
    for policy in [FailurePolicy::Open, FailurePolicy::Closed] {
        let with = |builder: SessionsBuilder| builder.revocation_failure(policy).rolling(true);
        let (bed, spy) = guarded(with);
        let (mut jar, mut revoked) = (login(&bed, "ada").await, bed.logged_in().await);
        bed.sessions.revoke(bed.see(&revoked, Session::id).await).await.unwrap();
        // Rolling: each response would prolong the session, and so ask once more.
        let fresh = other_node(&bed, &spy, with);
        spy.calls();
        spy.go_down(true);
        let served =
            if policy == FailurePolicy::Open { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        for _ in 0..5 {
            assert_eq!(status(&fresh, &mut jar, |_| ()).await, served);
            assert_eq!(status(&fresh, &mut revoked, |_| ()).await, served);
        }
        assert_eq!(spy.calls(), ["load"], "one question, then it is left alone");
        let unconfirmed = fresh.events().iter().filter(|e| matches!(e, Event::Unconfirmed { .. })).count();
        assert_eq!(unconfirmed > 0, policy == FailurePolicy::Open);

        spy.go_down(false);
        assert_eq!(status(&fresh, &mut jar, |_| ()).await, served, "not yet");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            status(&fresh, &mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await,
            200
        );
        assert_eq!(status(&fresh, &mut revoked, |session| assert_eq!(session.origin(), REVOKED)).await, 200);
    }
}

/// Whether the session is prolonged by a request that may have to wait.
pub(crate) async fn uses(bed: &Bed, jar: &mut Jar) -> bool {
    bed.clock.advance(Duration::from_secs(1));
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    assert_eq!(session.origin(), Origin::Resumed);
    let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop();
    let pair = line.as_ref().map(|line| line.split(';').next().unwrap().to_owned());
    jar.0 = pair.or(jar.0.take());
    line.is_some()
}

/// The rows of a session and of its subject are in two parts of the store, one of which falls silent.
#[actix_web::test]
async fn a_part_of_the_store_that_is_silent_costs_what_it_would_have_said_and_nothing_else() {
    tokio::time::pause();
    for of_subject in [true, false] {
        let with = |b: SessionsBuilder| b.revocation(Revocation::EveryRequest).roster(false).rolling(true);
        let (bed, spy) = guarded(with);
        spy.falls_apart();
        let (mut ada, mut bob) = (login(&bed, "ada").await, login(&bed, "bob").await);
        let mut rows = Vec::new();
        for jar in [&mut ada, &mut bob] {
            spy.loaded();
            // Asked before it is handled, and again before it is prolonged.
            assert!(uses(&bed, jar).await);
            let [session, subject, ..] = spy.loaded()[..] else { panic!("two questions") };
            rows.push([session, subject]);
        }
        bed.events();
        let silent = rows[0][usize::from(of_subject)];
        spy.falls_silent(Some(silent));
        let unconfirmed = || bed.events().iter().filter(|e| matches!(e, Event::Unconfirmed { .. })).count();

        assert!(!uses(&bed, &mut ada).await, "it cannot be prolonged");
        // The session's own part has used up the time, which is not the other's fault.
        let asked = if of_subject { vec![rows[0][0], silent, rows[0][0]] } else { vec![silent] };
        assert_eq!(spy.loaded(), asked);
        assert!(unconfirmed() > 0);
        for _ in 0..3 {
            assert!(!uses(&bed, &mut ada).await);
            let asked = spy.loaded();
            assert!(!asked.contains(&silent), "it is left alone");
            assert!(asked.contains(&rows[0][usize::from(!of_subject)]), "the other one is not");
            assert!(unconfirmed() > 0);

            assert!(uses(&bed, &mut bob).await);
            let [session, subject] = rows[1];
            assert_eq!(spy.loaded(), [session, subject, session, subject]);
            assert_eq!(unconfirmed(), 0);
        }
        // After a second one question tries it again.
        tokio::time::advance(Duration::from_secs(1)).await;
        spy.falls_silent(None);
        assert!(uses(&bed, &mut ada).await);
    }
}

#[actix_web::test]
async fn while_the_store_is_down_data_is_saved_and_nothing_is_prolonged_or_moved() {
    tokio::time::pause();
    let lifetime = Lifetime::new(60 * MINUTE).active(10 * MINUTE).idle(50 * MINUTE);
    let (bed, spy) = guarded(|builder| builder.lifetime(lifetime));
    let mut jar = login(&bed, "ada").await;
    bed.clock.advance(45 * MINUTE);
    bed.visit(&mut jar, |_| ()).await;
    bed.clock.advance(10 * MINUTE);
    assert_eq!(bed.see(&jar, Session::remaining).await, 15 * MINUTE);
    spy.go_down(true);

    // Due for the idle limit, and under a key that has been retired: the next request will do.
    bed.sessions.keys().rotate(key(2)).unwrap();
    assert_eq!(bed.peek(&jar, |_| ()).await.set_cookie(), None);
    // Data is saved, under the key and with the times that the session has.
    bed.visit(&mut jar, |session| session.insert("n", 7).unwrap()).await;
    let told = bed.sessions.inspect(jar.value()).unwrap();
    assert_eq!((told.key_id, told.retired_key), (key(1).id(), true));
    assert_eq!(told.expires_at - sealed_session::Clock::now(&bed.clock), 5 * MINUTE);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(7));

    let moves: [fn(&Session); 6] = [
        Session::touch,
        Session::renew,
        |session| session.set_duration(MINUTE).unwrap(),
        |session| session.set_subject("eve").unwrap(),
        |session| session.insert("large", "x".repeat(5_000)).unwrap(),
        Session::destroy,
    ];
    for (n, work) in moves.into_iter().enumerate() {
        let before = jar.clone();
        assert_eq!(status(&bed, &mut jar, work).await, StatusCode::SERVICE_UNAVAILABLE, "{n}");
        assert_eq!(jar.0.is_none(), n == 5, "of these only destroy takes the cookie away");
        jar = before;
    }
    spy.go_down(false);
    assert_eq!(bed.peek(&jar, |_| ()).await.set_cookie(), None, "it is left alone for a second");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(bed.visit(&mut jar, |session| assert_eq!(session.len(), 1)).await.set_cookie().is_some());
    let told = bed.sessions.inspect(jar.value()).unwrap();
    assert_eq!((told.key_id, told.retired_key), (key(2).id(), false));
}

#[actix_web::test]
async fn a_session_that_was_revoked_elsewhere_cannot_move_out_of_reach_while_it_is_cached_as_fine() {
    type Work = fn(&Session);
    let moves: [(&str, Work); 8] = [
        ("extension", |_| ()),
        ("idle refresh", |_| ()),
        ("touch", Session::touch),
        ("set_duration", |session| session.set_duration(300 * DAY).unwrap()),
        ("renew", Session::renew),
        ("set_subject", |session| session.set_subject("eve").unwrap()),
        ("spill", |session| session.insert("large", "x".repeat(5_000)).unwrap()),
        ("re-seal", |_| ()),
    ];
    for by_subject in [false, true] {
        for (name, work) in moves {
            tokio::task::yield_now().await;
            let idle = Lifetime::new(DAY).idle(60 * MINUTE);
            let with = |b: SessionsBuilder| if name == "idle refresh" { b.lifetime(idle) } else { b };
            let (bed, spy) = guarded(with);
            let other = other_node(&bed, &spy, with);
            let mut jar = login(&bed, "ada").await;
            if name == "idle refresh" {
                bed.clock.advance(7 * MINUTE);
            }
            if name == "extension" {
                bed.clock.advance(DAY - MINUTE);
            }
            assert_eq!(other.peek(&jar, Session::skip_renewal).await.set_cookie(), None);
            if by_subject {
                bed.sessions.revoke_subject("ada").await.unwrap();
            } else {
                bed.peek(&jar, Session::destroy).await;
            }
            if name == "re-seal" {
                bed.sessions.keys().rotate(key(2)).unwrap();
            }
            other.events();
            let before = jar.clone();
            let status = status(&other, &mut jar, work).await;
            assert_eq!(status == 200, !["renew", "set_subject"].contains(&name), "{name}");
            assert_eq!(jar.0, before.0, "{name}: no cookie was issued");
            let lost = Event::Lost {
                id: other.sessions.inspect(jar.value()).unwrap().id,
                reason: Rejection::Revoked,
            };
            assert_eq!(other.events().iter().filter(|event| **event == lost).count(), 1, "{name}");
            // And now this process knows as well.
            assert_eq!(origin(&other, &jar).await, REVOKED, "{name}");
            let rows = spy.rows.count().await.unwrap();
            // That of whom it was to become is empty again.
            let lists = if name == "set_subject" && !by_subject { 2 } else { 1 };
            assert_eq!(rows, 2 + lists, "{name}: the mark of the session before the login, this one, lists");
        }
    }
}

#[actix_web::test]
async fn a_stored_session_whose_subject_was_revoked_elsewhere_cannot_prolong_itself_either() {
    let moves: [fn(&Session); 4] = [
        |_| (),
        Session::touch,
        |session| session.set_duration(300 * DAY).unwrap(),
        |session| {
            session.touch();
            session.insert("n", 2).unwrap();
        },
    ];
    for (n, work) in moves.into_iter().enumerate() {
        let (bed, spy) = guarded(|builder| builder);
        let other = other_node(&bed, &spy, |builder| builder);
        let mut jar = login(&bed, "ada").await;
        bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
        bed.clock.advance(DAY - MINUTE);
        assert_eq!(other.peek(&jar, Session::skip_renewal).await.set_cookie(), None);
        bed.sessions.revoke_subject("ada").await.unwrap();
        assert_eq!(other.peek(&jar, work).await.set_cookie(), None, "{n}");
        assert_eq!(origin(&other, &jar).await, REVOKED, "{n}");
    }
}

#[actix_web::test]
async fn revoking_a_subject_ends_its_ten_sessions_and_no_other_ones_and_the_next_login_works() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let mut jars = Vec::new();
    for _ in 0..10 {
        jars.push(login(&bed, "ada").await);
    }
    // One of them lives in the store.
    bed.visit(&mut jars[9], |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let (bob, nobody) = (login(&bed, "bob").await, bed.logged_in().await);
    for jar in jars.iter().chain([&bob, &nobody]) {
        assert_eq!(origin(&other, jar).await, Origin::Resumed);
    }
    bed.sessions.revoke_subject("ada").await.unwrap();
    assert!(bed.events().contains(&Event::SubjectRevoked));
    for jar in &jars {
        assert_eq!(origin(&bed, jar).await, REVOKED);
        assert_eq!(origin(&other, jar).await, Origin::Resumed, "for another minute");
    }
    bed.clock.advance(MINUTE);
    for jar in &jars {
        assert_eq!(origin(&other, jar).await, REVOKED);
    }
    let again = login(&other, "ada").await;
    for node in [&bed, &other] {
        for jar in [&again, &bob, &nobody] {
            assert_eq!(origin(node, jar).await, Origin::Resumed);
        }
    }
    // The mark ends by itself, and those who began after it do not notice.
    bed.sessions.revoke_subject("ada").await.unwrap();
    assert_eq!(origin(&bed, &again).await, REVOKED);
}

#[actix_web::test]
async fn everywhere_but_here_is_revoke_subject_and_then_renew() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let (here, there) = (login(&bed, "ada").await, login(&bed, "ada").await);
    assert_eq!(origin(&other, &there).await, Origin::Resumed);
    let session = bed.sessions.load(here.0.iter()).await.unwrap();
    bed.sessions.revoke_subject("ada").await.unwrap();
    session.renew();
    let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
    let renewed = Jar(line.split(';').next().map(str::to_owned));
    bed.clock.advance(MINUTE);
    for node in [&bed, &other] {
        assert_eq!(origin(node, &renewed).await, Origin::Resumed);
        assert_eq!(node.see(&renewed, Session::subject).await.as_deref(), Some("ada"));
        for jar in [&here, &there] {
            assert_eq!(origin(node, jar).await, REVOKED);
        }
    }
}

/// Under the former key there is still what that revocation has left.
#[actix_web::test]
async fn everywhere_but_here_goes_on_here_where_the_user_was_revoked_before_a_rotation() {
    let (bed, _) = guarded(|builder| builder);
    login(&bed, "ada").await;
    bed.sessions.revoke_subject("ada").await.unwrap();
    bed.sessions.keys().rotate(key(2)).unwrap();
    let here = login(&bed, "ada").await;
    let there = login(&bed, "ada").await;
    bed.clock.advance(MINUTE);
    let session = bed.sessions.load(here.0.iter()).await.unwrap();
    assert_eq!(session.origin(), Origin::Resumed);
    bed.sessions.revoke_subject("ada").await.unwrap();
    session.renew();
    let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
    let renewed = Jar(line.split(';').next().map(str::to_owned));
    bed.clock.advance(MINUTE);
    assert_eq!(origin(&bed, &renewed).await, Origin::Resumed);
    for over in [&here, &there] {
        assert_eq!(origin(&bed, over).await, REVOKED);
    }
}

/// An administrator revokes the user in the middle of it, while a rotation is on its way: whoever comes first, this session is over.
#[actix_web::test]
async fn everywhere_but_here_does_not_outlive_a_revocation_that_it_meets_under_another_key() {
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    let here = login(&bed, "ada").await;
    let session = node.sessions.load(here.0.iter()).await.unwrap();
    let (ring, admin, after) = (bed.sessions.keys().clone(), bed.sessions.clone(), Arc::clone(&spy));
    let under_way = Arc::new(std::sync::Mutex::new(None));
    let out = Arc::clone(&under_way);
    spy.before("what was written", move || {
        // Under the first key it is there.
        ring.rotate(key(2)).unwrap();
        after.before("write", move || {
            let mut revokes = Box::pin(async move { admin.revoke_subject("ada").await });
            // Under the second key it is there, and waits for its turn under the first one.
            assert!((&mut revokes).now_or_never().is_none());
            *out.lock().unwrap() = Some(revokes);
        });
    });
    node.sessions.revoke_subject("ada").await.unwrap();
    session.renew();
    let renewed = node.sessions.commit(&session, CommitContext::default()).await;
    let revokes = under_way.lock().unwrap().take().unwrap();
    revokes.await.unwrap();
    assert!(matches!(renewed, Err(CommitError::Ended)), "{renewed:?}");
}

/// A thief who has logged in does what the owner did, on a node that has asked a moment ago: that does not help.
#[actix_web::test]
async fn who_was_revoked_does_not_come_back_by_revoking_everybody_else() {
    let settings = [Revocation::Every(MINUTE), Revocation::EveryRequest];
    // With another key in between there is nothing yet under it that the former revocation has left.
    for (revocation, rotates) in settings.into_iter().flat_map(|setting| [(setting, false), (setting, true)])
    {
        let (bed, spy) = guarded(|builder| builder.revocation(revocation));
        let other = other_node(&bed, &spy, |builder| builder.revocation(revocation));
        let mut jar = login(&bed, "ada").await;
        // With the password that is changed now.
        let copy = login(&bed, "ada").await;
        assert_eq!(origin(&other, &copy).await, Origin::Resumed);
        // It was there before the owner's request, as with a slow body.
        let theirs = other.sessions.load(copy.0.iter()).await.unwrap();
        let owners = bed.sessions.load(jar.0.iter()).await.unwrap();
        bed.sessions.revoke_subject("ada").await.unwrap();
        owners.renew();
        let line = bed.sessions.commit(&owners, CommitContext::default()).await.unwrap().pop().unwrap();
        jar = Jar(line.split(';').next().map(str::to_owned));
        assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
        if rotates {
            bed.sessions.keys().rotate(key(2)).unwrap();
        }
        other.sessions.revoke_subject("ada").await.unwrap();
        theirs.renew();
        let refused = other.sessions.commit(&theirs, CommitContext::default()).await;
        assert!(matches!(refused, Err(CommitError::Ended)), "{refused:?}");
    }
}

/// What it has done itself it need not ask about, however long ago that was, and whatever the setting.
#[actix_web::test]
async fn what_this_process_has_ended_stays_ended_here_while_the_store_is_down() {
    for revocation in [Revocation::Every(MINUTE), Revocation::EveryRequest] {
        let (bed, spy) = guarded(|builder| builder.revocation(revocation));
        let ended = login(&bed, "ada").await;
        bed.sessions.revoke_subject("ada").await.unwrap();
        let later = login(&bed, "ada").await;
        let other = login(&bed, "bob").await;
        bed.clock.advance(2 * MINUTE);
        spy.go_down(true);
        assert_eq!(origin(&bed, &ended).await, REVOKED, "{revocation:?}");
        for goes_on in [later, other] {
            assert_eq!(origin(&bed, &goes_on).await, Origin::Resumed);
        }

        // Once the row has gone, sessions begin without a generation again.
        spy.go_down(false);
        spy.rows.clear().await.unwrap();
        bed.clock.advance(MINUTE);
        let anew = login(&bed, "ada").await;
        bed.clock.advance(2 * MINUTE);
        spy.go_down(true);
        assert_eq!(origin(&bed, &anew).await, Origin::Resumed, "{revocation:?}");
    }
}

/// Also of a session that a node began whose clock is ahead, as far as that is permitted.
#[actix_web::test]
async fn what_a_node_ahead_had_begun_stays_ended_here_too_while_the_store_is_down() {
    for (ahead, expected) in [(MINUTE, REVOKED), (MINUTE + MS, Origin::Resumed)] {
        let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
        bed.clock.advance(ahead);
        let jar = login(&bed, "ada").await;
        bed.clock.set(start());
        bed.sessions.revoke_subject("ada").await.unwrap();
        bed.clock.advance(2 * MINUTE);
        spy.go_down(true);
        assert_eq!(origin(&bed, &jar).await, expected, "{ahead:?}");
    }
}

/// The processes of a deployment read their key file up to a second apart.
#[actix_web::test]
async fn a_subject_is_revoked_too_under_a_key_that_only_another_process_has_read() {
    let path = std::env::temp_dir().join(format!("sealed-session-revocation-{}.keys", Key::generate().id()));
    let ring = KeyRing::open_or_create(&path).unwrap();
    let (first, spy) = guarded(|builder| builder);
    let node = |ring| {
        Bed::on(ring, first.clock.clone(), |b| b.store(spy.clone()).revocation(Revocation::EveryRequest))
    };
    let (bed, other) = (node(ring), node(KeyRing::open(&path).unwrap()));
    let mut jar = login(&bed, "ada").await;
    let rotated = Key::generate();
    other.sessions.keys().rotate(rotated.clone()).unwrap();
    other.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    assert_eq!(other.sessions.inspect(jar.value()).unwrap().key_id, rotated.id());
    assert_ne!(bed.sessions.keys().primary(), rotated.id(), "it has not looked yet");
    bed.sessions.revoke_subject("ada").await.unwrap();
    let revoked = origin(&other, &jar).await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(revoked, REVOKED);
}

#[actix_web::test]
async fn a_subject_stays_revoked_when_the_key_is_rotated_and_a_fresh_login_survives_the_rotation() {
    let (bed, _) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
    let old = login(&bed, "ada").await;
    bed.sessions.revoke_subject("ada").await.unwrap();
    let mut fresh = login(&bed, "ada").await;
    for n in 2..5 {
        bed.sessions.keys().rotate(key(n)).unwrap();
        assert_eq!(origin(&bed, &old).await, REVOKED);
        bed.visit(&mut fresh, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
        assert_eq!(bed.sessions.inspect(fresh.value()).unwrap().key_id, key(n).id());
    }
    bed.sessions.revoke_subject("ada").await.unwrap();
    assert_eq!(origin(&bed, &fresh).await, REVOKED);
}

/// A re-seal takes the subject's generation from one key's row to another's. A revocation that has come to the one and
/// not to the other must not be slipped under.
#[actix_web::test]
async fn a_reseal_in_the_middle_of_a_revocation_waits_for_the_next_request() {
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
    bed.sessions.keys().add_retired(key(2)).unwrap();
    bed.sessions.revoke_subject("ada").await.unwrap();
    let mut jar = login(&bed, "ada").await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    // The first of the two rows is written, which is that of the key that seals now; the second write fails.
    spy.calls();
    spy.next([Fate::Passes, Fate::Passes, Fate::Passes, Fate::Fails, Fate::Fails]);
    assert!(bed.sessions.revoke_subject("ada").await.is_err());
    assert_eq!(
        bed.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await.set_cookie(),
        None
    );
    bed.sessions.revoke_subject("ada").await.unwrap();
    assert_eq!(origin(&bed, &jar).await, REVOKED);
}

#[actix_web::test]
async fn an_older_cookie_of_a_spilled_session_is_a_reference_and_its_own_data_is_dead() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let mut jar = bed.logged_in().await;
    let mut old = jar.clone();
    bed.visit(&mut jar, |session| {
        session.insert("n", 2).unwrap();
        session.insert("large", "x".repeat(5_000)).unwrap();
    })
    .await;
    for node in [&bed, &other] {
        let seen = node.see(&old, |session| (session.get::<u8>("n").unwrap(), session.placement())).await;
        assert!(matches!(seen, (Some(2), Placement::Store { .. })));
        assert_eq!(node.peek(&old, |_| ()).await.set_cookie(), None, "reading issues nothing");
    }
    // Who writes with it gets a reference of his own, and both lead to the same.
    other.visit(&mut old, |session| session.insert("n", 3).unwrap()).await;
    assert!(old.value().len() < 200, "a reference, which is smaller than any session");
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(3));
}

#[actix_web::test]
async fn a_cookie_that_another_node_issued_after_the_spill_is_newer_than_the_row() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let mut jar = bed.logged_in().await;
    assert_eq!(origin(&other, &jar).await, Origin::Resumed);
    // The answer to the spill is lost, and the other node does not know of it yet.
    bed.peek(&jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    other.visit(&mut jar, |session| session.insert("n", 9).unwrap()).await;
    let seen = bed.see(&jar, |session| (session.get::<u8>("n").unwrap(), session.len())).await;
    assert_eq!(seen, (Some(9), 1), "what was acknowledged last");
    // It is in the row as well from then on.
    bed.visit(&mut jar, |session| session.insert("m", 1).unwrap()).await;
    bed.clock.advance(MINUTE);
    assert_eq!(other.see(&jar, Session::keys).await, ["m", "n"]);
    assert_eq!(spy.rows.count().await.unwrap(), 1);
}

#[actix_web::test]
async fn an_extension_that_meets_the_spill_of_another_node_goes_on_as_a_reference() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let jar = bed.logged_in().await;
    bed.clock.advance(DAY - MINUTE);
    let slow = other.sessions.load(jar.0.iter()).await.unwrap();
    bed.peek(&jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let line = other.sessions.commit(&slow, CommitContext::default()).await.unwrap().pop().unwrap();
    let extended = Jar(line.split(';').next().map(str::to_owned));
    let seen = bed.see(&extended, |session| (session.placement(), session.keys())).await;
    assert!(matches!(seen.0, Placement::Store { .. }));
    assert_eq!(seen.1, ["large", "n"]);
    assert_eq!(spy.rows.count().await.unwrap(), 1);
}

#[actix_web::test]
async fn an_extension_of_a_newer_cookie_than_the_one_that_was_spilled_puts_its_data_into_the_row() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let mut jar = bed.logged_in().await;
    let older = jar.clone();
    other.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    bed.clock.advance(DAY - MINUTE);
    let slow = other.sessions.load(jar.0.iter()).await.unwrap();
    bed.peek(&older, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let line = other.sessions.commit(&slow, CommitContext::default()).await.unwrap().pop().unwrap();
    let extended = Jar(line.split(';').next().map(str::to_owned));
    let seen = bed.see(&extended, |session| (session.keys(), session.get::<u8>("n").unwrap())).await;
    assert_eq!(seen, (vec!["n".to_owned()], Some(2)), "what the browser was told last");
}

#[actix_web::test]
async fn an_extension_that_meets_a_row_which_cannot_be_read_issues_nothing() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let jar = bed.logged_in().await;
    bed.clock.advance(DAY - MINUTE);
    let slow = other.sessions.load(jar.0.iter()).await.unwrap();
    bed.peek(&jar, Session::destroy).await;
    let [row] = spy.row_keys()[..] else { panic!() };
    spy.overwrite(&row, b"garbage").await;
    assert_eq!(other.sessions.commit(&slow, CommitContext::default()).await.unwrap().pop(), None);
}

#[actix_web::test]
async fn a_renew_that_waited_for_a_logout_which_failed_is_a_renew() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = bed.logged_in().await;
    let destroys = bed.sessions.load(jar.0.iter()).await.unwrap();
    let renews = bed.sessions.load(jar.0.iter()).await.unwrap();
    destroys.destroy();
    renews.renew();
    spy.slowly(true);
    spy.next([Fate::Fails, Fate::Fails]);
    let context = CommitContext::default();
    let (failed, renewed) =
        tokio::join!(bed.sessions.commit(&destroys, context), bed.sessions.commit(&renews, context));
    assert!(matches!(failed, Err(CommitError::NotEnded { .. })));
    assert_eq!(renewed.unwrap().len(), 1);
    assert_eq!(origin(&bed, &jar).await, REVOKED);
}

#[actix_web::test]
async fn a_poll_from_before_a_login_that_answers_after_it_issues_nothing() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let mut jar = bed.logged_in().await;
    bed.clock.advance(DAY - MINUTE);
    for poll_on in [&bed, &other] {
        let poll = poll_on.sessions.load(jar.0.iter()).await.unwrap();
        bed.visit(&mut jar, |session| session.renew()).await;
        bed.clock.advance(DAY - MINUTE);
        assert_eq!(poll_on.sessions.commit(&poll, CommitContext::default()).await.unwrap().pop(), None);
        assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
    }
    drop(spy);
}

#[actix_web::test]
async fn of_a_renew_and_a_destroy_at_once_the_destroy_wins_or_there_was_nothing_left_to_destroy() {
    let (bed, spy) = guarded(|builder| builder);
    let other = other_node(&bed, &spy, |builder| builder);
    let jar = bed.logged_in().await;
    let (renews, destroys) =
        (bed.sessions.load(jar.0.iter()).await.unwrap(), other.sessions.load(jar.0.iter()).await.unwrap());
    renews.renew();
    destroys.destroy();
    assert!(other.sessions.commit(&destroys, CommitContext::default()).await.unwrap().pop().is_some());
    let renewed = bed.sessions.commit(&renews, CommitContext::default()).await;
    assert!(matches!(renewed, Err(CommitError::Ended)), "{renewed:?}");
    assert_eq!(spy.rows.count().await.unwrap(), 1, "the mark alone");
}

#[actix_web::test]
async fn a_driver_that_repeats_the_write_which_ends_a_session_does_not_make_the_renew_fail() {
    for in_store in [false, true] {
        let (bed, spy) = guarded(|builder| builder);
        let mut jar = bed.logged_in().await;
        if in_store {
            bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
            bed.visit(&mut jar, |session| assert!(session.remove("large"))).await;
        }
        let session = bed.sessions.load(jar.0.iter()).await.unwrap();
        session.renew();
        spy.conflict_with_itself();
        assert!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().is_some());
        assert_eq!(origin(&bed, &jar).await, REVOKED);
    }
}

#[actix_web::test]
async fn a_driver_that_repeats_the_write_of_everywhere_but_here_does_not_end_the_session_here() {
    let (bed, spy) = guarded(|builder| builder);
    let mut here = bed.logged_in().await;
    bed.visit(&mut here, |session| session.authenticate("ada").unwrap()).await;
    // Also where the subject had a generation before.
    for _ in 0..2 {
        let there = bed.sessions.issue(|session| session.authenticate("ada")).await.unwrap();
        let session = bed.sessions.load(here.0.iter()).await.unwrap();
        spy.conflict_with_itself();
        bed.sessions.revoke_subject("ada").await.unwrap();
        session.renew();
        let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop();
        here = Jar(line.unwrap().split(';').next().map(str::to_owned));
        assert_eq!(origin(&bed, &here).await, Origin::Resumed);
        assert_eq!(origin(&bed, &Jar(Some(there))).await, REVOKED);
        bed.clock.advance(MINUTE);
    }
}

#[actix_web::test]
async fn a_logout_has_room_in_a_full_store_and_one_that_fails_is_503_with_the_removal_cookie() {
    let (bed, spy) = guarded(|builder| builder);
    let clock = bed.clock.clone();
    let full = Arc::new(MemoryStore::new().clock(clock.clone()).max_bytes(2_000));
    let store = Arc::clone(&full);
    let tight = Bed::on(KeyRing::new(key(1)), clock, |builder| builder.store(store));
    let mut large = Jar::default();
    let work: fn(&Session) = |session| session.insert("large", "x".repeat(5_000)).unwrap();
    assert_eq!(status(&tight, &mut large, work).await, StatusCode::SERVICE_UNAVAILABLE);
    for n in 1..40 {
        let jar = tight.logged_in().await;
        tight.peek(&jar, Session::destroy).await;
        assert_eq!(origin(&tight, &jar).await, REVOKED);
        assert_eq!(full.count().await.unwrap(), n);
    }

    let mut jar = bed.logged_in().await;
    spy.go_down(true);
    assert_eq!(status(&bed, &mut jar, Session::destroy).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(jar.0, None);
}

#[actix_web::test]
async fn a_row_that_cannot_be_read_is_not_taken_for_none() {
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
    let jar = bed.logged_in().await;
    bed.peek(&jar, Session::destroy).await;
    let [row] = spy.row_keys()[..] else { panic!() };
    spy.overwrite(&row, b"garbage").await;
    let other = other_node(&bed, &spy, |builder| builder);
    assert_eq!(origin(&other, &jar).await, Origin::Rejected(Rejection::Missing));

    // Of a subject neither: it is a failure of the store.
    let closed = other_node(&bed, &spy, |builder| builder.revocation_failure(FailurePolicy::Closed));
    let known = spy.row_keys();
    let mut ada = login(&bed, "ada").await;
    bed.sessions.revoke_subject("ada").await.unwrap();
    let place = spy.row_keys().into_iter().filter(|key| !known.contains(key)).collect::<Vec<_>>();
    let mut garbled = 0;
    for key in place {
        spy.overwrite(&key, b"garbage").await;
        garbled += 1;
    }
    assert_eq!(garbled, 3, "the former session's mark, the subject's generation, and its list");
    assert_eq!(status(&closed, &mut ada, |_| ()).await, StatusCode::SERVICE_UNAVAILABLE);
}

#[actix_web::test]
async fn an_id_that_never_was_can_be_revoked_and_a_row_of_somebody_else_is_not_touched() {
    let (bed, spy) = guarded(|builder| builder);
    let strangers = sealed_session::store::RowKey::from_bytes([7; 32]);
    let row = NewRow {
        data: b"somebody's",
        revision: Revision::random(),
        expires_at: sealed_session::Clock::now(&bed.clock) + DAY,
    };
    assert_eq!(
        spy.rows.write(&strangers, row, Expected::Absent).await.unwrap(),
        sealed_session::store::Written::Done
    );
    let id = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
    bed.sessions.revoke(id).await.unwrap();
    bed.sessions.revoke(id).await.unwrap();
    assert_eq!(bed.events(), [Event::Revoked { id }, Event::Revoked { id }]);
    assert_eq!(spy.rows.count().await.unwrap(), 2);
    assert_eq!(spy.rows.load(&strangers).await.unwrap().unwrap().data, b"somebody's");
}

/// A small generator, so that a history is named by its number.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// The mark of an ended session lasts exactly until no cookie that led to it, and none that was issued beside the last
/// one, can be alive any more: under no configuration that any process had.
#[actix_web::test]
async fn no_mark_outlives_or_underlives_the_last_cookie_that_it_has_to_stop() {
    let skew = MINUTE;
    let minutes = |random: &mut Random, n| (1 + random.below(n) as u32) * MINUTE;
    let mut outlived = 0;
    for seed in 1..400 {
        tokio::task::yield_now().await;
        let mut random = Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15) | 1);
        let (first, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
        // What a process may be configured to, now and in the course of time.
        let configure = |random: &mut Random| {
            let duration = minutes(random, 600);
            let active = minutes(random, 60).min(duration);
            let mut lifetime = Lifetime::new(duration).active(active);
            if random.below(3) == 0 {
                lifetime = lifetime.absolute(minutes(random, 900));
            }
            if random.below(3) == 0 {
                lifetime = lifetime.idle(minutes(random, 300));
            }
            (duration.max(2 * active), lifetime)
        };
        let node = |lifetime| {
            other_node(&first, &spy, |b| b.lifetime(lifetime).revocation(Revocation::EveryRequest))
        };
        let (mut longest, mut lifetime) = configure(&mut random);
        let mut lifetimes = vec![lifetime];
        let mut jar = node(lifetime).logged_in().await;
        let mut cookies = vec![jar.clone()];
        for _ in 0..random.below(8) {
            first.clock.advance(minutes(&mut random, 60));
            if random.below(3) == 0 {
                let (span, changed) = configure(&mut random);
                (longest, lifetime) = (longest.max(span), changed);
                lifetimes.push(lifetime);
            }
            let own = minutes(&mut random, 2_000);
            let what = random.below(4);
            if what == 0 {
                longest = longest.max(own);
            }
            let work = move |session: &Session| match (session.origin(), what) {
                (Origin::Resumed, 0) => session.set_duration(own).unwrap(),
                (Origin::Resumed, 1) => session.touch(),
                (Origin::Resumed, 2) => drop(session.increment("n", 1)),
                _ => {}
            };
            node(lifetime).visit(&mut jar, work).await;
            if jar.0.is_none() {
                break;
            }
            cookies.push(jar.clone());
        }
        let last = node(lifetime);
        if jar.0.is_none() || origin(&last, &jar).await != Origin::Resumed {
            continue;
        }
        let now = sealed_session::Clock::now(&first.clock);
        let before = spy.row_keys();
        assert_eq!(before.len(), 0);
        assert!(last.peek(&jar, Session::destroy).await.removes());
        let [mark] = spy.row_keys()[..] else { panic!("one mark") };
        let expires_at = spy.rows.load(&mark).await.unwrap().unwrap().expires_at;

        // Under the most permissive configuration each cookie lives as long as it was ever meant to.
        let permissive = Lifetime::new(400 * DAY).active(MINUTE);
        let ends = node(permissive);
        let end = |jar: &Jar| ends.sessions.inspect(jar.value()).map(|told| told.expires_at).unwrap_or(now);
        let last_end = cookies.iter().map(end).max().unwrap();
        assert!(expires_at >= last_end + 2 * skew, "seed {seed}: underlives");
        lifetimes.push(permissive);
        for at in [now, last_end - MS, last_end + 2 * skew - MS, expires_at - MS] {
            if at < now {
                continue;
            }
            first.clock.set(at);
            for lifetime in &lifetimes {
                for old in &cookies {
                    tokio::task::yield_now().await;
                    let found = origin(&node(*lifetime), old).await;
                    assert!(matches!(found, Origin::Rejected(_)), "seed {seed}: {found:?}");
                }
            }
        }
        // A request beside the destroy could have been given that much.
        assert!(expires_at <= last_end.max(now + longest) + 2 * skew, "seed {seed}: outlives");
        outlived += 1;
        first.clock.set(expires_at);
        assert_eq!(spy.rows.count().await.unwrap(), 0);
    }
    assert!(outlived > 150, "{outlived}");
}

/// A cookie that was sealed by a clock that is ahead a minute, in a store that is ahead as well, judged by a clock that is not.
#[actix_web::test]
async fn a_mark_lasts_where_clocks_are_as_far_apart_as_they_may_be() {
    let ahead = ManualClock::at(start() + MINUTE);
    let spy = Spy::new(&ahead);
    let ring = KeyRing::new(key(1));
    let node = |clock: &ManualClock| {
        let store = Arc::clone(&spy);
        Bed::on(ring.clone(), clock.clone(), |builder| builder.store(store).lifetime(Lifetime::new(DAY)))
    };
    let clock = ManualClock::at(start());
    let here = node(&clock);
    let jar = here.logged_in().await;
    let mut copy = jar.clone();
    node(&ahead).visit(&mut copy, Session::touch).await;
    assert!(here.peek(&jar, Session::destroy).await.removes());
    for left in [DAY, MINUTE, MS] {
        clock.set(start() + DAY + MINUTE - left);
        ahead.set(start() + DAY + 2 * MINUTE - left);
        assert_eq!(
            origin(&node(&clock), &copy).await,
            Origin::Rejected(Rejection::Revoked),
            "{left:?} before its end"
        );
    }
    clock.advance(MS);
    ahead.advance(MS);
    assert!(matches!(origin(&node(&clock), &copy).await, Origin::Rejected(Rejection::Expired(_))));
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn the_marks_of_logouts_are_never_more_than_the_logouts_of_one_lifetime() {
    let (bed, spy) = guarded(|builder| builder.lifetime(Lifetime::new(60 * MINUTE).active(5 * MINUTE)));
    for minute in 0..600_u32 {
        // Or the runtime makes somebody wait, to be fair to others.
        tokio::task::yield_now().await;
        let jar = bed.logged_in().await;
        bed.peek(&jar, Session::destroy).await;
        let marks = spy.rows.count().await.unwrap();
        // The two minutes of skew, and the one that ends right now.
        assert!(marks <= 62, "{marks} in minute {minute}");
        assert_eq!(marks, u64::from(minute.min(61) + 1), "in minute {minute}");
        bed.clock.advance(MINUTE);
    }
    bed.clock.advance(62 * MINUTE);
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}
