//! "Where am I logged in?": the list of a subject's sessions, ending one of them, and at most so many.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::StatusCode;
use sealed_session::{
    CommitContext, CommitError, ConfigError, Event, InsertError, Key, KeyRing, Lifetime, Origin, Overflow,
    Rejection, Revocation, RevokeError, Session, SessionSummary, Sessions, SessionsBuilder,
};

use crate::revocation::uses;
use crate::spy::{Fate, Spy, guarded, other_node, status};
use crate::support::{Bed, Jar, MINUTE, MS, key, now, start};

const HOUR: Duration = Duration::from_secs(3600);
const REVOKED: Origin = Origin::Rejected(Rejection::Revoked);
/// More than fits a cookie.
const LARGE: usize = 5_000;

/// A browser in which a user has logged in with this label; on a large session, in the store.
async fn login_as(bed: &Bed, user: &'static str, label: &'static str, large: bool) -> Jar {
    let mut jar = Jar::default();
    bed.visit(&mut jar, move |session| {
        session.authenticate(user).unwrap();
        session.set_label(label).unwrap();
        session.insert("cart", if large { "x".repeat(LARGE) } else { "x".to_owned() }).unwrap();
    })
    .await;
    jar
}

async fn login(bed: &Bed, label: &'static str) -> Jar {
    login_as(bed, "ada", label, false).await
}

async fn origin(bed: &Bed, jar: &Jar) -> Origin {
    bed.see(jar, Session::origin).await
}

async fn handle(bed: &Bed, jar: &Jar) -> String {
    bed.see(jar, Session::handle).await.unwrap()
}

async fn listed(bed: &Bed, user: &str) -> Vec<SessionSummary> {
    bed.sessions.of(user).await.unwrap()
}

/// The labels of a user's sessions, in alphabetical order.
async fn labels(bed: &Bed, user: &str) -> Vec<String> {
    let mut labels: Vec<_> =
        listed(bed, user).await.into_iter().map(|summary| summary.label.unwrap_or_default()).collect();
    labels.sort();
    labels
}

fn authenticate(session: &Session) {
    session.authenticate("ada").unwrap();
}

#[actix_web::test]
async fn two_browsers_see_both_and_the_one_ends_the_other_wherever_the_sessions_are() {
    for large in [false, true] {
        let (bed, spy) = guarded(|builder| builder);
        let node = other_node(&bed, &spy, |builder| builder);
        let phone = login_as(&bed, "ada", "phone", large).await;
        bed.clock.advance(MINUTE);
        let laptop = login_as(&node, "ada", "laptop", large).await;
        login_as(&node, "bob", "other", large).await;

        let seen = listed(&bed, "ada").await;
        assert_eq!(seen, listed(&node, "ada").await, "one list for all nodes");
        let (of_phone, of_laptop) = (handle(&bed, &phone).await, handle(&node, &laptop).await);
        let told: Vec<_> = seen.iter().map(|line| (line.label.as_deref(), &line.handle)).collect();
        assert_eq!(told, [(Some("laptop"), &of_laptop), (Some("phone"), &of_phone)], "the newest first");
        assert_eq!(seen[1].authenticated_at, Some(start()));
        assert_eq!(seen[1].seen_at, start());

        assert!(bed.sessions.end("ada", &of_laptop).await.unwrap());
        assert_eq!(origin(&bed, &laptop).await, REVOKED, "here at once");
        assert_eq!(labels(&bed, "ada").await, ["phone"]);
        assert_eq!(labels(&bed, "bob").await, ["other"]);
        node.clock.advance(MINUTE);
        assert_eq!(origin(&node, &laptop).await, REVOKED, "elsewhere within its time");
        assert_eq!(origin(&bed, &phone).await, Origin::Resumed);
        assert!(!bed.sessions.end("ada", &of_laptop).await.unwrap(), "it is not there any more");
    }
}

/// Whoever ends what has just got another handle is not told that it is over.
#[actix_web::test]
async fn what_was_over_already_is_not_said_to_have_been_ended() {
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    let mut phone = login_as(&bed, "ada", "phone", false).await;
    let before = handle(&bed, &phone).await;
    // The list is read before the renewal, and the mark after it.
    let (sessions, jar) = (node.sessions.clone(), phone.clone());
    let (renewed, cookie) = (Arc::new(Mutex::new(None)), phone.0.clone().unwrap());
    let out = Arc::clone(&renewed);
    spy.before("write", move || {
        let session = now(sessions.load([cookie])).unwrap();
        session.renew();
        let line = now(sessions.commit(&session, CommitContext::default())).unwrap().pop().unwrap();
        *out.lock().unwrap() = Some(line.split(';').next().unwrap().to_owned());
    });
    bed.events();
    assert!(!bed.sessions.end("ada", &before).await.unwrap());
    assert!(!bed.events().iter().any(|event| matches!(event, Event::Revoked { .. })));
    assert_eq!(origin(&bed, &jar).await, REVOKED);
    phone.0 = renewed.lock().unwrap().take();
    assert_eq!(origin(&bed, &phone).await, Origin::Resumed, "under its new handle");
    assert!(bed.sessions.end("ada", &handle(&bed, &phone).await).await.unwrap());
    assert_eq!(origin(&bed, &phone).await, REVOKED);
}

#[actix_web::test]
async fn a_handle_ends_nothing_but_what_is_its_subjects_and_tells_no_id() {
    let (bed, _) = guarded(|builder| builder);
    let (ada, bob) = (login_as(&bed, "ada", "", false).await, login_as(&bed, "bob", "", false).await);
    let (of_ada, of_bob) = (handle(&bed, &ada).await, handle(&bed, &bob).await);
    let id = bed.see(&ada, Session::id).await.to_string();
    assert!(of_ada.len() == 22 && of_ada != id && of_ada != of_bob);
    for wrong in [&of_bob, &id, "", "\0", &"x".repeat(10_000), &format!("{of_ada}=")] {
        assert!(!bed.sessions.end("ada", wrong).await.unwrap(), "{wrong}");
    }
    assert!(!bed.sessions.end("", &of_ada).await.unwrap() && listed(&bed, "").await.is_empty());
    assert_eq!(origin(&bed, &ada).await, Origin::Resumed);
    assert_eq!(origin(&bed, &bob).await, Origin::Resumed);
    let debug = format!("{:?}", listed(&bed, "ada").await);
    assert!(debug.contains(&of_ada) && !debug.contains(&id), "{debug}");
    assert_eq!(bed.see(&Jar::default(), Session::handle).await, None, "without a subject");
}

#[actix_web::test]
async fn a_line_goes_with_its_session_and_moves_with_its_id() {
    let (bed, _) = guarded(|builder| builder);
    let mut jar = login(&bed, "phone").await;
    let first = handle(&bed, &jar).await;
    bed.visit(&mut jar, Session::renew).await;
    assert_eq!(labels(&bed, "ada").await, ["phone"], "a new id");
    assert_ne!(handle(&bed, &jar).await, first);
    bed.clock.advance(MINUTE);
    bed.visit(&mut jar, authenticate).await;
    let seen = listed(&bed, "ada").await;
    assert_eq!(seen.len(), 1, "a login in the same browser is the same session");
    assert_eq!(seen[0].label.as_deref(), Some("phone"));
    assert_eq!(seen[0].authenticated_at, Some(start() + MINUTE));
    bed.visit(&mut jar, |session| session.set_subject("bob").unwrap()).await;
    assert!(listed(&bed, "ada").await.is_empty(), "it is bob's now");
    let seen = listed(&bed, "bob").await;
    assert_eq!((seen.len(), seen[0].label.as_deref()), (1, None), "what ada called it is hers");
    assert_eq!(seen[0].authenticated_at, None);
    bed.visit(&mut jar, Session::destroy).await;
    assert!(listed(&bed, "bob").await.is_empty(), "logged out");
}

