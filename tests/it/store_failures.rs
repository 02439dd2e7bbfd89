//! The store fails: who notices, what is answered, and what is there afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, LOCATION, RETRY_AFTER, SET_COOKIE, VARY};
use sealed_session::store::Store;
use sealed_session::{
    CommitContext, CommitError, Event, Origin, Rejection, Revocation, Session, Sessions, StoreError,
};

use crate::framework::ask;
use crate::spy::{Fate, Spy, status, stored};
use crate::stored::spilled;
use crate::support::{Answer, Bed, DAY, Jar, MINUTE, Reply, Wrapped, now};

/// One request whose handler also sets a cookie of its own, a redirect and a body.
async fn visit(bed: &Bed, jar: &Jar, work: impl Fn(&Session) + 'static) -> Reply {
    let cookies: Vec<&[u8]> = jar.0.iter().map(String::as_bytes).collect();
    bed.call(&cookies, move |request| {
        work(&now(request.session())?);
        let answer = Answer::new(StatusCode::SEE_OTHER).with(SET_COOKIE, "theme=dark");
        Ok(answer.with(LOCATION, "/there").body("all is well"))
    })
    .await
}

fn is_503(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.body, b"");
    assert_eq!(reply.all(RETRY_AFTER), ["1"]);
    assert!(!reply.headers.contains_key("location"));
}

fn failures(bed: &Bed) -> Vec<(&'static str, &'static str)> {
    let failure = |event| match event {
        Event::StoreFailed { operation, kind, error } => {
            assert!(error.contains(": "), "an error comes with its cause: {error}");
            Some((operation, kind))
        }
        _ => None,
    };
    bed.events().into_iter().filter_map(failure).collect()
}

#[actix_web::test]
async fn a_store_that_is_down_costs_503_for_stored_sessions_and_nothing_for_those_in_cookies() {
    let (bed, spy) = stored(|builder| builder);
    let mut in_cookie = bed.logged_in().await;
    let in_store = spilled(&bed).await;
    spy.go_down(true);
    let reply = visit(&bed, &in_store, |_| unreachable!()).await;
    is_503(&reply);
    assert!(reply.all(SET_COOKIE).is_empty(), "the handler was never reached");
    assert_eq!(failures(&bed), [("load", "unavailable")]);

    bed.visit(&mut in_cookie, |session| session.insert("n", 2).unwrap()).await;
    bed.visit(&mut in_cookie, Session::renew).await;
    assert_eq!(bed.see(&in_cookie, |session| session.get::<u8>("n").unwrap()).await, Some(2));
    assert_eq!(failures(&bed), []);

    spy.go_down(false);
    assert_eq!(bed.see(&in_store, |session| session.get::<u8>("n").unwrap()).await, Some(1));
}