#[actix_web::test]
async fn whatever_else_ends_a_session_takes_it_out_of_the_list() {
    let (bed, spy) = guarded(|builder| builder);
    let (phone, _laptop) = (login(&bed, "phone").await, login(&bed, "laptop").await);
    let id = bed.see(&phone, Session::id).await;
    bed.sessions.revoke(id).await.unwrap();
    assert_eq!(labels(&bed, "ada").await, ["laptop"], "by its id, which does not say whose it is");
    let node = other_node(&bed, &spy, |builder| builder);
    assert_eq!(labels(&node, "ada").await, ["laptop"]);
    node.sessions.revoke_subject("ada").await.unwrap();
    assert!(listed(&bed, "ada").await.is_empty() && listed(&node, "ada").await.is_empty());
    login(&bed, "tablet").await;
    assert_eq!(labels(&node, "ada").await, ["tablet"], "what begins after it is listed");

    let (bed, _) = guarded(|builder| builder.lifetime(Lifetime::new(HOUR).fixed()));
    login(&bed, "phone").await;
    bed.clock.advance(HOUR - MS);
    assert_eq!(labels(&bed, "ada").await, ["phone"]);
    bed.clock.advance(MS);
    assert!(listed(&bed, "ada").await.is_empty(), "its time is over");
}

#[actix_web::test]
async fn everywhere_but_here_leaves_this_one_in_the_list() {
    let (bed, _) = guarded(|builder| builder);
    let mut here = login(&bed, "here").await;
    let there = login(&bed, "there").await;
    let sessions = bed.sessions.clone();
    bed.visit(&mut here, move |session| {
        now(sessions.revoke_subject("ada")).unwrap();
        session.renew();
    })
    .await;
    assert_eq!(labels(&bed, "ada").await, ["here"]);
    assert_eq!((origin(&bed, &here).await, origin(&bed, &there).await), (Origin::Resumed, REVOKED));
}

#[actix_web::test]
async fn with_a_limit_of_one_the_older_session_is_out_at_the_newers_login() {
    for large in [false, true] {
        let (bed, spy) = guarded(|builder| builder.max_sessions(1, Overflow::EndOldest));
        let node = other_node(&bed, &spy, |builder| builder.max_sessions(1, Overflow::EndOldest));
        let phone = login_as(&bed, "ada", "phone", large).await;
        let id = bed.see(&phone, Session::id).await;
        bed.events();
        let laptop = login_as(&node, "ada", "laptop", large).await;
        assert!(node.events().contains(&Event::Displaced { id }));
        assert_eq!(origin(&node, &phone).await, REVOKED, "at once where the login was");
        bed.clock.advance(MINUTE);
        assert_eq!(origin(&bed, &phone).await, REVOKED, "elsewhere within its time");
        assert_eq!(origin(&bed, &laptop).await, Origin::Resumed);
        assert_eq!(labels(&bed, "ada").await, ["laptop"]);
        // Another user's are another matter.
        login_as(&bed, "bob", "b", large).await;
        assert_eq!(origin(&bed, &laptop).await, Origin::Resumed);
    }
}

#[actix_web::test]
async fn the_oldest_is_the_one_whose_login_is_longest_ago() {
    let (bed, _) = guarded(|builder| builder.max_sessions(2, Overflow::EndOldest));
    let mut first = login(&bed, "first").await;
    bed.clock.advance(MINUTE);
    login(&bed, "second").await;
    bed.clock.advance(MINUTE);
    bed.visit(&mut first, authenticate).await;
    bed.clock.advance(MINUTE);
    login(&bed, "third").await;
    assert_eq!(labels(&bed, "ada").await, ["first", "third"], "who logged in again is no old one");
    bed.visit(&mut first, Session::renew).await;
    bed.visit(&mut first, authenticate).await;
    assert_eq!(labels(&bed, "ada").await, ["first", "third"], "and does not count twice");
}

#[actix_web::test]
async fn a_login_over_the_limit_is_refused_and_changes_nothing() {
    let (bed, _) = guarded(|builder| builder.max_sessions(1, Overflow::Refuse));
    let mut phone = login(&bed, "phone").await;
    let mut cart = bed.logged_in().await;
    let id = bed.see(&cart, Session::id).await;
    bed.events();
    assert_eq!(status(&bed, &mut cart, authenticate).await, StatusCode::FORBIDDEN);
    assert!(bed.events().contains(&Event::LoginRefused { id: Some(id) }));
    assert_eq!(
        bed.see(&cart, |session| (session.id(), session.len(), session.subject())).await,
        (id, 1, None)
    );
    let mut fresh = Jar::default();
    assert_eq!(status(&bed, &mut fresh, authenticate).await, StatusCode::FORBIDDEN);
    assert!(fresh.0.is_none(), "no cookie leaves");
    assert_eq!(labels(&bed, "ada").await, ["phone"]);
    assert_eq!(status(&bed, &mut phone, authenticate).await, StatusCode::OK, "the one that is there");
    bed.visit(&mut phone, Session::destroy).await;
    assert_eq!(status(&bed, &mut cart, authenticate).await, StatusCode::OK, "there is room now");

    let session = bed.sessions.load::<&str>([]).await.unwrap();
    authenticate(&session);
    let refused = bed.sessions.commit(&session, CommitContext::default()).await;
    assert!(matches!(refused, Err(CommitError::TooManySessions)));
}

#[actix_web::test]
async fn a_private_window_that_was_closed_locks_nobody_out() {
    let limit = |builder: SessionsBuilder| builder.max_sessions(1, Overflow::Refuse);
    let (bed, _) = guarded(limit);
    let closed = login(&bed, "closed").await;
    let mut next = Jar::default();
    // The hour in which it was seen and one in which that need not be noted, the minute of revocation, the five minutes that
    // a use prolongs.
    bed.clock.advance(2 * HOUR + 6 * MINUTE);
    assert_eq!(status(&bed, &mut next, authenticate).await, StatusCode::FORBIDDEN);
    bed.clock.advance(MS);
    assert_eq!(status(&bed, &mut next, authenticate).await, StatusCode::OK);
    assert_eq!(origin(&bed, &closed).await, Origin::Resumed, "it may come back, and that is said");

    let (bed, _) = guarded(|builder| limit(builder.lifetime(Lifetime::default().idle(2 * HOUR))));
    login(&bed, "closed").await;
    bed.clock.advance(4 * HOUR + MINUTE + MS);
    let mut next = Jar::default();
    assert_eq!(status(&bed, &mut next, authenticate).await, StatusCode::OK, "it has been idle for too long");
}

#[actix_web::test]
async fn a_line_that_is_left_over_costs_nobody_a_session() {
    for overflow in [Overflow::EndOldest, Overflow::Refuse] {
        let (bed, spy) = guarded(|builder| builder.max_sessions(2, overflow));
        let stays = login(&bed, "stays").await;
        let mut leaves = login(&bed, "leaves").await;
        // The mark is written, and the list is not.
        bed.visit(&mut leaves, |session| session.destroy()).await;
        let mut leaves = login(&bed, "leaves").await;
        spy.calls();
        spy.next([Fate::Passes, Fate::Passes, Fate::Fails]);
        bed.visit(&mut leaves, |session| session.destroy()).await;
        assert_eq!(spy.calls(), ["write", "load", "write", "load"], "the mark first");
        spy.passes_all();
        bed.clock.advance(MINUTE);
        let mut new = Jar::default();
        assert_eq!(status(&bed, &mut new, authenticate).await, StatusCode::OK);
        assert_eq!(origin(&bed, &stays).await, Origin::Resumed, "nobody has to go for one that has gone");
        assert_eq!(listed(&bed, "ada").await.len(), 2);
    }
}

#[actix_web::test]
async fn a_label_is_any_text_of_at_most_120_bytes_and_can_be_changed() {
    let (bed, _) = guarded(|builder| builder);
    let hostile = "<script>\u{202e}\0\r\nSet-Cookie: a=b\u{1b}[2J'\"";
    let mut jar = login(&bed, hostile).await;
    assert_eq!(labels(&bed, "ada").await, [hostile]);
    let longest = "é".repeat(60);
    let text = longest.clone();
    bed.visit(&mut jar, move |session| session.set_label(&text).unwrap()).await;
    assert_eq!(labels(&bed, "ada").await, [&*longest]);
    // What is longer is cut, between two characters, and costs nobody the login.
    for (longer, kept) in [
        (format!("{longest}!"), longest.clone()),
        (format!("x{longest}"), format!("x{}", "é".repeat(59))),
        ("🦀".repeat(1_000), "🦀".repeat(30)),
    ] {
        bed.visit(&mut jar, move |session| session.set_label(&longer).unwrap()).await;
        assert_eq!(labels(&bed, "ada").await, [kept]);
    }
    bed.visit(&mut jar, |session| session.set_label("").unwrap()).await;
    assert_eq!(listed(&bed, "ada").await[0].label, None);
    bed.visit(&mut jar, |session| {
        session.destroy();
        assert!(matches!(session.set_label("late"), Err(InsertError::Destroyed)));
    })
    .await;
    let mut visitor = bed.logged_in().await;
    let reply = bed.visit(&mut visitor, |session| session.set_label("nobody").unwrap()).await;
    assert!(reply.set_cookie().is_none(), "a visitor is in no list");
}

#[actix_web::test]
async fn what_the_list_costs_and_that_an_ordinary_request_pays_nothing() {
    let (bed, spy) = guarded(|builder| builder);
    let (plain, spied) = guarded(|builder| builder.roster(false));
    let cost = async |bed: &Bed, spy: &Spy, jar: &mut Jar, work: fn(&Session)| {
        spy.calls();
        bed.visit(jar, work).await;
        spy.calls()
    };
    let (mut jar, mut without) = (Jar::default(), Jar::default());
    assert_eq!(cost(&plain, &spied, &mut without, authenticate).await, ["load"]);
    assert_eq!(cost(&bed, &spy, &mut jar, authenticate).await, ["load", "load", "write", "load"]);
    type Step<'a> = (fn(&Session), &'a [&'a str]);
    let steps: [Step<'_>; 3] = [
        (|session| drop(session.subject()), &["load"]),
        (|session| drop(session.subject()), &[]),
        (|session| session.insert("n", 1).unwrap(), &[]),
    ];
    for (work, calls) in steps {
        assert_eq!(cost(&plain, &spied, &mut without, work).await, calls);
        // The question that is asked afterwards at the login is one that the first request need not ask.
        let rest = if calls.is_empty() { calls } else { &calls[1..] };
        assert!([calls, rest].contains(&&cost(&bed, &spy, &mut jar, work).await[..]));
    }
    assert_eq!(
        cost(&bed, &spy, &mut jar, |session| session.set_label("x").unwrap()).await,
        ["load", "write"]
    );
    assert_eq!(cost(&bed, &spy, &mut jar, |session| session.set_label("x").unwrap()).await, ["load"]);
    let ended = cost(&plain, &spied, &mut without, Session::destroy).await;
    assert_eq!(cost(&bed, &spy, &mut jar, Session::destroy).await, [&ended[..], &["load", "write"]].concat());
}

#[actix_web::test]
async fn a_use_is_noted_once_an_hour_when_the_store_is_asked_anyway() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = login(&bed, "phone").await;
    let node = other_node(&bed, &spy, |builder| builder);
    let calls = async |bed: &Bed| {
        spy.calls();
        assert_eq!(origin(bed, &jar).await, Origin::Resumed);
        spy.calls()
    };
    assert_eq!(calls(&node).await, ["load", "load", "load"], "a node that has not seen it looks once");
    bed.clock.advance(MINUTE);
    assert_eq!(calls(&bed).await, ["load", "load"], "asked, and nothing to note");
    assert_eq!(calls(&node).await, ["load", "load"]);
    bed.clock.advance(HOUR);
    assert_eq!(listed(&bed, "ada").await[0].seen_at, start());
    spy.calls();
    assert_eq!(calls(&bed).await.last(), Some(&"write"), "in another hour");
    assert_eq!(listed(&bed, "ada").await[0].seen_at, start() + HOUR);
    bed.clock.advance(MINUTE);
    assert!(!calls(&bed).await.contains(&"write"));
    assert!(!calls(&node).await.contains(&"write"), "it was noted elsewhere");
}

#[actix_web::test]
async fn a_session_that_is_prolonged_stays_in_the_list_and_leaves_soon_after_its_end() {
    let lifetime = Lifetime::new(HOUR).active(10 * MINUTE);
    let (bed, _) = guarded(|builder| builder.lifetime(lifetime));
    let mut jar = login(&bed, "phone").await;
    for _ in 0..30 {
        bed.clock.advance(5 * MINUTE);
        bed.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
        assert_eq!(labels(&bed, "ada").await, ["phone"]);
    }
    bed.clock.advance(20 * MINUTE);
    assert_eq!(origin(&bed, &jar).await, Origin::Rejected(Rejection::Expired(sealed_session::End::Duration)));
    bed.clock.advance(10 * MINUTE);
    assert!(listed(&bed, "ada").await.is_empty(), "no longer than as long again");

    let mut jar = login(&bed, "tablet").await;
    bed.visit(&mut jar, |session| session.set_duration(100 * HOUR).unwrap()).await;
    bed.clock.advance(99 * HOUR);
    assert_eq!(labels(&bed, "ada").await, ["tablet"], "a duration of its own");
    assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
}

#[actix_web::test]
async fn a_lost_write_costs_a_line_until_the_next_hour_and_a_limit_costs_the_login() {
    let (bed, spy) = guarded(|builder| builder);
    spy.next([Fate::Passes, Fate::Passes, Fate::Fails]);
    let mut jar = login(&bed, "phone").await;
    assert!(listed(&bed, "ada").await.is_empty() && origin(&bed, &jar).await == Origin::Resumed);
    bed.clock.advance(HOUR);
    bed.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    assert_eq!(listed(&bed, "ada").await.len(), 1);

    let (bed, spy) = guarded(|builder| builder.max_sessions(5, Overflow::EndOldest));
    for fates in [&[Fate::Passes, Fate::Fails][..], &[Fate::Passes, Fate::Passes, Fate::Fails]] {
        spy.next(fates.iter().copied());
        let mut jar = Jar::default();
        assert_eq!(status(&bed, &mut jar, authenticate).await, StatusCode::SERVICE_UNAVAILABLE);
        spy.passes_all();
        assert!(jar.0.is_none());
    }
    // A write of which the store does not tell is looked for.
    spy.next([Fate::Passes, Fate::Passes, Fate::AppliedButTimesOut]);
    login(&bed, "phone").await;
    assert_eq!(labels(&bed, "ada").await, ["phone"]);
}

#[actix_web::test]
async fn a_login_that_comes_to_nothing_leaves_the_list_as_it_was() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = login(&bed, "phone").await;
    let former = handle(&bed, &jar).await;
    // The question, the list read and written, and then the end of the former id fails.
    spy.next([Fate::Passes, Fate::Passes, Fate::Passes, Fate::Fails]);
    assert_eq!(status(&bed, &mut jar, Session::renew).await, StatusCode::SERVICE_UNAVAILABLE);
    spy.passes_all();
    let seen = listed(&bed, "ada").await;
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].handle.clone(), seen[0].label.as_deref()), (former, Some("phone")));
}