#[actix_web::test]
async fn a_store_that_fails_while_a_session_spills_is_503_before_any_header_and_the_old_state_stays() {
    let (bed, spy) = stored(|builder| builder);
    let jar = bed.logged_in().await;
    spy.go_down(true);
    let reply = visit(&bed, &jar, |session| {
        session.insert("n", 2).unwrap();
        session.insert("large", "x".repeat(5_000)).unwrap();
    })
    .await;
    is_503(&reply);
    assert_eq!(
        reply.all(SET_COOKIE),
        ["theme=dark"],
        "of the application's, which has nothing to do with it"
    );
    assert_eq!(failures(&bed), [("write", "unavailable"), ("load", "unavailable")]);
    spy.go_down(false);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(1));
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn a_failed_commit_keeps_of_the_response_what_lets_a_page_of_another_origin_read_the_status() {
    let kept = [
        ("access-control-allow-origin", "https://shop.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "retry-after"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("timing-allow-origin", "*"),
        ("clear-site-data", "\"cache\""),
        ("set-cookie", "theme=dark"),
        ("set-cookie", "lang=eo"),
        ("vary", "Origin"),
        ("vary", "Accept-Encoding"),
        ("secure-session-registration", "(ES256);path=\"/admin/device\""),
        ("secure-session-challenge", "\"of another scope\""),
    ];
    let dropped = [
        ("etag", "\"1\""),
        ("content-type", "text/html"),
        ("content-encoding", "gzip"),
        ("location", "/there"),
        ("x-access-control-allow-origin", "*"),
    ];
    let (bed, spy) = stored(|builder| builder);
    spy.go_down(true);
    let reply = bed
        .call(&[], move |request| {
            now(request.session())?.insert("large", "x".repeat(5_000))?;
            let headers = kept.iter().chain(&dropped);
            let answer = Answer::new(StatusCode::CREATED).body("all is well");
            let answer = answer.with(CACHE_CONTROL, "public, max-age=60");
            Ok(headers.fold(answer, |answer, (name, value)| answer.with(name.parse().unwrap(), value)))
        })
        .await;
    is_503(&reply);
    for (name, _) in kept {
        let expected: Vec<_> = kept.iter().filter(|(other, _)| *other == name).map(|(_, v)| *v).collect();
        assert_eq!(reply.all(name.parse().unwrap()), expected, "{name}");
    }
    for (name, _) in dropped {
        assert!(!reply.headers.contains_key(name), "{name}");
    }
    assert_eq!(reply.all(CACHE_CONTROL), ["no-store"]);
}

/// A page for visitors that a user gets while the store is down is not everybody's.
#[actix_web::test]
async fn what_a_handler_makes_of_a_session_that_the_store_does_not_give_varies_by_cookie() {
    for (cache_headers, expected) in [(true, vec!["Cookie"]), (false, vec![])] {
        let (bed, spy) = stored(|builder| builder.cache_headers(cache_headers));
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
        spy.go_down(true);
        let cookie = jar.0.unwrap();
        let reply = bed
            .call(&[cookie.as_bytes()], |request| {
                assert!(now(request.session()).is_err());
                Ok(Answer::ok().with(CACHE_CONTROL, "public, max-age=60"))
            })
            .await;
        assert_eq!((reply.status, reply.all(VARY)), (StatusCode::OK, expected));
    }
}

#[actix_web::test]
async fn a_write_that_fails_is_503_and_the_row_is_as_it_was() {
    for fate in [Fate::Fails, Fate::TimesOut] {
        let (bed, spy) = stored(|builder| builder);
        let jar = spilled(&bed).await;
        spy.next([Fate::Passes, fate]);
        is_503(&visit(&bed, &jar, |session| session.insert("n", 2).unwrap()).await);
        assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(1));
    }
}

#[actix_web::test]
async fn a_store_that_never_answers_is_given_up_after_its_time() {
    let timeout = Duration::from_millis(30);
    let (bed, spy) = stored(|builder| builder.store_timeout(timeout));
    let jar = spilled(&bed).await;
    let cookie = jar.0.as_ref().unwrap();

    spy.next([Fate::Hangs]);
    let start = Instant::now();
    bed.sessions.load([cookie]).await.unwrap_err();
    assert!(start.elapsed() >= timeout && start.elapsed() < 20 * timeout);

    let session = bed.sessions.load([cookie]).await.unwrap();
    session.insert("n", 2).unwrap();
    spy.next([Fate::Hangs, Fate::Hangs]);
    spy.calls();
    let start = Instant::now();
    let error = bed.sessions.commit(&session, CommitContext::default()).await.unwrap_err();
    assert!(matches!(error, CommitError::Store(_)));
    assert!(start.elapsed() >= 2 * timeout && start.elapsed() < 40 * timeout, "a write, and a look for it");
    assert_eq!(spy.calls(), ["write", "load"]);
    assert_eq!(failures(&bed), [("load", "timeout"), ("write", "timeout"), ("load", "timeout")]);
}

#[actix_web::test]
async fn writers_that_never_win_give_up_in_time_with_a_conflict() {
    let (bed, spy) = stored(|builder| builder.store_timeout(Duration::from_millis(60)));
    let jar = spilled(&bed).await;
    let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    session.insert("n", 2).unwrap();
    spy.always_ahead();
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let error = bed.sessions.commit(&session, CommitContext::default()).await.unwrap_err();
    assert!(matches!(error, CommitError::Conflict));
    // The last pause ends before the time is over, and sleeping is exact to the next millisecond.
    assert!(began.elapsed() <= Duration::from_millis(61), "{:?}", began.elapsed());
    let tries = spy.calls().iter().filter(|call| **call == "write").count();
    assert!((2..40).contains(&tries), "{tries}");
    let told = bed.events();
    assert_eq!(told.iter().filter(|event| matches!(event, Event::Conflicted { .. })).count(), 1);
}

#[actix_web::test]
async fn an_extension_that_the_store_refuses_is_made_up_for_by_the_next_request() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    bed.clock.advance(DAY - MINUTE);
    spy.next([Fate::Passes, Fate::Fails]);
    let reply = visit(&bed, &jar, |_| {}).await;
    assert_eq!((reply.status, reply.set_cookie()), (StatusCode::SEE_OTHER, None));
    assert_eq!(failures(&bed), [("extend", "unavailable")]);
    assert!(visit(&bed, &jar, |_| {}).await.set_cookie().is_some());
    // Asked for, it has to be kept.
    spy.next([Fate::Passes, Fate::Fails]);
    is_503(&visit(&bed, &jar, |session| session.set_duration(30 * DAY).unwrap()).await);
    // A new key can wait, too.
    bed.sessions.keys().rotate(crate::support::key(2)).unwrap();
    spy.next([Fate::Passes, Fate::Fails]);
    let reply = visit(&bed, &jar, |_| {}).await;
    assert_eq!((reply.status, reply.set_cookie()), (StatusCode::SEE_OTHER, None));
}