#[actix_web::test]
async fn a_session_that_is_ended_before_its_cookie_leaves_gets_none() {
    let (bed, spy) = guarded(|builder| builder);
    let sessions = bed.sessions.clone();
    // Somebody looks at the list as soon as the line is there.
    let mut jar = Jar::default();
    let after = Arc::clone(&spy);
    spy.before("write", move || {
        after.before("load", move || {
            let listed = now(sessions.of("ada")).unwrap();
            assert!(now(sessions.end("ada", &listed[0].handle)).unwrap());
        });
    });
    assert_eq!(status(&bed, &mut jar, authenticate).await, StatusCode::SERVICE_UNAVAILABLE);
    assert!(jar.0.is_none() && listed(&bed, "ada").await.is_empty());
}

/// Ends what another node finds in the list of ada's as soon as the second write from now on begins: the one after the list's.
fn end_before_the_row(spy: &Arc<Spy>, node: &Bed) {
    let (after, sessions) = (Arc::clone(spy), node.sessions.clone());
    spy.before("write", move || {
        after.before("write", move || {
            let listed = now(sessions.of("ada")).unwrap();
            assert!(now(sessions.end("ada", &listed[0].handle)).unwrap());
        });
    });
}

#[actix_web::test]
async fn a_large_login_that_is_ended_before_its_row_is_there_fails() {
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    end_before_the_row(&spy, &node);
    let mut jar = Jar::default();
    let login = |session: &Session| {
        authenticate(session);
        session.insert("cart", "x".repeat(LARGE)).unwrap();
    };
    assert_eq!(status(&bed, &mut jar, login).await, StatusCode::SERVICE_UNAVAILABLE, "and not in silence");
    assert!(jar.0.is_none() && listed(&bed, "ada").await.is_empty());
}

#[actix_web::test]
async fn a_session_that_is_ended_under_its_next_id_is_over_under_the_former_one_too() {
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    let mut jar = login_as(&bed, "ada", "phone", true).await;
    end_before_the_row(&spy, &node);
    assert_eq!(status(&bed, &mut jar, Session::renew).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(origin(&bed, &jar).await, REVOKED, "it was what somebody has ended");
    assert!(listed(&bed, "ada").await.is_empty());
}

/// The line is written without an answer, and when it is looked for, another login has written the list.
#[actix_web::test]
async fn a_login_whose_line_was_written_over_unseen_is_listed_and_does_not_fail() {
    for applied in [true, false] {
        let limit = |builder: SessionsBuilder| builder.max_sessions(5, Overflow::EndOldest);
        let (bed, spy) = guarded(limit);
        let node = other_node(&bed, &spy, limit);
        let lost = if applied { Fate::AppliedButTimesOut } else { Fate::TimesOut };
        spy.next([Fate::Passes, Fate::Passes, lost]);
        let (after, sessions) = (Arc::clone(&spy), node.sessions.clone());
        spy.before("write", move || {
            after.before("load", move || {
                now(sessions.issue(|session| session.authenticate("ada"))).unwrap();
            });
        });
        let mut jar = Jar::default();
        assert_eq!(status(&bed, &mut jar, authenticate).await, StatusCode::OK, "{applied}");
        assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
        assert_eq!(listed(&bed, "ada").await.len(), 2, "{applied}");
    }
}

/// Nor does the mark say that the session which was ended took its place, as if the login had to be sent again.
#[actix_web::test]
async fn a_login_that_is_ended_before_its_cookie_leaves_leaves_nothing_to_the_next_one() {
    for large in [false, true] {
        let (bed, spy) = guarded(|builder| builder);
        let node = other_node(&bed, &spy, |builder| builder);
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| session.insert("cart", "two books").unwrap()).await;
        end_before_the_row(&spy, &node);
        let login = move |session: &Session| {
            authenticate(session);
            if large {
                session.insert("large", "x".repeat(LARGE)).unwrap();
            }
        };
        assert_eq!(status(&bed, &mut jar, login).await, StatusCode::SERVICE_UNAVAILABLE);
        for again in [&bed, &node] {
            let session = now(again.sessions.load(jar.0.iter())).unwrap();
            assert_eq!(session.origin(), REVOKED);
            authenticate(&session);
            assert!(session.is_empty(), "{large}");
        }
    }
}

#[actix_web::test]
async fn a_large_login_that_is_ended_fails_also_where_its_line_is_taken_for_lost() {
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    // The line is written without an answer, and when it is looked for, somebody has found it and ended the session.
    spy.next([Fate::Passes, Fate::Passes, Fate::AppliedButTimesOut]);
    let (after, sessions) = (Arc::clone(&spy), node.sessions.clone());
    spy.before("write", move || {
        after.before("load", move || {
            let listed = now(sessions.of("ada")).unwrap();
            assert!(now(sessions.end("ada", &listed[0].handle)).unwrap());
        });
    });
    let mut jar = Jar::default();
    let login = |session: &Session| {
        authenticate(session);
        session.insert("cart", "x".repeat(LARGE)).unwrap();
    };
    assert_eq!(status(&bed, &mut jar, login).await, StatusCode::SERVICE_UNAVAILABLE, "and not in silence");
    assert!(jar.0.is_none() && listed(&bed, "ada").await.is_empty());
}

/// Of one process, where who waits for a row is told what the one before has written there.
#[actix_web::test]
async fn nothing_is_written_over_the_end_of_a_session_that_a_renewal_has_waited_for() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = login_as(&bed, "ada", "phone", true).await;
    let session = bed.sessions.load([jar.0.as_deref().unwrap()]).await.unwrap();
    session.renew();
    let next = session.handle().unwrap();
    // The question, the list read and written, without an answer. While it is looked for, the next id's end begins.
    spy.next([Fate::Passes, Fate::Passes, Fate::AppliedButTimesOut, Fate::Takes(10)]);
    let (is_listed, after) = (Arc::new(AtomicBool::new(false)), Arc::clone(&spy));
    let lists = Arc::clone(&is_listed);
    spy.before("write", move || after.before("load", move || lists.store(true, Ordering::SeqCst)));
    let end = async {
        while !is_listed.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        // The list, the subject's generation, and the end.
        spy.next([Fate::Passes, Fate::Passes, Fate::Takes(100)]);
        bed.sessions.end("ada", &next).await
    };
    let commit = bed.sessions.commit(&session, CommitContext::default());
    let (committed, ended) = futures_util::future::join(commit, end).await;
    assert!(ended.unwrap());
    assert!(matches!(committed, Err(CommitError::Ended)), "{committed:?}");
    assert_eq!(origin(&bed, &jar).await, REVOKED, "it was what somebody has ended");
    assert!(listed(&bed, "ada").await.is_empty());
}

#[actix_web::test]
async fn who_stays_after_a_revocation_takes_no_place_that_a_login_has_taken_since() {
    for overflow in [Overflow::EndOldest, Overflow::Refuse] {
        for is_taken in [false, true] {
            let (bed, _) = guarded(|builder| builder.max_sessions(1, overflow));
            let here = login(&bed, "here").await;
            let session = bed.sessions.load([here.0.as_deref().unwrap()]).await.unwrap();
            bed.sessions.revoke_subject("ada").await.unwrap();
            let mut there = Jar::default();
            if is_taken {
                assert_eq!(status(&bed, &mut there, authenticate).await, StatusCode::OK);
            }
            session.renew();
            let outcome = bed.sessions.commit(&session, CommitContext::default()).await;
            assert_eq!(listed(&bed, "ada").await.len(), 1, "{overflow:?}");
            match is_taken {
                true => {
                    assert!(matches!(outcome, Err(CommitError::Ended)), "{outcome:?}");
                    assert_eq!(origin(&bed, &there).await, Origin::Resumed);
                }
                false => assert_eq!(outcome.unwrap().len(), 1),
            }
        }
    }
}

#[actix_web::test]
async fn a_login_in_a_session_that_was_revoked_has_no_place_to_keep() {
    let limit = |builder: SessionsBuilder| builder.max_sessions(1, Overflow::Refuse);
    let (bed, spy) = guarded(limit);
    let node = other_node(&bed, &spy, limit);
    let here = login(&bed, "here").await;
    // Its own row and its subject's say that it goes on. Then it does not, its place is taken, and its use is noted.
    let (second, third, sessions) = (Arc::clone(&spy), Arc::clone(&spy), bed.sessions.clone());
    spy.before("load", move || {
        second.before("load", move || {
            third.before("load", move || {
                now(sessions.revoke_subject("ada")).unwrap();
                now(sessions.issue(authenticate_all)).unwrap();
            });
        });
    });
    let session = node.sessions.load([here.0.as_deref().unwrap()]).await.unwrap();
    assert_eq!(session.origin(), Origin::Resumed);
    authenticate(&session);
    let refused = node.sessions.commit(&session, CommitContext::default()).await;
    assert!(matches!(refused, Err(CommitError::TooManySessions)), "{refused:?}");
    assert_eq!(listed(&bed, "ada").await.len(), 1);
}

#[actix_web::test]
async fn a_line_that_is_left_over_keeps_no_place_for_a_login_in_its_session() {
    let limit = |builder: SessionsBuilder| builder.max_sessions(1, Overflow::Refuse);
    let (bed, spy) = guarded(limit);
    let node = other_node(&bed, &spy, limit);
    let cookie = login(&bed, "here").await.0.unwrap();
    let session = node.sessions.load([&cookie]).await.unwrap();
    authenticate(&session);
    // The line of the next id is there and the mark of the former not yet, and a use brings its line back.
    let (after, sessions, of_here) = (Arc::clone(&spy), bed.sessions.clone(), cookie.clone());
    spy.before("write", move || {
        after.before("write", move || {
            let session = now(sessions.load([&of_here])).unwrap();
            session.set_label("late").unwrap();
            now(sessions.commit(&session, CommitContext::default())).unwrap();
        });
    });
    node.sessions.commit(&session, CommitContext::default()).await.unwrap();
    let session = bed.sessions.load([&cookie]).await.unwrap();
    assert_eq!(session.origin(), Origin::Resumed, "not heard of yet");
    authenticate(&session);
    let refused = bed.sessions.commit(&session, CommitContext::default()).await;
    assert!(matches!(refused, Err(CommitError::TooManySessions)), "{refused:?}");
    assert_eq!(listed(&bed, "ada").await.len(), 1);
}

#[actix_web::test]
async fn whom_a_login_ends_on_its_second_try_is_out_of_the_list() {
    let limit = |builder: SessionsBuilder| builder.max_sessions(1, Overflow::EndOldest);
    let (bed, spy) = guarded(limit);
    let node = other_node(&bed, &spy, limit);
    let jar = login(&bed, "phone").await;
    let cookie = jar.0.unwrap();
    let session = bed.sessions.load([&cookie]).await.unwrap();
    authenticate(&session);
    // Two questions, the list read and written twice. Before it is read again another request renews the session.
    spy.calls();
    spy.next([Fate::Passes, Fate::Passes, Fate::Passes, Fate::AppliedButConflicts]);
    let (after, sessions) = (Arc::clone(&spy), node.sessions.clone());
    spy.before("write", move || {
        after.before("load", move || {
            let session = now(sessions.load([&cookie])).unwrap();
            session.renew();
            now(sessions.commit(&session, CommitContext::default())).unwrap();
        });
    });
    bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
    assert_eq!(spy.calls()[..4], ["load", "load", "load", "write"]);
    assert_eq!(listed(&node, "ada").await.len(), 1);
    assert!(!spy.calls().contains(&"write"), "nothing had to be tidied up");
}

#[actix_web::test]
async fn a_line_that_was_taken_out_while_it_moved_to_another_key_is_not_left_over() {
    let (bed, spy) = guarded(|builder| builder);
    let jar = login(&bed, "phone").await;
    let of_phone = handle(&bed, &jar).await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    let node = other_node(&bed, &spy, |builder| builder);
    let sessions = bed.sessions.clone();
    spy.before("write", move || assert!(now(sessions.end("ada", &of_phone)).unwrap()));
    origin(&node, &jar).await;
    spy.calls();
    assert!(listed(&node, "ada").await.is_empty());
    assert!(!spy.calls().contains(&"write"), "nothing had to be tidied up");
}

#[actix_web::test]
async fn sessions_that_were_revoked_under_a_retired_key_leave_room() {
    let limit = |builder: SessionsBuilder| builder.max_sessions(1, Overflow::Refuse);
    let (bed, spy) = guarded(limit);
    login(&bed, "phone").await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    // It has not heard what the subject's generation is under the retired key.
    let node = other_node(&bed, &spy, limit);
    bed.sessions.revoke_subject("ada").await.unwrap();
    assert_eq!(status(&node, &mut Jar::default(), authenticate).await, StatusCode::OK);
}

#[actix_web::test]
async fn a_login_whose_line_was_written_twice_does_not_end_who_took_its_place() {
    let limit = |builder: SessionsBuilder| builder.max_sessions(1, Overflow::EndOldest);
    let (bed, spy) = guarded(limit);
    let node = other_node(&bed, &spy, limit);
    let newer = Arc::new(std::sync::Mutex::new(None));
    let (after, sessions, took_place) = (Arc::clone(&spy), node.sessions.clone(), Arc::clone(&newer));
    spy.next([Fate::Passes, Fate::Passes, Fate::AppliedButConflicts]);
    spy.before("write", move || {
        after.before("load", move || {
            *took_place.lock().unwrap() = Some(now(sessions.issue(authenticate_all)).unwrap());
        });
    });
    let mut jar = Jar::default();
    assert_eq!(status(&bed, &mut jar, authenticate).await, StatusCode::SERVICE_UNAVAILABLE);
    let newer = Jar(newer.lock().unwrap().take());
    assert_eq!(origin(&bed, &newer).await, Origin::Resumed, "one of the two goes on");
    assert_eq!(listed(&bed, "ada").await.len(), 1);
}

#[actix_web::test]
async fn a_login_that_has_lost_its_place_leaves_no_former_session() {
    let limit = |builder: SessionsBuilder| builder.max_sessions(1, Overflow::EndOldest);
    let (bed, spy) = guarded(limit);
    let node = other_node(&bed, &spy, limit);
    let here = login(&bed, "here").await;
    let session = bed.sessions.load([here.0.as_deref().unwrap()]).await.unwrap();
    authenticate(&session);
    // Two questions, the list read and written twice. Before it is read again another login takes the place.
    spy.next([Fate::Passes, Fate::Passes, Fate::Passes, Fate::AppliedButConflicts]);
    let (after, sessions) = (Arc::clone(&spy), node.sessions.clone());
    spy.before("write", move || {
        after.before("load", move || drop(now(sessions.issue(authenticate_all)).unwrap()));
    });
    let outcome = bed.sessions.commit(&session, CommitContext::default()).await;
    assert!(matches!(outcome, Err(CommitError::Ended)), "{outcome:?}");
    assert_eq!(origin(&node, &here).await, REVOKED, "it was what the other login has ended");
    assert_eq!(listed(&bed, "ada").await.len(), 1);
}

#[actix_web::test]
async fn logins_at_the_same_time_keep_to_the_limit() {
    for overflow in [Overflow::EndOldest, Overflow::Refuse] {
        let (bed, spy) = guarded(|builder| builder.max_sessions(2, overflow));
        let node = other_node(&bed, &spy, |builder| builder.max_sessions(2, overflow));
        spy.slowly(true);
        let at_once = (0..8).map(|n| {
            let sessions = [&bed.sessions, &node.sessions][n % 2].clone();
            async move { sessions.issue(authenticate_all).await.ok() }
        });
        let cookies: Vec<String> =
            futures_util::future::join_all(at_once).await.into_iter().flatten().collect();
        spy.slowly(false);
        bed.clock.advance(MINUTE);
        let mut alive = 0;
        for cookie in &cookies {
            alive += usize::from(origin(&bed, &Jar(Some(cookie.clone()))).await == Origin::Resumed);
        }
        assert_eq!((alive, listed(&bed, "ada").await.len()), (2, 2), "{overflow:?} of {}", cookies.len());
    }
}