#[actix_web::test]
async fn a_session_that_cannot_be_ended_is_503_with_the_removal_of_the_cookie() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    spy.next([Fate::Passes, Fate::Fails]);
    let reply = visit(&bed, &jar, Session::destroy).await;
    is_503(&reply);
    assert!(reply.removes());
    assert_eq!(reply.all(CACHE_CONTROL), ["no-store"]);
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Resumed, "it was not ended, as the status says");
}

#[actix_web::test]
async fn a_store_that_fails_between_the_two_writes_of_a_renew_costs_no_data() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    spy.next([Fate::Passes, Fate::Passes, Fate::Fails, Fate::Fails]);
    is_503(&visit(&bed, &jar, Session::renew).await);
    assert_eq!(spy.rows.count().await.unwrap(), 2, "the other one is an orphan");
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(1));
    bed.clock.advance(DAY + 2 * MINUTE);
    assert_eq!(spy.rows.count().await.unwrap(), 0, "that expires");

    let jar = spilled(&bed).await;
    spy.next([Fate::Passes, Fate::Fails]);
    is_503(&visit(&bed, &jar, |session| session.set_subject("ada").unwrap()).await);
    assert_eq!(bed.see(&jar, |session| (session.subject(), session.len())).await, (None, 2));
}

/// Or a crawler, with a session of a few bytes for each of its requests, would fill the memory all the same.
#[actix_web::test]
async fn a_full_store_refuses_small_sessions_too_and_takes_whatever_ends_one() {
    let clock = sealed_session::ManualClock::at(crate::support::start());
    const MOST: usize = 2_500;
    let store = Arc::new(sealed_session::store::MemoryStore::new().clock(clock.clone()).max_bytes(MOST));
    let shared = Arc::clone(&store);
    let keys = sealed_session::KeyRing::new(crate::support::key(1));
    let configure =
        |builder: sealed_session::SessionsBuilder| builder.store(shared).spill_above(0).roster(false);
    let bed = Bed::on(keys, clock, configure);
    let first = |session: &Session| {
        session.authenticate("ada").unwrap();
        session.insert("n", 1).unwrap();
    };
    let mut jars = Vec::new();
    loop {
        let mut jar = Jar::default();
        if status(&bed, &mut jar, first).await != StatusCode::OK {
            break;
        }
        jars.push(jar);
        assert!(jars.len() < 50, "{} bytes", store.bytes());
    }
    assert!(store.bytes() <= MOST);
    let (before, sessions) = (store.count().await.unwrap(), &bed.sessions);
    assert_eq!(status(&bed, &mut jars[0].clone(), Session::destroy).await, StatusCode::OK);
    // Of a session that has no row.
    let elsewhere = Bed::new();
    let id = elsewhere.see(&elsewhere.logged_in().await, Session::id).await;
    sessions.revoke(id).await.unwrap();
    sessions.revoke_subject("bob").await.unwrap();
    assert_eq!(store.count().await.unwrap(), before + 2);
    sessions.revoke_subject("ada").await.unwrap();
    for jar in &jars {
        assert!(matches!(bed.see(jar, Session::origin).await, Origin::Rejected(Rejection::Revoked)));
    }
}

#[actix_web::test]
async fn a_full_store_refuses_the_new_and_goes_on_with_the_old() {
    let clock = sealed_session::ManualClock::at(crate::support::start());
    let store = Arc::new(sealed_session::store::MemoryStore::new().clock(clock.clone()).max_bytes(12_000));
    let shared = Arc::clone(&store);
    let bed =
        Bed::on(sealed_session::KeyRing::new(crate::support::key(1)), clock, |builder| builder.store(shared));
    let (one, other) = (spilled(&bed).await, spilled(&bed).await);
    let jar = bed.logged_in().await;
    let reply = visit(&bed, &jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    is_503(&reply);
    assert_eq!(failures(&bed), [("write", "full")]);
    for jar in [&one, &other] {
        assert_eq!(bed.see(jar, Session::len).await, 2);
        bed.visit(&mut jar.clone(), Session::destroy).await;
    }
    assert_eq!(
        visit(&bed, &jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await.status,
        303
    );
    bed.clock.advance(DAY + 2 * MINUTE);
    assert_eq!(store.bytes(), 0);
}

#[actix_web::test]
async fn a_redirect_leaves_only_after_the_store_has_the_data_also_where_it_is_slow() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    // The store takes its time: whatever follows the redirect reads what was written.
    spy.slowly(true);
    let reply = ask(Wrapped::Once(&bed.sessions), &[jar.0.as_ref().unwrap().as_bytes()], async |request| {
        request.extract::<Session>().await?.insert("n", 2)?;
        Ok(Answer::new(StatusCode::SEE_OTHER).with(LOCATION, "/read"))
    })
    .await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(reply.all(VARY), ["Cookie"]);
    spy.slowly(false);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(2));
    bed.visit(&mut jar, |_| {}).await;
}