fn authenticate_all(session: &Session) -> Result<(), InsertError> {
    session.authenticate("ada")
}

#[actix_web::test]
async fn a_rotation_keeps_the_list_and_a_handle_from_before_it_still_ends() {
    let (bed, spy) = guarded(|builder| builder);
    let mut phone = login(&bed, "phone").await;
    let before = handle(&bed, &phone).await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    let laptop = login(&bed, "laptop").await;
    assert_eq!(labels(&bed, "ada").await, ["laptop", "phone"]);
    // Its next request seals it under the new key, and so the line moves.
    bed.visit(&mut phone, |session| session.insert("n", 1).unwrap()).await;
    assert_eq!(labels(&bed, "ada").await, ["laptop", "phone"], "in both rows, and listed once");
    let node = Bed::on(KeyRing::new(key(2)), bed.clock.clone(), |builder| builder.store(Arc::clone(&spy)));
    assert_eq!(labels(&node, "ada").await, ["laptop", "phone"], "the old key may go");
    assert!(bed.sessions.end("ada", &before).await.unwrap());
    assert_eq!(labels(&bed, "ada").await, ["laptop"], "gone from both rows");
    assert_eq!((origin(&bed, &phone).await, origin(&bed, &laptop).await), (REVOKED, Origin::Resumed));
    bed.visit(&mut phone, authenticate).await;
    assert_eq!(listed(&bed, "ada").await.len(), 2);
}

#[actix_web::test]
async fn a_subject_that_was_revoked_before_a_key_came_has_no_former_sessions_in_its_list() {
    let (bed, spy) = guarded(|builder| builder);
    login(&bed, "former").await;
    bed.sessions.revoke_subject("ada").await.unwrap();
    login(&bed, "phone").await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    let node = other_node(&bed, &spy, |builder| builder);
    login(&node, "laptop").await;
    for bed in [&bed, &node] {
        assert_eq!(labels(bed, "ada").await, ["laptop", "phone"]);
    }
}

#[actix_web::test]
async fn a_list_that_cannot_be_read_is_begun_anew() {
    let (bed, spy) = guarded(|builder| builder.max_sessions(1, Overflow::Refuse));
    let mut jar = login(&bed, "phone").await;
    for key in spy.row_keys() {
        spy.overwrite(&key, b"what is this?").await;
    }
    assert!(listed(&bed, "ada").await.is_empty());
    assert_eq!(status(&bed, &mut Jar::default(), authenticate).await, StatusCode::OK, "nobody is locked out");
    bed.clock.advance(HOUR);
    bed.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    assert_eq!(listed(&bed, "ada").await.len(), 2, "what was lost comes back");
}

#[actix_web::test]
async fn a_list_that_is_full_costs_the_line_of_the_longest_unseen_and_no_session() {
    let (bed, _) = guarded(|builder| builder.max_stored_bytes(8_192));
    let mut first = login(&bed, "first").await;
    bed.clock.advance(HOUR);
    for _ in 0..80 {
        login(&bed, "a label as long as those of browsers and their systems are, Firefox 145 on Linux").await;
    }
    let all = labels(&bed, "ada").await;
    assert!((50..70).contains(&all.len()), "{} fit a row of that size", all.len());
    assert!(!all.contains(&"first".to_owned()));
    assert_eq!(origin(&bed, &first).await, Origin::Resumed, "a line of the list, and no session");
    bed.clock.advance(HOUR);
    bed.visit(&mut first, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    let back = listed(&bed, "ada").await;
    assert!(
        back.len() >= 50 && back[0].handle == handle(&bed, &first).await,
        "seen last, so it is there again"
    );
}

#[actix_web::test]
async fn lists_need_a_store_and_revocation_and_say_so() {
    let ring = || KeyRing::new(Key::generate());
    let without = || Sessions::builder(ring());
    let with = || without().store(sealed_session::store::MemoryStore::new());
    let limit = |builder: SessionsBuilder| builder.max_sessions(3, Overflow::EndOldest).build().unwrap_err();
    assert_eq!(limit(without()), ConfigError::NeedsStore { setting: "max_sessions" });
    assert_eq!(without().roster(true).build().unwrap_err(), ConfigError::NeedsStore { setting: "roster" });
    let off = "revocation(Revocation::Off)";
    assert_eq!(
        limit(with().revocation(Revocation::Off)),
        ConfigError::NeedsRoster { setting: "max_sessions", because: off }
    );
    assert_eq!(
        with().revocation(Revocation::Off).roster(true).build().unwrap_err(),
        ConfigError::NeedsRoster { setting: "roster", because: off }
    );
    assert_eq!(
        limit(with().roster(false)),
        ConfigError::NeedsRoster { setting: "max_sessions", because: "roster(false)" }
    );
    for value in [0, 1_001] {
        let error = with().max_sessions(value, Overflow::Refuse).build().unwrap_err();
        assert_eq!(error, ConfigError::Count { setting: "max_sessions", value, min: 1, max: 1_000 });
    }
    let error = with().max_stored_bytes(8_192).max_sessions(1_000, Overflow::Refuse).build().unwrap_err();
    let ConfigError::Bytes { setting: "max_stored_bytes", value: 8_192, min, .. } = error else {
        panic!("{error}")
    };
    assert!(with().max_stored_bytes(min).max_sessions(1_000, Overflow::Refuse).build().is_ok());

    let off = |builder: SessionsBuilder| builder.build().unwrap();
    for sessions in [off(without()), off(with().revocation(Revocation::Off))] {
        assert!(matches!(sessions.of("ada").await, Err(RevokeError::Off)));
        assert!(matches!(sessions.end("ada", "x").await, Err(RevokeError::Off)));
    }
    let unlisted = off(with().roster(false));
    assert!(matches!(unlisted.of("ada").await, Err(RevokeError::Unlisted)));
    // The same handler serves an application that has no store.
    let session = off(without()).load::<&str>([]).await.unwrap();
    session.authenticate("ada").unwrap();
    session.set_label("phone").unwrap();
    assert_eq!(session.handle(), None);
}

#[actix_web::test]
async fn a_session_made_elsewhere_is_listed_too_and_a_store_that_is_down_says_so() {
    let (bed, spy) = guarded(|builder| builder);
    let fill = |session: &Session| {
        session.set_label("made by a job")?;
        session.set_subject("ada")
    };
    bed.sessions.issue(fill).await.unwrap();
    assert_eq!(labels(&bed, "ada").await, ["made by a job"]);
    spy.go_down(true);
    assert!(matches!(bed.sessions.of("ada").await, Err(RevokeError::Store(_))));
    assert!(matches!(bed.sessions.end("ada", "x").await, Err(RevokeError::Store(_))));
}

#[actix_web::test]
async fn a_browser_with_two_cookies_that_logs_out_is_out_of_both_lists() {
    let (bed, _) = guarded(|builder| builder);
    let (one, other) = (login(&bed, "one").await, login_as(&bed, "bob", "other", false).await);
    let cookies = [one.0.as_deref().unwrap().as_bytes(), other.0.as_deref().unwrap().as_bytes()];
    bed.raw(&cookies, Session::destroy).await;
    assert!(listed(&bed, "ada").await.is_empty() && listed(&bed, "bob").await.is_empty());
}

#[actix_web::test]
async fn of_two_logins_in_one_moment_the_first_is_the_older() {
    let (bed, _) = guarded(|builder| builder.max_sessions(2, Overflow::EndOldest));
    for label in ["first", "second", "third"] {
        login(&bed, label).await;
    }
    assert_eq!(labels(&bed, "ada").await, ["second", "third"]);
}

/// Until a node has heard of a revocation, a session that is over notes its use, in the list of those that began since.
#[actix_web::test]
async fn who_has_not_heard_of_a_revocation_loses_no_line_of_a_newer_session() {
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    bed.sessions.revoke_subject("ada").await.unwrap();
    let old = login_as(&bed, "ada", "old", true).await;
    let second = Duration::from_secs(1);
    bed.clock.advance(HOUR - 30 * second);
    assert_eq!(origin(&bed, &old).await, Origin::Resumed, "asked, for the next minute");
    node.sessions.revoke_subject("ada").await.unwrap();
    login(&node, "new").await;
    bed.clock.advance(29 * second + 2 * second);
    spy.calls();
    assert_eq!(origin(&bed, &old).await, Origin::Resumed, "not heard yet");
    let calls = ["load", "load", "write", "load"];
    assert_eq!(spy.calls(), calls, "its row, its use in another hour, and whether it may be listed again");
    assert_eq!(labels(&node, "ada").await, ["new"]);
}

#[actix_web::test]
async fn who_proves_again_who_they_are_is_not_refused_although_there_are_too_many() {
    let (bed, spy) = guarded(|builder| builder);
    let mut here = login(&bed, "here").await;
    login(&bed, "there").await;
    let node = other_node(&bed, &spy, |builder| builder.max_sessions(1, Overflow::Refuse));
    assert_eq!(status(&node, &mut here, authenticate).await, StatusCode::OK, "no more than before");
    assert_eq!(status(&node, &mut Jar::default(), authenticate).await, StatusCode::FORBIDDEN);
}

#[actix_web::test]
async fn whether_there_is_room_can_be_asked_before_the_login() {
    let (bed, _) = guarded(|builder| builder.max_sessions(1, Overflow::Refuse));
    let has_room = async |jar: &Jar, user: &'static str| {
        let sessions = bed.sessions.clone();
        bed.see(jar, move |session| now(sessions.has_room(user, session)).unwrap()).await
    };
    let nobody = Jar::default();
    assert!(has_room(&nobody, "ada").await);
    let phone = login(&bed, "phone").await;
    assert!(!has_room(&nobody, "ada").await && has_room(&nobody, "bob").await);
    assert!(has_room(&phone, "ada").await, "it is this one");
    bed.clock.advance(3 * HOUR);
    assert!(has_room(&nobody, "ada").await, "out of use");
    let (bed, _) = guarded(|builder| builder.max_sessions(1, Overflow::EndOldest));
    login(&bed, "phone").await;
    let session = bed.sessions.load::<&str>([]).await.unwrap();
    assert!(bed.sessions.has_room("ada", &session).await.unwrap());
}

/// Or each of them that was restored by `set_subject` would be one more than the limit.
#[actix_web::test]
async fn what_did_not_count_before_has_no_place_to_keep_at_its_login() {
    for overflow in [Overflow::Refuse, Overflow::EndOldest] {
        let (bed, _) = guarded(|builder| builder.max_sessions(1, overflow));
        let first = login(&bed, "first").await;
        for _ in 0..2 {
            let mut restored = Jar::default();
            bed.visit(&mut restored, |session| session.set_subject("ada").unwrap()).await;
            let sessions = bed.sessions.clone();
            let has_room =
                bed.see(&restored, move |session| now(sessions.has_room("ada", session)).unwrap()).await;
            assert_eq!(has_room, overflow == Overflow::EndOldest);
            let (expected, then) = match overflow {
                Overflow::EndOldest => (StatusCode::OK, REVOKED),
                _ => (StatusCode::FORBIDDEN, Origin::Resumed),
            };
            assert_eq!(status(&bed, &mut restored, authenticate).await, expected);
            assert_eq!(origin(&bed, &first).await, then);
        }
    }
}

/// What nobody logged in to makes no room by having gone.
#[actix_web::test]
async fn of_a_long_list_as_many_that_count_are_looked_for_as_are_needed() {
    for overflow in [Overflow::Refuse, Overflow::EndOldest] {
        let (bed, _) = guarded(|builder| builder.max_sessions(2, overflow));
        // More than are asked about at a time, of which one has gone, before those that count.
        let mut restored = Vec::new();
        for _ in 0..40 {
            let mut jar = Jar::default();
            bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
            restored.push(jar);
        }
        let (stays, gone) = (login(&bed, "stays").await, login(&bed, "gone").await);
        for jar in [&restored[0], &gone] {
            let id = bed.see(jar, Session::id).await;
            bed.sessions.revoke(id).await.unwrap();
        }
        assert_eq!(status(&bed, &mut Jar::default(), authenticate).await, StatusCode::OK, "there is room");
        assert_eq!(origin(&bed, &stays).await, Origin::Resumed);
    }
}

/// A login with the former password, which has asked before all sessions were ended, and reads the list afterwards.
#[actix_web::test]
async fn a_login_that_is_over_takes_no_newer_session_out_of_the_list() {
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    bed.sessions.revoke_subject("ada").await.unwrap();
    let late = bed.sessions.load::<&str>([]).await.unwrap();
    authenticate(&late);
    late.set_label("late").unwrap();
    // The question passes, and before the list is read there is another password.
    let (asks, sessions) = (Arc::clone(&spy), node.sessions.clone());
    let owner = async move {
        sessions.revoke_subject("ada").await.unwrap();
        let session = sessions.load::<&str>([]).await.unwrap();
        authenticate(&session);
        session.set_label("owner").unwrap();
        sessions.commit(&session, CommitContext::default()).await.unwrap();
    };
    spy.before("load", move || {
        asks.before("load", move || {
            // It waits for its turn at the subject's row.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            std::thread::spawn(move || runtime.block_on(owner)).join().unwrap();
        });
    });
    let line = bed.sessions.commit(&late, CommitContext::default()).await.unwrap().pop();
    let late = Jar(line.map(|line| line.split(';').next().unwrap().to_owned()));
    assert_eq!(origin(&node, &late).await, REVOKED);
    assert_eq!(labels(&node, "ada").await, ["owner"]);
}

/// A page that was loaded before all sessions were ended.
#[actix_web::test]
async fn what_ended_with_all_others_is_not_ended_once_more() {
    let (bed, _) = guarded(|builder| builder);
    let phone = login(&bed, "phone").await;
    let before = handle(&bed, &phone).await;
    bed.sessions.revoke_subject("ada").await.unwrap();
    bed.events();
    assert!(!bed.sessions.end("ada", &before).await.unwrap());
    assert!(!bed.events().iter().any(|event| matches!(event, Event::Revoked { .. })));
}

/// With an idle limit a line may end before its session does.
#[actix_web::test]
async fn what_the_list_takes_for_over_is_ended_all_the_same() {
    let lifetime = || Lifetime::default().idle(10 * HOUR);
    let (bed, _) = guarded(|builder| builder.lifetime(lifetime()).revocation(Revocation::EveryRequest));
    let mut phone = login(&bed, "phone").await;
    let before = handle(&bed, &phone).await;
    // A write within the first tenth moves the cookie's end, and not the line's.
    bed.clock.advance(HOUR / 2);
    bed.visit(&mut phone, |session| session.insert("n", 1).unwrap()).await;
    bed.clock.advance(10 * HOUR - 10 * MINUTE);
    assert!(listed(&bed, "ada").await.is_empty());
    assert!(bed.sessions.end("ada", &before).await.unwrap());
    assert_eq!(origin(&bed, &phone).await, REVOKED);
}