#[actix_web::test]
async fn extractors_that_ask_at_once_share_one_call_and_one_session() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    spy.calls();
    spy.slowly(true);
    let reply = ask(Wrapped::Once(&bed.sessions), &[jar.0.as_ref().unwrap().as_bytes()], async |request| {
        let (one, other) = tokio::join!(request.extract::<Session>(), request.extract::<Session>());
        one?.insert("a", 1)?;
        assert!(other?.contains_key("a"));
        Ok(Answer::ok())
    })
    .await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(spy.calls(), ["load", "write"]);
}

#[actix_web::test]
async fn requests_of_one_process_queue_at_their_row_instead_of_racing() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let cookie = jar.0.clone().unwrap();
    spy.slowly(true);
    spy.calls();
    let requests = (0..64).map(|n| {
        let (sessions, cookie) = (bed.sessions.clone(), cookie.clone());
        async move {
            let session = sessions.load([cookie]).await.unwrap();
            session.insert(&format!("k{n}"), n).unwrap();
            session.increment("n", 1).unwrap();
            sessions.commit(&session, CommitContext::default()).await.unwrap();
        }
    });
    let tasks: Vec<_> = requests.map(actix_web::rt::spawn).collect();
    for task in tasks {
        task.await.unwrap();
    }
    spy.slowly(false);
    let (keys, n) = bed.see(&jar, |session| (session.len(), session.get::<u8>("n").unwrap())).await;
    assert_eq!((keys, n), (66, Some(65)));
    let calls = spy.calls();
    let of = |name| calls.iter().filter(|call| **call == name).count();
    assert_eq!(of("write"), 64, "nobody had to write twice");
    assert!(of("load") <= 2 * 64 + 1);
}

/// The futures of requests go from thread to thread.
#[test]
fn the_futures_are_send() {
    fn is_send<T: Send>(_: &T) {}
    let (bed, _): (Bed, Arc<Spy>) = stored(|builder| builder);
    let sessions = bed.sessions.clone();
    is_send(&sessions.load(["a=1"]));
    let check = |session: &Session| {
        is_send(&sessions.commit(session, CommitContext::default()));
        is_send(&session.save());
        is_send(&session.reload());
    };
    is_send(&sessions.issue(|session| session.insert("n", 1)));
    let _ = check;
}

#[actix_web::test]
async fn a_write_that_others_overtake_three_times_wins_the_fourth() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    session.increment("n", 1).unwrap();
    let elsewhere = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| {
        builder.store(spy.clone()).revocation(Revocation::Off)
    });
    overtake(&spy, elsewhere.sessions, jar.0.clone().unwrap(), 3);
    bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
    assert_eq!(bed.see(&jar, |session| session.get::<u32>("n").unwrap()).await, Some(1 + 3 + 1));
}

/// Before each of the next writes another node increments "n".
fn overtake(spy: &Arc<Spy>, elsewhere: Sessions, cookie: String, times: u32) {
    if times == 0 {
        return;
    }
    let again = Arc::clone(spy);
    spy.before("write", move || {
        let other = now(elsewhere.load([&cookie])).unwrap();
        other.increment("n", 1).unwrap();
        now(elsewhere.commit(&other, CommitContext::default())).unwrap();
        overtake(&again, elsewhere, cookie, times - 1);
    });
}

/// An application may make the error itself.
#[test]
fn a_removal_that_is_no_header_is_left_out_of_the_answer() {
    for (line, sent) in [("s=; Max-Age=0", true), ("s=\r\nx: y", false)] {
        let error = CommitError::NotEnded {
            set_cookies: vec![line.to_owned()],
            source: StoreError::Unavailable("down".into()),
        };
        let response = actix_web::ResponseError::error_response(&error);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().contains_key(SET_COOKIE), sent, "{line:?}");
    }
}