/// A login is not refused for what it does not need to know.
#[actix_web::test]
async fn a_session_that_is_out_of_use_has_a_place_at_its_next_login() {
    let (bed, spy) = guarded(|builder| builder.max_sessions(1, Overflow::Refuse));
    let mut desktop = login(&bed, "desktop").await;
    bed.clock.advance(3 * HOUR);
    login(&bed, "phone").await;
    // Its use is not noted before: the list is not to be read.
    spy.next([Fate::Passes, Fate::Passes, Fate::Fails]);
    let _ = bed.see(&desktop, |_| ()).await;
    spy.passes_all();
    assert_eq!(status(&bed, &mut desktop, authenticate).await, StatusCode::OK);
}

#[actix_web::test]
async fn an_administrator_who_goes_on_as_a_user_takes_nobodys_place() {
    for overflow in [Overflow::EndOldest, Overflow::Refuse] {
        let (bed, _) = guarded(|builder| builder.max_sessions(1, overflow));
        let ada = login(&bed, "hers").await;
        let mut admin = login_as(&bed, "root", "admin", false).await;
        bed.visit(&mut admin, |session| session.set_subject("ada").unwrap()).await;
        assert_eq!(origin(&bed, &ada).await, Origin::Resumed);
        assert_eq!(listed(&bed, "ada").await.len(), 2, "but it is seen");
        bed.visit(&mut admin, |session| session.authenticate("root").unwrap()).await;
        assert_eq!(status(&bed, &mut ada.clone(), authenticate).await, StatusCode::OK);
    }
}

/// A retired key has a list of its own, and a generation of its own under which to judge it.
#[actix_web::test]
async fn sessions_that_were_revoked_under_a_retired_key_do_not_count() {
    for overflow in [Overflow::EndOldest, Overflow::Refuse] {
        let (bed, spy) = guarded(|builder| builder.max_sessions(2, overflow));
        let node = other_node(&bed, &spy, |builder| builder.max_sessions(2, overflow));
        for label in ["one", "two"] {
            login(&node, label).await;
        }
        bed.sessions.keys().rotate(key(2)).unwrap();
        bed.sessions.revoke_subject("ada").await.unwrap();
        let mut new = Jar::default();
        node.events();
        assert_eq!(status(&node, &mut new, authenticate).await, StatusCode::OK, "{overflow:?}");
        assert!(!node.events().iter().any(|event| matches!(event, Event::Displaced { .. })));
        assert_eq!(status(&node, &mut Jar::default(), authenticate).await, StatusCode::OK);
        assert_eq!(listed(&node, "ada").await.len(), 2);
    }
}

#[actix_web::test]
async fn a_line_that_a_driver_writes_twice_is_as_new_as_any() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = login(&bed, "phone").await;
    let former = handle(&bed, &jar).await;
    // The question and the list read; written twice, read again; then the end of the former id fails.
    spy.next([Fate::Passes, Fate::Passes, Fate::AppliedButConflicts, Fate::Passes, Fate::Fails]);
    assert_eq!(status(&bed, &mut jar, Session::renew).await, StatusCode::SERVICE_UNAVAILABLE);
    spy.passes_all();
    let seen = listed(&bed, "ada").await;
    assert_eq!(seen.iter().map(|line| &line.handle).collect::<Vec<_>>(), [&former]);
}

#[actix_web::test]
async fn a_session_that_is_ended_for_a_login_is_told_of_also_if_the_login_fails() {
    let (bed, spy) = guarded(|builder| builder.max_sessions(1, Overflow::EndOldest));
    let phone = login(&bed, "phone").await;
    let id = bed.see(&phone, Session::id).await;
    bed.events();
    // The question, the list, the generation, the session's own row, its mark; then the list is not written.
    spy.calls();
    spy.next([Fate::Passes, Fate::Passes, Fate::Passes, Fate::Passes, Fate::Passes, Fate::Fails]);
    assert_eq!(status(&bed, &mut Jar::default(), authenticate).await, StatusCode::SERVICE_UNAVAILABLE);
    spy.passes_all();
    assert_eq!(spy.calls(), ["load", "load", "load", "load", "write", "write", "load"]);
    assert!(bed.events().contains(&Event::Displaced { id }));
    assert_eq!(origin(&bed, &phone).await, REVOKED);
}

#[actix_web::test]
async fn whom_the_store_does_not_tell_of_is_listed_and_what_a_wrong_clock_began_is_not() {
    let (bed, spy) = guarded(|builder| builder);
    login(&bed, "phone").await;
    let node = other_node(&bed, &spy, |builder| builder);
    spy.next([Fate::Passes, Fate::Passes, Fate::Fails]);
    assert_eq!(labels(&node, "ada").await, ["phone"]);

    let ahead = sealed_session::ManualClock::at(start() + 1_000 * HOUR);
    let keys = bed.sessions.keys().clone();
    let ahead = Bed::on(keys, ahead, |builder| builder.store(Arc::clone(&spy)));
    login(&ahead, "of the future").await;
    assert_eq!(labels(&bed, "ada").await, [""; 0], "and it cost the lines of those whose end it saw as past");
}

#[actix_web::test]
async fn a_label_is_not_taken_along_to_another_user() {
    let (bed, _) = guarded(|builder| builder);
    let mut jar = login(&bed, "hers").await;
    bed.visit(&mut jar, |session| {
        session.set_label("hers too").unwrap();
        session.authenticate("bob").unwrap();
    })
    .await;
    assert_eq!(labels(&bed, "bob").await, [""]);
}

#[actix_web::test]
async fn a_line_that_was_taken_out_while_it_got_a_label_is_not_left_over() {
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    let mut jar = login(&bed, "phone").await;
    let (sessions, of_phone) = (node.sessions.clone(), handle(&bed, &jar).await);
    spy.before("write", move || assert!(now(sessions.end("ada", &of_phone)).unwrap()));
    bed.visit(&mut jar, |session| session.set_label("late").unwrap()).await;
    spy.calls();
    assert!(listed(&node, "ada").await.is_empty());
    assert!(!spy.calls().contains(&"write"), "nothing had to be tidied up");
}

#[cfg(feature = "metrics")]
#[actix_web::test]
async fn metrics_take_how_many_sessions_a_login_gives_its_subject() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let guard = metrics::set_default_local_recorder(&recorder);
    let (bed, _) = guarded(|builder| builder.max_sessions(2, Overflow::EndOldest));
    for label in ["one", "two", "three"] {
        login(&bed, label).await;
    }
    drop(guard);
    let mut seen = Vec::new();
    let mut displaced = None;
    for (key, _, _, value) in snapshots.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
        match (key.key().name(), value) {
            ("sealed_session_subject_sessions", DebugValue::Histogram(sizes)) => {
                seen = sizes.iter().map(|size| size.into_inner()).collect();
            }
            ("sealed_session_events_total", DebugValue::Counter(n)) if labels[0] == "displaced" => {
                displaced = Some(n);
            }
            _ => {}
        }
    }
    assert_eq!((seen, displaced), (vec![1.0, 2.0, 2.0], Some(1)));
}

/// What is missing in the list then is back within an hour.
#[actix_web::test]
async fn a_list_that_is_silent_makes_one_request_of_a_session_wait_and_not_each() {
    tokio::time::pause();
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest).rolling(true));
    let mut jar = login(&bed, "ada").await;
    bed.clock.advance(61 * MINUTE);
    spy.loaded();
    assert!(uses(&bed, &mut jar).await);
    let [_session, _subject, list, ..] = spy.loaded()[..] else { panic!("its use is noted") };
    bed.clock.advance(61 * MINUTE);
    spy.falls_silent(Some(list));
    assert!(uses(&bed, &mut jar).await, "it is prolonged all the same");
    assert!(spy.loaded().contains(&list));
    for _ in 0..5 {
        bed.clock.advance(5 * MINUTE);
        assert!(uses(&bed, &mut jar).await);
        assert!(!spy.loaded().contains(&list));
    }
    spy.falls_silent(None);
    bed.clock.advance(61 * MINUTE);
    assert!(uses(&bed, &mut jar).await);
    assert!(spy.loaded().contains(&list));
}
